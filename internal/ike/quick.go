package ike

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// Quick mode (RFC 2409 section 5.5), and what has to be live when:
//
//	initiator                                   responder
//	1  HASH(1), SA, Ni [, KE] [, IDci, IDcr] -->   policy, keys, incoming SA live
//	                                         <--   2  HASH(2), SA, Nr [, KE] [, IDci, IDcr]
//	keys, both SAs live
//	3  HASH(3)                               -->   outgoing SA live
//
// So whoever may send already finds the other side listening. A lost third
// message would leave the responder stuck: it repeats its second one, and the
// initiator answers that from its cache (RFC 2408 section 5.1).

// quick is one quick mode.
type quick struct {
	p        *phase1
	cs       *connState
	role     Role
	id       uint32
	state    quickState
	sending  sending
	created  time.Time
	giveUpAt time.Time // when finished: when the cache goes
	doneAt   time.Time
	iv       []byte
	replaces *child // what it rekeys, as initiator

	offer        *isakmp.SA  // what we sent, as initiator
	offers       []Suite     // what the policy leaves of our suites, as initiator
	candidates   []candidate // responder
	chosen       *candidate
	spis         map[doi.Protocol][4]byte // ours
	ni, nr       []byte
	idci, idcr   *isakmp.ID
	local        Net // what the IDs came to
	remote       Net
	translated   bool        // an ID of the peer's is what its address was before a translator
	natOA        ipsec.NATOA // what the peer says about addresses before translation
	group        *dh.Group
	private      *dh.Private
	gx, gxy      []byte // our own public value, or the peer's while we wait; the secret
	pending      int    // results awaited
	requests     []RequestID
	in, out      []*ipsec.SA
	installedIn  bool
	installedOut bool
	withdrawn    bool // the peer took its SAs back
	told         bool // we took ours back and said so
	bundle       uint64
	alarm        alarm
}

// quickState is named for what is awaited.
type quickState uint8

const (
	awaitMeans       quickState = iota // initiator: policy, SPIs, key pair
	awaitQuick2                        // initiator, message 2
	awaitQuickKeysI                    // initiator, the arithmetic after message 2
	awaitInstall                       // initiator, both SAs
	awaitPolicy                        // responder
	awaitQuickMeansR                   // responder: SPIs, key exchange
	awaitInstallIn                     // responder, its incoming SA
	awaitQuick3                        // responder, message 3
	awaitInstallOut                    // responder, its outgoing SA
	quickDone                          // kept for duplicates
)

var quickStates = [...]string{
	"await policy, SPI and key pair", "await message 2", "await the shared secret", "await both SAs",
	"await policy", "await SPI and key exchange", "await the incoming SA", "await message 3", "await the outgoing SA", "done",
}

func (s quickState) String() string { return quickStates[s] }

func (q *quick) schedule(e *Engine) { e.alarms.set(&q.alarm, q, q.sending.next, q.giveUpAt) }

func (q *quick) wake(e *Engine) {
	switch {
	case q.state == quickDone:
		if e.due(q.giveUpAt) {
			e.removeQuick(q)
			return
		}
	case e.due(q.giveUpAt):
		e.failQuick(q, &Failed{Reason: fmt.Sprintf("no end within %s (%s)", e.cfg.ExchangeMaxTime, q.state)})
		return
	case !e.again(&q.sending):
		e.unanswered(q)
		return
	}
	q.schedule(e)
}

// unanswered ends a quick mode that got no answer under an SA that should have
// had one: the peer may have lost the ISAKMP SA, and a new one is the way to
// find out (kill -9 on the other side). Who needs the connection does that at
// once, though not twice in a row.
func (e *Engine) unanswered(q *quick) {
	p, cs := q.p, q.cs
	f := &Failed{
		Reason: fmt.Sprintf("no answer after %d retransmissions (%s)", e.cfg.Retransmits, q.state),
		Hint:   "the peer may have been restarted: phase 1 is negotiated anew",
	}
	switch {
	case p.heard.After(q.created): // it is there: this one exchange came to grief
		f.Hint = "the peer answers under the same ISAKMP SA, though not to this: look at its log"
		e.failQuick(q, f)
		return
	case q.role == Responder && !cs.due():
		f.Hint = ""
		e.failQuick(q, f)
		return
	}
	e.endQuick(q)
	e.emit(q.failed(f))
	if !p.dead {
		e.deletePhase1(p, "the peer no longer answers under it")
	}
	switch {
	case q.role == Responder:
		e.takeOver(cs)
	case cs.fails > 0: // that was tried already
		e.failedConn(cs, f)
	default:
		cs.fails++
		e.negotiate(cs)
	}
}

