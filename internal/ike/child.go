package ike

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// child is what one quick mode made: a pair of SAs for each protocol. It
// outlives the ISAKMP SA under which it was agreed.
type child struct {
	cs       *connState
	role     Role
	peer     *Peer
	idBody   []byte
	remote   netip.AddrPort
	in, out  []ipsec.SAID
	mark     [8]byte // of both nonces: the same on both sides, see succession
	begun    time.Time
	born     time.Time
	rekeyAt  time.Time
	expireAt time.Time
	deleteAt time.Time // set when another child has taken over
	// superseded: another child carries the traffic out.
	superseded bool
	// deaf: the outgoing SAs are gone, the incoming ones wait for stragglers,
	// and the peer is told so repeat times more: a DELETE is never answered, and
	// when it is lost the peer sends to nobody.
	deaf   bool
	repeat int
	dead   bool
	alarm  alarm
}

// deleteRepeats is how often a DELETE of SAs that others have replaced is sent
// again, a Grace apart.
const deleteRepeats = 2

// takeOverAfter is how long an old SA goes on carrying the traffic after message
// 3 went out: there are peers that listen on the new one only when they have
// worked through it.
const takeOverAfter = 300 * time.Millisecond

// makeSAs turns a finished negotiation into what the data plane installs. The
// keying material for an SA is made with the SPI of its receiver (RFC 2409
// section 5.5).
func (q *quick) makeSAs(e *Engine) {
	e.bundles++
	q.bundle = e.bundles
	for i := range q.chosen.sas {
		c := &q.chosen.sas[i]
		in, out := q.makeSA(e, c, ipsec.In), q.makeSA(e, c, ipsec.Out)
		in.Bundle = ipsec.Place{ID: q.bundle, Index: uint8(i), Of: uint8(len(q.chosen.sas))}
		out.Bundle = in.Bundle
		q.in, q.out = append(q.in, in), append(q.out, out)
	}
}

// makeSA makes one SA of one direction.
func (q *quick) makeSA(e *Engine, c *chosenSA, dir ipsec.Direction) *ipsec.SA {
	p, name := q.p, q.cs.conn.Name
	sa := &ipsec.SA{
		Mode: c.offer.mode, Cipher: c.cipher, Auth: c.auth, Comp: c.comp, Replay: c.replay, ESN: c.offer.esn,
		Owner: ipsec.OwnerIKE, Conn: name, Flow: flowOf(name, dir),
		Interface: q.cs.conn.Interface, IDs: p.ids,
	}
	sa.Hard, sa.Soft = q.limits(e, c)
	spi := q.spis[c.proto]
	if dir == ipsec.Out {
		spi = c.spi
		sa.ID = ipsec.SAID{Dir: ipsec.Out, Proto: ipProtos[c.proto], SPI: ipsec.SPI(binary.BigEndian.Uint32(spi[:])), Dst: p.remote.Addr()}
		sa.Src, sa.Selector = p.local.Addr(), q.selector()
		if q.role == Initiator {
			sa.Defer = takeOverAfter
		}
	} else {
		sa.ID = q.inID(c.proto, spi)
		sa.Src, sa.Selector = p.remote.Addr(), q.selector().Reverse()
	}
	if c.offer.udp && q.chosen.mode == ipsec.Transport {
		sa.NATOA = q.natOA
	}
	if c.offer.udp && c.proto == doi.ProtoESP { // whatever is in it is not in UDP itself
		if dir == ipsec.Out {
			sa.ID.Port = p.remote.Port()
		}
		sa.Encap = &ipsec.Encap{Local: p.local, Remote: p.remote}
	}
	if n := c.keyMaterial(); n > 0 {
		c.cut(sa, p.keys.KeyMat(q.gxy, c.proto, wireSPI(c.proto, spi), q.ni, q.nr, n))
	}
	return sa
}

// limits is what the data plane watches: bytes, and the end in time as a
// backstop for the day on which nobody here is left to watch it. A bundle ends in
// time as a whole.
func (q *quick) limits(e *Engine, c *chosenSA) (hard, soft ipsec.Lifetime) {
	life := q.chosen.life()
	hard.Time = life.duration()
	if kb := c.offer.life.kilobytes; kb != 0 {
		hard.Bytes = min(kb, 1<<50) * 1024
		soft.Bytes = uint64(e.rekeyAfter(time.Duration(min(hard.Bytes, 1<<62)), q.role))
	}
	return hard, soft
}

// duration is how long an SA lives.
func (l *lifetimes) duration() time.Duration {
	s := l.seconds
	if !l.haveSec {
		s = defaultSeconds
	}
	return time.Duration(min(s, 365*86400)) * time.Second
}

