package ike

import (
	"fmt"
	"slices"
	"time"

	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// finishQuick hands the SAs over; what stays is the cache for duplicates.
func (e *Engine) finishQuick(q *quick) {
	e.newChild(q)
	q.over()
	q.state = quickDone
	q.sending.next = time.Time{}
	q.doneAt, q.giveUpAt = e.now, e.now.Add(e.cfg.ExchangeMaxTime/2)
	q.offer, q.offers, q.candidates, q.chosen, q.spis = nil, nil, nil, nil, nil
	q.ni, q.nr, q.gx, q.gxy, q.private, q.group = nil, nil, nil, nil, nil, nil
	q.in, q.out, q.idci, q.idcr, q.replaces, q.requests = nil, nil, nil, nil, nil, nil
	q.schedule(e)
}

// unconfirmed: the responder asks for the third message again, so what the new
// SAs replace is not replaced on its side. It stays as if the new ones had just
// come.
func (e *Engine) unconfirmed(q *quick) {
	q.doneAt = e.now
	for _, c := range q.cs.children {
		if c.superseded && !c.deaf && !c.deleteAt.IsZero() && c.deleteAt.Before(e.now.Add(e.cfg.Grace)) {
			c.deleteAt = e.now.Add(e.cfg.Grace)
			c.schedule(e)
		}
	}
}

// failQuick ends a quick mode with an explanation, gives back what was
// reserved or installed, and lets the connection try again later.
func (e *Engine) failQuick(q *quick, f *Failed) {
	e.endQuick(q)
	e.emit(q.failed(f))
	if q.role == Initiator {
		e.failedConn(q.cs, f)
		return
	}
	e.takeOver(q.cs)
}

// failed says of which quick mode f speaks.
func (q *quick) failed(f *Failed) Failed {
	f.Phase, f.Role, f.Peer, f.Conn, f.Local, f.Remote = 2, q.role, q.p.peer.Name, q.cs.conn.Name, q.p.local, q.p.remote
	return *f
}

// abandonQuick ends a quick mode whose ISAKMP SA is gone; the connection tries
// again at once under another.
func (e *Engine) abandonQuick(q *quick, reason string) {
	if q.state == quickDone {
		e.removeQuick(q)
		return
	}
	cs := q.cs
	e.endQuick(q)
	switch {
	case e.stopped || !cs.due():
	case q.role == Initiator:
		e.emit(Notice{Peer: q.p.peer.Name, Remote: q.p.remote, Text: fmt.Sprintf("quick mode for connection %s begins anew: %s", cs.conn.Name, reason)})
		e.negotiate(cs)
	default:
		e.takeOver(cs)
	}
}

// endQuick takes q out of everything.
func (e *Engine) endQuick(q *quick) {
	e.forget(q.requests)
	var ids []ipsec.SAID
	listening := e.listenOn(q)
	if q.promised() {
		e.withdraw(q)
	}
	for proto, spi := range q.spis {
		if spi != [4]byte{} && !listening {
			ids = append(ids, q.inID(proto, spi))
		}
	}
	slices.SortFunc(ids, func(a, b ipsec.SAID) int { return int(a.Proto) - int(b.Proto) })
	if q.installedOut || q.state == awaitInstall || q.state == awaitInstallOut {
		for _, sa := range q.out {
			ids = append(ids, sa.ID)
		}
	}
	if len(ids) > 0 {
		e.emit(DeleteSA{SAs: ids, Flows: q.cs.flowsGone()})
	}
	if q.cs != nil && q.cs.busy == q {
		q.cs.busy = nil
	}
	q.over()
	e.removeQuick(q)
	e.dropIdle(q.cs)
}

// over: nobody waits for q any more.
func (q *quick) over() {
	q.cs.theirs = slices.DeleteFunc(q.cs.theirs, func(o *quick) bool { return o == q })
}

// promised tells whether the peer counts on q: as initiator it may have installed
// its SAs, as responder it waits for the third message.
func (q *quick) promised() bool {
	if q.role == Responder {
		return q.installedIn
	}
	return q.state == awaitQuickKeysI || q.state == awaitInstall
}

// withdraw says that we do not listen, after all, on what quick mode has named.
func (e *Engine) withdraw(q *quick) {
	p := q.p
	if p.dead {
		p = e.anySA(q.cs.conn.Peer, p.idBody)
	}
	if p == nil || q.withdrawn || q.told || e.quiet {
		return
	}
	q.told = true
	var ps []isakmp.Payload
	for _, proto := range inwardsOut {
		if spi := q.spis[proto]; spi != [4]byte{} {
			ps = append(ps, deleteSPI(q.inID(proto, spi)))
		}
	}
	e.inform(p, ps...)
}

func (e *Engine) addQuick(q *quick) {
	if q.p.quicks == nil {
		q.p.quicks = map[uint32]*quick{}
	}
	q.p.quicks[q.id] = q
	if q.role == Responder {
		q.cs.theirs = append(q.cs.theirs, q)
	}
}

func (e *Engine) removeQuick(q *quick) {
	e.alarms.unset(&q.alarm)
	delete(q.p.quicks, q.id)
	if q.role == Initiator {
		q.p.seen.add(q.id)
	}
	if len(q.p.quicks) == 0 {
		q.p.quicks = nil
	}
}

// responding counts the unfinished quick modes that a peer started.
func (e *Engine) responding(p *phase1) int {
	n := 0
	for _, q := range p.quicks {
		if q.role == Responder && q.state != quickDone {
			n++
		}
	}
	return n
}

func sortedQuicks(p *phase1) []*quick {
	qs := make([]*quick, 0, len(p.quicks))
	for _, q := range p.quicks {
		qs = append(qs, q)
	}
	slices.SortFunc(qs, func(a, b *quick) int { return int(int64(a.id) - int64(b.id)) })
	return qs
}
