package daemon

import (
	"errors"
	"io"
	"sync"

	"oakley/internal/dh"
	"oakley/internal/ike"
)

// maxDH bounds the Diffie-Hellman requests that wait. The engine asks for none
// before a peer has shown that it receives at its address, and bounds what one
// address can have under way, so that first come, first served is fair.
const maxDH = 4096

var errDHBusy = errors.New("too many Diffie-Hellman computations wait already")

// dhPool does Diffie-Hellman, the milliseconds of arithmetic, on workers.
type dhPool struct {
	mu     sync.Mutex
	more   *sync.Cond
	queue  []ike.DiffieHellman
	closed bool
	wg     sync.WaitGroup
	rand   io.Reader
	result func(ike.Input)
}

func newDHPool(workers int, rand io.Reader, result func(ike.Input)) *dhPool {
	p := &dhPool{rand: rand, result: result}
	p.more = sync.NewCond(&p.mu)
	for range max(workers, 1) {
		p.wg.Go(p.work)
	}
	return p
}

// ask queues a request; it never waits.
func (p *dhPool) ask(r ike.DiffieHellman) {
	p.mu.Lock()
	full := len(p.queue) >= maxDH
	if !full {
		p.queue = append(p.queue, r)
	}
	p.mu.Unlock()
	if full {
		p.result(ike.DHDone{ID: r.ID, Err: errDHBusy})
		return
	}
	p.more.Signal()
}

func (p *dhPool) work() {
	for {
		r, ok := p.next()
		if !ok {
			return
		}
		p.result(compute(r, p.rand))
	}
}

func (p *dhPool) next() (ike.DiffieHellman, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 && !p.closed {
		p.more.Wait()
	}
	if p.closed {
		return ike.DiffieHellman{}, false
	}
	r := p.queue[0]
	p.queue[0] = ike.DiffieHellman{}
	p.queue = p.queue[1:]
	return r, true
}

// close drops what waits and returns when all workers have ended.
func (p *dhPool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.more.Broadcast()
	p.wg.Wait()
}

// compute answers one request.
func compute(r ike.DiffieHellman, rand io.Reader) ike.DHDone {
	done := ike.DHDone{ID: r.ID, Private: r.Private}
	if done.Private == nil {
		g, err := dh.Lookup(r.Group)
		if err != nil {
			return ike.DHDone{ID: r.ID, Err: err}
		}
		if done.Private, err = g.Generate(rand); err != nil {
			return ike.DHDone{ID: r.ID, Err: err}
		}
	}
	if r.Peer == nil {
		return done
	}
	shared, err := done.Private.Shared(r.Peer)
	if err != nil {
		return ike.DHDone{ID: r.ID, Err: err}
	}
	done.Shared = shared
	return done
}
