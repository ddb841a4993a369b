// Package tools runs ipsecadm, ipsecctl and rc.vpn where nobody has started a
// daemon, on a kernel that has IPsec: in a virtual machine.
package tools

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/internal/vmtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const inTime = 15 * time.Second

// TestToolsWithTheKernelsIPsec is all of it, in one machine.
func TestToolsWithTheKernelsIPsec(t *testing.T) {
	script, err := filepath.Abs("../../samples/rc.vpn")
	must(t, err)
	m := vmtest.Machine{
		Modules:  slices.Concat(vmtest.IPsec, vmtest.NAT),
		Build:    []string{"oakley/cmd/isakmpd", "oakley/cmd/ipsecd", "oakley/cmd/ipsecadm", "oakley/cmd/ipsecctl"},
		Programs: []string{"sh"},
		Files:    []string{script},
	}
	vmtest.Run(t, m, func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"nothing is there", nothing},
			{"two hosts by hand", byHand},
			{"rc.vpn", func(t *testing.T) { rcvpn(t, script) }},
			{"every form", everyForm},
			{"flows and switches", flowsAndSwitches},
			{"refused", refused},
			{"the same words", sameWords},
			{"watched", watched},
			{"killed", killed},
			{"at once", atOnce},
			{"captured", captured},
			{"negotiated", negotiated},
		} {
			t.Run(c.name, c.run)
		}
	})
}

// host is one on which tools are used.
type host struct {
	*lab.Host
	t    *testing.T
	addr [2]netip.Addr   // IPv4 and IPv6, on the cable
	net  [2]netip.Prefix // behind it
	// A host there, and its addresses.
	behind *lab.Host
	inner  [2]netip.Addr
}

// end is where traffic comes from or goes to.
type end struct {
	*lab.Host
	addr netip.Addr
}

func (h *host) own(family int) end { return end{h.Host, h.addr[family]} }
func (h *host) far(family int) end { return end{h.behind, h.inner[family]} }

// run runs a tool, whose words are one text.
func (h *host) run(tool, format string, args ...any) (string, error) {
	h.t.Helper()
	path, err := lab.Build("oakley/cmd/" + tool)
	must(h.t, err)
	return h.RunCommand(inTime, lab.Command{Path: path, Args: strings.Fields(fmt.Sprintf(format, args...)), Private: []string{lab.RunDir()}})
}

func (h *host) adm(format string, args ...any) string {
	h.t.Helper()
	out, err := h.run("ipsecadm", format, args...)
	must(h.t, err)
	return out
}

func (h *host) ctl(format string, args ...any) string {
	h.t.Helper()
	out, err := h.run("ipsecctl", format, args...)
	must(h.t, err)
	return out
}

// state is what the host's network is made of, without what a process has open
// while it runs.
func (h *host) state() lab.State {
	h.t.Helper()
	s, err := h.State()
	must(h.t, err)
	return slices.DeleteFunc(s, func(line string) bool { return strings.HasPrefix(line, "socket ") })
}

// unchanged fails unless the host is as it was, and nothing runs on it.
func (h *host) unchanged(before lab.State) {
	h.t.Helper()
	lab.Eventually(h.t, inTime, "ipsecd ends", func() bool { return len(h.Find("ipsecd")) == 0 })
	if d := before.Diff(h.state()); d != "" {
		h.t.Errorf("%s is not as it was:\n%s", h, d)
	}
}

// pair is two hosts with a router between them that carries anything, clear text
// too, and a spy.
type pair struct {
	t      *testing.T
	a, b   *host
	router *lab.Host
}

func newPair(t *testing.T) *pair {
	t.Helper()
	n := lab.New(t)
	p := &pair{t: t}
	var err error
	p.router, err = n.Host("router")
	must(t, err)
	must(t, p.router.Forward())
	for i, h := range []**host{&p.a, &p.b} {
		l, err := n.Host([]string{"a", "b"}[i])
		must(t, err)
		x := &host{Host: l, t: t}
		*h = x
		gw := [2]string{fmt.Sprintf("192.0.%d.254", i+2), fmt.Sprintf("2001:db8:%d::ff", i+2)}
		for f, s := range []string{"192.0.%d.1", "2001:db8:%d::1"} {
			x.addr[f] = netip.MustParseAddr(fmt.Sprintf(s, i+2))
		}
		for f, s := range []string{"10.%d.0.0/16", "fd00:%d::/64"} {
			x.net[f] = netip.MustParsePrefix(fmt.Sprintf(s, i+1))
		}
		must(t, n.Connect(
			lab.End{Host: l, If: "wan", Addrs: []string{x.addr[0].String() + "/24", x.addr[1].String() + "/64"}},
			lab.End{Host: p.router, If: l.Name, Addrs: []string{gw[0] + "/24", gw[1] + "/64"}}))
		x.behind, err = n.Host(l.Name + "behind")
		must(t, err)
		x.inner = [2]netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.%d.0.2", i+1)), netip.MustParseAddr(fmt.Sprintf("fd00:%d::2", i+1))}
		lan := []string{fmt.Sprintf("10.%d.0.1", i+1), fmt.Sprintf("fd00:%d::1", i+1)}
		must(t, n.Connect(
			lab.End{Host: l, If: "lan", Addrs: []string{lan[0] + "/16", lan[1] + "/64"}},
			lab.End{Host: x.behind, If: "eth", Addrs: []string{x.inner[0].String() + "/16", x.inner[1].String() + "/64"}}))
		must(t, errors.Join(l.Forward(), l.Route("default", gw[0]), l.Route("default", gw[1])))
		for f := range 2 {
			must(t, errors.Join(x.behind.Route("default", lan[f]), p.router.Route(x.net[f].String(), x.addr[f].String())))
		}
	}
	return p
}

// spy watches the cable to b.
func (p *pair) spy() *lab.Spy {
	p.t.Helper()
	s, err := p.router.Spy("b", lab.SpyOptions{Marks: [][]byte{lab.PingMark()}})
	must(p.t, err)
	return s
}

// passes proves that traffic goes both ways between two ends, all of it of a
// class.
func (p *pair) passes(class lab.Class, x, y end) {
	p.t.Helper()
	spy := p.spy()
	defer spy.Close()
	if _, err := x.Ping(y.addr, 2, inTime); err != nil {
		p.t.Errorf("%v\non a:\n%s\non b:\n%s", err, p.a.ctl("-v -s all"), p.b.ctl("-v -s all"))
		return
	}
	if _, err := y.Ping(x.addr, 2, inTime); err != nil {
		p.t.Error(err)
	}
	if v := spy.Settle(); v.Packets[class] < 8 || class != lab.Other && v.Packets[lab.Other] > 0 {
		p.t.Errorf("on the cable were %v, wanted %v alone", v, class)
	}
}

// closed proves that nothing passes from either side.
func (p *pair) closed() {
	p.t.Helper()
	for _, d := range []struct {
		from *host
		to   netip.Addr
	}{{p.a, p.b.addr[0]}, {p.b, p.a.addr[0]}} {
		if _, err := d.from.Ping(d.to, 1, 300*time.Millisecond); err == nil {
			p.t.Errorf("%s reaches %s", d.from, d.to)
		}
	}
}

// keyFile writes a key where its owner alone can read it.
func keyFile(t *testing.T, digits string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(path, []byte(digits+"\n"), 0o600))
	return path
}

// digits are a key of n bytes.
func digits(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%02x", byte(7*i+n))
	}
	return b.String()
}
