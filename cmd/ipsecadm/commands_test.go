package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/xfrm"
	"oakley/internal/ipsecadm"
	"oakley/internal/lab"
)

// TestWhatIpsecdRefusesIsExplained: the mistakes that only the data plane sees.
func TestWhatIpsecdRefusesIsExplained(t *testing.T) {
	p := newPair(t)
	a, west, east := p.a, p.b.addr[0], p.a.addr[0]
	esp := fmt.Sprintf("new esp -src %s -dst %s -enc aes -key %s -auth md5 -authkey %s ", east, west, strings.Repeat("5a", 16), strings.Repeat("a5", 16))
	flow := fmt.Sprintf("flow -src %s -dst %s -addr 10.1.0.0/16 10.2.0.0/16 ", east, west)
	a.adm("%s", esp+"-spi 1001")
	a.refused("delspi", "%s", esp+"-spi 1001")
	a.refused("neither -src 192.0.2.7 nor -dst 192.0.2.8 is an address of this host", "ip4 -src 192.0.2.7 -dst 192.0.2.8 -spi 1001")
	a.refused("weak key", "new esp -src %s -dst %s -spi 1002 -enc des -key 0101010101010101 -auth md5 -authkey %s", east, west, strings.Repeat("a5", 16))
	a.adm("%s", flow)
	a.refused("-delete", "%s", flow)
	a.adm("%s", flow+"-delete")
	a.refused("no flow that was made by hand", "%s", flow+"-delete")
	a.refused("exchanged", "flow -in -src %s -dst %s -addr 10.2.0.0/16 10.1.0.0/16", west, east)
	a.refused("no address of this host", "flow -src 192.0.2.7 -dst %s -addr 10.1.0.0/16 10.2.0.0/16", west)
	a.refused("there is no esp SA to 192.0.2.2 with SPI 00001003", "delspi -dst %s -spi 1003", west)
	a.refused("there is no ah SA", "group -dst %s -spi 1001 -dst2 %s -spi2 1002", west, west)
	a.adm("delspi -dst %s -spi 1001", west)
	if out := a.adm("show"); out != "" {
		t.Error(out)
	}
}

// TestGroupsSayWhatIsWrong with them.
func TestGroupsSayWhatIsWrong(t *testing.T) {
	p := newPair(t)
	a, there, here := p.a, p.b.addr[0], p.a.addr[0]
	for spi := 0x1001; spi <= 0x1004; spi++ {
		a.adm("ipcomp -src %s -dst %s -cpi %x", here, there, spi)
	}
	a.adm("ipcomp -src %s -dst %s -cpi 1001", there, here)
	two := func(x, y int) string {
		return fmt.Sprintf("group -proto ipcomp -proto2 ipcomp -dst %s -dst2 %s -spi %x -spi2 %x", there, there, x, y)
	}
	a.adm("%s", two(0x1001, 0x1002))
	a.refused("is followed by", "%s", two(0x1001, 0x1003))
	a.refused("comes after", "%s", two(0x1003, 0x1002))
	a.refused("in one group already", "%s", two(0x1002, 0x1001))
	a.refused("two directions", "group -proto ipcomp -proto2 ipcomp -dst %s -dst2 %s -spi 1003 -spi2 1001", there, here)
	a.adm("%s", two(0x1003, 0x1004))
	a.adm("%s", two(0x1002, 0x1003))
	if out := a.adm("show -ipcomp"); strings.Count(out, "of 4") != 4 {
		t.Errorf("a group of four shows as\n%s", out)
	}
	if out := a.adm("delspi -dst %s -spi 1002 -proto ipcomp", there); !strings.Contains(out, "a group of 4") {
		t.Error(out)
	}
}

