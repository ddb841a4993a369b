package dataplane

import (
	"sync"
	"testing"
	"testing/synctest"
)

// What there is no room for is lost, and said after what came before.
func TestEventQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q EventQueue
		if q.Post(Expire{}) {
			t.Error("a queue that has not begun takes an event")
		}
		var wg sync.WaitGroup
		const room = 5
		q.Start(room, &wg)
		taken := 0
		for i := range 100 {
			if q.Post(Acquire{ID: AcquireID(i)}) {
				taken++
			}
			synctest.Wait()
		}
		if inFlight := cap(q.ch) + 1; taken != inFlight+room {
			t.Errorf("%d events taken, want %d", taken, inFlight+room)
		}
		for i := range taken {
			if e := (<-q.Events()).(Acquire); e.ID != AcquireID(i) {
				t.Errorf("event %d is %d", i, e.ID)
			}
		}
		if e := <-q.Events(); e != (Lost{}) {
			t.Errorf("%+v, want Lost", e)
		}
		if !q.Post(Expire{Hard: true}) || <-q.Events() != (Expire{Hard: true}) {
			t.Error("it does not go on")
		}
		q.Post(Expire{})
		synctest.Wait()
		for range 20 {
			q.Post(Expire{})
		}
		q.Stop()
		wg.Wait() // whether it is read or not
		for range q.Events() {
			taken++
		}
		if q.Post(Expire{}) {
			t.Error("a queue that has ended takes an event")
		}
	})
}
