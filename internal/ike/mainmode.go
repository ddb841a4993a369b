package ike

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"slices"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/isakmp"
	"oakley/internal/oakley"
)

// Main mode with pre-shared keys (RFC 2409 sections 5 and 5.4), with the
// payloads of RFC 3947:
//
//	initiator                          responder
//	1  SA, VID                 -->
//	                           <--     2  SA, VID
//	3  KE, Ni, NAT-D           -->
//	                           <--     4  KE, Nr, NAT-D
//	5  IDii, HASH_I            -->             encrypted from here
//	                           <--     6  IDir, HASH_R
//
// The responder does no arithmetic before message 3, which only somebody who
// got message 2 can send, and repeats nothing on its own.

const nonceLen = 20

// vendorNATT is the vendor ID of RFC 3947 section 3.1.
var vendorNATT = []byte{0x4a, 0x13, 0x1c, 0x81, 0x07, 0x03, 0x58, 0x45, 0x5c, 0x57, 0x28, 0xf2, 0x0e, 0x95, 0x45, 0x2f}

// vendorOakley tells our own kind that it is spoken with, for transforms with
// private numbers (RFC 2408 section 3.16): the first half of the SHA-256 of
// "oakley: private transforms, version 1". Only who has a suite with such a
// transform says it first.
var vendorOakley = []byte{0xe6, 0xe7, 0x20, 0x6b, 0x0a, 0x9c, 0xe1, 0x1c, 0xc5, 0xe6, 0xc9, 0x17, 0x62, 0xeb, 0x81, 0xce}

// wantsKin tells whether a connection with a peer has a suite for our own kind.
func (e *Engine) wantsKin(peer *Peer) bool {
	private := func(c *Connection) bool {
		return slices.ContainsFunc(c.Suites, func(s Suite) bool { return s.private() })
	}
	for _, cs := range e.connsOf[peer] {
		if private(cs.conn) {
			return true
		}
	}
	return false
}

// initiatePhase1 sends message 1. local and remote may be those of an SA that
// it is to replace, behind NAT too; else they come from the configuration.
func (e *Engine) initiatePhase1(peer *Peer, local, remote netip.AddrPort) *phase1 {
	p := &phase1{icky: e.newCookie(), role: Initiator, peer: peer, created: e.now, local: local, remote: remote}
	if !remote.IsValid() {
		port := peer.Port
		if port == 0 {
			port = e.cfg.Port
		}
		p.remote = netip.AddrPortFrom(peer.Address, port)
	}
	if !local.IsValid() {
		p.local = netip.AddrPortFrom(peer.Local, e.cfg.Port)
	}
	p.neg = &mainMode{state: awaitSA, giveUpAt: e.now.Add(e.cfg.ExchangeMaxTime), firstRemote: p.remote}
	p.neg.offer = offerPhase1(peer)
	p.neg.saBody = isakmp.BodyOf(p.neg.offer)
	e.byCookie[p.icky] = p
	ps := []isakmp.Payload{p.neg.offer}
	if e.cfg.NATT {
		ps = append(ps, &isakmp.Vendor{Data: vendorNATT})
	}
	if e.wantsKin(peer) {
		ps = append(ps, &isakmp.Vendor{Data: vendorOakley})
	}
	e.send(&p.neg.sending, p.clear(ps), p.local, p.remote, true)
	p.schedule(e)
	return p
}

// clear makes one of the first four messages.
func (p *phase1) clear(ps []isakmp.Payload) []byte {
	m := isakmp.Message{
		Header:   isakmp.Header{Initiator: p.icky, Responder: p.rcky, Version: isakmp.Version, Exchange: doi.ExchangeMain},
		Payloads: ps,
	}
	return m.Append(nil)
}

