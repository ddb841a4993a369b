package ike

import (
	"bytes"
	"errors"
	"slices"
	"time"
)

// A packet without an SA asks for one (RFC 4301 section 5.1). It is answered
// when there is one, whoever negotiates it: the initiator's first packets may be
// faster than its third message, and the answers to them are no reason for a
// second quick mode.

var (
	errNoConnection = errors.New("no connection has that flow")
	errStopped      = errors.New("shutting down")
)

func (e *Engine) acquire(in Acquire) {
	cs := e.conns[in.Conn]
	switch {
	case cs == nil:
		e.emit(EndAcquire{ID: in.ID, Err: errNoConnection})
	case e.stopped:
		e.emit(EndAcquire{ID: in.ID, Err: errStopped})
	case cs.current() != nil:
		e.emit(EndAcquire{ID: in.ID})
	default:
		cs.acquires = append(cs.acquires, in.ID)
		e.negotiate(cs)
	}
}

// endAcquires answers all that wait for a connection's SAs.
func (cs *connState) endAcquires(e *Engine, err error) {
	for _, id := range cs.acquires {
		e.emit(EndAcquire{ID: id, Err: err})
	}
	cs.acquires = nil
}

// stopWaiting leaves a main mode of ours alone.
func (cs *connState) stopWaiting() {
	p := cs.waitsFor
	cs.waitsFor = nil
	if p != nil && p.neg != nil {
		p.neg.waiters = slices.DeleteFunc(p.neg.waiters, func(o *connState) bool { return o == cs })
	}
}

// takeOver lets a connection go on by itself after a quick mode of the peer's
// that it waited for came to nothing.
func (e *Engine) takeOver(cs *connState) {
	if e.conns[cs.conn.Name] == cs && (cs.retryAt.IsZero() || len(cs.acquires) > 0) {
		e.negotiate(cs)
	}
}

// giveWay ends a quick mode of ours of which nobody has heard yet: the peer has
// begun one for the same connection.
func (e *Engine) giveWay(cs *connState) {
	if q := cs.busy; q != nil && q.state == awaitMeans {
		e.endQuick(q)
	}
}

// expected says until when to leave a connection to its peer, which is calling
// us: whoever does main mode has a use for it, usually the same connection. Zero:
// it is not calling.
func (e *Engine) expected(cs *connState) (until time.Time) {
	look := func(p *phase1, t time.Time) {
		if t.After(e.now) && t.After(until) && e.isCall(p, cs) {
			until = t
		}
	}
	for el := e.half.order.Front(); el != nil; el = el.Next() {
		// Message 1 alone may be anybody's.
		if p := el.Value.(*phase1); p.peer == cs.conn.Peer && p.neg.state != awaitKE3 {
			look(p, p.created.Add(2*e.cfg.RetransmitAfter))
		}
	}
	for _, p := range e.up[upKey{cs.conn.Peer, cs.remoteID}] {
		if p.role == Responder && !p.superseded {
			look(p, p.established.Add(e.cfg.RetransmitAfter))
		}
	}
	return until
}

// isCall tells whether a main mode of the peer's is more than the renewal of an
// ISAKMP SA. Of two that cross each other the greater cookie is the call: its
// side goes first, and the other one waits.
func (e *Engine) isCall(p *phase1, cs *connState) bool {
	if cs.dynamic && p.remote.Addr() != cs.remoteAddr.Addr() {
		return false
	}
	for _, o := range e.byCookie {
		if o.peer == p.peer && bytes.Compare(o.icky[:], p.icky[:]) > 0 {
			return false
		}
	}
	for _, o := range e.up[upKey{p.peer, cs.remoteID}] {
		older := !o.established.After(p.created)
		if o != p && (older || o.role == Initiator && bytes.Compare(o.icky[:], p.icky[:]) > 0) {
			return false
		}
	}
	return true
}