// startQuick begins as initiator: everything that message 1 needs is asked for
// at once.
func (e *Engine) startQuick(p *phase1, cs *connState, replaces *child) {
	q := &quick{
		p: p, cs: cs, role: Initiator, id: e.messageID(p), state: awaitMeans, created: e.now, giveUpAt: e.now.Add(e.cfg.ExchangeMaxTime),
		replaces: replaces, spis: map[doi.Protocol][4]byte{}, local: cs.conn.Local, remote: cs.conn.Remote,
	}
	cs.busy = q
	e.addQuick(q)
	q.setIDs()

	fit, why := q.fit()
	if len(fit) == 0 {
		e.failQuick(q, &Failed{Reason: "none of our own suites can be offered to this peer", Ours: describeSuites(cs.conn, p.nat()), Differs: why, Hint: "give the connection a suite that fits, beside this one or in its place"})
		return
	}
	query := e.query(q)
	asked := make([][]Suite, 0, len(fit))
	for _, i := range fit {
		ways := cs.conn.Suites[i].ways(q.terms())
		asked = append(asked, ways)
		for k := range ways {
			query.Proposals = append(query.Proposals, suiteProposal(&ways[k], q.terms()))
		}
	}
	query.ID = q.await(e, func(in Input) {
		a := in.(PolicyAnswer)
		if a.Err != nil || len(a.Allow) != len(query.Proposals) || !slices.Contains(a.Allow, true) {
			e.failQuick(q, &Failed{Reason: "the policy lets us offer none of our own suites: " + policyReason(a), Ours: describeSuites(cs.conn, p.nat())})
			return
		}
		for k, i := range fit {
			n := len(asked[k])
			q.offers = append(q.offers, permitted(cs.conn.Suites[i], asked[k], a.Allow[:n])...)
			a.Allow = a.Allow[n:]
		}
		e.meansMet(q)
	})
	e.emit(query)
	for _, i := range fit {
		for _, pr := range cs.conn.Suites[i].Protocols {
			if _, have := q.spis[pr.Proto]; !have {
				e.askQuickSPI(q, pr.Proto)
			}
		}
	}
	if g := cs.conn.Suites[0].Protocols[0].Transforms[0].Group; g != 0 {
		e.askQuickDH(q, g, nil)
	}
	q.schedule(e)
}

// fit lists our suites that the ends and the ISAKMP SA allow, and says what is in
// the way of the last one that they do not.
func (q *quick) fit() (fit []int, why string) {
	t := q.terms()
	for i := range q.cs.conn.Suites {
		if lack := q.cs.conn.Suites[i].unfit(t); lack != "" {
			why = lack
			continue
		}
		fit = append(fit, i)
	}
	return fit, why
}

func policyReason(a PolicyAnswer) string {
	switch {
	case a.Err != nil:
		return a.Err.Error()
	case a.Reason != "":
		return a.Reason
	}
	return "no reason given"
}

// await registers a result that the quick mode needs before it goes on.
func (q *quick) await(e *Engine, done func(Input)) RequestID {
	id := e.ask(done)
	q.pending++
	q.requests = append(q.requests, id)
	return id
}

// meansMet counts one result; the last one moves the exchange on.
func (e *Engine) meansMet(q *quick) {
	if q.pending--; q.pending > 0 {
		return
	}
	q.requests = q.requests[:0]
	switch q.state {
	case awaitMeans:
		e.quick1Send(q)
	case awaitQuickKeysI:
		e.installBoth(q)
	case awaitQuickMeansR:
		e.installIncoming(q)
	}
	q.schedule(e)
}

