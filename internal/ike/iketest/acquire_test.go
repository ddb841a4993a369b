package iketest

import (
	"fmt"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// acquiring is a stream of a data plane that asks for SAs; it sends nothing by
// itself.
func (g *Gateways) acquiring(from, to *Node) *Stream {
	s := g.NewStream(from, to, "vpn")
	s.Acquire = true
	return s
}

// mustArrive fails the test unless all of a stream's packets arrived, those too
// that had to wait.
func (g *Gateways) mustArrive(what string, streams ...*Stream) {
	g.T.Helper()
	for _, s := range streams {
		if s.Missing() != 0 || s.Waiting() != 0 || s.Sent == 0 {
			g.Errorf("%s: %s\n%s%s%s%s", what, s, g.West.Said(), g.East.Said(), g.West.dump(), g.East.dump())
		}
	}
}

// quickModes fails the test unless exactly n quick modes were begun.
func (g *Gateways) quickModes(what string, n int) {
	g.T.Helper()
	if got := g.Observer().QuickModes(); got != n {
		g.Errorf("%s: %d quick modes, expected %d\n%s%s", what, got, n, g.West.Said(), g.East.Said())
	}
}

// TestAcquireBeforeMessage3: the initiator's first packets are faster than its
// third message, and the responder's answers to them find no SA. They wait for
// the quick mode that is under way, whatever happens to that message.
func TestAcquireBeforeMessage3(t *testing.T) {
	t.Parallel()
	late := func(d time.Duration) fault {
		return onFirst("late "+d.String(), func(b []byte) []Delivery { return []Delivery{{Data: b, After: d}} })
	}
	for _, f := range []fault{
		onFirst("well", func(b []byte) []Delivery { return []Delivery{pass(b)} }),
		onFirst("drop", func([]byte) []Delivery { return nil }),
		onFirst("twice", func(b []byte) []Delivery { return []Delivery{pass(b), {Data: b, After: 300 * time.Millisecond}} }),
		late(200 * time.Millisecond), late(900 * time.Millisecond), late(1100 * time.Millisecond), late(4 * time.Second),
		{"drop thrice", false, func(b []byte, count int) []Delivery {
			if count < 3 {
				return nil
			}
			return []Delivery{pass(b)}
		}},
		{"always late", true, func(b []byte, _ int) []Delivery { return []Delivery{{Data: b, After: 1300 * time.Millisecond}} }},
	} {
		for _, active := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/active %t", f.name, active), func(t *testing.T) {
				g := NewGateways(t, Setup{Active: active})
				g.Tap = func(p *Packet) []Delivery {
					if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeQuick && s.Step == 3 {
						return f.do(p.Data, s.Repeat)
					}
					return Pass(p)
				}
				g.West.Start()
				first, answer := g.acquiring(g.West, g.East), g.acquiring(g.East, g.West)
				first.Send()
				if !g.RunUntil(5*time.Second, func() bool { return len(g.East.Plane.Live(ipsec.In)) == 1 }) {
					t.Fatal(g.East.Said())
				}
				if active { // and it is not only its data plane that wants SAs
					g.East.Start()
				}
				for range 60 {
					answer.Send()
					g.Run(100 * time.Millisecond)
				}
				g.Run(20 * time.Second)
				g.mustArrive(f.name, first, answer)
				g.quickModes(f.name, 1)
				g.oneOfEach()
				if n := len(g.East.Ended); n > 1 {
					t.Errorf("%d acquires for one wait: %v", n, g.East.Ended)
				}
			})
		}
	}
}

