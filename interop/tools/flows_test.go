package tools

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// flowsAndSwitches: what flows of each type do with packets that have no SA, which
// flow counts, who is kept out by -proxy, and what a protocol that is off does.
func flowsAndSwitches(t *testing.T) {
	p := newPair(t)
	a, b := sit(t, p.a), sit(t, p.b)
	x, y := p.a.far(0), p.b.far(0)
	passes := func(what string, want bool) {
		t.Helper()
		limit := inTime
		if !want {
			limit = 300 * time.Millisecond
		}
		if _, err := x.Ping(y.addr, 1, limit); (err == nil) != want {
			t.Errorf("%s: %v, want packets to pass: %t", what, err, want)
		}
	}
	nets := fmt.Sprintf("-addr %s %s", a.net[0], b.net[0])
	peer := fmt.Sprintf("-dst %s ", b.addr[0])
	passes("no flow", true)
	for _, c := range []struct {
		words string
		pass  bool
	}{
		{peer + "-require", false}, {peer + "-dontacq", false}, {peer + "-use", true}, {peer + "-acquire", true}, {"-deny", false}, {"-bypass", true}, {"-permit", true},
	} {
		a.do("flow %s %s", nets, c.words)
		passes(c.words, c.pass)
		a.do("flow %s %s -delete", nets, c.words)
	}
	passes("no flow any more", true)

	// The more specific flow counts, unless an order is given.
	a.do("flow -deny %s", nets)
	a.do("flow -bypass -addr %s %s -transport icmp", a.net[0], one(y.addr))
	passes("bypass of a host among a network that is denied", true)
	a.do("flow -deny -order 7 -addr 10.0.0.0/8 10.0.0.0/8 -transport icmp")
	passes("a broad deny with a low order", false)
	a.do("flush")

	// Ports.
	a.do("flow -deny %s -transport tcp -dport 9100", nets)
	if _, err := x.Send(y.Host, netip.AddrPortFrom(y.addr, 9100), 1000, time.Second); err == nil {
		t.Error("the denied port is reached")
	}
	if _, err := x.Send(y.Host, netip.AddrPortFrom(y.addr, 9101), 1000, inTime); err != nil {
		t.Errorf("another port: %v", err)
	}
	a.do("flush")

	// Clear text that an incoming flow wants protected.
	b.do("flow -in -dst %s -addr %s %s", a.addr[0], a.net[0], b.net[0])
	passes("clear text against an incoming flow", false)
	b.do("flush")

	esp := fmt.Sprintf("new esp -src %s -dst %s -spi 1001 -enc aes -key %s %s", a.addr[0], b.addr[0], digits(16), hash("sha1", 20))
	p.keepOut(a, b, esp)

	// The kernel lets nothing in through a tunnel that no flow is for, and says so.
	b.do("flush")
	b.do("%s -forcetunnel", esp)
	passes("a tunnel whose far end has no flow", false)
	if out := p.b.ctl("-s stats"); !strings.Contains(out, "dropped: no flow\n") || !strings.Contains(out, "an incoming flow that is missing") {
		t.Errorf("nothing says that a flow is missing:\n%s", out)
	}
	b.do("flow -in -dst %s -addr %s %s", a.addr[0], a.net[0], b.net[0])
	passes("a tunnel with its flow", true)

	// Switches: the protocol's packets are dropped in both directions.
	b.do("disable esp")
	passes("a protocol that is off", false)
	if out := b.do("enable"); out != "esp off\nah off\nip4 not in this data plane\nipcomp on\n" {
		t.Error(out)
	}
	b.do("enable esp")
	passes("a protocol that is on again", true)
	b.do("disable ipcomp")
	b.do("flush")
	a.do("flush")
	for _, d := range []*desk{a, b} {
		d.r.Backend.Close()
		lab.Eventually(t, inTime, "ipsecd ends", func() bool { return len(d.Find("ipsecd")) == 0 })
	}
	if out := p.b.adm("enable"); !strings.Contains(out, "ipcomp off\n") {
		t.Errorf("the next ipsecd has forgotten what was switched off:\n%s", out)
	}
}

// keepOut: what a tunnel carries has to come from where -proxy says.
func (p *pair) keepOut(a, b *desk, esp string) {
	p.t.Helper()
	for _, w := range []string{"out", "in"} {
		d, far, nets := a, b, [2]netip.Prefix{a.net[0], b.net[0]}
		if w == "in" {
			d, far = b, a
		}
		d.do("flow -%s -src %s -dst %s -addr %s %s -use", w, d.addr[0], far.addr[0], nets[0], nets[1])
	}
	a.do("%s -forcetunnel", esp)
	for _, proxy := range []netip.Addr{a.inner[0], a.inner[0].Next()} {
		b.do("%s -proxy %s", esp, proxy)
		limit := inTime
		if proxy != a.inner[0] {
			limit = 300 * time.Millisecond
		}
		_, err := a.behind.Ping(b.inner[0], 1, limit)
		if (proxy == a.inner[0]) != (err == nil) {
			p.t.Errorf("-proxy %s, packets from %s: %v", proxy, a.inner[0], err)
		}
		b.do("delspi -dst %s -spi 1001", b.addr[0])
	}
	st, err := b.r.Backend.Totals(p.t.Context())
	must(p.t, err)
	if st.Drops[ipsec.DropSelector] == 0 {
		p.t.Errorf("what came from elsewhere is not counted: %v", st.Drops)
	}
}
