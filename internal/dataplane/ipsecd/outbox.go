package ipsecd

import "sync"

// outbox has the frames for a client, which one goroutine writes. Answers to
// requests are bounded by the number of requests; events by a number of their
// own, beyond which Lost is told instead.
type outbox struct {
	mu     sync.Mutex
	wake   *sync.Cond
	frames []*answer
	events int
	lost   bool
	closed bool
}

func newOutbox() *outbox {
	o := &outbox{}
	o.wake = sync.NewCond(&o.mu)
	return o
}

func (o *outbox) put(a *answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.frames = append(o.frames, a)
	o.wake.Signal()
}

func (o *outbox) event(a *answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.events >= maxEvents {
		o.lost = true
		return
	}
	o.events++
	o.frames = append(o.frames, a)
	o.wake.Signal()
}

// next waits for a frame; nil: there will be none.
func (o *outbox) next() *answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.frames) == 0 && !o.lost && !o.closed {
		o.wake.Wait()
	}
	switch {
	case len(o.frames) > 0:
		a := o.frames[0]
		o.frames[0] = nil
		o.frames = o.frames[1:]
		if a.Event != nil {
			o.events--
		}
		return a
	case o.closed:
		return nil
	}
	o.lost = false
	return &answer{Event: &event{Lost: true}}
}

// close lets what is there go out and ends it.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.wake.Broadcast()
}
