package iketest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// bothWays is a stream each way.
type bothWays struct {
	g    *Gateways
	a, b *Stream
}

func (g *Gateways) bothWays(pause time.Duration) *bothWays {
	return &bothWays{g, g.Watch(g.West, g.East, "vpn", pause), g.Watch(g.East, g.West, "vpn", pause)}
}

// finish ends both and fails the test if a packet is missing.
func (b *bothWays) finish() {
	b.g.T.Helper()
	b.a.Stop()
	b.b.Stop()
	b.g.Run(b.g.Net.Latency + b.g.Net.Jitter + time.Millisecond)
	for _, s := range []*Stream{b.a, b.b} {
		if s.Missing() != 0 || s.Sent == 0 {
			b.g.Errorf("%s\n%s%s", s, b.g.West.dump(), b.g.East.dump())
		}
	}
}

// isakmpSAs counts the established ISAKMP SAs of a node.
func isakmpSAs(n *Node) int { return bytes.Count(n.Engine.Dump(), []byte(": established ")) }

// oneOfEach fails the test unless one ISAKMP SA and one pair of SAs are left.
func (g *Gateways) oneOfEach() {
	g.T.Helper()
	if err := Agreement(g.West, g.East, 1); err != nil {
		g.Errorf("%v\n%s%s", err, g.West.Said(), g.East.Said())
	}
	for _, n := range []*Node{g.West, g.East} {
		if all := isakmpSAs(n); all != 1 {
			g.Errorf("%s has %d ISAKMP SAs\n%s", n.Name, all, n.Engine.Dump())
		}
	}
	g.MustSettle()
}

// expireSoft has the data plane ask for a successor of what it sends on.
func expireSoft(n *Node) {
	sas := n.Plane.newest[ipsec.FlowName("vpn", ipsec.Out)]
	if len(sas) > 0 {
		n.Handle(ike.Expire{SA: sas[len(sas)-1].sa.ID})
	}
}

// TestCrossingRekeys: both sides rekey at the same moment a hundred times while
// packets go both ways, the data planes being slow, late or failing, and the
// network losing messages. No packet may be lost.
func TestCrossingRekeys(t *testing.T) {
	cases := []struct {
		name string
		set  func(g *Gateways)
	}{
		{"well", func(*Gateways) {}},
		{"late", func(g *Gateways) { g.late(800*time.Millisecond, false) }},
		{"late and unordered", func(g *Gateways) { g.late(800*time.Millisecond, true) }},
		{"failing", func(g *Gateways) { g.late(100*time.Millisecond, false); g.failing(0.3) }},
		{"lossy", func(g *Gateways) { g.Net.Loss = 0.2; g.Net.Dup = 0.2; g.Net.Jitter = 2 * time.Second }},
		{"all of it", func(g *Gateways) {
			g.late(500*time.Millisecond, true)
			g.Net = Link{Latency: 30 * time.Millisecond, Jitter: time.Second, Loss: 0.1, Dup: 0.1, Flip: 0.02}
		}},
	}
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := NewGateways(t, Setup{Seed: uint64(100 + i), Active: true})
			g.Connect()
			c.set(g)
			b := g.bothWays(10 * time.Millisecond)
			rekeys := 0
			rounds := fewer(100)
			for range rounds {
				before := Count[ike.Phase2Up](g.West)
				expireSoft(g.West)
				expireSoft(g.East)
				g.Run(time.Duration(2+g.Rand().IntN(20)) * time.Second)
				if Count[ike.Phase2Up](g.West) > before {
					rekeys++
				}
			}
			g.West.Faults, g.East.Faults, g.Net = Faults{}, Faults{}, Link{Latency: g.Net.Latency}
			g.Run(4 * time.Minute)
			b.finish()
			g.oneOfEach()
			if rekeys < rounds*3/10 {
				g.Errorf("only %d of %d rounds made new SAs", rekeys, rounds)
			}
		})
	}
}

// late lets each request take up to d.
func (g *Gateways) late(d time.Duration, unordered bool) {
	for _, n := range []*Node{g.West, g.East} {
		n.Faults.Unordered = unordered
		n.Faults.Delay = func(ike.Output) time.Duration { return time.Duration(g.Rand().Int64N(int64(d))) }
	}
}

var errFull = errors.New("no buffer space available")

// failing lets installations and SPIs fail with some probability.
func (g *Gateways) failing(p float64) {
	for _, n := range []*Node{g.West, g.East} {
		n.Faults.Fail = func(o ike.Output) error {
			switch o.(type) {
			case ike.InstallSA, ike.AllocSPI:
				if g.chance(p) {
					return errFull
				}
			}
			return nil
		}
	}
}