func (e *Engine) askQuickSPI(q *quick, proto doi.Protocol) {
	q.spis[proto] = [4]byte{}
	q.pending++
	id := e.askSPI(ipProtos[proto], q.p.remote.Addr(), q.p.local.Addr(), func(in Input) {
		r := in.(SPIAllocated)
		if r.Err != nil {
			delete(q.spis, proto)
			e.failMeans(q, "the data plane gave no SPI: "+r.Err.Error())
			return
		}
		var spi [4]byte
		binary.BigEndian.PutUint32(spi[:], uint32(r.SPI))
		q.spis[proto] = spi
		e.meansMet(q)
	})
	q.requests = append(q.requests, id)
}

// askQuickDH asks for our half of perfect forward secrecy, and for the secret
// when the peer's half is there.
func (e *Engine) askQuickDH(q *quick, g doi.Group, peer []byte) {
	id := q.await(e, func(in Input) {
		r := in.(DHDone)
		if r.Err != nil {
			e.failMeans(q, "the key exchange failed: "+r.Err.Error())
			return
		}
		q.private, q.gx, q.gxy = r.Private, r.Private.Public(), r.Shared
		e.meansMet(q)
	})
	e.emit(DiffieHellman{ID: id, Group: g, Private: q.private, Peer: peer})
}

// failMeans ends a quick mode for which something is missing here. An initiator
// that waits for us need not find out by waiting.
func (e *Engine) failMeans(q *quick, reason string) {
	if q.role == Responder {
		e.inform(q.p, notifyPayload(doi.NotifyNoProposalChosen))
	}
	e.failQuick(q, &Failed{Reason: reason})
}

// setIDs makes the identities that we send as initiator. A network that is not
// set is the tunnel's end itself.
func (q *quick) setIDs() {
	local, remote := q.local.at(q.p.local.Addr()), q.remote.at(q.p.remote.Addr())
	q.local, q.remote = local, remote
	q.idci, q.idcr = local.id(), remote.id()
}

func (n Net) at(a netip.Addr) Net {
	if !n.Prefix.IsValid() {
		n.Prefix, n.Addr = netip.PrefixFrom(a, a.BitLen()), true
	}
	return n
}

// isHost tells whether n is one address, all of its traffic or some.
func (n Net) isHost(a netip.Addr) bool {
	return n.Prefix.IsSingleIP() && n.Prefix.Addr() == a
}

func (n Net) id() *isakmp.ID {
	if n.Addr && n.Prefix.IsSingleIP() {
		return isakmp.IDFromAddr(n.Prefix.Addr(), n.Proto, n.Port)
	}
	return isakmp.IDFromPrefix(n.Prefix, n.Proto, n.Port)
}

// selector is the traffic of both ends, seen from us.
func (q *quick) selector() ipsec.Selector {
	s := ipsec.Selector{Src: q.local.Prefix, Dst: q.remote.Prefix, Proto: q.local.Proto, SrcPort: q.local.Port, DstPort: q.remote.Port}
	if s.Proto == 0 {
		s.Proto = q.remote.Proto
	}
	return s
}

func (e *Engine) query(q *quick) QueryPolicy {
	return QueryPolicy{
		Initiator: q.role == Initiator, Peer: q.p.peer.Name, Conn: q.cs.conn.Name, Unlisted: q.cs.byPolicy, LocalAddr: q.p.local, Remote: q.p.remote,
		LocalID: q.p.localID, RemoteID: q.p.remoteID, Selector: q.selector(),
		Exchange: doi.ExchangeMain, Group: q.p.chosen.group, Auth: q.p.chosen.auth, Key: q.p.peer.Key, Identity: q.p.identity(),
		Credentials: q.p.credentials, Here: q.local, There: q.remote,
	}
}