// TestAcquireOutlivesAQuickMode: the quick mode for which an acquire waits comes
// to nothing; the acquire gets another.
func TestAcquireOutlivesAQuickMode(t *testing.T) {
	gone := map[string]func(g *Gateways){
		"no third message":    func(*Gateways) {},
		"killed":              func(g *Gateways) { g.West.Restart() },
		"torn down":           func(g *Gateways) { g.West.Handle(ike.Teardown{Name: "vpn"}) },
		"phase 1 torn down":   func(g *Gateways) { g.West.Handle(ike.Teardown{Name: "east", Phase1: true}) },
		"phase 1 ended here":  func(g *Gateways) { g.East.Handle(ike.Teardown{Name: "west", Phase1: true}) },
		"data plane is full":  func(g *Gateways) { g.outgoingFails(g.East, 1) },
		"outgoing fails late": func(g *Gateways) { g.outgoingFails(g.East, 1); g.slowEverything(200 * time.Millisecond) },
	}
	for name, how := range gone {
		t.Run(name, func(t *testing.T) {
			g := NewGateways(t, Setup{})
			hold := true
			g.Tap = func(p *Packet) []Delivery {
				if s := g.Observer().Of(p.Data); hold && s.Exchange == doi.ExchangeQuick && s.Step == 3 {
					return nil
				}
				return Pass(p)
			}
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			if !g.RunUntil(5*time.Second, func() bool { return len(g.East.Plane.Live(ipsec.In)) == 1 }) {
				t.Fatal(g.East.Said())
			}
			answer := g.acquiring(g.East, g.West)
			answer.Send()
			g.Run(100 * time.Millisecond)
			g.quickModes("while it is under way", 1)
			how(g)
			g.RunUntil(20*time.Second, func() bool { return g.Observer().QuickModes() > 1 })
			hold = false
			g.Run(5 * time.Minute)
			g.mustArrive(name, answer)
			if n := g.Observer().QuickModes(); n > 3 {
				t.Errorf("%d quick modes\n%s%s", n, g.West.Said(), g.East.Said())
			}
			if err := Agreement(g.West, g.East, 1); err != nil {
				t.Errorf("%v\n%s%s", err, g.West.Said(), g.East.Said())
			}
			g.MustSettle()
		})
	}
}

// outgoingFails lets a node's next n installations of outgoing SAs fail.
func (g *Gateways) outgoingFails(n *Node, times int) {
	n.Faults.Fail = func(o ike.Output) error {
		if in, ok := o.(ike.InstallSA); ok && times > 0 && in.SAs[0].ID.Dir == ipsec.Out {
			times--
			return errFull
		}
		return nil
	}
}

// TestAcquireAnywhere: a packet needs SAs at each moment of a negotiation, on
// either side. Nobody begins a second quick mode once the first is known, nor a
// second main mode once the peer has shown that it is there.
func TestAcquireAnywhere(t *testing.T) {
	for _, starter := range []string{"west", "east"} {
		t.Run(starter, func(t *testing.T) {
			t.Parallel()
			most := 0
			for at := time.Millisecond; at < 300*time.Millisecond; at += sparse(2 * time.Millisecond) {
				g := NewGateways(t, Setup{Seed: uint64(at), Suites: []ike.Suite{PFSESP}})
				g.slowEverything(8 * time.Millisecond)
				a, b := g.West, g.East
				if starter == "east" {
					a, b = b, a
				}
				a.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
				ours, theirs := g.acquiring(a, b), g.acquiring(b, a)
				g.Run(at)
				ours.Send()
				theirs.Send()
				known := g.East.Engine != nil && len(g.Observer().Sessions()) > 0 && g.Observer().Sessions()[0].ke[0] != nil
				g.Run(2 * time.Minute)
				what := fmt.Sprintf("at %s", at)
				g.mustArrive(what, ours, theirs)
				n := g.Observer().QuickModes()
				if most = max(most, n); n > 2 || n > 1 && known && at > 60*time.Millisecond {
					g.Errorf("%s: %d quick modes\n%s%s", what, n, g.West.Said(), g.East.Said())
				}
				g.oneOfEach()
			}
			t.Logf("at most %d quick modes", most)
		})
	}
}

