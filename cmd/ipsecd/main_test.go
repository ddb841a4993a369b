package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"oakley/internal/lab"
)

func TestTheManualKnowsEveryFlag(t *testing.T) {
	text, err := os.ReadFile("../../docs/man/ipsecd.8")
	if err != nil {
		t.Fatal(err)
	}
	_, described, _ := strings.Cut(string(text), "The flags:")
	new(flags).set().VisitAll(func(f *pflag.Flag) {
		name := regexp.MustCompile(`Fl -` + f.Name + `( |,|\n)`)
		if f.Shorthand == "4" || f.Shorthand == "6" {
			name = regexp.MustCompile(`Fl ` + f.Shorthand)
		}
		if !name.MatchString(described) || f.Shorthand != "" && !strings.Contains(described, "Fl "+f.Shorthand) {
			t.Errorf("--%s is not in ipsecd(8)", f.Name)
		}
	})
}

func TestTheCommandLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--help"}, exitOK, "--transient"},
		{[]string{"--version"}, exitOK, "ipsecd of Oakley"},
		{[]string{"--df", "maybe"}, exitUsage, "clear, copy or set"},
		{[]string{"--mtu", "100"}, exitUsage, "576 to 65535"},
		{[]string{"--outer-mtu", "70000"}, exitUsage, "576 to 65535"},
		{[]string{"--pidfile", "/etc/passwd"}, exitUsage, "not below"},
		{[]string{"--report", "/var/run/ipsecd/../x"}, exitUsage, "not below"},
		{[]string{"--nope"}, exitUsage, "unknown flag"},
		{[]string{"file"}, exitUsage, `there is "file"`},
		{[]string{"--listen", "eth0"}, exitUsage, "an address is wanted"},
		{[]string{"--user", "nobody-at-all"}, exitFailed, "--user"},
		{[]string{"--group", "nobody-at-all"}, exitFailed, "--group"},
		{[]string{"--socket", "/nowhere/at/all"}, exitFailed, "control socket"},
	} {
		var out, errs bytes.Buffer
		if code := run(c.args, &out, &errs); code != c.code || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("%v: %d\n%s%s\nwant %d and %q", c.args, code, &out, &errs, c.code, c.says)
		}
	}
}

// A socket that nobody listens at is replaced, one that somebody does is not, and
// a file is not.
func TestSocketsOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if _, err := listen(path, -1); err == nil || !strings.Contains(err.Error(), "another ipsecd") {
		t.Errorf("%v", err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	l, err = listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path, -1); err == nil {
		t.Error("a file was replaced")
	}
}

// Once everything is open the process is nobody and may change the network alone.
func TestGivesItsRightsUp(t *testing.T) {
	lab.Need(t, "root", "tun")
	n := lab.New(t)
	h, err := n.Host("alone")
	if err != nil {
		t.Fatal(err)
	}
	before, err := h.State()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := lab.Build("oakley/cmd/ipsecd")
	if err != nil {
		t.Fatal(err)
	}
	const pidFile, report = runDir + "/ipsecd.pid", runDir + "/mine"
	p, err := h.Start(lab.Command{Path: prog, Args: []string{"-i", pidFile, "-R", report}, Private: []string{lab.RunDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Log.Wait("ipsecd is ready", patience); err != nil {
		t.Fatalf("%v\n%s", err, p.Log)
	}
	if b, err := p.ReadFile(lab.RunDir() + "/ipsecd/ipsecd.pid"); err != nil || string(b) != fmt.Sprintln(p.Pid()) {
		t.Errorf("the pid file has %q, %v", b, err)
	}
	must(t, p.Signal(syscall.SIGHUP)) // which is not for us
	must(t, p.Signal(syscall.SIGUSR1))
	if _, err := p.Log.Wait("report written", patience); err != nil {
		t.Fatalf("%v\n%s", err, p.Log)
	}
	if b, err := p.ReadFile(lab.RunDir() + "/ipsecd/mine"); err != nil || !strings.Contains(string(b), "SAs: 0") {
		t.Errorf("the report is %q, %v", b, err)
	}
	for _, task := range tasks(t, p.Pid()) {
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000001000", "CapEff:\t0000000000001000", "CapBnd:\t0000000000001000", "NoNewPrivs:\t1"} {
			if !strings.Contains(task, want) {
				t.Errorf("no %q in\n%s", want, task)
			}
		}
	}
	if err := p.Stop(patience); err != nil {
		t.Errorf("%v\n%s", err, p.Log)
	}
	left, err := h.RunCommand(patience, lab.Command{Path: "/bin/ls", Args: []string{runDir}, Private: []string{lab.RunDir()}})
	if err != nil || strings.TrimSpace(left) != "mine" {
		t.Errorf("in its folder is %q, %v", left, err)
	}
	after, err := h.State()
	if err != nil {
		t.Fatal(err)
	}
	if d := before.Diff(after); d != "" {
		t.Errorf("left behind:\n%s", d)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const patience = 10 * time.Second

// tasks are the states of all threads of a process.
func tasks(t *testing.T, pid int) (all []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d threads, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		all = append(all, string(b))
	}
	return all
}