func (e *Engine) quick1Send(q *quick) {
	p := q.p
	q.ni = make([]byte, nonceLen)
	e.random(q.ni)
	q.offer = offerPhase2(q.offers, q.spis, q.terms())
	ps := []isakmp.Payload{nil, q.offer, &isakmp.Nonce{Data: q.ni}}
	if q.private != nil {
		ps = append(ps, &isakmp.KE{Data: q.gx})
	}
	ps = append(ps, q.idci, q.idcr)
	if offersTransport(q.offer) {
		ps = append(ps, q.originals()...)
	}
	ps[0] = &isakmp.Hash{Data: p.keys.Hash1(q.id, isakmp.AppendPayloads(nil, ps[1:]))}
	b, next := p.encrypt(doi.ExchangeQuick, q.id, p.keys.Phase2IV(p.lastBlock, q.id), ps)
	q.iv = next
	q.state = awaitQuick2
	e.send(&q.sending, b, p.local, p.remote, true)
}

// quickDatagram finds the exchange and the step.
func (e *Engine) quickDatagram(d Datagram, h isakmp.Header) {
	p := e.established(d, h)
	if p == nil {
		return
	}
	q := p.quicks[h.MessageID]
	var rej *rejection
	switch {
	case q == nil && p.seen.has(h.MessageID):
		rej = drop(FaultStale, "a quick mode message of an exchange that is over")
	case q == nil:
		rej = e.quick1(p, d, h)
	case e.duplicate(&q.sending, d):
		if q.state == quickDone && q.role == Initiator {
			e.unconfirmed(q)
		}
		return
	case q.state == awaitQuick2:
		rej = e.quick2(q, d, h)
	case q.state == awaitQuick3:
		rej = e.quick3(q, d, h)
	default:
		rej = drop(FaultMisbehaved, fmt.Sprintf("a quick mode message came while we %s", q.state))
	}
	if rej != nil {
		e.rejectQuick(p, q, d, rej)
	}
}

// rejectQuick deals with a message that was not taken. What is not authentic
// gets no answer; what is, but cannot be agreed to, gets a protected one.
func (e *Engine) rejectQuick(p *phase1, q *quick, d Datagram, rej *rejection) {
	if !rej.kill {
		e.drop(d, p, rej.fault, rej.reason)
		return
	}
	if rej.notify != 0 {
		e.inform(p, notifyPayload(rej.notify))
	}
	f := rej.failed
	if f == nil {
		f = &Failed{Reason: rej.reason}
	}
	if q != nil {
		if q.role == Initiator { // message 2 was no good, and its sender waits for the third
			e.withdraw(q)
		}
		e.failQuick(q, f)
		return
	}
	f.Phase, f.Role, f.Peer, f.Local, f.Remote = 2, Responder, p.peer.Name, p.local, p.remote
	e.emit(*f)
}

// open decrypts and authenticates a quick mode message.
func (p *phase1) open(d Datagram, h isakmp.Header, iv []byte, s *shape, hash func(m *isakmp.Message) []byte) (m *isakmp.Message, next []byte, rej *rejection) {
	m, next, err := p.decrypt(d, h, iv)
	if err != nil {
		return nil, nil, drop(FaultUnauthentic, fmt.Sprintf("%s cannot be read: %v", s.name, err))
	}
	if len(m.Payloads) == 0 {
		return nil, nil, drop(FaultUnauthentic, s.name+" is empty")
	}
	got, ok := m.Payloads[0].(*isakmp.Hash)
	if !ok || subtle.ConstantTimeCompare(got.Data, hash(m)) != 1 {
		return nil, nil, drop(FaultUnauthentic, s.name+": its hash does not match")
	}
	if _, rej := s.checkHashed(m); rej != nil {
		rej.kill = true // authentic, and still not what it should be
		return nil, nil, rej
	}
	return m, next, nil
}

