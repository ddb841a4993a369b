package dataplane

import "sync"

// EventQueue is between those who see what happens and must not wait, and the
// reader of Events, who may. The zero value takes nothing until Start.
type EventQueue struct {
	ch   chan Event
	done chan struct{}

	mu    sync.Mutex
	ready *sync.Cond
	room  int
	queue []Event
	lost  bool
	ended bool
}

// Start makes a queue of room events, which is served in wg until Stop.
func (q *EventQueue) Start(room int, wg *sync.WaitGroup) {
	q.ch = make(chan Event, 16)
	q.done = make(chan struct{})
	q.ready = sync.NewCond(&q.mu)
	q.room = room
	wg.Go(q.pump)
}

// Events is what comes out, in the order of Post. It is closed by Stop.
func (q *EventQueue) Events() <-chan Event { return q.ch }

// Done is closed by Stop, whether anybody reads or not.
func (q *EventQueue) Done() <-chan struct{} { return q.done }

// Post adds an event, and never waits. It is false when there is no room: the
// event is lost, and the reader is told so by Lost, after those that came before.
func (q *EventQueue) Post(e Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ready == nil || q.ended {
		return false
	}
	if len(q.queue) >= q.room {
		q.lost = true
		return false
	}
	q.queue = append(q.queue, e)
	q.ready.Signal()
	return true
}

// Stop ends the queue. What nobody has read is gone.
func (q *EventQueue) Stop() {
	q.mu.Lock()
	q.ended = true
	q.ready.Broadcast()
	q.mu.Unlock()
	close(q.done)
}

func (q *EventQueue) pump() {
	defer close(q.ch)
	for {
		e := q.next()
		if e == nil {
			return
		}
		select {
		case q.ch <- e:
		case <-q.done:
			return
		}
	}
}

// next waits for an event; nil: there will be none.
func (q *EventQueue) next() Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.lost && !q.ended {
		q.ready.Wait()
	}
	switch {
	case q.ended:
		return nil
	case len(q.queue) == 0:
		q.lost = false
		return Lost{}
	}
	e := q.queue[0]
	q.queue[0] = nil
	q.queue = q.queue[1:]
	return e
}
