package ike

import (
	"bytes"
	"container/list"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
	"oakley/internal/oakley"
)

// phase1 is one ISAKMP SA, being negotiated or established. It is known by its
// cookies, never by an address: peers share addresses behind NAT and change
// them.
type phase1 struct {
	icky, rcky    isakmp.Cookie
	role          Role
	peer          *Peer
	local, remote netip.AddrPort
	created       time.Time
	neg           *mainMode // nil: established

	established time.Time
	keys        *oakley.Keys
	lastBlock   []byte // of phase 1: every phase 2 IV comes from it
	chosen      chosenIKE
	localID     string
	remoteID    string
	ids         ipsec.IDs // the same, bare
	idBody      []byte    // the peer's authenticated ID, without protocol and port
	idProto     uint8     // which it had, and which say nothing about who it is
	idPort      uint16
	credentials [][]byte  // of KeyNote, as the peer sent them
	natt        bool      // both speak RFC 3947
	kin         bool      // the peer is one of ours
	natHere     bool      // we are behind NAT
	natThere    bool      // the peer is
	bytes       uint64    // that went through this SA
	heard       time.Time // when the peer last said something authentic under it

	seen   idSet
	quicks map[uint32]*quick
	cache  sending // the last message, for duplicates, until cacheUntil

	cacheUntil  time.Time
	rekeyAt     time.Time
	expireAt    time.Time
	keepAliveAt time.Time
	deleteAt    time.Time // set when another SA has taken over
	superseded  bool
	dead        bool
	alarm       alarm
}

// mainMode is what a phase 1 negotiation needs and an established SA does not.
type mainMode struct {
	state       mainState
	sending     sending
	giveUpAt    time.Time
	firstRemote netip.AddrPort
	halfOpen    *list.Element
	offer       *isakmp.SA // what we sent, as initiator
	saBody      []byte     // SAi_b, as the initiator sent it
	ni, nr      []byte
	gxi, gxr    []byte
	group       *dh.Group
	private     *dh.Private
	iv          []byte
	requests    []RequestID
	waiters     []*connState
	rekeys      *phase1 // the SA that this one is to replace

	// For people alone, and no part of the state: what the peer said without
	// authentication, and whether we have complained already.
	hint       string
	complained bool
}

// mainState is named for what is awaited.
type mainState uint8

const (
	awaitSA      mainState = iota // initiator, message 2
	awaitKeyPair                  // initiator, our own half of the key exchange
	awaitKE4                      // initiator, message 4
	awaitSecretI                  // initiator, the arithmetic after message 4
	awaitAuth6                    // initiator, message 6
	awaitKE3                      // responder, message 3
	awaitSecretR                  // responder, the arithmetic after message 3
	awaitAuth5                    // responder, message 5
)

var mainStates = [...]string{
	"await message 2 (SA)", "await our key pair", "await message 4 (KE)", "await the shared secret", "await message 6 (AUTH)",
	"await message 3 (KE)", "await the shared secret", "await message 5 (AUTH)",
}

func (s mainState) String() string { return mainStates[s] }

func (p *phase1) pair() cookiePair { return cookiePair{p.icky, p.rcky} }

func (p *phase1) cookies() string { return p.icky.String() + ":" + p.rcky.String() }

// identity is the peer's, as it was authenticated.
func (p *phase1) identity() isakmp.ID {
	const fixed = 4 // type, protocol and port
	if len(p.idBody) < fixed {
		return isakmp.ID{}
	}
	return isakmp.ID{Type: doi.IDType(p.idBody[0]), Protocol: p.idProto, Port: p.idPort, Data: bytes.Clone(p.idBody[fixed:])}
}

// nat tells whether phase 2 goes in UDP.
func (p *phase1) nat() bool { return p.natt && (p.natHere || p.natThere) }

func (p *phase1) natText() string {
	switch {
	case !p.nat():
		return ""
	case p.natHere && p.natThere:
		return "NAT on both sides"
	case p.natHere:
		return "we are behind NAT"
	}
	return "the peer is behind NAT"
}

// samePeer tells whether two established SAs are with the same peer: the same
// configuration, the same authenticated ID and the same host. Two peers behind
// one address have different IDs.
func (p *phase1) samePeer(q *phase1) bool {
	return p.peer == q.peer && bytes.Equal(p.idBody, q.idBody) && p.remote.Addr() == q.remote.Addr()
}

