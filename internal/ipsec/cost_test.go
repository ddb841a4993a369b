package ipsec

import (
	"fmt"
	"testing"
)

// Changing one flow (removed and added in one transaction) and removing one cost
// a path each, at 100 000 flows not much more than at 100.
func TestSPDChangeAndRemoveAreLogarithmic(t *testing.T) {
	const step = 100
	cost := func(n int) (change, remove uint64) {
		var spd SPD[testFlow]
		flows := manyFlows(n)
		if err := spd.Apply(flows); err != nil {
			t.Fatal(err)
		}
		run := func(changes func(i int) []Change[testFlow]) uint64 {
			return allocated(func() {
				for i := range step {
					if err := spd.Apply(changes(i * (n / step))); err != nil {
						t.Fatal(err)
					}
				}
			}) / step
		}
		change = run(func(i int) []Change[testFlow] {
			next := flows[i]
			next.Flow.Order = 3
			return []Change[testFlow]{{Remove: true, Flow: next.Flow}, next}
		})
		remove = run(func(i int) []Change[testFlow] { return []Change[testFlow]{{Remove: true, Flow: flows[i].Flow}} })
		return change, remove
	}
	smallChange, smallRemove := cost(100)
	change, remove := cost(100_000)
	t.Logf("bytes at 100 and at 100 000: change %d, %d; remove %d, %d", smallChange, change, smallRemove, remove)
	if change > 4*smallChange || remove > 4*smallRemove {
		t.Fatalf("bytes at 100 and at 100 000: change %d, %d; remove %d, %d", smallChange, change, smallRemove, remove)
	}
}

func BenchmarkSPDChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var spd SPD[testFlow]
			flows := manyFlows(n)
			if err := spd.Apply(flows); err != nil {
				b.Fatal(err)
			}
			f := flows[n/2]
			step := []Change[testFlow]{{Remove: true, Flow: f.Flow}, f}
			b.ReportAllocs()
			for i := uint32(0); b.Loop(); i++ {
				step[1].Flow.Order = i % 7
				if err := spd.Apply(step); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
