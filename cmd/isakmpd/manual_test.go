package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const manuals = "../../docs/man/"

func manual(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(manuals + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheManualKnowsEveryFlag(t *testing.T) {
	text := manual(t, "isakmpd.8")
	fs, _, _ := (&flags{}).set()
	fs.VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(text, "\n.It Fl "+f.Shorthand) && !strings.Contains(text, ", Fl "+f.Shorthand+"\n") {
			t.Errorf("-%s (--%s) is not in isakmpd(8)", f.Shorthand, f.Name)
		}
		if !strings.Contains(usageLine, f.Shorthand) {
			t.Errorf("-%s is not in the usage line", f.Shorthand)
		}
	})
}

func TestTheManualsExampleIsAGoodConfiguration(t *testing.T) {
	_, text, ok := strings.Cut(manual(t, "isakmpd.conf.5"), ".Sh EXAMPLES")
	_, text, ok2 := strings.Cut(text, ".Bd -literal -offset indent\n")
	text, _, ok3 := strings.Cut(text, ".Ed\n")
	if !ok || !ok2 || !ok3 {
		t.Fatal("isakmpd.conf(5) has no example")
	}
	conf := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-C", "-c", conf)
	cmd.Env = append(os.Environ(), beIsakmpd+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "warning") && !strings.Contains(string(out), "our address towards peer") {
		t.Errorf("%v\n%s", err, out)
	}
}