// mainDatagram finds the exchange and the step.
func (e *Engine) mainDatagram(d Datagram, h isakmp.Header) {
	if h.MessageID != 0 {
		e.drop(d, nil, FaultMalformed, "main mode with a message ID")
		return
	}
	p := e.sas[cookiePair{h.Initiator, h.Responder}]
	if p == nil {
		if p = e.byCookie[h.Initiator]; p != nil && (p.neg.state != awaitSA || h.Responder.IsZero()) {
			e.drop(d, p, FaultMisbehaved, "our own message came back, or an answer with another cookie")
			return
		}
	}
	switch {
	case p == nil && h.Responder.IsZero():
		e.mainFirst(d, h)
		return
	case p == nil:
		e.drop(d, nil, FaultStale, fmt.Sprintf("main mode for cookies %s %s, which are unknown", h.Initiator, h.Responder))
		return
	case p.neg == nil:
		if !e.duplicate(&p.cache, d) {
			e.drop(d, p, FaultStale, "main mode is done")
		}
		return
	case e.duplicate(&p.neg.sending, d):
		return
	}
	step := mainSteps[p.neg.state]
	if step.process == nil {
		e.drop(d, p, FaultMisbehaved, fmt.Sprintf("a message came while we %s", p.neg.state))
		return
	}
	if rej := e.mainStep(p, d, h, &step); rej != nil {
		e.rejectMain(p, d, h, rej)
		return
	}
	p.schedule(e)
}

// mainSteps says, for each state, which message is awaited and who takes it.
// The states without an entry await something of our own.
var mainSteps = [...]struct {
	message *shape
	process func(e *Engine, p *phase1, d Datagram, m *isakmp.Message, next []byte) *rejection
}{
	awaitSA:      {&mainMessage[2], (*Engine).main2},
	awaitKE3:     {&mainMessage[3], (*Engine).main3},
	awaitKE4:     {&mainMessage[4], (*Engine).main4},
	awaitAuth5:   {&mainMessage[5], (*Engine).main5},
	awaitAuth6:   {&mainMessage[6], (*Engine).main6},
	awaitSecretR: {},
}

func (e *Engine) mainStep(p *phase1, d Datagram, h isakmp.Header, step *struct {
	message *shape
	process func(e *Engine, p *phase1, d Datagram, m *isakmp.Message, next []byte) *rejection
},
) *rejection {
	if step.message.encrypted != (h.Flags&isakmp.FlagEncrypted != 0) {
		return drop(FaultMisbehaved, fmt.Sprintf("%s: encryption is the other way round", step.message.name))
	}
	if !step.message.encrypted {
		// Until the keys are there the cookies and the address are all that
		// ties a message to the exchange.
		if d.Remote.Addr() != p.remote.Addr() {
			return drop(FaultMisbehaved, fmt.Sprintf("%s from %s, but the exchange is with %s", step.message.name, d.Remote, p.remote))
		}
		m, err := isakmp.Parse(d.Data)
		if err != nil {
			return malformed(step.message, err)
		}
		if rej := step.message.check(m); rej != nil {
			return rej
		}
		return step.process(e, p, d, m, nil)
	}
	m, next, err := p.decrypt(d, h, p.neg.iv)
	if err != nil {
		return wrongKey(step.message, err)
	}
	if rej := step.message.check(m); rej != nil {
		return wrongKey(step.message, rej)
	}
	return step.process(e, p, d, m, next)
}

func malformed(s *shape, err error) *rejection {
	rej := drop(FaultMalformed, s.name+": "+err.Error())
	if ie, ok := err.(*isakmp.Error); ok {
		rej.notify = ie.Notify
	}
	return rej
}

// wrongKey explains what cannot be read: before the first hash has been
// checked, other keys on the two sides look like damage.
func wrongKey(s *shape, err error) *rejection {
	return &rejection{
		fault: FaultUnauthentic, notify: doi.NotifyPayloadMalformed,
		reason: fmt.Sprintf("%s cannot be read (%v)", s.name, err),
		failed: &Failed{
			Reason: s.name + " cannot be decrypted into anything sensible",
			Hint:   "the pre-shared keys of the two sides differ: compare Authentication= of this peer with the peer's own setting",
		},
	}
}