// TestLateFailure: the responder cannot install its outgoing SA after the
// initiator has begun to use the pair. It listens until the initiator knows.
func TestLateFailure(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		g := NewGateways(t, Setup{Seed: seed})
		g.Connect()
		b := g.bothWays(time.Millisecond)
		g.East.Faults.Delay = func(ike.Output) time.Duration { return time.Duration(seed) * 100 * time.Millisecond }
		g.East.Faults.Fail = func(o ike.Output) error {
			if in, ok := o.(ike.InstallSA); ok && in.SAs[0].ID.Dir == ipsec.Out {
				return errFull
			}
			return nil
		}
		expireSoft(g.West)
		g.RunUntil(time.Minute, func() bool { return Count[ike.Failed](g.East) > 0 })
		g.East.Faults = Faults{}
		g.Run(10 * time.Second)
		b.finish()
		g.Run(time.Minute)
		g.oneOfEach()
	}
}

// TestBothStart: both sides start at the same moment, or nearly.
func TestBothStart(t *testing.T) {
	t.Parallel()
	for seed := range uint64(fewer(60)) {
		g := NewGateways(t, Setup{Seed: seed, Active: true})
		g.Net.Latency = time.Duration(1+seed%4*40) * time.Millisecond
		if seed%3 == 0 {
			g.Net.Jitter = 100 * time.Millisecond
		}
		if seed%5 == 0 {
			g.late(200*time.Millisecond, seed%2 == 0)
		}
		g.West.Start()
		if seed%4 == 1 { // nearly
			g.Run(time.Duration(g.Rand().IntN(300)) * time.Millisecond)
		}
		g.East.Start()
		up := func() bool {
			return len(g.West.Plane.Live(ipsec.Out)) > 0 && len(g.East.Plane.Live(ipsec.Out)) > 0
		}
		if !g.RunUntil(10*time.Second, up) {
			g.Fatalf("not up\n%s%s", g.West.Said(), g.East.Said())
		}
		b := g.bothWays(20 * time.Millisecond)
		g.Run(100 * time.Second)
		b.finish()
		g.Run(2 * time.Minute)
		g.oneOfEach()
		for _, n := range []*Node{g.West, g.East} {
			if Count[ike.Failed](n) > 0 {
				g.Errorf("%s", n.Said())
			}
			for _, d := range Events[ike.Phase1Down](n) {
				if strings.Contains(d.Reason, "INITIAL-CONTACT") {
					g.Errorf("nobody was restarted: %s", d)
				}
			}
		}
	}
}

// TestLifetimes lets both phases live through many lifetimes under a stream.
func TestLifetimes(t *testing.T) {
	for _, who := range []string{"west", "both"} {
		for seed := range uint64(fewer(4)) {
			t.Run(fmt.Sprintf("%s/%d", who, seed), func(t *testing.T) {
				t.Parallel()
				p1, p2 := AES, PFSESP
				p1.Seconds = ike.Range{Offer: 600, Min: 300, Max: 3600}
				p2.Protocols = []ike.Protocol{p2.Protocols[0]}
				p2.Protocols[0].Transforms = []ike.Phase2Transform{p2.Protocols[0].Transforms[0]}
				p2.Protocols[0].Transforms[0].Seconds = ike.Range{Offer: 120, Min: 60, Max: 3600}
				g := NewGateways(t, Setup{
					Seed: seed, Phase1: []ike.Phase1Transform{p1}, Suites: []ike.Suite{p2}, Active: who == "both",
					Change: func(side string, c *ike.Config) {
						if side == "west" {
							c.Connections[0].Active = true
						}
					},
				})
				g.West.Start()
				g.East.Start()
				g.MustUp(time.Minute) // when both start one pair goes after a while
				b := g.bothWays(50 * time.Millisecond)
				g.Run(2 * time.Hour)
				b.finish()
				for _, n := range []*Node{g.West, g.East} {
					up1, up2 := Count[ike.Phase1Up](n), Count[ike.Phase2Up](n)
					// An ISAKMP SA is replaced after 480 to 570 s, a pair after 96 to 114.
					if up1 < 12 || up1 > 32 || up2 < 62 || up2 > 160 {
						g.Errorf("%s: %d phase 1 and %d phase 2 in two hours", n.Name, up1, up2)
					}
					for _, d := range Events[ike.Phase2Down](n) {
						if d.Reason == "their lifetime is over" {
							g.Errorf("%s: %s", n.Name, d)
						}
					}
					for _, f := range Events[ike.Failed](n) {
						g.Errorf("%s: %s", n.Name, f)
					}
				}
				g.Run(30 * time.Second)
				g.MustSettle()
			})
		}
	}
}