// newChild takes over the SAs of a finished quick mode.
func (e *Engine) newChild(q *quick) {
	p, cs := q.p, q.cs
	limits := q.chosen.life()
	life := limits.duration()
	was := cs.current()
	c := &child{
		cs: cs, role: q.role, peer: cs.conn.Peer, idBody: p.idBody, remote: p.remote, begun: q.created, born: e.now,
		rekeyAt: e.now.Add(e.rekeyAfter(life, q.role)), expireAt: e.now.Add(life),
	}
	for i := range q.in {
		c.in, c.out = append(c.in, q.in[i].ID), append(c.out, q.out[i].ID)
		e.children[q.in[i].ID], e.children[q.out[i].ID] = c, c
	}
	d := digest(append(append([]byte("nonces"), q.ni...), q.nr...))
	copy(c.mark[:], d[:])
	cs.children = append(cs.children, c)
	if cs.busy == q {
		cs.busy = nil
	}
	cs.fails, cs.retryAt, cs.rekey = 0, time.Time{}, false
	cs.schedule(e)
	cs.endAcquires(e, nil)
	cs.remoteAddr = p.remote
	// Of two that crossed each other neither is the other's successor.
	rekey := was != nil && !e.crossed(c.rival(), was.rival())
	e.emit(Phase2Up{
		Conn: cs.conn.Name, Peer: p.peer.Name, Role: q.role, Local: p.local, Remote: p.remote, Selector: q.selector(), Suite: q.chosen.String(),
		PFS: q.chosen.group(), Lifetime: life, Kilobytes: limits.kilobytes, In: c.in, Out: c.out, Rekey: rekey,
	})
	e.supersedeChild(c)
	c.schedule(e)
}

// current is the child that carries a connection's traffic out.
func (cs *connState) current() *child {
	for i := len(cs.children) - 1; i >= 0; i-- {
		if c := cs.children[i]; !c.superseded && !c.deaf {
			return c
		}
	}
	return nil
}

// supersedeChild lets one of several children of a connection stay. Until the
// other has gone the data plane may send on it, if it is the newest, and the
// other side listens.
func (e *Engine) supersedeChild(c *child) {
	for _, o := range c.cs.children {
		if o == c || o.superseded || o.deaf {
			continue
		}
		loser := c
		olderGoes, at := e.succession(c.rival(), o.rival())
		if olderGoes {
			loser = o
		}
		loser.superseded, loser.rekeyAt, loser.deleteAt = true, time.Time{}, at
		loser.schedule(e)
		if loser == c {
			return
		}
	}
}

func (c *child) rival() rival { return rival{c.role, c.begun, c.born, c.mark[:]} }

func (c *child) schedule(e *Engine) {
	if c.dead {
		e.alarms.unset(&c.alarm)
		return
	}
	e.alarms.set(&c.alarm, c, c.rekeyAt, c.expireAt, c.deleteAt)
}

func (c *child) wake(e *Engine) {
	switch {
	case c.dead:
		return
	case c.deaf && e.due(c.deleteAt) && c.repeat > 0 && !e.due(c.expireAt):
		c.repeat--
		e.tellDeleted(c)
		c.deleteAt = e.now.Add(e.cfg.Grace)
		c.schedule(e)
		return
	case c.deaf && (e.due(c.deleteAt) || e.due(c.expireAt)):
		e.removeChild(c)
		return
	case e.due(c.expireAt):
		e.endChild(c, "their lifetime is over", true)
		return
	case e.due(c.deleteAt):
		// Never the last one: should its successor have gone meanwhile, this one
		// carries on.
		c.deleteAt = time.Time{}
		if c.cs.current() == nil {
			c.superseded = false
			c.rekeyAt = e.now
		} else {
			e.retireChild(c, "replaced by newer ones", true)
		}
	}
	if e.due(c.rekeyAt) {
		c.rekeyAt = time.Time{}
		e.rekeyChild(c)
	}
	c.schedule(e)
}

// rekeyChild starts a successor while c still works.
func (e *Engine) rekeyChild(c *child) {
	if c.superseded || c.deaf || c.cs.current() != c {
		return
	}
	c.cs.rekey = true
	e.negotiate(c.cs)
}