// rejectMain deals with a message that was not taken.
func (e *Engine) rejectMain(p *phase1, d Datagram, h isakmp.Header, rej *rejection) {
	if rej.kill {
		f := rej.failed
		if f == nil {
			f = &Failed{Reason: rej.reason}
		}
		if rej.notify != 0 {
			e.notifyClear(d, h, rej.notify)
		}
		e.failPhase1(p, f)
		return
	}
	e.drop(d, p, rej.fault, rej.reason)
	// One notification and one explanation an exchange: a stream of bad
	// messages gets no stream of answers.
	if p.neg.complained {
		return
	}
	p.neg.complained = true
	if rej.notify != 0 {
		e.notifyClear(d, h, rej.notify)
	}
	if f := rej.failed; f != nil {
		f.Phase, f.Role, f.Peer, f.Local, f.Remote = 1, p.role, p.peer.Name, d.Local, d.Remote
		e.emit(*f)
	}
}

// mainFirst answers message 1. Nothing but memory is spent on it, and little
// of that.
func (e *Engine) mainFirst(d Datagram, h isakmp.Header) {
	key := firstKey{h.Initiator, d.Remote}
	if p := e.firsts[key]; p != nil {
		if p.neg.state != awaitKE3 || !e.duplicate(&p.neg.sending, d) {
			e.drop(d, p, FaultStale, "a second first message with the same cookie")
		}
		return
	}
	m, err := isakmp.Parse(d.Data)
	if err != nil {
		rej := malformed(&mainMessage[1], err)
		e.drop(d, nil, rej.fault, rej.reason)
		if rej.notify != 0 {
			e.notifyClear(d, h, rej.notify)
		}
		return
	}
	if rej := mainMessage[1].check(m); rej != nil {
		e.drop(d, nil, rej.fault, rej.reason)
		e.notifyClear(d, h, rej.notify)
		return
	}
	sa, at, _ := payload[*isakmp.SA](m)
	peer := e.peerAt(d.Remote.Addr())
	if peer == nil {
		e.emit(Failed{
			Phase: 1, Role: Responder, Local: d.Local, Remote: d.Remote,
			Reason: "no peer is configured for this address", Theirs: describeSA(sa),
			Hint: fmt.Sprintf("add %s= and a peer's section under [Phase 1], or a Default= there", d.Remote.Addr()),
		})
		e.notifyClear(d, h, doi.NotifyNoProposalChosen)
		return
	}
	choice, rej := choosePhase1(peer, sa)
	if rej != nil {
		f := *rej.failed
		f.Phase, f.Role, f.Peer, f.Local, f.Remote = 1, Responder, peer.Name, d.Local, d.Remote
		e.emit(f)
		e.notifyClear(d, h, rej.notify)
		return
	}
	e.makeRoom(d.Remote.Addr())
	p := &phase1{icky: h.Initiator, rcky: e.newCookie(), role: Responder, peer: peer, created: e.now, local: d.Local, remote: d.Remote, chosen: choice}
	p.neg = &mainMode{state: awaitKE3, giveUpAt: e.now.Add(e.cfg.ExchangeMaxTime), firstRemote: d.Remote, saBody: bytes.Clone(m.Body(at))}
	p.natt = e.cfg.NATT && hasVendor(m, vendorNATT)
	ps := []isakmp.Payload{choice.reply(sa)}
	if p.natt {
		ps = append(ps, &isakmp.Vendor{Data: vendorNATT})
	}
	if p.kin = hasVendor(m, vendorOakley); p.kin {
		ps = append(ps, &isakmp.Vendor{Data: vendorOakley})
	}
	reply := p.clear(ps)
	if len(reply) > len(d.Data) {
		e.drop(d, nil, FaultMisbehaved, "main mode message 1 is shorter than its answer would be")
		return
	}
	e.sas[p.pair()] = p
	e.firsts[key] = p
	e.half.add(p)
	p.neg.sending.accepted(d)
	e.send(&p.neg.sending, reply, p.local, p.remote, false)
	p.schedule(e)
}