// schedule sets the alarm for whatever comes first.
func (p *phase1) schedule(e *Engine) {
	if p.dead {
		e.alarms.unset(&p.alarm)
		return
	}
	if p.neg != nil {
		e.alarms.set(&p.alarm, p, p.neg.sending.next, p.neg.giveUpAt)
		return
	}
	e.alarms.set(&p.alarm, p, p.cacheUntil, p.rekeyAt, p.expireAt, p.keepAliveAt, p.deleteAt)
}

func (p *phase1) wake(e *Engine) {
	switch {
	case p.dead:
		return
	case p.neg != nil:
		p.wakeNegotiating(e)
	case e.due(p.expireAt):
		e.deletePhase1(p, "its lifetime is over")
		return
	case e.due(p.deleteAt):
		e.makeWay(p)
		if p.dead {
			return
		}
	default:
		p.wakeEstablished(e)
	}
	p.schedule(e)
}

func (p *phase1) wakeNegotiating(e *Engine) {
	if e.due(p.neg.giveUpAt) {
		e.failPhase1(p, &Failed{Reason: fmt.Sprintf("no end within %s (%s)", e.cfg.ExchangeMaxTime, p.neg.state), Hint: p.silenceHint()})
		return
	}
	if !e.again(&p.neg.sending) {
		e.failPhase1(p, &Failed{
			Reason: fmt.Sprintf("no answer after %d retransmissions (%s)", e.cfg.Retransmits, p.neg.state), Hint: p.silenceHint(),
		})
	}
}

// silenceHint says what silence in this state usually means.
func (p *phase1) silenceHint() string {
	if p.neg.hint != "" {
		return "the peer said, without authentication: " + p.neg.hint
	}
	switch p.neg.state {
	case awaitSA:
		return "is the address right, is a daemon running there, does a firewall let UDP port 500 through, and does it know us?"
	case awaitAuth6, awaitAuth5:
		return "the peer stopped answering when the keys were first used: do both sides have the same pre-shared key?" +
			" With NAT between them, does UDP port 4500 pass?"
	}
	return "the peer answered before and stopped: look at its log"
}

func (p *phase1) wakeEstablished(e *Engine) {
	if e.due(p.cacheUntil) {
		p.cacheUntil, p.cache = time.Time{}, sending{}
	}
	if e.due(p.rekeyAt) {
		p.rekeyAt = time.Time{}
		e.rekeyPhase1(p)
	}
	if e.due(p.keepAliveAt) {
		p.keepAliveAt = e.now.Add(e.cfg.KeepAlive)
		e.emit(KeepAlive{Local: p.local, Remote: p.remote})
	}
}

// rekeyPhase1 starts a successor while the old one still works. Nobody needs
// one when no connection is wanted and no SA would be left.
func (e *Engine) rekeyPhase1(p *phase1) {
	if p.superseded || !e.needed(p) {
		return
	}
	for _, q := range e.sas {
		if q.neg != nil && q.neg.rekeys == p {
			return
		}
	}
	q := e.initiatePhase1(p.peer, p.local, p.remote)
	q.neg.rekeys = p
}

// needed tells whether some connection lives from p.
func (e *Engine) needed(p *phase1) bool {
	for _, cs := range e.connsOf[p.peer] {
		if (cs.wanted || cs.current() != nil) && e.bestPhase1(cs) == p {
			return true
		}
	}
	return false
}

// complete makes p an established SA.
func (e *Engine) complete(p *phase1, reply sending) {
	e.half.remove(p)
	neg := p.neg
	e.forget(neg.requests)
	delete(e.byCookie, p.icky)
	delete(e.firsts, firstKey{p.icky, neg.firstRemote})
	p.neg = nil
	p.established = e.now
	p.cache = reply
	p.cache.next = time.Time{}
	p.cacheUntil = e.now.Add(e.cfg.ExchangeMaxTime)
	p.lastBlock = bytes.Clone(neg.iv)
	p.keys.DropAuth()
	life := time.Duration(p.chosen.seconds) * time.Second
	p.expireAt = e.now.Add(life)
	p.rekeyAt = e.now.Add(e.rekeyAfter(life, p.role))
	if p.nat() && p.natHere {
		p.keepAliveAt = e.now.Add(e.cfg.KeepAlive)
	}
	e.emit(Phase1Up{
		Peer: p.peer.Name, Role: p.role, Local: p.local, Remote: p.remote, LocalID: p.localID, RemoteID: p.remoteID,
		Suite: p.chosen.String(), Lifetime: life, NAT: p.natText(), Cookies: p.cookies(),
	})
	e.addUp(p)
	e.supersedePhase1(p)
	p.schedule(e)
	for _, cs := range neg.waiters {
		cs.waitsFor = nil
		e.negotiate(cs)
	}
	e.resume(p)
}

