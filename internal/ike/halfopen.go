package ike

import (
	"container/list"
	"net/netip"
)

// halfOpen bounds the phase 1 exchanges that peers started and did not finish,
// in total and for each address. Whoever comes when a bound is reached pushes
// out the oldest; a finished SA is not in here, so nobody can push it out
// (attack D2).
type halfOpen struct {
	order   list.List // of *phase1, the oldest first
	perAddr map[netip.Addr]int
}

func (h *halfOpen) add(p *phase1) {
	p.neg.halfOpen = h.order.PushBack(p)
	h.perAddr[p.remote.Addr()]++
}

func (h *halfOpen) remove(p *phase1) {
	if p.neg == nil || p.neg.halfOpen == nil {
		return
	}
	h.order.Remove(p.neg.halfOpen)
	p.neg.halfOpen = nil
	a := p.neg.firstRemote.Addr()
	if h.perAddr[a]--; h.perAddr[a] <= 0 {
		delete(h.perAddr, a)
	}
}

// makeRoom ends the oldest half-open exchange of an address, or of all, until
// one more fits.
func (e *Engine) makeRoom(a netip.Addr) {
	for e.half.perAddr[a] >= e.cfg.MaxHalfOpenPerAddr {
		for el := e.half.order.Front(); el != nil; el = el.Next() {
			if p := el.Value.(*phase1); p.remote.Addr() == a {
				e.endPhase1(p)
				break
			}
		}
	}
	for e.half.order.Len() >= e.cfg.MaxHalfOpen {
		e.endPhase1(e.half.order.Front().Value.(*phase1))
	}
}
