package iketest

import (
	"time"

	"oakley/internal/dh"
	"oakley/internal/ike"
)

// Faults is what goes wrong when a node's requests are carried out. The zero
// value does all of them at once, in order and well.
type Faults struct {
	// Delay is how long a request takes; nil: no time.
	Delay func(o ike.Output) time.Duration
	// Fail is how a request ends; nil: well.
	Fail func(o ike.Output) error
	// Policy answers QueryPolicy; nil: everything is allowed.
	Policy func(q ike.QueryPolicy) ike.PolicyAnswer
	// Repeat gives each result twice.
	Repeat bool
	// Unordered lets requests of the data plane overtake each other, though
	// never a deletion what it deletes.
	Unordered bool
}

func (n *Node) delayOf(o ike.Output) time.Duration {
	if n.Faults.Delay == nil {
		return 0
	}
	return n.Faults.Delay(o)
}

func (n *Node) failureOf(o ike.Output) error {
	if n.Faults.Fail == nil {
		return nil
	}
	return n.Faults.Fail(o)
}

// answer gives the engine a result, and again when that is the fault.
func (n *Node) answer(in ike.Input) {
	n.Handle(in)
	if n.Faults.Repeat && n.Engine != nil {
		before := n.Engine.Dump()
		n.Handle(in)
		if after := n.Engine.Dump(); string(before) != string(after) {
			n.World.Errorf("%s: a result that came twice (%T) changed the state from\n%sto\n%s", n.Name, in, before, after)
		}
	}
}

// execute carries out one request.
func (n *Node) execute(o ike.Output) {
	d := n.delayOf(o)
	switch o := o.(type) {
	case ike.DiffieHellman:
		r := n.diffieHellman(o)
		n.later(d, func() { n.answer(r) })
	case ike.QueryPolicy:
		r := n.policy(o)
		n.later(d, func() { n.answer(r) })
	case ike.AllocSPI:
		n.Plane.enqueue(d, nil, func() { n.Plane.alloc(o) })
	case ike.InstallSA:
		n.Plane.installing(o, d)
	case ike.DeleteSA:
		n.Plane.enqueue(d, o.SAs, func() { n.Plane.remove(o) })
	case ike.UpdateSA:
		n.Plane.enqueue(d, nil, func() { n.Plane.update(o) })
	}
}

func (n *Node) diffieHellman(o ike.DiffieHellman) ike.DHDone {
	r := ike.DHDone{ID: o.ID, Private: o.Private, Err: n.failureOf(o)}
	if r.Err != nil {
		return r
	}
	if r.Private == nil {
		g, err := dh.Lookup(o.Group)
		if err == nil {
			r.Private, err = g.Generate(n.random)
		}
		if err != nil {
			r.Err = err
			return r
		}
	}
	if o.Peer != nil {
		r.Shared, r.Err = r.Private.Shared(o.Peer)
		if r.Err == nil && !n.World.Light {
			n.World.observer.secret(r.Private.Public(), o.Peer, r.Shared)
		}
	}
	return r
}

func (n *Node) policy(q ike.QueryPolicy) ike.PolicyAnswer {
	if err := n.failureOf(q); err != nil {
		return ike.PolicyAnswer{ID: q.ID, Err: err}
	}
	if len(q.Proposals) == 0 || q.Peer == "" || q.Conn == "" {
		n.World.Errorf("%s asks the policy about nothing: %+v", n.Name, q)
	}
	if n.Faults.Policy != nil {
		a := n.Faults.Policy(q)
		a.ID = q.ID
		return a
	}
	a := ike.PolicyAnswer{ID: q.ID, Allow: make([]bool, len(q.Proposals))}
	for i := range a.Allow {
		a.Allow[i] = true
	}
	return a
}
