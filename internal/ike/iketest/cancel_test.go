package iketest

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// TestCancelledAnywhere ends a negotiation from outside at each moment of it, on
// either side, while requests are slow: no result that comes too late does
// anything, nothing reserved stays, and afterwards the tunnel comes up.
func TestCancelledAnywhere(t *testing.T) {
	ways := map[string]func(g *Gateways, n *Node){
		"teardown":         func(_ *Gateways, n *Node) { n.Handle(ike.Teardown{Name: "vpn"}) },
		"phase 1 teardown": func(_ *Gateways, n *Node) { n.Handle(ike.Teardown{Name: n.Config.Peers[0].Name, Phase1: true}) },
		"shutdown":         func(_ *Gateways, n *Node) { n.Handle(ike.Shutdown{}) },
		"quiet shutdown":   func(_ *Gateways, n *Node) { n.Handle(ike.Shutdown{Quiet: true}) },
		"kill":             func(_ *Gateways, n *Node) { n.Kill() },
		"same reload":      func(_ *Gateways, n *Node) { n.Handle(ike.Reload{Config: copyConfig(n.Config)}) },
		"reload without the connection": func(_ *Gateways, n *Node) {
			c := copyConfig(n.Config)
			c.Connections = nil
			n.Handle(ike.Reload{Config: c})
		},
		"reload with another key": func(_ *Gateways, n *Node) {
			c := copyConfig(n.Config)
			c.Peers[0].Key = []byte("something else")
			n.Handle(ike.Reload{Config: c})
		},
		"reload without anybody": func(_ *Gateways, n *Node) {
			n.Handle(ike.Reload{Config: (&ike.Config{}).Defaults()})
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 2 * time.Millisecond; at < 160*time.Millisecond; at += sparse(4 * time.Millisecond) {
				for _, west := range []bool{true, false} {
					g := NewGateways(t, Setup{Seed: uint64(at), Suites: []ike.Suite{PFSESP}})
					g.slowEverything(8 * time.Millisecond)
					n := g.East
					if west {
						n = g.West
					}
					g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
					g.Run(at)
					way(g, n)
					g.Run(4 * time.Minute)
					for _, n := range []*Node{g.West, g.East} {
						if n.Engine == nil {
							continue
						}
						if err := n.Settled(); err != nil && name != "quiet shutdown" {
							t.Errorf("at %s, west %t: %v\n%s", at, west, err, n.Said())
						}
					}
					n.Restart()
					g.East.Initiate("vpn")
					g.West.Initiate("vpn")
					expireSoft(g.East)
					expireSoft(g.West)
					g.Run(4 * time.Minute)
					if err := Agreement(g.West, g.East, 1); err != nil {
						t.Errorf("at %s, west %t: %v\n%s%s", at, west, err, g.West.Said(), g.East.Said())
					}
				}
			}
		})
	}
}

func (g *Gateways) slowEverything(d time.Duration) {
	for _, n := range []*Node{g.West, g.East} {
		n.Faults.Delay = func(ike.Output) time.Duration { return d }
	}
}

// copyConfig is a configuration that says the same with other pointers, as one
// that was read anew does.
func copyConfig(c *ike.Config) *ike.Config {
	n := *c
	n.Peers, n.Connections = nil, nil
	peers := map[*ike.Peer]*ike.Peer{}
	for _, p := range c.Peers {
		q := *p
		q.Key = bytes.Clone(p.Key)
		peers[p] = &q
		n.Peers = append(n.Peers, &q)
	}
	for _, x := range c.Connections {
		y := *x
		y.Peer = peers[x.Peer]
		n.Connections = append(n.Connections, &y)
	}
	return &n
}

// TestResultsTwice gives every result twice: the second one is nobody's.
func TestResultsTwice(t *testing.T) {
	g := NewGateways(t, Setup{Suites: []ike.Suite{PFSESP}})
	g.West.Faults.Repeat, g.East.Faults.Repeat = true, true
	g.Connect()
	expireSoft(g.West)
	expireSoft(g.East)
	g.Run(3 * time.Minute)
	g.oneOfEach()
}

// TestResultsOfNobody: results that were never asked for change nothing.
func TestResultsOfNobody(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	before, requests := string(g.East.Engine.Dump()), fmt.Sprint(g.East.Requests)
	for id := range ike.RequestID(300) {
		for _, in := range []ike.Input{
			ike.SPIAllocated{ID: id, SPI: 4096},
			ike.SAInstalled{ID: id},
			ike.DHDone{ID: id},
			ike.PolicyAnswer{ID: id, Allow: []bool{true}},
			ike.SAInstalled{ID: id, Err: errFull},
		} {
			g.East.Handle(in)
		}
	}
	if after := string(g.East.Engine.Dump()); before != after || fmt.Sprint(g.East.Requests) != requests {
		t.Errorf("the state changed from\n%sto\n%s", before, after)
	}
}

// TestResultsTooLate: each kind of request takes longer than the exchange may.
func TestResultsTooLate(t *testing.T) {
	t.Parallel()
	for _, kind := range []ike.Output{ike.DiffieHellman{}, ike.AllocSPI{}, ike.InstallSA{}, ike.QueryPolicy{}} {
		for _, west := range []bool{true, false} {
			g := NewGateways(t, Setup{Suites: []ike.Suite{PFSESP}})
			n := g.East
			if west {
				n = g.West
			}
			slow := true
			n.Faults.Unordered = true
			n.Faults.Delay = func(o ike.Output) time.Duration {
				if slow && fmt.Sprintf("%T", o) == fmt.Sprintf("%T", kind) {
					return 3 * time.Minute
				}
				return 0
			}
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			g.Run(10 * time.Minute)
			if len(g.West.Ended) != 1 || g.West.Ended[0].Err == nil {
				t.Errorf("%T: the acquire was answered with %v", kind, g.West.Ended)
			}
			if err := Agreement(g.West, g.East, 0); err != nil {
				t.Errorf("%T: %v", kind, err)
			}
			g.MustSettle()
			if !bytes.Contains(n.Engine.Dump(), []byte("requests 0")) {
				t.Errorf("%T: requests are left:\n%s", kind, n.Engine.Dump())
			}
			slow = false
			g.West.Initiate("vpn")
			g.MustUp(2 * time.Minute)
		}
	}
}

