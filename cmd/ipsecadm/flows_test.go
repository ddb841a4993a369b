package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/ipsec"
)

// TestKeysChangeWithoutALoss: new SAs are made beside the old ones, incoming ones
// first, under traffic.
func TestKeysChangeWithoutALoss(t *testing.T) {
	p := newPair(t)
	esp := func(n int) string {
		return fmt.Sprintf("new esp %%s -spi %x -forcetunnel -enc aes %s -auth sha1 %s", 0x1000+n, key(t, "-key", 16+8*(n%3), true), key(t, "-authkey", 20, true))
	}
	p.sas(0, esp(0))
	p.flows(0, 0, true, "")
	to := netip.AddrPortFrom(p.b.inner[0], 7777)
	echo, err := p.b.behind.Echo(to)
	must(t, err)
	defer echo.Close()
	stream, err := p.a.behind.StartUDP(to, 500, time.Millisecond)
	must(t, err)
	must(t, stream.AwaitAnswers(50, inTime))
	for n := 1; n <= 5; n++ {
		command := esp(n)
		for _, incoming := range []bool{true, false} {
			for _, d := range [][2]*gateway{{p.a, p.b}, {p.b, p.a}} {
				words := fmt.Sprintf(command, fmt.Sprintf("-src %s -dst %s", d[0].addr[0], d[1].addr[0]))
				if incoming {
					d[1].adm("%s", words)
				} else {
					d[0].adm("%s", words)
				}
			}
		}
		must(t, stream.AwaitAnswers(50, inTime))
		for _, g := range []*gateway{p.a, p.b} { // by now all that used the old ones has come
			for _, dst := range []netip.Addr{p.a.addr[0], p.b.addr[0]} {
				g.adm("delspi -dst %s -spi %x", dst, 0x1000+n-1)
			}
		}
	}
	must(t, stream.AwaitAnswers(50, inTime))
	if c := stream.Stop(inTime); c.Lost() != 0 || c.Duplicates != 0 {
		t.Errorf("%v; lost %v", c, stream.Missing(10))
	}
	if st := p.a.dump(); len(st.SAs) != 2 {
		t.Errorf("%d SAs", len(st.SAs))
	}
}

// TestProxyKeepsOthersOut: what a tunnel carries has to come from where -proxy
// says.
func TestProxyKeepsOthersOut(t *testing.T) {
	p := newPair(t)
	esp := fmt.Sprintf("new esp -src %s -dst %s -spi 1001 -enc aes %s -auth sha1 %s ", p.a.addr[0], p.b.addr[0], key(t, "-key", 16, true), key(t, "-authkey", 20, true))
	p.flows(0, 0, true, "-use")
	p.a.adm("%s-forcetunnel", esp)
	for _, proxy := range []netip.Addr{p.a.inner[0], p.a.inner[0].Next()} {
		p.b.adm("%s-proxy %s", esp, proxy)
		before := p.b.dump().SAs[0]
		_, err := p.a.behind.Ping(p.b.inner[0], 2, time.Second)
		after := p.b.dump().SAs[0]
		if mine := proxy == p.a.inner[0]; mine != (err == nil) || mine != (after.Drops[ipsec.DropSelector] == before.Drops[ipsec.DropSelector]) {
			t.Errorf("-proxy %s, packets from %s: %v, dropped %v", proxy, p.a.inner[0], err, after.Drops)
		}
		p.b.adm("delspi -dst %s -spi 1001", p.b.addr[0])
	}
}

// TestFlowTypes: what each does with packets that have no SA.
func TestFlowTypes(t *testing.T) {
	p := newPair(t)
	x, y := p.a.behind, p.b.inner[0]
	net := fmt.Sprintf("-addr %s %s", p.a.net[0], p.b.net[0])
	peer := fmt.Sprintf("-dst %s ", p.b.addr[0])
	passes := func(what string, want bool) {
		t.Helper()
		limit := inTime
		if !want {
			limit = 300 * time.Millisecond
		}
		if _, err := x.Ping(y, 1, limit); (err == nil) != want {
			t.Errorf("%s: %v, want packets to pass: %t", what, err, want)
		}
	}
	passes("no flow", true)
	for _, c := range []struct {
		words string
		pass  bool
	}{
		{peer + "-require", false}, {peer + "-dontacq", false}, {peer + "-use", true}, {peer + "-acquire", true}, {"-deny", false}, {"-bypass", true}, {"-permit", true},
	} {
		p.a.adm("flow %s %s", net, c.words)
		passes(c.words, c.pass)
		p.a.adm("flow %s %s -delete", net, c.words)
	}
	passes("no flow any more", true)

	// The more specific flow counts, unless an order is given.
	p.a.adm("flow -deny %s", net)
	passes("deny", false)
	p.a.adm("flow -bypass -addr %s %s -transport icmp", p.a.net[0], one(y))
	passes("bypass of a host among a network that is denied", true)
	p.a.adm("flow -deny -order 7 -addr 10.0.0.0/8 10.0.0.0/8 -transport icmp")
	passes("a broad deny with a low order", false)
	p.a.adm("flow -delete -addr 10.0.0.0/8 10.0.0.0/8 -transport icmp")
	passes("without it", true)

	// Ports.
	p.a.adm("flush")
	to := netip.AddrPortFrom(y, 9100)
	p.a.adm("flow -deny %s -transport tcp -dport 9100", net)
	if _, err := x.Send(p.b.behind, to, 1000, time.Second); err == nil {
		t.Error("the denied port is reached")
	}
	if _, err := x.Send(p.b.behind, netip.AddrPortFrom(y, 9101), 1000, inTime); err != nil {
		t.Errorf("another port: %v", err)
	}
	p.a.adm("flow %s -transport 6 -dport 9100 -delete", net)
	if _, err := x.Send(p.b.behind, to, 1000, inTime); err != nil {
		t.Errorf("after -delete: %v", err)
	}

	// Clear text that an incoming flow wants protected.
	p.b.adm("flow -in -dst %s -addr %s %s", p.a.addr[0], p.a.net[0], p.b.net[0])
	passes("clear text against an incoming flow", false)
	p.b.adm("flush")
	passes("after flush", true)
	if st := p.b.dump(); len(st.SAs)+len(st.Flows) != 0 {
		t.Errorf("%+v", st)
	}
}
