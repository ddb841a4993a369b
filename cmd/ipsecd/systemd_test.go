package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/lab"
)

const unitFile = "../../dist/systemd/ipsecd.service"

// unit has the settings of a unit by section, with all their values.
type unit map[string]map[string][]string

func readUnit(t *testing.T) unit {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	must(t, err)
	u, section := unit{}, ""
	for i, line := range strings.Split(string(text), "\n") {
		switch key, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			u[section] = map[string][]string{}
		case !ok || section == "" || strings.TrimSpace(key) != key || value == "":
			t.Errorf("line %d is no setting: %q", i+1, line)
		default:
			u[section][key] = append(u[section][key], value)
		}
	}
	return u
}

// one is the value of a setting that is there once.
func (u unit) one(t *testing.T, section, key string) string {
	t.Helper()
	v := u[section][key]
	if len(v) != 1 {
		t.Fatalf("[%s] has %d %s", section, len(v), key)
	}
	return v[0]
}

// What the unit says of the program is so: its flags, the folders it writes to, how
// it says that it is ready, its manual.
func TestTheUnitKnowsTheProgram(t *testing.T) {
	u := readUnit(t)
	words := strings.Fields(u.one(t, "Service", "ExecStart"))
	if words[0] != "/usr/sbin/ipsecd" {
		t.Errorf("it starts %s", words[0])
	}
	f, err := parseFlags(words[1:], io.Discard)
	must(t, err)
	if f.transient {
		t.Error("a service that ends when nobody needs it")
	}
	if u.one(t, "Service", "Type") != "notify" {
		t.Error("ipsecd notifies, and the unit does not wait for it")
	}
	writable := u.one(t, "Service", "ReadWritePaths")
	for _, path := range []string{ipsecd.DefaultSocket, runDir} {
		if !strings.HasPrefix(path, "/var"+writable+"/") { // /var/run leads there
			t.Errorf("%s is not below %s", path, writable)
		}
	}
	if u.one(t, "Service", "DeviceAllow") != "/dev/net/tun rw" {
		t.Error("the TUN device is not allowed")
	}
	if u.one(t, "Service", "LimitCORE") != "0" {
		t.Error("keys may be in core files")
	}
	page := strings.TrimSuffix(strings.TrimPrefix(u.one(t, "Unit", "Documentation"), "man:ipsecd("), ")")
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
	text, err := os.ReadFile(unitFile)
	must(t, err)
	path := filepath.Join(t.TempDir(), "ipsecd.service")
	must(t, os.WriteFile(path, []byte(strings.Replace(string(text), "/usr/sbin/ipsecd", prog, 1)), 0o644))
	h, err := lab.New(t).Host("systemd")
	must(t, err)
	out, err := h.Run(patience, analyze, "verify", "--man=no", path)
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "ipsecd") {
			t.Error(line)
		}
	}
	if err != nil && !t.Failed() {
		t.Error(err)
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
	rights := "-all"
	for _, c := range strings.Fields(readUnit(t).one(t, "Service", "CapabilityBoundingSet")) {
		rights += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	p, err := h.Start(lab.Command{
		Path: setpriv, Args: []string{"--bounding-set", rights, "--inh-caps=-all", "--no-new-privs", prog, "--group", "daemon"}, Private: []string{lab.RunDir()},
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
