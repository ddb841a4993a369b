// Package iketest runs several engines of package ike against each other in one
// goroutine under a clock that only this package moves: a World has nodes with an
// engine and a data plane that only keeps books, links that lose, repeat,
// reorder and damage datagrams, and address translation. Everything random comes
// from one seed, so a run that failed fails again.
//
// What must hold at every moment is checked at every moment: SAs are live before
// a message says so, an input that was dropped has changed nothing, an answer to
// something unauthenticated is never longer than that.
package iketest

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// Epoch is when every world begins.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// World is a network of engines. It is not safe for concurrent use.
type World struct {
	T   testing.TB
	Now time.Time

	// Net is what happens to datagrams between any two nodes; it may be changed
	// while the world runs.
	Net Link
	// Tap, when set, sees each IKE datagram as it leaves its sender, and may
	// change, delay or multiply it.
	Tap func(p *Packet) []Delivery
	// Transcript keeps a line for each IKE datagram.
	Transcript bool
	// Light leaves out what costs time and memory: the observer that decrypts,
	// and the comparison of dumps.
	Light bool

	nodes  []*Node
	byAddr map[netip.Addr]receiver
	queue  events
	seq    uint64
	rng    *rand.Rand
	seed   uint64
	lines  []string

	stirred time.Time // when an engine was last given something
	watches []*watching

	observer *Observer
	sent     int // IKE datagrams in all
}

// NewWorld makes an empty network; all that is random in it comes from seed.
func NewWorld(t testing.TB, seed uint64) *World {
	return &World{
		T: t, Now: Epoch, byAddr: map[netip.Addr]receiver{}, seed: seed,
		Net: Link{Latency: 10 * time.Millisecond}, rng: rand.New(rand.NewPCG(seed, 0x6f616b6c6579)),
		observer: newObserver(),
	}
}

// receiver is what has an address: a node or a box that translates addresses.
type receiver interface {
	receive(w *World, p *Packet)
}

// event is something that is going to happen.
type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type events []*event

func (h events) Len() int { return len(h) }
func (h events) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *events) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

// After runs f when d has passed.
func (w *World) After(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, &event{w.Now.Add(max(d, 0)), w.seq, f})
}

// Every runs f each d until it says false.
func (w *World) Every(d time.Duration, f func() bool) {
	w.After(d, func() {
		if f() {
			w.Every(d, f)
		}
	})
}

// Run lets d pass.
func (w *World) Run(d time.Duration) { w.RunUntil(d, func() bool { return false }) }

// maxStill is how many things may happen at one moment before it is plain that
// somebody goes round in circles.
const maxStill = 200_000

// RunUntil lets at most d pass and stops as soon as done says so; it tells
// whether done did.
func (w *World) RunUntil(d time.Duration, done func() bool) bool {
	w.T.Helper()
	end := w.Now.Add(d)
	still := 0
	for {
		if done() {
			return true
		}
		at, step := w.next()
		if step == nil || at.After(end) {
			w.Now = end
			return done()
		}
		if at.After(w.Now) {
			w.Now, still = at, 0
		}
		if still++; still > maxStill {
			w.T.Fatalf("at %s something goes round in circles", w.Since())
		}
		step()
	}
}

// next finds what happens first; what was scheduled comes before deadlines.
func (w *World) next() (at time.Time, step func()) {
	if len(w.queue) > 0 {
		at = w.queue[0].at
		step = func() { heap.Pop(&w.queue).(*event).do() }
	}
	for _, n := range w.nodes {
		if n.Engine == nil {
			continue
		}
		if d, ok := n.Engine.Deadline(); ok && (step == nil || d.Before(at)) {
			at, step = d, n.timeout
		}
	}
	return at, step
}

// Since is how long the world has run.
func (w *World) Since() time.Duration { return w.Now.Sub(Epoch) }

// Fatalf fails the test with the transcript, if there is one.
func (w *World) Fatalf(format string, args ...any) {
	w.T.Helper()
	w.T.Fatalf("seed %d, after %s: %s\n%s", w.seed, w.Since(), fmt.Sprintf(format, args...), w.Lines())
}

// Errorf is Fatalf without the end.
func (w *World) Errorf(format string, args ...any) {
	w.T.Helper()
	w.T.Errorf("seed %d, after %s: %s\n%s", w.seed, w.Since(), fmt.Sprintf(format, args...), w.Lines())
}

// Rand is the world's randomness.
func (w *World) Rand() *rand.Rand { return w.rng }

// Sent is how many IKE datagrams nodes have sent.
func (w *World) Sent() int { return w.sent }

// Observer is who knows all keys.
func (w *World) Observer() *Observer { return w.observer }
