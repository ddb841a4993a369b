package iketest

import (
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// TestShutdown tells the peer, and nothing stays on either side.
func TestShutdown(t *testing.T) {
	for _, who := range []string{"west", "east"} {
		g := NewGateways(t, Setup{})
		g.Connect()
		n, other := g.West, g.East
		if who == "east" {
			n, other = other, n
		}
		n.Handle(ike.Shutdown{})
		g.Run(time.Second)
		if k := len(other.Plane.Live(ipsec.Out)); k != 0 {
			t.Errorf("%s still sends by %d SAs after %s went\n%s", other.Name, k, n.Name, other.Said())
		}
		if k := len(n.Plane.live); k != 0 {
			t.Errorf("%s went and left %d SAs", n.Name, k)
		}
		g.Run(time.Minute)
		if err := Agreement(g.West, g.East, 0); err != nil {
			t.Error(err)
		}
		for _, n := range []*Node{g.West, g.East} {
			if all := isakmpSAs(n); all != 0 {
				t.Errorf("%s has %d ISAKMP SAs\n%s", n.Name, all, n.Engine.Dump())
			}
		}
		before := n.Transmits
		n.Handle(ike.Initiate{Conn: "vpn"})
		n.Handle(ike.Acquire{ID: 7, Conn: "vpn"})
		other.Initiate("vpn")
		g.Run(2 * time.Minute)
		if n.Transmits != before {
			t.Errorf("%s goes on after its end", n.Name)
		}
	}
}

// TestQuietShutdown leaves the SAs and tells nobody.
func TestQuietShutdown(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	before := g.West.Transmits
	g.West.Handle(ike.Shutdown{Quiet: true})
	g.Run(time.Minute)
	if g.West.Transmits != before {
		t.Error("it was not quiet")
	}
	if err := Agreement(g.West, g.East, 1); err != nil {
		t.Error(err)
	}
	g.MustCarry()
}

// TestTeardown ends a connection for good, on both sides, unless the other side
// wants it.
func TestTeardown(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	g.West.Handle(ike.Teardown{Name: "vpn"})
	g.Run(10 * time.Minute)
	if err := Agreement(g.West, g.East, 0); err != nil {
		t.Error(err)
	}
	g.MustSettle()
	g.Connect()

	g.East.Handle(ike.Initiate{Conn: "vpn"}) // now East wants it too
	g.West.Handle(ike.Teardown{Name: "vpn"})
	g.Run(time.Minute)
	g.oneOfEach()
	g.MustCarry()
}

// TestDeletedISAKMPSA: the IPsec SAs live on, and the next exchange makes a new
// one.
func TestDeletedISAKMPSA(t *testing.T) {
	t.Parallel()
	g := NewGateways(t, Setup{})
	g.Connect()
	g.West.Handle(ike.Teardown{Name: "east", Phase1: true})
	g.Run(time.Second)
	for _, n := range []*Node{g.West, g.East} {
		if all := isakmpSAs(n); all != 0 {
			t.Errorf("%s has %d ISAKMP SAs", n.Name, all)
		}
	}
	b := g.bothWays(10 * time.Millisecond)
	g.Run(25 * time.Minute) // over a rekey of the pair
	b.finish()
	g.oneOfEach()
}

// TestUnknownNames: what nobody configured is a line in the log and no more.
func TestUnknownNames(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	before := string(g.West.Engine.Dump())
	g.West.Handle(ike.Initiate{Conn: "none"})
	g.West.Handle(ike.Teardown{Name: "none"})
	g.West.Handle(ike.Teardown{Name: "none", Phase1: true})
	g.West.Handle(ike.Expire{SA: ipsec.SAID{SPI: 1}, Hard: true})
	g.West.Handle(ike.Mapping{SA: ipsec.SAID{SPI: 1}})
	g.West.Handle(ike.Acquire{ID: 3, Conn: "none"})
	if after := string(g.West.Engine.Dump()); before != after {
		t.Errorf("the state changed from\n%sto\n%s", before, after)
	}
	if Count[ike.Notice](g.West) != 3 || len(g.West.Ended) != 1 || g.West.Ended[0].Err == nil {
		t.Errorf("%s %v", g.West.Said(), g.West.Ended)
	}
}

// TestAcquire is answered when the SAs live, once for each.
func TestAcquire(t *testing.T) {
	g := NewGateways(t, Setup{})
	s := g.NewStream(g.West, g.East, "vpn")
	s.Acquire = true
	s.Send()
	g.West.Handle(ike.Acquire{ID: 77, Conn: "vpn"})
	g.Run(10 * time.Second)
	if len(g.West.Ended) != 2 || g.West.Ended[0].Err != nil || g.West.Ended[1].Err != nil {
		t.Fatalf("answers: %v\n%s", g.West.Ended, g.West.Said())
	}
	s.Send()
	g.Run(time.Second)
	if s.Received != 2 { // the one that was held, too
		t.Error(s)
	}
	g.West.Handle(ike.Acquire{ID: 78, Conn: "vpn"})
	if len(g.West.Ended) != 3 || g.West.Ended[2].Err != nil {
		t.Errorf("an acquire of what is up: %v", g.West.Ended)
	}
}

// TestDeletesFareBadly: each fault on the informational message that ends a
// pair. A lost one is sent again; at the latest the lifetime ends what is left.
func TestDeletesFareBadly(t *testing.T) {
	t.Parallel()
	fs := faults()
	for at := range 76 {
		fs = append(fs, onFirst("flip", func(d []byte) []Delivery { return []Delivery{pass(damaged(d, min(at, len(d)-1), 1<<(at%8)))} }))
	}
	for i, f := range fs {
		if i%(100/fewer(100)) != 0 {
			continue
		}
		g := NewGateways(t, Setup{Seed: uint64(i)})
		g.Connect()
		g.Tap = func(p *Packet) []Delivery {
			if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeInformational {
				return f.do(p.Data, s.Repeat)
			}
			return Pass(p)
		}
		expireSoft(g.West)
		b := g.bothWays(100 * time.Millisecond)
		g.Run(10 * time.Minute)
		b.finish()
		g.MustSettle()
		if f.name != "drop always" && f.name != "drop thrice" {
			if err := Agreement(g.West, g.East, 1); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		}
		g.West.Handle(ike.Teardown{Name: "vpn"})
		g.Run(25 * time.Minute)
		// The side that was not told may have made a new pair when the old one was
		// due, and has one then; half of one is what must not be.
		whole := func() bool { return Agreement(g.West, g.East, 0) == nil || g.Up() }
		if !g.RunUntil(2*time.Minute, whole) {
			t.Errorf("%s: %v", f.name, Agreement(g.West, g.East, 1))
		}
		g.MustSettle()
	}
}