// TestFlushTakesWhatItNames: SAs of a protocol, and their flows.
func TestFlushTakesWhatItNames(t *testing.T) {
	p := newPair(t)
	a, there, here := p.a, p.b.addr[0], p.a.addr[0]
	fill := func() {
		t.Helper()
		a.adm("flush")
		a.adm("ip4 -src %s -dst %s -spi 1001", here, there)
		a.adm("ipcomp -src %s -dst %s -cpi 2", here, there)
		a.adm("new ah -src %s -dst %s -spi 1001 -auth md5 -key %s", here, there, strings.Repeat("5a", 16))
		for i, proto := range []string{"ip4", "ipcomp", "ah"} {
			a.adm("flow -dst %s -addr 10.1.0.0/16 10.2.%d.0/24 -proto %s", there, i, proto)
		}
		a.adm("flow -bypass -addr 10.1.0.0/16 10.2.3.0/24")
	}
	left := func(words string) (sas, flows int) {
		t.Helper()
		a.adm("%s", words)
		st := a.dump()
		return len(st.SAs), len(st.Flows)
	}
	for words, want := range map[string][2]int{
		"flush": {0, 0}, "flush -esp": {3, 4}, "flush -ah": {2, 3}, "flush -ip4 -ipcomp": {1, 2}, "flush -oldah": {3, 4}, "show": {3, 4},
	} {
		fill()
		if sas, flows := left(words); sas != want[0] || flows != want[1] {
			t.Errorf("after %s there are %d SAs and %d flows, want %v", words, sas, flows, want)
		}
	}
}

// dump is what the gateway's data plane has.
func (g *gateway) dump() (st dataplane.State) {
	g.t.Helper()
	socket := filepath.Join("/proc", fmt.Sprint(g.Find("ipsecd")[0]), "root", lab.RunDir(), filepath.Base(ipsecd.DefaultSocket))
	c, err := ipsecd.Dial(context.Background(), socket, ipsecd.NoEvents)
	must(g.t, err)
	defer c.Close()
	st, err = c.Dump(context.Background(), dataplane.Query{})
	must(g.t, err)
	return st
}

// TestSwitches: protocols go on and off as a whole.
func TestSwitches(t *testing.T) {
	p := newPair(t)
	if out := p.a.adm("enable"); out != "esp on\nah off\nip4 on\nipcomp on\n" {
		t.Errorf("at the start:\n%s", out)
	}
	p.sas(0, "new ah %s -spi 1001 -auth sha1 "+key(t, "-key", 20, true))
	p.flows(0, 0, false, "-proto ah")
	p.traffic(lab.AH, 0, false) // the first SA has switched it on
	p.b.adm("disable ah")
	if out := p.b.adm("enable"); !strings.Contains(out, "ah off") {
		t.Error(out)
	}
	if out := p.b.adm("show"); !strings.Contains(out, `"ipsecadm enable ah"`) {
		t.Errorf("show does not say that AH is off:\n%s", out)
	}
	if _, err := p.a.Ping(p.b.addr[0], 1, 300*time.Millisecond); err == nil {
		t.Error("AH is off, and carries packets")
	}
	p.b.adm("enable 51")
	p.traffic(lab.AH, 0, false)
	p.b.adm("disable ah")
	if out := p.b.adm("new ah -src %s -dst %s -spi 1009 -auth sha1 %s", p.a.addr[0], p.b.addr[0], key(t, "-key", 20, true)); !strings.Contains(out, "ah is switched off") {
		t.Errorf("a new SA of a protocol that is off: %q", out)
	}
	p.both("disable esp")
	p.both("enable esp")
}

// TestMonitor prints what others do, without their keys.
func TestMonitor(t *testing.T) {
	p := newPair(t)
	a, there, here := p.a, p.b.addr[0], p.a.addr[0]
	m, err := a.Start(lab.Command{Path: a.program, Args: []string{"monitor"}, Private: []string{lab.RunDir()}})
	must(t, err)
	// It says nothing of itself: until it hears, somebody speaks.
	lab.Eventually(t, inTime, "the monitor hears", func() bool {
		a.adm("enable ip4")
		return m.Log.Count("switch ipip on") > 0
	})
	a.adm("new ah -src %s -dst %s -spi c0de -auth md5 -key %s", here, there, strings.Repeat("c0ffee11", 4))
	a.adm("flow -dst %s -addr 10.1.0.0/16 10.2.0.0/16 -proto ah", there)
	a.refused("already", "flow -dst %s -addr 10.1.0.0/16 10.2.0.0/16 -proto ah", there)
	a.adm("delspi -dst %s -spi c0de -proto ah", there)
	a.adm("flush")
	for _, want := range []string{
		"add out ah transport from 192.0.2.1 to 192.0.2.2 spi 0x0000c0de", "addflow flow ah out from 10.1.0.0/16 to 10.2.0.0/16",
		"addflow .*refused", "delete out ah", "flush all",
	} {
		if _, err := m.Log.Wait(want, inTime); err != nil {
			t.Errorf("%v\n%s", err, m.Log)
		}
	}
	if strings.Contains(m.Log.String(), "c0ffee") {
		t.Errorf("keys are shown:\n%s", m.Log)
	}
	must(t, m.Signal(syscall.SIGINT))
	if err := m.Wait(inTime); err != nil {
		t.Errorf("interrupted: %v\n%s", err, m.Log)
	}
}