// main2 takes the responder's choice and makes our half of the key exchange.
func (e *Engine) main2(p *phase1, d Datagram, m *isakmp.Message, _ []byte) *rejection {
	sa, _, _ := payload[*isakmp.SA](m)
	chosen, rej := chosenPhase1(p.peer, p.neg.offer, sa)
	if rej != nil {
		return rej
	}
	group, err := dh.Lookup(chosen.group)
	if err != nil {
		return drop(FaultIncompatible, err.Error())
	}
	p.rcky = m.Header.Responder
	e.sas[p.pair()] = p
	p.chosen, p.neg.group = chosen, group
	p.natt = e.cfg.NATT && hasVendor(m, vendorNATT)
	p.kin = hasVendor(m, vendorOakley)
	p.local = d.Local
	p.neg.sending.accepted(d)
	p.neg.sending.last = nil // no answer yet that a duplicate could get
	p.neg.state = awaitKeyPair
	id := e.ask(func(in Input) {
		r := in.(DHDone)
		if r.Err != nil {
			e.failPhase1(p, &Failed{Reason: "no key pair could be made: " + r.Err.Error()})
			return
		}
		e.main3Send(p, r.Private)
	})
	p.neg.requests = append(p.neg.requests, id)
	e.emit(DiffieHellman{ID: id, Group: chosen.group})
	return nil
}

func (e *Engine) main3Send(p *phase1, priv *dh.Private) {
	p.neg.private, p.neg.gxi = priv, priv.Public()
	p.neg.ni = make([]byte, nonceLen)
	e.random(p.neg.ni)
	p.neg.state = awaitKE4
	e.send(&p.neg.sending, p.clear(p.keyExchange(p.neg.gxi, p.neg.ni)), p.local, p.remote, true)
	p.schedule(e)
}

// keyExchange is the payloads of message 3 or 4.
func (p *phase1) keyExchange(gx, n []byte) []isakmp.Payload {
	ps := []isakmp.Payload{&isakmp.KE{Data: gx}, &isakmp.Nonce{Data: n}}
	if p.natt {
		ps = append(ps, p.natD(p.remote), p.natD(p.local))
	}
	return ps
}

// takeKeyExchange checks the payloads of message 3 or 4.
func (p *phase1) takeKeyExchange(group *dh.Group, m *isakmp.Message, s *shape) (gx, nonce []byte, rej *rejection) {
	ke, _, _ := payload[*isakmp.KE](m)
	n, _, _ := payload[*isakmp.Nonce](m)
	if err := group.Check(ke.Data); err != nil {
		return nil, nil, dropNotify(FaultMisbehaved, doi.NotifyInvalidKeyInformation, fmt.Sprintf("%s: %v", s.name, err))
	}
	if l := len(n.Data); l < 8 || l > 256 {
		return nil, nil, dropNotify(FaultMisbehaved, doi.NotifyPayloadMalformed, fmt.Sprintf("%s: a nonce of %d bytes; RFC 2409 section 5 wants 8 to 256", s.name, l))
	}
	return bytes.Clone(ke.Data), bytes.Clone(n.Data), nil
}

// main3 takes the initiator's half; both halves of our arithmetic are one
// request.
func (e *Engine) main3(p *phase1, d Datagram, m *isakmp.Message, _ []byte) *rejection {
	group, err := dh.Lookup(p.chosen.group)
	if err != nil {
		return drop(FaultIncompatible, err.Error())
	}
	gxi, ni, rej := p.takeKeyExchange(group, m, &mainMessage[3])
	if rej != nil {
		return rej
	}
	p.neg.group, p.neg.gxi, p.neg.ni = group, gxi, ni
	p.detectNAT(d, m)
	p.remote, p.local = d.Remote, d.Local
	p.neg.sending.accepted(d)
	p.neg.sending.last = nil
	p.neg.state = awaitSecretR
	id := e.ask(func(in Input) {
		r := in.(DHDone)
		if r.Err == nil {
			p.neg.gxr = r.Private.Public()
			p.neg.nr = make([]byte, nonceLen)
			e.random(p.neg.nr)
			r.Err = p.derive(r.Shared)
		}
		if r.Err != nil {
			e.failPhase1(p, &Failed{Reason: "the keys could not be made: " + r.Err.Error()})
			return
		}
		p.neg.state = awaitAuth5
		e.send(&p.neg.sending, p.clear(p.keyExchange(p.neg.gxr, p.neg.nr)), p.local, p.remote, false)
		p.schedule(e)
	})
	p.neg.requests = append(p.neg.requests, id)
	e.emit(DiffieHellman{ID: id, Group: p.chosen.group, Peer: gxi})
	return nil
}

