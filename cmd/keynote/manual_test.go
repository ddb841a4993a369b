package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"
)

const page = "../../docs/man/keynote.1"

func manual(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	return string(text)
}

func TestTheManualKnowsEveryCommandAndFlag(t *testing.T) {
	text := manual(t)
	for _, c := range commands {
		if !strings.Contains(text, "\n.Nm keynote "+c.name+"\n") || !strings.Contains(text, "\n.Ss keynote "+c.name+"\n") {
			t.Errorf("keynote %s is not in keynote(1)", c.name)
		}
		fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
		c.flags(fs)
		fs.VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(text, "\n.It Fl "+f.Shorthand+" ") || !strings.Contains(text, ", Fl -"+f.Name) {
				t.Errorf("-%s (--%s) of keynote %s is not in keynote(1)", f.Shorthand, f.Name, c.name)
			}
			if !strings.Contains(c.args, "-"+f.Shorthand) {
				t.Errorf("-%s is not in the usage line of keynote %s", f.Shorthand, c.name)
			}
		})
	}
}

// example writes the first example of the manual as a script of the shell, and
// what it prints, into two files: example script output.
func example(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: example script output")
	}
	b, err := os.ReadFile(page)
	ts.Check(err)
	_, text, _ := strings.Cut(string(b), ".Sh EXAMPLES")
	_, text, _ = strings.Cut(text, ".Bd -literal -offset indent\n")
	text, _, _ = strings.Cut(text, ".Ed\n")
	var script, output strings.Builder
	for line := range strings.Lines(text) {
		if typed, ok := strings.CutPrefix(line, "$ "); ok {
			script.WriteString(typed)
		} else if typed, ok := strings.CutPrefix(line, ">  "); ok {
			script.WriteString(typed)
		} else {
			output.WriteString(line)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(script.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(output.String()), 0o600))
}