// TestBothAcquire: both data planes ask at the same moment, or nearly; with an
// ISAKMP SA there or without. One pair is left, and nothing flaps.
func TestBothAcquire(t *testing.T) {
	for _, c := range []struct {
		name   string
		phase1 bool
		most   int // quick modes
	}{
		{"from nothing", false, 1},
		{"under an ISAKMP SA", true, 2}, // both first messages are on their way
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			total, worlds := 0, fewer(60)
			for seed := range uint64(worlds) {
				g := NewGateways(t, Setup{Seed: seed, Suites: []ike.Suite{PFSESP}})
				g.Net.Latency = time.Duration(1+seed%4*20) * time.Millisecond
				if seed%3 == 1 {
					g.Net.Jitter = 20 * time.Millisecond
				}
				if seed%5 > 2 {
					g.late(50*time.Millisecond, seed%2 == 0)
				}
				before := 0
				if c.phase1 {
					g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
					g.Run(10 * time.Second)
					g.East.Handle(ike.Teardown{Name: "vpn"})
					g.Run(time.Minute)
					before = g.Observer().QuickModes()
				}
				a, b := g.acquiring(g.West, g.East), g.acquiring(g.East, g.West)
				a.Send()
				if seed%4 == 3 { // nearly
					g.Run(time.Duration(g.Rand().IntN(200)) * time.Millisecond)
				}
				b.Send()
				g.Run(3 * time.Second)
				g.mustArrive("after three seconds", a, b)
				g.Run(2 * time.Minute)
				n := g.Observer().QuickModes() - before
				total += n
				if n > c.most {
					g.Errorf("%d quick modes, expected %d at most\n%s%s", n, c.most, g.West.Said(), g.East.Said())
				}
				g.oneOfEach()
				for _, n := range []*Node{g.West, g.East} {
					if Count[ike.Failed](n) > 0 {
						t.Error(n.Said())
					}
				}
			}
			t.Logf("%d quick modes for %d connections", total, worlds)
		})
	}
}

// TestAcquireWhenUp: just after the SAs came, and while their successors are
// made, an acquire is answered at once and starts nothing.
func TestAcquireWhenUp(t *testing.T) {
	g := NewGateways(t, Setup{Suites: []ike.Suite{PFSESP}})
	g.slowEverything(8 * time.Millisecond)
	g.West.Initiate("vpn")
	want := 1
	for round := range 3 {
		for _, n := range []*Node{g.West, g.East} {
			if !g.RunUntil(5*time.Second, func() bool { return Count[ike.Phase2Up](n) > 0 }) {
				t.Fatal(n.Said())
			}
		}
		for range 40 { // the rekey takes less
			for _, n := range []*Node{g.West, g.East} {
				ended := len(n.Ended)
				n.Handle(ike.Acquire{ID: uint64(100 + ended), Conn: "vpn"})
				if len(n.Ended) != ended+1 || n.Ended[ended].Err != nil {
					t.Fatalf("round %d: %v\n%s", round, n.Ended[ended:], n.dump())
				}
			}
			g.Run(5 * time.Millisecond)
		}
		g.quickModes(fmt.Sprintf("round %d", round), want)
		want++
		if round%2 == 0 {
			expireSoft(g.West)
		} else {
			expireSoft(g.East)
		}
	}
	g.Run(time.Minute)
	g.oneOfEach()
}

// TestAcquireAfterADelete: the peer has just ended the connection, its ISAKMP SA
// too or not; traffic brings it up again, once.
func TestAcquireAfterADelete(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(n *Node)
	}{
		{"teardown", func(n *Node) { n.Handle(ike.Teardown{Name: "vpn"}) }},
		{"both teardowns", func(n *Node) {
			n.Handle(ike.Teardown{Name: "vpn"})
			n.Handle(ike.Teardown{Name: n.Config.Peers[0].Name, Phase1: true})
		}},
		{"restart", func(n *Node) { n.Handle(ike.Shutdown{}); n.Restart() }},
	} {
		for wait := time.Duration(0); wait <= 40*time.Millisecond; wait += 5 * time.Millisecond {
			for _, active := range []bool{false, true} {
				g := NewGateways(t, Setup{Seed: uint64(wait), Active: active})
				g.Connect()
				if active {
					g.East.Start()
				}
				before := g.Observer().QuickModes()
				c.end(g.West)
				g.Run(wait)
				s := g.acquiring(g.East, g.West)
				lost := 0
				for range 20 { // while the SAs are there packets go nowhere
					s.Send()
					g.Run(time.Millisecond)
				}
				g.Run(10 * time.Second)
				for _, n := range s.Lost {
					lost += n
				}
				what := fmt.Sprintf("%s, after %s, active %t", c.name, wait, active)
				if s.Waiting() != 0 || s.Received+lost != s.Sent || s.Lost["refusal"] > 0 {
					g.Errorf("%s: %s\n%s%s", what, s, g.West.Said(), g.East.dump())
				}
				if n := g.Observer().QuickModes() - before; n > 2 || n == 0 {
					g.Errorf("%s: %d quick modes\n%s%s", what, n, g.West.Said(), g.East.Said())
				}
				g.Run(time.Minute)
				g.oneOfEach()
			}
		}
	}
}