// rekeyAfter is when a side starts to replace what lives for life: whoever
// started it first, the other side when that did not happen.
func (e *Engine) rekeyAfter(life time.Duration, r Role) time.Duration {
	if r == Initiator {
		return e.between(life, 80, 88)
	}
	return e.between(life, 91, 95)
}

// supersedePhase1 lets one of several SAs with one peer stay.
func (e *Engine) supersedePhase1(p *phase1) {
	for _, q := range e.up[upKey{p.peer, string(p.idBody)}] {
		if q == p || q.superseded || !q.samePeer(p) {
			continue
		}
		loser := p
		olderGoes, at := e.succession(p.rival(), q.rival())
		if olderGoes {
			loser = q
		}
		loser.superseded, loser.rekeyAt, loser.deleteAt = true, time.Time{}, at
		loser.schedule(e)
		if loser == p {
			return
		}
	}
}

// inUse tells whether a quick mode under p has not come to its end, here or, if
// the third message was lost, there.
func (e *Engine) inUse(p *phase1) bool {
	for _, q := range p.quicks {
		if q.state != quickDone || q.role == Initiator && e.now.Before(q.doneAt.Add(e.cfg.Grace)) {
			return true
		}
	}
	return false
}

// makeWay ends a superseded SA whose time has come. One whose successor has gone
// meanwhile carries on, and one that is in use, or whose successor the peer may
// not know, stays for now.
func (e *Engine) makeWay(p *phase1) {
	at := slices.IndexFunc(e.up[upKey{p.peer, string(p.idBody)}], func(q *phase1) bool {
		return q != p && !q.superseded && q.samePeer(p)
	})
	switch {
	case at < 0:
		p.superseded, p.deleteAt = false, time.Time{}
		p.rekeyAt = e.now.Add(e.cfg.RetransmitAfter)
	case e.inUse(p):
		p.deleteAt = e.now.Add(e.cfg.RetransmitAfter)
	case !e.up[upKey{p.peer, string(p.idBody)}][at].confirmed():
		p.deleteAt = e.now.Add(e.cfg.Grace)
	default:
		e.deletePhase1(p, "replaced by a newer one")
	}
}

// confirmed tells whether the peer has shown that main mode came to its end there
// too: of the sixth message a responder never hears.
func (p *phase1) confirmed() bool { return p.role == Initiator || p.heard.After(p.established) }

func (p *phase1) rival() rival { return rival{p.role, p.created, p.established, p.icky[:]} }

// failPhase1 ends a negotiation with an explanation.
func (e *Engine) failPhase1(p *phase1, f *Failed) {
	f.Phase, f.Role, f.Peer, f.Local, f.Remote = 1, p.role, p.peer.Name, p.local, p.remote
	spoofable := p.neg.state == awaitKE3
	waiters := p.neg.waiters
	if p.role == Initiator && f.Ours == nil {
		f.Ours = describePhase1(p.peer)
	}
	e.endPhase1(p)
	// A first message alone may be anybody's: no line for it at the default level.
	if spoofable {
		e.emit(Dropped{Remote: p.remote, Peer: p.peer.Name, Fault: FaultStale, Reason: "main mode was begun and not continued"})
	} else {
		e.emit(*f)
	}
	for _, cs := range waiters {
		cs.waitsFor = nil
		if e.bestPhase1(cs) != nil { // the peer's own has come to its end
			e.negotiate(cs)
			continue
		}
		e.failedConn(cs, f)
	}
}

// endPhase1 takes p out of everything. Its IPsec SAs live on: they were agreed
// on, and only their own end or their peer's word ends them.
func (e *Engine) endPhase1(p *phase1) {
	if p.dead {
		return
	}
	p.dead = true
	e.half.remove(p)
	if p.neg != nil {
		e.forget(p.neg.requests)
		delete(e.firsts, firstKey{p.icky, p.neg.firstRemote})
	}
	delete(e.byCookie, p.icky)
	delete(e.sas, p.pair())
	e.removeUp(p)
	e.alarms.unset(&p.alarm)
	if p.keys != nil {
		p.keys.Wipe()
	}
}

