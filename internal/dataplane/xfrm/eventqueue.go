package xfrm

import (
	"sync"

	"oakley/internal/dataplane"
)

// maxEvents is how many events wait for a slow reader; what comes then is lost,
// and Lost says so.
const maxEvents = 16384

// eventQueue is between the kernel's events, which are read without waiting, and
// the reader of the channel.
type eventQueue struct {
	ch   chan dataplane.Event
	done chan struct{}

	mu    sync.Mutex
	ready *sync.Cond
	queue []dataplane.Event
	lost  bool
	ended bool
}

func (q *eventQueue) start(wg *sync.WaitGroup) {
	q.ch = make(chan dataplane.Event, 16)
	q.done = make(chan struct{})
	q.ready = sync.NewCond(&q.mu)
	wg.Go(q.pump)
}

// post is false when the event was lost.
func (q *eventQueue) post(e dataplane.Event) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ready == nil || q.ended {
		return false
	}
	if len(q.queue) >= maxEvents {
		q.lost = true
		return false
	}
	q.queue = append(q.queue, e)
	q.ready.Signal()
	return true
}

func (q *eventQueue) pump() {
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
func (q *eventQueue) next() dataplane.Event {
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
		return dataplane.Lost{}
	}
	e := q.queue[0]
	q.queue[0] = nil
	q.queue = q.queue[1:]
	return e
}

func (q *eventQueue) stop() {
	q.mu.Lock()
	q.ended = true
	q.ready.Broadcast()
	q.mu.Unlock()
	close(q.done)
}
