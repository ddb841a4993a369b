package hostnet

import "oakley/internal/ipsec"

// Levels. Among flows that all protect, or all exempt, it does not matter which
// the kernel looks at first; between the two kinds the SPD's order counts. So
// what flows need is in levels, of which the kernel looks at the first first: odd
// ones exempt, even ones protect. A flow that comes finds a level with all of the
// other kind in front of it that are before it in the SPD, and with all others
// behind it. That takes a look at the levels, of which there are mostly two, and
// not at the flows. Only when there is no such level, because a flow comes into
// the midst of many of the other kind, all flows are given new ones.

// place is one in the SPD's order. Two of different kinds that are equal match
// no packet both.
type place uint64

func placeOf(f *ipsec.Flow, exempt bool) place {
	const half = 1<<32 - 1
	rank := f.Rank() // the low half has room for one bit more
	at := rank&^half | rank&half<<1
	if exempt {
		at++ // of the same selector, what the host does by itself is behind what a flow says
	}
	return place(at)
}

// ladder knows which part of the order each level covers.
type ladder []rung // level 1 is the first

// rung is a level. What leaves it leaves min and max as they are: that costs at
// most a new sorting that was not needed.
type rung struct {
	n        int
	min, max place
}

// exempting tells the kind of a level.
func exempting(level int) bool { return level%2 == 1 }

// find is the level for something new. It is false when it fits none.
func (l ladder) find(exempt bool, at place) (level int, ok bool) {
	level = 2
	if exempt {
		level = 1
	}
	for i := range l { // behind the last level of the other kind that has something in front of at
		if l[i].n > 0 && exempting(i+1) != exempt && l[i].min < at {
			level = i + 2
		}
	}
	for i := range l[:min(level, len(l))] {
		if l[i].n > 0 && exempting(i+1) != exempt && l[i].max > at {
			return 0, false
		}
	}
	return level, true
}

func (l *ladder) enter(level int, at place) {
	for len(*l) < level {
		*l = append(*l, rung{})
	}
	r := &(*l)[level-1]
	if r.n == 0 {
		r.min, r.max = at, at
	}
	r.n++
	r.min, r.max = min(r.min, at), max(r.max, at)
}

func (l ladder) leave(level int) { l[level-1].n-- }