// TestReload: what did not change is not touched; what did is.
func TestReload(t *testing.T) {
	t.Parallel()
	g := NewGateways(t, Setup{Active: true})
	g.West.Start()
	g.MustUp(5 * time.Second)
	sent, before := g.West.Transmits, string(g.West.Engine.Dump())
	b := g.bothWays(10 * time.Millisecond)
	for range 3 {
		g.West.Handle(ike.Reload{Config: copyConfig(g.West.Config)})
		g.Run(time.Second)
	}
	if after := string(g.West.Engine.Dump()); before != after || g.West.Transmits != sent {
		t.Errorf("the same configuration again changed the state from\n%sto\n%s", before, after)
	}
	g.Run(45 * time.Minute) // the pointers of before are nobody's
	b.finish()

	// A second connection comes up beside the first.
	add := func(n *Node, local, remote string) {
		c := copyConfig(n.Config)
		x := *c.Connections[0]
		x.Name = "second"
		x.Local, x.Remote = ike.Net{Prefix: netip.MustParsePrefix(local)}, ike.Net{Prefix: netip.MustParsePrefix(remote)}
		c.Connections = append(c.Connections, &x)
		n.Handle(ike.Reload{Config: c})
	}
	add(g.East, "10.22.0.0/16", "10.21.0.0/16")
	add(g.West, "10.21.0.0/16", "10.22.0.0/16")
	g.Run(3 * time.Minute)
	if err := g.Carries(g.West, "second", g.East, "second"); err != nil {
		t.Error(err)
	}
	if err := Agreement(g.West, g.East, 2); err != nil {
		t.Error(err)
	}
	// And goes again, on both sides.
	g.West.Handle(ike.Reload{Config: copyConfig(g.West.Config)})
	g.Run(time.Second)
	g.East.Handle(ike.Reload{Config: copyConfig(g.East.Config)})
	g.Run(3 * time.Minute)
	g.oneOfEach()
	g.MustCarry()
}

// TestGenericConnection: a peer that no connection names gets what the default
// connection allows, the tunnel's ends themselves, and flows that come and go
// with it.
func TestGenericConnection(t *testing.T) {
	g := NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
		x := c.Connections[0]
		x.Local, x.Remote = ike.Net{}, ike.Net{}
		if side == "east" {
			c.DefaultPeer, c.Peers[0].Address = c.Peers[0], netip.Addr{}
			c.DefaultConnection, c.Connections, c.Peers = x, nil, nil
			x.Peer = nil
		}
	}})
	idle := string(g.East.Engine.Dump())
	g.West.Initiate("vpn")
	g.Run(5 * time.Second)
	if err := Agreement(g.West, g.East, 1); err != nil {
		g.Fatalf("%v\n%s%s", err, g.West.Said(), g.East.Said())
	}
	if n := g.East.Plane.Flows(); n != 2 {
		t.Errorf("%d flows", n)
	}
	conn := Events[ike.Phase2Up](g.East)[0].Conn
	if err := g.Carries(g.West, "vpn", g.East, conn); err != nil {
		t.Error(err)
	}
	s := g.Stream(g.West, g.East, "vpn", 50*time.Millisecond)
	g.Run(40 * time.Minute)
	s.Stop()
	g.Run(time.Second)
	if s.Missing() > 0 {
		t.Error(s)
	}
	if n := g.East.Plane.Flows(); n != 2 {
		t.Errorf("%d flows after rekeys", n)
	}
	g.West.Handle(ike.Shutdown{})
	g.Run(5 * time.Minute)
	if n := g.East.Plane.Flows(); n != 0 {
		t.Errorf("%d flows are left", n)
	}
	if now := string(g.East.Engine.Dump()); now != idle {
		t.Errorf("the state is\n%sand was\n%s", now, idle)
	}
}

// TestGenericConnectionFails: what was made for a peer goes when nothing comes
// of it.
func TestGenericConnectionFails(t *testing.T) {
	g := NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
		x := c.Connections[0]
		x.Local, x.Remote = ike.Net{}, ike.Net{}
		if side == "east" {
			c.DefaultPeer, c.Peers[0].Address = c.Peers[0], netip.Addr{}
			c.DefaultConnection, c.Connections, c.Peers = x, nil, nil
			x.Peer, x.Suites = nil, []ike.Suite{ESP(doi.ESP3DES, 0, doi.AuthHMACMD5, 0)}
		}
	}})
	idle := string(g.East.Engine.Dump())
	for id := range uint64(5) {
		g.West.Handle(ike.Acquire{ID: id, Conn: "vpn"})
		g.Run(10 * time.Second)
	}
	if len(g.East.Plane.Live(ipsec.In)) != 0 || len(g.West.Ended) != 5 {
		t.Errorf("%s", g.East.Said())
	}
	g.West.Handle(ike.Shutdown{})
	g.Run(5 * time.Minute)
	if now := string(g.East.Engine.Dump()); now != idle {
		t.Errorf("the state is\n%sand was\n%s", now, idle)
	}
}
