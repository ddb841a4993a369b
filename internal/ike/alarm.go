package ike

import (
	"container/heap"
	"time"
)

// sleeper is what owns an alarm.
type sleeper interface {
	// wake is called when the alarm's time has come; the alarm is no longer set.
	wake(e *Engine)
}

// alarm is one entry of the engine's clock. Its zero value is not set.
type alarm struct {
	at  time.Time
	who sleeper
	pos int // in the heap, from 1; 0: not set
}

type alarmHeap []*alarm

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i+1, j+1
}

func (h *alarmHeap) Push(x any) {
	a := x.(*alarm)
	*h = append(*h, a)
	a.pos = len(*h)
}

func (h *alarmHeap) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	a.pos = 0
	return a
}

// alarms is the engine's clock: one alarm an object, which knows itself what
// comes first.
type alarms struct{ h alarmHeap }

func (s *alarms) next() (time.Time, bool) {
	if len(s.h) == 0 {
		return time.Time{}, false
	}
	return s.h[0].at, true
}

// set moves a to the earliest of the times that are not zero, or unsets it.
func (s *alarms) set(a *alarm, who sleeper, times ...time.Time) {
	var at time.Time
	for _, t := range times {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	a.who = who
	switch {
	case at.IsZero():
		s.unset(a)
	case a.pos == 0:
		a.at = at
		heap.Push(&s.h, a)
	default:
		a.at = at
		heap.Fix(&s.h, a.pos-1)
	}
}

func (s *alarms) unset(a *alarm) {
	if a.pos != 0 {
		heap.Remove(&s.h, a.pos-1)
	}
}

// fire wakes everybody whose time has come, the earliest first.
func (e *Engine) fire() {
	for len(e.alarms.h) > 0 && !e.alarms.h[0].at.After(e.now) {
		a := heap.Pop(&e.alarms.h).(*alarm)
		a.who.wake(e)
	}
}

// due tells whether t is set and has come.
func (e *Engine) due(t time.Time) bool { return !t.IsZero() && !t.After(e.now) }