// TestJitter: a thousand tunnels that came up at once are not rekeyed at once.
func TestJitter(t *testing.T) {
	t.Parallel()
	first := map[time.Duration]int{}
	for seed := range uint64(50) {
		g := NewGateways(t, Setup{Seed: seed})
		g.Connect()
		g.RunUntil(20*time.Minute, func() bool { return Count[ike.Phase2Up](g.West) > 1 })
		at := g.Since()
		if at < 950*time.Second || at > 1070*time.Second {
			t.Fatalf("rekeyed after %s of 1200 s", at)
		}
		first[at.Truncate(time.Second)]++
	}
	if len(first) < 20 {
		t.Errorf("50 tunnels were rekeyed in only %d different seconds", len(first))
	}
}

// TestKilobytes rekeys by the amount of traffic.
func TestKilobytes(t *testing.T) {
	t.Parallel()
	p2 := ESP(12, 128, 2, 0)
	p2.Protocols[0].Transforms[0].Kilobytes = ike.Range{Offer: 1000, Min: 500, Max: 5000}
	p1 := AES
	p1.Kilobytes = ike.Range{Offer: 20, Min: 10, Max: 100}
	g := NewGateways(t, Setup{Phase1: []ike.Phase1Transform{p1}, Suites: []ike.Suite{p2}, Active: true})
	g.Connect()
	for _, sa := range g.West.Plane.Live(ipsec.Out) {
		if sa.Hard.Bytes != 1000*1024 || sa.Soft.Bytes < 750*1024 || sa.Soft.Bytes >= sa.Hard.Bytes {
			t.Errorf("limits of %d and %d bytes", sa.Soft.Bytes, sa.Hard.Bytes)
		}
	}
	const pause = 10 * time.Millisecond // 100 000 bytes a second
	b := &bothWays{g, g.Stream(g.West, g.East, "vpn", pause), g.Stream(g.East, g.West, "vpn", pause)}
	g.Run(5 * time.Minute)
	b.finish()
	if n := Count[ike.Phase2Up](g.West); n < 29 || n > 80 {
		t.Errorf("%d pairs of SAs for 30 MB each way at 1000 KB each", n)
	}
	if n := Count[ike.Phase1Up](g.West); n < 2 {
		t.Errorf("phase 1 was not rekeyed by its kilobytes")
	}
	g.Run(time.Minute)
	g.MustSettle()
}

// TestHardExpiry: while nothing gets through, SAs end with their lifetime on
// both sides; when the network is back, so is the tunnel.
func TestHardExpiry(t *testing.T) {
	g := NewGateways(t, Setup{Active: true})
	g.Connect()
	g.West.Start()
	g.East.Start()
	g.Net.Down = true
	g.Run(1300 * time.Second)
	if err := Agreement(g.West, g.East, 0); err != nil {
		t.Errorf("after the end of their lifetime: %v", err)
	}
	if Count[ike.Phase2Down](g.West) != 1 || Count[ike.Phase2Down](g.East) != 1 {
		t.Errorf("%s%s", g.West.Said(), g.East.Said())
	}
	g.Net.Down = false
	g.Run(3 * time.Minute)
	g.oneOfEach()
	g.MustCarry()
}

// TestRetriesSlowDown: a peer that is away is not called all the time.
func TestRetriesSlowDown(t *testing.T) {
	g := NewGateways(t, Setup{Active: true})
	g.East.Kill()
	g.West.Start()
	g.Run(time.Hour)
	// An attempt takes 15 s of retransmissions, then at least 48 s of pause.
	if n := Count[ike.Failed](g.West); n < 40 || n > 65 {
		t.Errorf("%d attempts in an hour", n)
	}
	if n := g.West.Transmits; n > 300 {
		t.Errorf("%d datagrams in an hour to a peer that does not answer", n)
	}
	g.East.Restart()
	g.MustUp(2 * time.Minute)
}

// TestPeerWithoutPhase2 answers phase 1 and never quick mode: it is not called
// all the time either.
func TestPeerWithoutPhase2(t *testing.T) {
	g := NewGateways(t, Setup{Active: true})
	g.Tap = func(p *Packet) []Delivery {
		if s := g.Observer().Of(p.Data); s.Exchange == 32 {
			return nil
		}
		return Pass(p)
	}
	g.West.Start()
	g.Run(time.Hour)
	if n := Count[ike.Phase1Up](g.West); n < 10 || n > 65 {
		t.Errorf("%d main modes in an hour", n)
	}
}
