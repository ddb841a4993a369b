package iketest

import (
	"slices"

	"oakley/internal/ike"
)

// firstAcquire keeps the data plane's acquires apart from those that tests make.
const firstAcquire = 1 << 32

// acquire is a flow's wish for SAs and what waits for them.
type acquire struct {
	conn string
	held []*Stream // a packet of each
}

// hold keeps a stream's packet until the engine has answered, and asks it for
// SAs, once at a time for a connection.
func (p *Plane) hold(s *Stream) {
	for _, a := range p.acquires {
		if a.conn == s.Conn {
			a.held = append(a.held, s)
			return
		}
	}
	p.acquired++
	id := firstAcquire + p.acquired
	p.acquires[id] = &acquire{s.Conn, []*Stream{s}}
	p.node.Handle(ike.Acquire{ID: id, Conn: s.Conn})
}

// endAcquire lets what was held go, or drops it.
func (p *Plane) endAcquire(o ike.EndAcquire) {
	a := p.acquires[o.ID]
	if a == nil {
		return
	}
	delete(p.acquires, o.ID)
	for _, s := range a.held {
		switch {
		case o.Err != nil:
			s.Lost["refusal"]++
		case p.outgoing(s.flow()) == nil:
			p.node.World.Errorf("%s: acquire %d is answered, and there is no SA\n%s", p.node.Name, o.ID, p.node.dump())
		default:
			s.pass()
		}
	}
}

// Waiting is how many acquires of a stream's connection have no answer yet.
func (s *Stream) Waiting() int {
	n := 0
	for _, a := range s.From.Plane.acquires {
		if slices.Contains(a.held, s) {
			n++
		}
	}
	return n
}