// TestIpsecdGone: the monitor ends, and commands say what to do.
func TestIpsecdGone(t *testing.T) {
	p := newPair(t)
	m, err := p.a.Start(lab.Command{Path: p.a.program, Args: []string{"monitor"}, Private: []string{lab.RunDir()}})
	must(t, err)
	lab.Eventually(t, inTime, "the monitor hears", func() bool {
		p.a.adm("enable ip4")
		return m.Log.Count("switch") > 0
	})
	must(t, unix.Kill(p.a.Find("ipsecd")[0], unix.SIGTERM))
	if err := m.Wait(inTime); err == nil || m.ExitCode() != exitFailed {
		t.Errorf("%v\n%s", err, m.Log)
	}
	if can, err := xfrm.Probe(); err != nil || can.Usable() != nil { // else the kernel is asked
		p.a.refused("ipsecd does not run", "show")
		p.a.refused("The kernel's own IPsec, which tools use where nobody listens, is not to be had", "show")
	}
	p.a.refused("ipsecd does not run", "-S /var/run/elsewhere flush")
}

func TestTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "open")
	must(t, os.WriteFile(secret, []byte("00"), 0o644))
	esp := "new esp -src 192.0.2.1 -dst 192.0.2.2 -spi 1001 -enc aes -keyfile "
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"--help", exitOK, "ipsecadm group -dst"},
		{"-h", exitOK, "Without a command"},
		{"", exitUsage, "no command"},
		{"-S", exitUsage, "the path of ipsecd's socket is wanted"},
		{"--socket=", exitUsage, "the path of ipsecd's socket is wanted"},
		{"-S " + dir + "/none monitor", exitFailed, "nobody listens at " + dir + "/none"},
		{"--socket " + dir + "/none show", exitFailed, "systemctl start ipsecd"},
		{"--socket=" + dir + "/none flush", exitFailed, "ipsecd does not run"},
		{"-spi 10", exitUsage, "usage: ipsecadm new esp"},
		{"tcpmd5", exitUsage, "RFC 2385"},
		{esp + secret, exitUsage, "has mode 0644"},
		{esp + dir, exitUsage, "is a folder"},
		{esp + dir + "/none", exitUsage, "no such file"},
	} {
		var out, errs bytes.Buffer
		if code := run(strings.Fields(c.line), &out, &errs); code != c.code || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("%v: %d\n%s%s\nwant %d and %q", c.line, code, &out, &errs, c.code, c.says)
		}
	}
}

func mustAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func TestAddressesOfThisHost(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	must(t, err)
	if len(addrs) == 0 || !isLocal(mustAddr(addrs[0].(*net.IPNet).IP)) {
		t.Errorf("%v is not this host's", addrs)
	}
	if isLocal(mustAddr(net.ParseIP("203.0.113.77"))) {
		t.Error("an address of documentation is this host's")
	}
}

// TestTheManualKnowsEverything that can be typed.
func TestTheManualKnowsEverything(t *testing.T) {
	text, err := os.ReadFile("../../docs/man/ipsecadm.8")
	must(t, err)
	for _, m := range ipsecadm.Modifiers() {
		if !strings.Contains(string(text), "\n.It Fl "+m[1:]) && !strings.Contains(string(text), ", Fl "+m[1:]) {
			t.Errorf("%s is not in ipsecadm(8)", m)
		}
	}
	for line := range strings.Lines(ipsecadm.Help()) {
		name, ok := strings.CutPrefix(line, "  ipsecadm ")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(strings.TrimSpace(name), " -")
		name, _, _ = strings.Cut(name, " [")
		name, _, _ = strings.Cut(name, " esp|")
		if !strings.Contains(string(text), "\n.It Cm "+name+"\n") {
			t.Errorf("the command %s is not in ipsecadm(8)", name)
		}
	}
}
