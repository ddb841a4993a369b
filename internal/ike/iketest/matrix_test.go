package iketest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
)

// step is one message of a handshake.
type step struct {
	x doi.Exchange
	n int
}

func (s step) String() string { return fmt.Sprintf("%s-%d", s.x, s.n) }

// handshake is main mode and quick mode, message by message.
func handshake() []step {
	var all []step
	for i := range 6 {
		all = append(all, step{doi.ExchangeMain, i + 1})
	}
	for i := range 3 {
		all = append(all, step{doi.ExchangeQuick, i + 1})
	}
	return all
}

// fault does something to a message: of the first exchange alone, or of all that
// follow it too. count is how often a copy of it was sent before.
type fault struct {
	name   string
	always bool
	do     func(data []byte, count int) []Delivery
}

func pass(data []byte) Delivery { return Delivery{Data: data} }

func damaged(data []byte, at int, mask byte) []byte {
	c := bytes.Clone(data)
	c[at] ^= mask
	return c
}

// onFirst leaves repetitions alone.
func onFirst(name string, f func(data []byte) []Delivery) fault {
	return fault{name, false, func(data []byte, count int) []Delivery {
		if count > 0 {
			return []Delivery{pass(data)}
		}
		return f(data)
	}}
}

// faults are those that do not depend on a message's length.
func faults() []fault {
	fs := []fault{
		onFirst("drop", func([]byte) []Delivery { return nil }),
		{"drop thrice", false, func(d []byte, count int) []Delivery {
			if count < 3 {
				return nil
			}
			return []Delivery{pass(d)}
		}},
		{"drop always", true, func([]byte, int) []Delivery { return nil }},
		onFirst("twice", func(d []byte) []Delivery { return []Delivery{pass(d), pass(d)} }),
		{"each twice", true, func(d []byte, _ int) []Delivery { return []Delivery{pass(d), {Data: d, After: 50 * time.Millisecond}} }},
		onFirst("ten times", func(d []byte) []Delivery {
			var all []Delivery
			for i := range 10 {
				all = append(all, Delivery{d, time.Duration(i) * 300 * time.Millisecond})
			}
			return all
		}),
		onFirst("late copy", func(d []byte) []Delivery { return []Delivery{pass(d), {Data: d, After: 100 * time.Second}} }),
	}
	for _, late := range []time.Duration{500 * time.Millisecond, 1100 * time.Millisecond, 4 * time.Second, 20 * time.Second, 130 * time.Second} {
		fs = append(fs, onFirst("late "+late.String(), func(d []byte) []Delivery { return []Delivery{{Data: d, After: late}} }))
	}
	fs = append(fs, fault{"always late", true, func(d []byte, _ int) []Delivery { return []Delivery{{Data: d, After: 1300 * time.Millisecond}} }})
	for _, keep := range []int{0, 1, 16, 27, 28, 29, 32, -1, -8, -16, -20} {
		cut := func(d []byte) []byte {
			n := keep
			if n < 0 {
				n += len(d)
			}
			return d[:min(n, len(d))]
		}
		fs = append(fs,
			onFirst(fmt.Sprintf("cut to %d", keep), func(d []byte) []Delivery { return []Delivery{pass(cut(d))} }),
			onFirst(fmt.Sprintf("cut to %d before", keep), func(d []byte) []Delivery { return []Delivery{pass(cut(d)), {Data: d, After: time.Millisecond}} }),
		)
	}
	return append(fs, onFirst("more bytes", func(d []byte) []Delivery { return []Delivery{pass(append(bytes.Clone(d), 1, 2, 3))} }))
}

