package userspace

import "oakley/internal/ipsec"

// Tables is how many routing tables a plane may use.
const Tables = tables

// Crash ends the plane as kill -9 would: descriptors close, nothing is cleaned up.
func (p *Plane) Crash() {
	k := p.sys.(*kernel)
	k.mu.Lock()
	k.closed = true
	close(k.done)
	k.mu.Unlock()
	k.nl.Close()
	if k.filter != nil {
		_ = k.filter.nft.CloseLasting()
	}
	if k.grace != nil {
		k.grace.Stop()
	}
	p.sys = nil
	p.Close()
}

// SetSequence lets an outgoing SA have sent n packets.
func (p *Plane) SetSequence(id ipsec.SAID, n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out[id].seq.Store(n)
}

// HasLeftovers tells whether something of a predecessor is still there.
func (p *Plane) HasLeftovers() bool {
	k := p.sys.(*kernel)
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.oldRules)+len(k.oldRoutes) > 0 || k.filter != nil && k.filter.hasOld()
}

// NewSystem is what a plane does to its host, without the plane.
func NewSystem(o Options, dev string) (System, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return newKernel(&o, dev)
}