// quick2 takes the responder's choice.
func (e *Engine) quick2(q *quick, d Datagram, h isakmp.Header) *rejection {
	p := q.p
	m, next, rej := p.open(d, h, q.iv, &quickMessage[2], func(m *isakmp.Message) []byte { return p.keys.Hash2(q.id, q.ni, m.After(0)) })
	if rej != nil {
		return rej
	}
	e.follow(p, d)
	e.used(p, len(d.Data))
	nonce, _, _ := payload[*isakmp.Nonce](m)
	if rej := checkNonce(nonce.Data, &quickMessage[2]); rej != nil {
		return rej
	}
	if ids := payloads[*isakmp.ID](m); len(ids) == 2 && !(sameID(ids[0], q.idci) && sameID(ids[1], q.idcr)) {
		return invalidID(fmt.Sprintf("the peer answered with other networks: its %s and our %s", ids[1], ids[0]))
	}
	sa, _, _ := payload[*isakmp.SA](m)
	chosen, rej := chosenPhase2(q.cs.conn, q.offer, sa, p.nat())
	if rej != nil {
		rej.kill = true
		return rej
	}
	q.chosen = &cloneCandidates([]candidate{chosen})[0]
	q.takeOriginals(m)
	q.nr = bytes.Clone(nonce.Data)
	ke, _, have := payload[*isakmp.KE](m)
	if have != (q.private != nil) {
		return kill(FaultMisbehaved, doi.NotifyInvalidKeyInformation, fmt.Sprintf("the proposal asks for %s, and a KE payload is %s", groupName(chosen.group()), thereOrNot(have)))
	}
	q.shorten(m)
	q.iv = next
	q.sending.accepted(d)
	q.sending.last = nil
	q.giveBack(e)
	if !have {
		e.installBoth(q)
		q.schedule(e)
		return nil
	}
	g, err := dh.Lookup(chosen.group())
	if err == nil {
		err = g.Check(ke.Data)
	}
	if err != nil {
		return kill(FaultMisbehaved, doi.NotifyInvalidKeyInformation, "the KE payload: "+err.Error())
	}
	q.group = g
	q.state = awaitQuickKeysI
	e.askQuickDH(q, g.ID(), bytes.Clone(ke.Data))
	q.schedule(e)
	return nil
}

func sameID(a, b *isakmp.ID) bool {
	return bytes.Equal(isakmp.BodyOf(a), isakmp.BodyOf(b))
}

// shorten takes a RESPONDER-LIFETIME (RFC 2407 section 4.6.3.1): the responder
// may have less time for the SA than we asked for.
func (q *quick) shorten(m *isakmp.Message) {
	for _, n := range payloads[*isakmp.Notify](m) {
		if n.Type != doi.NotifyResponderLifetime {
			continue
		}
		var l lifetimes
		for _, v := range n.Lives() {
			switch {
			case v.Value == 0:
			case v.Type == doi.LifeSeconds:
				l.seconds, l.haveSec = v.Value, true
			case v.Type == doi.LifeKilobytes:
				l.kilobytes, l.haveKB = v.Value, true
			}
		}
		for i := range q.chosen.sas {
			own := &q.chosen.sas[i].offer.life
			if l.haveSec && (!own.haveSec || l.seconds < own.seconds) {
				own.seconds, own.haveSec = l.seconds, true
			}
			if l.haveKB && (!own.haveKB || l.kilobytes < own.kilobytes) {
				own.kilobytes, own.haveKB = l.kilobytes, true
			}
		}
	}
}

// giveBack returns the SPIs of protocols that were offered and not chosen.
func (q *quick) giveBack(e *Engine) {
	for _, proto := range inwardsOut {
		spi, have := q.spis[proto]
		used := slices.ContainsFunc(q.chosen.sas, func(c chosenSA) bool { return c.proto == proto })
		if have && !used {
			delete(q.spis, proto)
			e.emit(DeleteSA{SAs: []ipsec.SAID{q.inID(proto, spi)}})
		}
	}
}

func (q *quick) inID(proto doi.Protocol, spi [4]byte) ipsec.SAID {
	return ipsec.SAID{Dir: ipsec.In, Proto: ipProtos[proto], SPI: ipsec.SPI(binary.BigEndian.Uint32(spi[:])), Dst: q.p.local.Addr()}
}

// installBoth makes both SAs live before message 3 goes out.
func (e *Engine) installBoth(q *quick) {
	q.makeSAs(e)
	q.state = awaitInstall
	e.install(q, append(slices.Clone(q.in), q.out...), func() {
		q.installedIn, q.installedOut = true, true
		p := q.p
		b, next := p.encrypt(doi.ExchangeQuick, q.id, q.iv, []isakmp.Payload{&isakmp.Hash{Data: p.keys.Hash3(q.id, q.ni, q.nr)}})
		q.iv = next
		e.send(&q.sending, b, p.local, p.remote, false)
		e.finishQuick(q)
	})
}