// main4 takes the responder's half.
func (e *Engine) main4(p *phase1, d Datagram, m *isakmp.Message, _ []byte) *rejection {
	gxr, nr, rej := p.takeKeyExchange(p.neg.group, m, &mainMessage[4])
	if rej != nil {
		return rej
	}
	p.neg.gxr, p.neg.nr = gxr, nr
	p.detectNAT(d, m)
	p.neg.sending.accepted(d)
	p.neg.sending.last = nil
	p.neg.state = awaitSecretI
	id := e.ask(func(in Input) {
		r := in.(DHDone)
		if r.Err == nil {
			r.Err = p.derive(r.Shared)
		}
		if r.Err != nil {
			e.failPhase1(p, &Failed{Reason: "the keys could not be made: " + r.Err.Error()})
			return
		}
		p.neg.private = nil
		e.main5Send(p)
	})
	p.neg.requests = append(p.neg.requests, id)
	e.emit(DiffieHellman{ID: id, Group: p.chosen.group, Private: p.neg.private, Peer: gxr})
	return nil
}

// derive makes SKEYID and all that comes from it (RFC 2409 section 5).
func (p *phase1) derive(shared []byte) error {
	skeyid := oakley.SKEYIDPreShared(p.chosen.suite.Hash, p.peer.Key, p.neg.ni, p.neg.nr)
	keys, err := oakley.Derive(p.chosen.suite, skeyid, shared, p.icky, p.rcky)
	if err != nil {
		return err
	}
	p.keys = keys
	p.neg.iv = keys.IV(p.neg.gxi, p.neg.gxr)
	return nil
}

func (e *Engine) main5Send(p *phase1) {
	p.floatPort(e)
	id := p.ownID()
	body := isakmp.BodyOf(id)
	hash := p.keys.HashI(p.neg.gxi, p.neg.gxr, p.icky, p.rcky, p.neg.saBody, body)
	b, next := p.encrypt(doi.ExchangeMain, 0, p.neg.iv, e.authPayloads(p, id, hash))
	p.neg.iv = next
	p.neg.state = awaitAuth6
	e.send(&p.neg.sending, b, p.local, p.remote, true)
	p.schedule(e)
}

// authPayloads is message 5 or 6. INITIAL-CONTACT goes in it, under its hash's
// protection only since the message is encrypted (RFC 2407 section 4.6.3.3).
func (e *Engine) authPayloads(p *phase1, id *isakmp.ID, hash []byte) []isakmp.Payload {
	ps := []isakmp.Payload{id, &isakmp.Hash{Data: hash}}
	if len(p.peer.Credentials) > 0 {
		ps = append(ps, &isakmp.Cert{Encoding: doi.CertKeyNote, Data: p.peer.Credentials})
	}
	if p.role == Initiator && e.isFirstContact(p) {
		ps = append(ps, &isakmp.Notify{
			DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, SPI: append(p.icky[:], p.rcky[:]...), Type: doi.NotifyInitialContact,
		})
	}
	return ps
}

// ownID is the identity that we show.
func (p *phase1) ownID() *isakmp.ID {
	id := p.peer.LocalID
	if id == nil {
		id = isakmp.IDFromAddr(p.local.Addr(), 0, 0)
	}
	p.localID, p.ids.LocalID = id.String(), id.Bare()
	return id
}