// suffer runs one handshake in which one message fares badly, wanted by the
// initiator for good or just once.
func suffer(t *testing.T, s step, f fault, wanted bool, setup Setup) {
	t.Helper()
	g := NewGateways(t, setup)
	met := ""
	g.Tap = func(p *Packet) []Delivery {
		if seen := g.Observer().Of(p.Data); seen != nil && seen.Exchange == s.x && seen.Step == s.n {
			if met == "" {
				met = string(p.Data)
			}
			if f.always || met == string(p.Data) {
				return f.do(p.Data, seen.Repeat)
			}
		}
		return Pass(p)
	}
	if wanted {
		g.West.Initiate("vpn")
	} else {
		g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
	}
	g.Run(5 * time.Minute)
	if wanted && f.name == "drop always" { // it goes on trying: enough
		g.West.Handle(ike.Teardown{Name: "vpn"})
		g.Run(3 * time.Minute)
	}
	if met == "" {
		t.Fatalf("%s %s: the message was never sent", s, f.name)
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s %s, wanted %t: %s\n%s%s", s, f.name, wanted, fmt.Sprintf(format, args...), g.West.Said(), g.East.Said())
	}
	for _, n := range []*Node{g.West, g.East} {
		if err := n.Settled(); err != nil {
			fail("%v", err)
		}
		if halfOpen := !bytes.Contains(n.Engine.Dump(), []byte("half-open 0 requests 0")); halfOpen && !wanted {
			fail("something is still under way: %s", n.Engine.Dump())
		}
	}
	if !wanted && len(g.West.Ended) != 1 {
		fail("the acquire got %d answers", len(g.West.Ended))
	}
	// Tried again without the fault it has to come up; what is there has to work.
	agreed := Agreement(g.West, g.East, 1) == nil
	clean := Agreement(g.West, g.East, 0) == nil
	switch {
	case agreed:
		if err := g.Carries(g.West, "vpn", g.East, "vpn"); err != nil {
			fail("%v", err)
		}
		if !wanted && g.West.Ended[0].Err != nil {
			fail("the acquire was answered with %v", g.West.Ended[0].Err)
		}
	case !clean:
		fail("neither agreement nor a clean failure: %v", Agreement(g.West, g.East, 1))
	case wanted && f.name != "drop always":
		fail("it never came up")
	case !wanted && g.West.Ended[0].Err == nil && Count[ike.Phase2Down](g.West) == 0:
		fail("the acquire was told that all is well")
	}
	if clean && Count[ike.Failed](g.West)+Count[ike.Phase2Down](g.West) == 0 {
		fail("it failed and nobody says so")
	}
	g.Tap = nil
	g.West.Initiate("vpn")
	g.RunUntil(2*time.Minute, g.Up)
	if err := Agreement(g.West, g.East, 1); err != nil {
		fail("without the fault it does not come up either: %v", err)
	}
}

func TestFaultMatrix(t *testing.T) {
	for _, s := range handshake() {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			for i, f := range faults() {
				for _, wanted := range []bool{false, true} {
					suffer(t, s, f, wanted, Setup{Seed: uint64(i), Suites: []ike.Suite{PFSESP}})
				}
			}
		})
	}
}

// TestFlippedBits damages each message at each of its bytes, once instead of the
// good one and once before it.
func TestFlippedBits(t *testing.T) {
	stride := 1
	if testing.Short() || raceEnabled {
		stride = 11
	}
	for _, s := range handshake() {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			size := lengthOf(t, s)
			for at := 0; at < size; at += stride {
				mask := byte(1) << (at % 8)
				flip := func(d []byte) []byte { return damaged(d, min(at, len(d)-1), mask) }
				suffer(t, s, onFirst(fmt.Sprintf("flip %#x at %d", mask, at), func(d []byte) []Delivery {
					return []Delivery{pass(flip(d))}
				}), at%2 == 0, Setup{Seed: 1})
				suffer(t, s, onFirst(fmt.Sprintf("flip %#x at %d before", mask, at), func(d []byte) []Delivery {
					return []Delivery{pass(flip(d)), {Data: d, After: time.Millisecond}}
				}), at%2 == 1, Setup{Seed: 1})
			}
		})
	}
}

func lengthOf(t *testing.T, s step) int {
	g := NewGateways(t, Setup{Seed: 1})
	n := 0
	g.Tap = func(p *Packet) []Delivery {
		if seen := g.Observer().Of(p.Data); seen.Exchange == s.x && seen.Step == s.n {
			n = len(p.Data)
		}
		return Pass(p)
	}
	g.Connect()
	return n
}

// TestRandomWeather runs handshakes through networks that are bad in every way
// at once.
func TestRandomWeather(t *testing.T) {
	t.Parallel()
	for seed := range uint64(fewer(300)) {
		g := NewGateways(t, Setup{Seed: seed, Suites: []ike.Suite{PFSESP}, Active: seed%2 == 0})
		g.Net = Link{
			Latency: 20 * time.Millisecond, Jitter: time.Duration(seed%5) * time.Second,
			Loss: float64(seed%7) * 0.07, Dup: 0.2, Flip: 0.05, Cut: 0.03,
		}
		g.West.Start()
		g.East.Start()
		g.West.Initiate("vpn")
		g.Run(10 * time.Minute)
		g.Net = Link{Latency: 20 * time.Millisecond}
		g.Run(5 * time.Minute)
		if err := Agreement(g.West, g.East, 1); err != nil {
			g.Fatalf("%v\n%s%s", err, g.West.Said(), g.East.Said())
		}
		g.MustCarry()
		g.MustSettle()
	}
}
