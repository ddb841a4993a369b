package userspace

import (
	"oakley/internal/dataplane/hostnet"
	"oakley/internal/ipsec"
)

// Tables is how many routing tables a plane may use.
const Tables = hostnet.Tables

// Crash ends the plane as kill -9 would: descriptors close, nothing is cleaned up.
func (p *Plane) Crash() {
	p.sys.(*hostnet.Kernel).Abandon()
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
func (p *Plane) HasLeftovers() bool { return p.sys.(*hostnet.Kernel).Leftovers() > 0 }

// NewSystem is what a plane does to its host, without the plane.
func NewSystem(o Options, dev string) (System, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return newKernel(&o, dev)
}
