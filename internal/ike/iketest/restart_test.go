package iketest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// TestKilled kills one side after each message of a handshake, or of a rekey of
// either phase, and starts it again. Whoever then wants the connection gets it.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, rekey := range []string{"", "phase 2", "phase 1"} {
		for _, victim := range []string{"west", "east"} {
			for _, starter := range []string{"west", "east"} {
				for after := 1; after <= 9; after++ {
					if rekey == "phase 2" && after > 3 || rekey == "phase 1" && after > 6 {
						continue
					}
					name := fmt.Sprintf("%s/%s killed after %d/%s starts", rekey, victim, after, starter)
					t.Run(name, func(t *testing.T) { killed(t, rekey, victim, starter, after) })
				}
			}
		}
	}
}

func killed(t *testing.T, rekey, victim, starter string, after int) {
	p1 := AES
	p1.Seconds = ike.Range{Offer: 300, Min: 300, Max: 300}
	g := NewGateways(t, Setup{Seed: uint64(after), Suites: []ike.Suite{PFSESP}, Phase1: []ike.Phase1Transform{p1}})
	node := func(name string) *Node {
		if name == "west" {
			return g.West
		}
		return g.East
	}
	dead, alive := node(victim), node(starter)
	if rekey != "" {
		g.Connect()
	}
	count, done := 0, false
	g.Tap = func(p *Packet) []Delivery {
		if s := g.Observer().Of(p.Data); s.Step > 0 {
			count++
		}
		if count == after && !done {
			done = true
			g.After(15*time.Millisecond, dead.Kill) // it has arrived and may be answered
		}
		return Pass(p)
	}
	switch rekey {
	case "phase 2":
		expireSoft(g.West)
	case "phase 1":
		g.Run(4 * time.Minute)
	default:
		g.West.Initiate("vpn")
	}
	if !g.RunUntil(2*time.Minute, func() bool { return dead.Engine == nil }) {
		t.Fatalf("nobody was killed: %d messages", count)
	}
	g.Run(3 * time.Second)
	dead.Restart()
	if starter == victim {
		alive.Initiate("vpn")
	} else {
		// The survivor does not know yet: its own SAs seem to live. It finds out
		// when it needs a new one, or when the other side comes.
		alive.Initiate("vpn")
		expireSoft(alive)
	}
	g.Tap = nil
	ok := func() bool {
		out, in := g.West.Plane.newest[ipsec.FlowName("vpn", ipsec.Out)], g.East.Plane.newest[ipsec.FlowName("vpn", ipsec.Out)]
		return len(out) > 0 && len(in) > 0 && g.East.Plane.IsLive(ipsec.In, out[len(out)-1].sa.ID.SPI) && g.West.Plane.IsLive(ipsec.In, in[len(in)-1].sa.ID.SPI)
	}
	if !g.RunUntil(time.Minute, ok) {
		g.Fatalf("no tunnel a minute after\n%s%s%s%s", g.West.Said(), g.East.Said(), g.West.dump(), g.East.dump())
	}
	g.Run(500 * time.Millisecond) // a new SA waits a little before it takes the traffic
	g.MustCarry()
	b := g.bothWays(20 * time.Millisecond)
	g.Run(3 * time.Minute)
	b.finish()
	if err := Agreement(g.West, g.East, 1); err != nil {
		g.Errorf("%v\n%s%s", err, g.West.Said(), g.East.Said())
	}
	g.MustSettle()
}

// TestBothKilled: both sides lose everything and both start.
func TestBothKilled(t *testing.T) {
	g := NewGateways(t, Setup{Active: true})
	g.Connect()
	g.West.Kill()
	g.East.Kill()
	g.Run(time.Second)
	g.West.Restart()
	g.East.Restart()
	g.West.Start()
	g.Run(10 * time.Millisecond)
	g.East.Start()
	g.Run(3 * time.Minute)
	g.oneOfEach()
	g.MustCarry()
}

// TestInitialContact: whoever comes back says so, and what it forgot goes on the
// other side at once.
func TestInitialContact(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	old := g.East.OutSA().ID
	g.West.Restart()
	g.West.Initiate("vpn")
	g.RunUntil(10*time.Second, func() bool { return Count[ike.Phase1Up](g.East) == 2 })
	g.Run(time.Millisecond)
	if g.East.Plane.IsLive(ipsec.Out, old.SPI) {
		t.Errorf("the SA of before is still there:\n%s", g.East.Said())
	}
	g.MustUp(10 * time.Second)
	if all := isakmpSAs(g.East); all != 1 {
		t.Errorf("%d ISAKMP SAs", all)
	}
	// A phase 1 that is rekeyed is no first contact.
	before := g.East.OutSA().ID
	g.West.Handle(ike.Teardown{Name: "east", Phase1: true})
	g.Run(time.Second)
	expireSoft(g.West)
	g.RunUntil(10*time.Second, func() bool { return Count[ike.Phase1Up](g.East) == 3 })
	if !g.East.Plane.IsLive(ipsec.Out, before.SPI) {
		t.Errorf("a new ISAKMP SA took the living SAs away:\n%s", g.East.Said())
	}
}

// TestLateInitialContact: both sides start, and one's INITIAL-CONTACT comes when
// the other's SAs are up: those are no leftovers.
func TestLateInitialContact(t *testing.T) {
	g := NewGateways(t, Setup{Active: true})
	late := 0
	g.Tap = func(p *Packet) []Delivery {
		if s := g.Observer().Of(p.Data); p.Sender == g.West && s.Exchange == doi.ExchangeMain && s.Step == 5 && s.Repeat == 0 {
			late++
			return []Delivery{{Data: p.Data, After: 500 * time.Millisecond}}
		}
		return Pass(p)
	}
	g.West.Start()
	g.East.Start()
	g.Run(300 * time.Millisecond)
	b := g.bothWays(5 * time.Millisecond)
	g.Run(time.Minute)
	b.finish()
	g.Run(2 * time.Minute)
	g.oneOfEach()
	if late != 1 || Count[ike.Phase2Down](g.East) > 1 {
		t.Errorf("%d late messages\n%s", late, g.East.Said())
	}
	for _, d := range Events[ike.Phase1Down](g.East) {
		if strings.Contains(d.Reason, "INITIAL-CONTACT") {
			t.Errorf("nobody was restarted: %s", d)
		}
	}
}
