package iketest

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// halfDone are ways to end a connection while a quick mode for it is under way.
var halfDone = map[string]func(g *Gateways, n *Node){
	"teardown": func(_ *Gateways, n *Node) { n.Handle(ike.Teardown{Name: "vpn"}) },
	"reload without it": func(_ *Gateways, n *Node) {
		c := copyConfig(n.Config)
		c.Connections = nil
		n.Handle(ike.Reload{Config: c})
	},
	"reload with another suite": func(_ *Gateways, n *Node) {
		c := copyConfig(n.Config)
		c.Connections[0].Suites = []ike.Suite{AESESP, PFSESP}
		n.Handle(ike.Reload{Config: c})
	},
	"phase 1 teardown": func(_ *Gateways, n *Node) { n.Handle(ike.Teardown{Name: n.Config.Peers[0].Name, Phase1: true}) },
	"SAs expire": func(_ *Gateways, n *Node) {
		for _, sa := range n.Plane.Live(ipsec.Out) {
			n.Plane.expired(n.Plane.live[sa.ID])
		}
	},
}

// TestHalfDone ends a connection, its ISAKMP SA or its SAs on one side at each
// moment of the first quick mode or of a rekey. Neither side may go on sending to
// nobody: soon both have a pair or neither has, nobody waits for what does not
// come any more, and whoever wants the connection again has it at once.
func TestHalfDone(t *testing.T) {
	for name, end := range halfDone {
		for _, rekey := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/rekey %t", name, rekey), func(t *testing.T) {
				t.Parallel()
				for at := time.Millisecond; at < 80*time.Millisecond; at += sparse(3 * time.Millisecond) {
					for _, west := range []bool{true, false} {
						cutShort(t, at, west, rekey, false, name, end)
						cutShort(t, at, west, rekey, true, name, end)
					}
				}
			})
		}
	}
}

// cutShort is one of them; with late the data planes take any time, in any order.
func cutShort(t *testing.T, at time.Duration, west, rekey, late bool, name string, end func(g *Gateways, n *Node)) {
	t.Helper()
	g := NewGateways(t, Setup{Seed: uint64(at), Suites: []ike.Suite{PFSESP}})
	n, other := g.East, g.West
	if west {
		n, other = other, n
	}
	g.slowEverything(6 * time.Millisecond)
	if late {
		g.late(20*time.Millisecond, true)
	}
	g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
	g.Run(5 * time.Second)
	if !rekey { // as if the connection had never been there, and the ISAKMP SA had
		g.West.Handle(ike.Teardown{Name: "vpn"})
		g.Run(30 * time.Second)
		g.West.Handle(ike.Acquire{ID: 2, Conn: "vpn"})
	} else {
		expireSoft(g.West)
	}
	g.Run(at)
	end(g, n)
	g.Run(3 * time.Second)
	what := fmt.Sprintf("at %s, west %t, late %t", at, west, late)
	if err := whole(g); err != nil {
		g.Errorf("%s: three seconds later %v\n%s%s", what, err, g.West.Said(), g.East.Said())
	}
	for _, m := range []*Node{n, other} {
		if err := m.Settled(); err != nil {
			g.Errorf("%s: three seconds later %v\n%s%s", what, err, g.West.Said(), g.East.Said())
		}
	}
	g.Run(time.Minute)
	if err := whole(g); err != nil {
		g.Errorf("%s: a minute later %v\n%s%s", what, err, g.West.Said(), g.East.Said())
	}
	g.MustSettle()
	if name == "reload without it" {
		n.Handle(ike.Reload{Config: copyConfig(n.Config)})
	}
	s, back := g.acquiring(other, n), g.acquiring(n, other)
	s.Send()
	g.Run(300 * time.Millisecond)
	back.Send()
	g.Run(time.Second)
	g.mustArrive(what, s, back)
}