// deletePhase1 ends an established SA and tells the peer.
func (e *Engine) deletePhase1(p *phase1, reason string) {
	for _, q := range sortedQuicks(p) { // the last chance to say so
		if q.state != quickDone && q.state != awaitInstallOut && q.promised() {
			e.withdraw(q)
		}
	}
	e.inform(p, deletePayload(p))
	e.dropPhase1(p, reason)
}

// dropPhase1 ends an established SA without telling the peer. What was being
// negotiated under it is started anew elsewhere.
func (e *Engine) dropPhase1(p *phase1, reason string) {
	quicks := sortedQuicks(p)
	e.endPhase1(p)
	e.emit(Phase1Down{Peer: p.peer.Name, Remote: p.remote, Cookies: p.cookies(), Reason: reason})
	for _, q := range quicks {
		if q.state != awaitInstallOut { // that one is agreed on
			e.abandonQuick(q, "its ISAKMP SA ended: "+reason)
		}
	}
}

// upKey finds the established SAs of a peer: all of them with an empty ID, or
// those of one authenticated ID, since a default peer stands for many hosts.
type upKey struct {
	peer *Peer
	id   string
}

func (e *Engine) addUp(p *phase1) {
	e.claim(p)
	for _, k := range [...]upKey{{p.peer, ""}, {p.peer, string(p.idBody)}} {
		e.up[k] = append(e.up[k], p)
	}
}

func (e *Engine) removeUp(p *phase1) {
	for _, k := range [...]upKey{{p.peer, ""}, {p.peer, string(p.idBody)}} {
		l := slices.DeleteFunc(e.up[k], func(q *phase1) bool { return q == p })
		if e.up[k] = l; len(l) == 0 {
			delete(e.up, k)
		}
	}
}

// bestPhase1 is the SA under which a connection's next quick mode goes.
func (e *Engine) bestPhase1(cs *connState) *phase1 {
	var best *phase1
	for _, p := range e.up[upKey{cs.conn.Peer, cs.remoteID}] {
		switch {
		case best == nil,
			best.superseded && !p.superseded,
			best.superseded == p.superseded && p.established.After(best.established),
			best.superseded == p.superseded && p.established.Equal(best.established) && bytes.Compare(p.icky[:], best.icky[:]) > 0:
			best = p
		}
	}
	return best
}

// encrypt makes a message of an established or nearly established SA.
func (p *phase1) encrypt(x doi.Exchange, id uint32, iv []byte, ps []isakmp.Payload) (datagram, next []byte) {
	ct, next := p.keys.Encrypt(iv, isakmp.AppendPayloads(nil, ps))
	h := isakmp.Header{
		Initiator: p.icky, Responder: p.rcky, NextPayload: ps[0].Kind(), Version: isakmp.Version, Exchange: x,
		Flags: isakmp.FlagEncrypted, MessageID: id, Length: uint32(isakmp.HeaderLen + len(ct)),
	}
	b := isakmp.AppendHeader(make([]byte, 0, h.Length), h)
	b = append(b, ct...)
	p.bytes += uint64(len(b))
	return b, next
}

// decrypt opens a message on a copy of the IV; next is committed by whoever
// finds the message authentic.
func (p *phase1) decrypt(d Datagram, h isakmp.Header, iv []byte) (m *isakmp.Message, next []byte, err error) {
	plain, next, err := p.keys.Decrypt(iv, d.Data[isakmp.HeaderLen:])
	if err != nil {
		return nil, nil, err
	}
	m, err = isakmp.ParseDecrypted(h, plain)
	return m, next, err
}

// used counts what went through the SA; a lifetime in kilobytes may ask for a
// successor.
func (e *Engine) used(p *phase1, n int) {
	p.bytes += uint64(n)
	if k := p.chosen.kilobytes; k != 0 && p.neg == nil && !p.superseded && p.bytes > k*1024/10*8 && !p.rekeyAt.IsZero() && p.rekeyAt.After(e.now) {
		p.rekeyAt = e.now
		p.schedule(e)
	}
}

// follow notes where a peer's authenticated message came from (attack E7).
func (e *Engine) follow(p *phase1, d Datagram) {
	p.heard = e.now
	if p.remote == d.Remote && p.local == d.Local {
		return
	}
	moved := p.remote != d.Remote
	p.remote, p.local = d.Remote, d.Local
	if moved && p.neg == nil {
		e.moveChildren(p)
	}
}
