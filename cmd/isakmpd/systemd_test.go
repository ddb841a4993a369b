package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/dist/systemd"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/lab"
)

const patience = 10 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readUnit(t *testing.T) systemd.Unit {
	t.Helper()
	u, err := systemd.Read("isakmpd")
	must(t, err)
	return u
}

// What the unit says of the program is so: its flags, its files, that it goes into
// the background, its manuals.
func TestTheUnitKnowsTheProgram(t *testing.T) {
	u := readUnit(t)
	words := strings.Fields(u.One("Service", "ExecStart"))
	if len(words) == 0 || words[0] != "/usr/sbin/isakmpd" {
		t.Fatalf("it starts %v", words)
	}
	f, err := parseFlags(words[1:], io.Discard)
	must(t, err)
	if f.foreground || u.One("Service", "Type") != "forking" {
		t.Error("systemd waits for a background process that does not come, or does not wait")
	}
	writable := "/var" + u.One("Service", "ReadWritePaths") + "/" // /var/run leads there
	for _, path := range []string{f.opt.PIDFile, f.opt.Report, ipsecd.DefaultSocket} {
		if !strings.HasPrefix(path, writable) {
			t.Errorf("%s is not below %s", path, writable)
		}
	}
	if f.opt.PIDFile != "/var"+u.One("Service", "PIDFile") {
		t.Errorf("its pid file is %s", f.opt.PIDFile)
	}
	if u.One("Unit", "ConditionPathExists") != f.opt.Config {
		t.Errorf("its configuration is %s", f.opt.Config)
	}
	for _, key := range []string{"After", "Wants"} {
		if !slices.Contains(strings.Fields(u.One("Unit", key)), "ipsecd.service") {
			t.Errorf("%s has no ipsecd.service", key)
		}
	}
	if u.One("Service", "Restart") != "on-failure" || u.One("Service", "LimitCORE") != "0" {
		t.Error("it is not started again, or keys may be in core files")
	}
	if !strings.Contains(u.One("Service", "ExecReload"), "-HUP $MAINPID") {
		t.Error("reload is not SIGHUP")
	}
	for _, page := range strings.Fields(u.One("Unit", "Documentation")) {
		name, section, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(page, "man:"), ")"), "(")
		_, err := os.Stat(manuals + name + "." + section)
		must(t, err)
	}
}

// systemd, where it is installed, has nothing to say against the unit.
func TestSystemdTakesTheUnit(t *testing.T) {
	analyze, err := lab.Program("systemd-analyze")
	if err != nil {
		t.Log(err)
		return // TestTheUnitKnowsTheProgram has looked at it
	}
	prog, err := lab.Build("oakley/cmd/isakmpd")
	must(t, err)
	h, err := lab.New(t).Host("systemd")
	must(t, err)
	run := func(args ...string) (string, error) { return h.Run(patience, analyze, args...) }
	said, err := systemd.Complaints(run, "isakmpd", prog, t.TempDir())
	must(t, err)
	for _, line := range said {
		t.Error(line)
	}
}

// The rights that the unit leaves are enough with an ipsecd that is a service.
func TestTheUnitsRightsAreEnough(t *testing.T) {
	lab.Need(t, "root", "tun", "setpriv")
	setpriv, err := lab.Program("setpriv")
	must(t, err)
	stack, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	prog, err := lab.Build("oakley/cmd/isakmpd")
	must(t, err)
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	text, err := os.ReadFile("../../samples/east.conf")
	must(t, err)
	conf := filepath.Join(t.TempDir(), "isakmpd.conf")
	must(t, os.WriteFile(conf, text, 0o600))
	service, err := n.Ragweed.Start(lab.Command{Path: stack, Private: []string{lab.RunDir()}})
	must(t, err)
	_, err = service.Log.Wait("ipsecd is ready", patience)
	must(t, err)
	d, err := n.Ragweed.Start(lab.Command{
		Path: setpriv, Private: []string{lab.RunDir()},
		Args: []string{"--bounding-set", readUnit(t).Rights(), "--inh-caps=-all", "--no-new-privs", prog, "-d", "-v", "-K", "-c", conf},
	})
	must(t, err)
	_, err = d.Log.Wait("listening on 192.0.2.2, UDP port 500 and 4500", patience)
	must(t, err)
	_, err = d.ReadFile(lab.RunDir() + "/isakmpd.pid")
	must(t, err)
	must(t, d.Stop(patience))
	if k := d.Log.Count("error: |may not|not permitted|denied"); k > 0 {
		t.Errorf("something was refused\n%s", d.Log)
	}
	must(t, service.Stop(patience))
}