// whole says what is wrong unless what either side sends now the other one takes.
func whole(g *Gateways) error {
	for _, d := range [][2]*Node{{g.West, g.East}, {g.East, g.West}} {
		for _, l := range d[0].Plane.outgoing(ipsec.FlowName("vpn", ipsec.Out)) {
			if !d[1].Plane.IsLive(ipsec.In, l.sa.ID.SPI) {
				return fmt.Errorf("%s sends by %s, and %s does not listen\n%s%s", d[0].Name, l.sa.ID.SPI, d[1].Name, d[0].dump(), d[1].dump())
			}
		}
	}
	return nil
}

// TestReplacedISAKMPSAWaits: an ISAKMP SA that a newer one has replaced stays as
// long as a quick mode under it has not come to its end on both sides.
func TestReplacedISAKMPSAWaits(t *testing.T) {
	p1 := AES
	p1.Seconds = ike.Range{Offer: 300, Min: 300, Max: 300}
	g := NewGateways(t, Setup{Active: true, Phase1: []ike.Phase1Transform{p1}, Suites: []ike.Suite{PFSESP}})
	g.West.Initiate("vpn")
	g.Run(time.Minute)
	var begun time.Time
	g.Tap = func(p *Packet) []Delivery {
		s := g.Observer().Of(p.Data)
		switch {
		case begun.IsZero() && s.Exchange == doi.ExchangeMain && s.Step == 1:
			begun = g.Now
			g.After(0, func() { expireSoft(p.Sender) })
		case s.Exchange == doi.ExchangeQuick && s.Step == 3 && g.Now.Sub(begun) < 5*time.Second:
			return nil
		case s.Exchange == doi.ExchangeQuick && s.Step == 3 && s.Repeat < 4:
			return []Delivery{{Data: p.Data, After: 5 * time.Second}}
		}
		return Pass(p)
	}
	g.RunUntil(5*time.Minute, func() bool { return !begun.IsZero() })
	b := g.bothWays(20 * time.Millisecond)
	g.Run(2 * time.Minute)
	b.finish()
	g.quickModes("in the end", 2)
	for _, n := range []*Node{g.West, g.East} {
		if Count[ike.Failed](n) > 0 || Count[ike.Phase2Up](n) != 2 {
			t.Errorf("%s\n%s", n.Said(), n.dump())
		}
	}
	g.oneOfEach()
}

// TestReloadTakesTheDefaultAway: who was served by the default connection alone
// is not any more when it has gone or says something else.
func TestReloadTakesTheDefaultAway(t *testing.T) {
	for name, change := range map[string]func(c *ike.Config){
		"gone": func(c *ike.Config) { c.DefaultConnection = nil },
		"changed": func(c *ike.Config) {
			c.DefaultConnection.Suites = []ike.Suite{ESP(doi.ESP3DES, 0, doi.AuthHMACSHA1, 0)}
		},
		"same": func(*ike.Config) {},
	} {
		for _, at := range []time.Duration{70 * time.Millisecond, 85 * time.Millisecond, 5 * time.Second} {
			g := NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
				x := c.Connections[0]
				x.Local, x.Remote = ike.Net{}, ike.Net{}
				if side == "east" {
					c.DefaultPeer, c.Peers[0].Address = c.Peers[0], netip.Addr{}
					c.DefaultConnection, c.Connections, c.Peers = x, nil, nil
					x.Peer = nil
				}
			}})
			g.slowEverything(3 * time.Millisecond)
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			g.Run(at)
			c, d := *g.East.Config, *g.East.Config.DefaultConnection
			c.DefaultConnection = &d
			change(&c)
			g.East.Handle(ike.Reload{Config: &c})
			g.Run(20 * time.Second)
			pairs := 0
			if name == "same" {
				pairs = 1
			}
			if err := Agreement(g.West, g.East, pairs); err != nil {
				t.Errorf("%s, at %s: %v\n%s%s", name, at, err, g.West.Said(), g.East.Said())
			}
			if n := g.East.Plane.Flows(); n != 2*pairs {
				t.Errorf("%s, at %s: %d flows", name, at, n)
			}
			g.MustSettle()
		}
	}
}
