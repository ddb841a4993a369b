package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"oakley/dist/systemd"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/xfrm"
	"oakley/internal/lab"
)

func readUnit(t *testing.T) systemd.Unit {
	t.Helper()
	u, err := systemd.Read("ipsecd")
	must(t, err)
	return u
}

// What the unit says of the program is so: its flags, the folders it writes to, how
// it says that it is ready, its manual.
func TestTheUnitKnowsTheProgram(t *testing.T) {
	u := readUnit(t)
	words := strings.Fields(u.One("Service", "ExecStart"))
	if words[0] != "/usr/sbin/ipsecd" {
		t.Errorf("it starts %s", words[0])
	}
	f, err := parseFlags(words[1:], io.Discard)
	must(t, err)
	if f.transient {
		t.Error("a service that ends when nobody needs it")
	}
	if f.kind != auto {
		t.Error("a service that does not take the kernel where it can")
	}
	if u.One("Service", "Type") != "notify" {
		t.Error("ipsecd notifies, and the unit does not wait for it")
	}
	writable := u.One("Service", "ReadWritePaths")
	for _, path := range []string{ipsecd.DefaultSocket, runDir, xfrm.DefaultJournal} {
		if !strings.HasPrefix(path, "/var"+writable+"/") { // /var/run leads there
			t.Errorf("%s is not below %s", path, writable)
		}
	}
	if u.One("Service", "DeviceAllow") != "/dev/net/tun rw" {
		t.Error("the TUN device is not allowed")
	}
	if u.One("Service", "LimitCORE") != "0" {
		t.Error("keys may be in core files")
	}
	page := strings.TrimSuffix(strings.TrimPrefix(u.One("Unit", "Documentation"), "man:ipsecd("), ")")
	if _, err := os.Stat("../../docs/man/ipsecd." + page); err != nil {
		t.Error(err)
	}
}

// systemd, where it is installed, has nothing to say against the unit.
func TestSystemdTakesTheUnit(t *testing.T) {
	analyze, err := lab.Program("systemd-analyze")
	if err != nil {
		t.Log(err)
		return // TestTheUnitKnowsTheProgram has looked at it
	}
	prog, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	h, err := lab.New(t).Host("systemd")
	must(t, err)
	run := func(args ...string) (string, error) { return h.Run(patience, analyze, args...) }
	said, err := systemd.Complaints(run, "ipsecd", prog, t.TempDir())
	must(t, err)
	for _, line := range said {
		t.Error(line)
	}
}

// The rights that the unit leaves are enough.
func TestTheUnitsRightsAreEnough(t *testing.T) {
	lab.Need(t, "root", "tun", "setpriv")
	setpriv, err := lab.Program("setpriv")
	must(t, err)
	prog, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	h, err := lab.New(t).Host("alone")
	must(t, err)
	before, err := h.State()
	must(t, err)
	p, err := h.Start(lab.Command{
		Path: setpriv, Args: []string{"--bounding-set", readUnit(t).Rights(), "--inh-caps=-all", "--no-new-privs", prog, "--plane", "auto", "--group", "daemon"}, Private: []string{lab.RunDir()},
	})
	must(t, err)
	if _, err := p.Log.Wait("ipsecd is ready", patience); err != nil {
		t.Fatalf("%v\n%s", err, p.Log)
	}
	if n := p.Log.Count("could not|no reports|stays"); n > 0 {
		t.Errorf("something was refused\n%s", p.Log)
	}
	for _, task := range tasks(t, p.Pid()) {
		if !strings.Contains(task, "CapPrm:\t0000000000001000") {
			t.Errorf("other rights than to change the network in\n%s", task)
		}
	}
	if err := p.Stop(patience); err != nil {
		t.Errorf("%v\n%s", err, p.Log)
	}
	after, err := h.State()
	must(t, err)
	if d := before.Diff(after); d != "" {
		t.Errorf("left behind:\n%s", d)
	}
}