// main5 authenticates the initiator and answers.
func (e *Engine) main5(p *phase1, d Datagram, m *isakmp.Message, next []byte) *rejection {
	id, rej := p.authenticate(m, &mainMessage[5], func(body []byte) []byte {
		return p.keys.HashI(p.neg.gxi, p.neg.gxr, p.icky, p.rcky, p.neg.saBody, body)
	})
	if rej != nil {
		return rej
	}
	e.authentic(p, d, m, id, next)
	e.used(p, len(d.Data))
	own := p.ownID()
	hash := p.keys.HashR(p.neg.gxr, p.neg.gxi, p.rcky, p.icky, p.neg.saBody, isakmp.BodyOf(own))
	b, iv := p.encrypt(doi.ExchangeMain, 0, p.neg.iv, e.authPayloads(p, own, hash))
	p.neg.iv = iv
	p.neg.sending.accepted(d)
	e.send(&p.neg.sending, b, p.local, p.remote, false)
	initial := isInitialContact(m)
	e.complete(p, p.neg.sending)
	if initial {
		e.initialContact(p)
	}
	return nil
}

// main6 authenticates the responder.
func (e *Engine) main6(p *phase1, d Datagram, m *isakmp.Message, next []byte) *rejection {
	id, rej := p.authenticate(m, &mainMessage[6], func(body []byte) []byte {
		return p.keys.HashR(p.neg.gxr, p.neg.gxi, p.rcky, p.icky, p.neg.saBody, body)
	})
	if rej != nil {
		if rej.kill { // the responder believes that all is well: tell it, under the keys that it proved to have
			p.lastBlock = next
			e.inform(p, notifyPayload(rej.notify), deletePayload(p))
			rej.notify = 0
		}
		return rej
	}
	e.authentic(p, d, m, id, next)
	e.used(p, len(d.Data))
	// Nothing answers message 6: a copy of it is dropped in silence.
	done := sending{}
	done.accepted(d)
	initial := isInitialContact(m)
	e.complete(p, done)
	if initial {
		e.initialContact(p)
	}
	return nil
}

// authenticate checks the peer's hash, then who it says it is.
func (p *phase1) authenticate(m *isakmp.Message, s *shape, want func(idBody []byte) []byte) (*isakmp.ID, *rejection) {
	id, at, _ := payload[*isakmp.ID](m)
	h, _, _ := payload[*isakmp.Hash](m)
	if subtle.ConstantTimeCompare(h.Data, want(m.Body(at))) != 1 {
		rej := wrongKey(s, fmt.Errorf("its hash does not match"))
		rej.notify = doi.NotifyAuthenticationFailed
		rej.failed.Reason = s.name + " does not authenticate: its hash does not match"
		return nil, rej
	}
	if err := id.Check(); err != nil {
		return nil, kill(FaultMisbehaved, doi.NotifyInvalidIDInformation, fmt.Sprintf("%s: the peer's ID: %v", s.name, err))
	}
	// RFC 2407 section 4.6.2 wants UDP and 500 or nothing; behind NAT other
	// ports are seen (RFC 3947 section 4).
	if id.Protocol != 0 && id.Protocol != 17 {
		return nil, kill(FaultMisbehaved, doi.NotifyInvalidIDInformation, fmt.Sprintf("%s: the peer's ID is for protocol %d", s.name, id.Protocol))
	}
	if w := p.peer.RemoteID; w != nil && (w.Type != id.Type || !bytes.Equal(w.Data, id.Data)) {
		rej := kill(FaultIncompatible, doi.NotifyInvalidIDInformation, fmt.Sprintf("the peer's ID is %s, expected %s", id, w))
		rej.failed = &Failed{Reason: rej.reason, Hint: "Remote-ID= of this peer names another identity than the one the peer sends"}
		return nil, rej
	}
	return id, nil
}

// authentic commits what the first authenticated message tells.
func (e *Engine) authentic(p *phase1, d Datagram, m *isakmp.Message, id *isakmp.ID, next []byte) {
	p.neg.iv = next
	p.credentials = credentials(m)
	p.remoteID, p.ids.RemoteID = id.String(), id.Bare()
	p.idProto, p.idPort = id.Protocol, id.Port
	p.idBody = bytes.Clone(isakmp.BodyOf(&isakmp.ID{Type: id.Type, Data: id.Data}))
	p.remote, p.local = d.Remote, d.Local
}

func hasVendor(m *isakmp.Message, id []byte) bool {
	for _, v := range payloads[*isakmp.Vendor](m) {
		if bytes.Equal(v.Data, id) {
			return true
		}
	}
	return false
}
