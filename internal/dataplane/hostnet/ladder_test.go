package hostnet

import (
	"math/rand/v2"
	"testing"
)

// Whatever comes and goes, each finds a level that keeps the order between the
// two kinds, or none; sorted anew, all find one, and as few are taken as can be.
func TestLevelsKeepTheOrder(t *testing.T) {
	type thing struct {
		at     place
		exempt bool
		level  int
	}
	ordered := func(list []thing) bool {
		for _, a := range list {
			for _, b := range list {
				if a.exempt != b.exempt && a.at < b.at && a.level > b.level {
					return false
				}
			}
		}
		return true
	}
	for round := range 200 {
		r := rand.New(rand.NewPCG(uint64(round), 1))
		var l ladder
		var list []thing
		sorted := 0
		for range 200 {
			if len(list) > 0 && r.IntN(3) == 0 {
				i := r.IntN(len(list))
				l.leave(list[i].level)
				list = append(list[:i], list[i+1:]...)
				continue
			}
			n := thing{at: place(2 * r.IntN(1000)), exempt: r.IntN(4) == 0}
			if n.exempt {
				n.at++
			}
			level, ok := l.find(n.exempt, n.at)
			if !ok {
				sorted++
				l = nil
				list = append(list, n)
				for at := range place(2001) {
					for i := range list {
						x := &list[i]
						if x.at != at {
							continue
						}
						if x.level, ok = l.find(x.exempt, x.at); !ok {
							t.Fatalf("round %d: %v finds no level among those in front of it", round, *x)
						}
						l.enter(x.level, x.at)
					}
				}
			} else {
				if exempting(level) != n.exempt {
					t.Fatalf("round %d: %v is to go to level %d", round, n, level)
				}
				n.level = level
				l.enter(level, n.at)
				list = append(list, n)
			}
			if !ordered(list) {
				t.Fatalf("round %d: not in order: %v", round, list)
			}
		}
		if sorted > 100 {
			t.Errorf("round %d: sorted anew %d times in 200 steps", round, sorted)
		}
	}
}

// Few exempting flows in front of all others, or behind, make nothing new.
func TestUsualExemptionsSortNothing(t *testing.T) {
	var l ladder
	enter := func(exempt bool, at place) {
		t.Helper()
		level, ok := l.find(exempt, at)
		if !ok {
			t.Fatalf("%v, exempt %v: no level", at, exempt)
		}
		l.enter(level, at)
	}
	for i := range place(1000) {
		enter(false, 10_000+2*i)
		if i%10 == 0 {
			enter(true, 5000-2*i+1) // in front
			enter(true, 20_001+2*i) // behind
			enter(false, 30_000+2*i)
			enter(false, 10_000-2*i)
		}
	}
	if len(l) != 4 {
		t.Errorf("%d levels: %v", len(l), l)
	}
}