// retireChild stops sending on c's SAs and listens to them for a while: packets
// that are on the way still arrive. The peer is told when tell is set.
func (e *Engine) retireChild(c *child, reason string, tell bool) {
	if c.deaf || c.dead {
		return
	}
	if tell {
		e.tellDeleted(c)
		c.repeat = deleteRepeats
	}
	c.deaf = true
	c.rekeyAt = time.Time{}
	c.deleteAt = e.now.Add(e.cfg.Grace)
	e.emit(DeleteSA{SAs: c.out})
	for _, id := range c.out {
		delete(e.children, id)
	}
	e.emit(Phase2Down{Conn: c.cs.conn.Name, Peer: c.peer.Name, Remote: c.remote, In: c.in, Out: c.out, Reason: reason})
	c.schedule(e)
}

// endChild ends c at once.
func (e *Engine) endChild(c *child, reason string, tell bool) {
	if !c.deaf {
		e.retireChild(c, reason, tell)
	}
	e.removeChild(c)
}

// removeChild takes a deaf child out of everything.
func (e *Engine) removeChild(c *child) {
	if c.dead {
		return
	}
	c.dead = true
	e.alarms.unset(&c.alarm)
	for _, id := range c.in {
		delete(e.children, id)
	}
	cs := c.cs
	for i, o := range cs.children {
		if o == c {
			cs.children = append(cs.children[:i], cs.children[i+1:]...)
			break
		}
	}
	e.emit(DeleteSA{SAs: c.in, Flows: cs.flowsGone()})
	if cs.current() == nil {
		e.lostChild(cs)
	}
}

// listenOn keeps the incoming SAs of a responder's quick mode that failed after
// its second message: the peer may be sending on them already. False: there are
// none.
func (e *Engine) listenOn(q *quick) bool {
	if q.role != Responder || !q.installedIn || q.cs == nil || e.stopped {
		return false
	}
	limits := q.chosen.life()
	c := &child{
		cs: q.cs, role: q.role, peer: q.cs.conn.Peer, idBody: q.p.idBody, remote: q.p.remote, begun: q.created, born: e.now,
		expireAt: e.now.Add(limits.duration()), deleteAt: e.now.Add(e.cfg.Grace),
		superseded: true, deaf: true,
	}
	if !q.withdrawn {
		c.repeat = 2 * deleteRepeats // this is all that tells the peer
	}
	for _, sa := range q.in {
		c.in = append(c.in, sa.ID)
		e.children[sa.ID] = c
	}
	q.cs.children = append(q.cs.children, c)
	c.schedule(e)
	return true
}

// childOf finds the child with an outgoing SPI of a peer: what a DELETE names.
func (e *Engine) childOf(p *phase1, proto ipsec.Proto, spi ipsec.SPI) *child {
	for _, cs := range e.connsOf[p.peer] {
		for _, c := range cs.children {
			if !bytes.Equal(c.idBody, p.idBody) {
				continue
			}
			for _, id := range c.out {
				if id.Proto == proto && id.SPI == spi && !c.deaf {
					return c
				}
			}
		}
	}
	return nil
}

// expire takes what the data plane found about an SA.
func (e *Engine) expire(in Expire) {
	c := e.children[in.SA]
	switch {
	case c == nil:
	case !in.Hard:
		e.rekeyChild(c)
	case c.deaf:
		e.removeChild(c)
	default:
		e.endChild(c, fmt.Sprintf("%s is gone from the data plane: it reached its limit, or was deleted there", in.SA), true)
	}
}

// mapping follows a peer whose traffic comes from elsewhere; the data plane
// has authenticated it.
func (e *Engine) mapping(in Mapping) {
	c := e.children[in.SA]
	if c == nil || c.remote == in.Remote {
		return
	}
	for _, p := range e.up[upKey{c.peer, string(c.idBody)}] {
		if p.remote == c.remote {
			p.remote = in.Remote
		}
	}
	e.moveChild(c, in.Remote)
}

func (e *Engine) moveChild(c *child, to netip.AddrPort) {
	c.remote = to
	c.cs.remoteAddr = to
	for _, ids := range [][]ipsec.SAID{c.in, c.out} {
		for _, id := range ids {
			if e.children[id] == c && id.Proto == ipsec.ProtoESP {
				e.emit(UpdateSA{SA: id, Update: ipsec.SAUpdate{Remote: &to}})
			}
		}
	}
}

// moveChildren lets a peer's SAs in UDP follow its ISAKMP SA.
func (e *Engine) moveChildren(p *phase1) {
	if !p.nat() {
		return
	}
	for _, cs := range e.connsOf[p.peer] {
		for _, c := range cs.children {
			if bytes.Equal(c.idBody, p.idBody) && c.remote != p.remote {
				e.moveChild(c, p.remote)
			}
		}
	}
}
