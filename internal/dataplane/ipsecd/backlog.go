package ipsecd

import "sync"

// backlog is a bounded queue between one who never waits and one who may. What
// finds no room is lost; gap makes what is told in its place.
type backlog[T any] struct {
	most int
	gap  func(lost int) T

	mu    sync.Mutex
	wake  *sync.Cond
	items []T
	lost  int
	ended bool
}

func newBacklog[T any](most int, gap func(lost int) T) *backlog[T] {
	q := &backlog[T]{most: most, gap: gap}
	q.wake = sync.NewCond(&q.mu)
	return q
}

// put never waits.
func (q *backlog[T]) put(v T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := q.most - len(q.items)
	if q.lost > 0 {
		room-- // for the gap
	}
	if q.ended || room <= 0 {
		q.lost++
		return
	}
	if q.lost > 0 {
		q.items = append(q.items, q.gap(q.lost))
		q.lost = 0
	}
	q.items = append(q.items, v)
	q.wake.Signal()
}

// miss says that items were lost before they came here.
func (q *backlog[T]) miss(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += n
	q.wake.Signal()
}

// next waits for an item; false: there will be none.
func (q *backlog[T]) next() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 && q.lost == 0 && !q.ended {
		q.wake.Wait()
	}
	switch {
	case q.ended:
		return v, false
	case len(q.items) == 0:
		v, q.lost = q.gap(q.lost), 0
		return v, true
	}
	var none T
	v, q.items[0] = q.items[0], none
	q.items = q.items[1:]
	return v, true
}

// end lets go of what waits.
func (q *backlog[T]) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.items = nil
	q.wake.Broadcast()
}
