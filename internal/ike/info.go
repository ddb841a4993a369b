package ike

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// Informational exchanges (RFC 2409 section 5.7): one message, protected by a
// hash, never answered and never repeated.

// inform sends payloads under an established SA.
func (e *Engine) inform(p *phase1, ps ...isakmp.Payload) {
	if p.dead || p.lastBlock == nil || len(ps) == 0 {
		return
	}
	id := e.messageID(p)
	p.seen.add(id)
	all := append([]isakmp.Payload{nil}, ps...)
	all[0] = &isakmp.Hash{Data: p.keys.Hash1(id, isakmp.AppendPayloads(nil, ps))}
	b, _ := p.encrypt(doi.ExchangeInformational, id, p.keys.Phase2IV(p.lastBlock, id), all)
	e.emit(Transmit{Local: p.local, Remote: p.remote, Data: b})
}

func notifyPayload(n doi.Notify) isakmp.Payload {
	return &isakmp.Notify{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, Type: n}
}

func deletePayload(p *phase1) isakmp.Payload {
	return &isakmp.Delete{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, SPISize: 16, SPIs: [][]byte{slices.Concat(p.icky[:], p.rcky[:])}}
}

func deleteSPI(id ipsec.SAID) isakmp.Payload {
	var spi [4]byte
	binary.BigEndian.PutUint32(spi[:], uint32(id.SPI))
	d := &isakmp.Delete{DOI: doi.IPsec}
	for wire, p := range ipProtos {
		if p == id.Proto {
			d.Protocol = wire
		}
	}
	w := wireSPI(d.Protocol, spi)
	d.SPISize, d.SPIs = uint8(len(w)), [][]byte{w}
	return d
}

// tellDeleted says that we no longer listen on a child's SAs (RFC 2408 section
// 5.15: the SPIs are the sender's own).
func (e *Engine) tellDeleted(c *child) {
	p := e.phase1Of(c)
	if p == nil {
		return
	}
	var ps []isakmp.Payload
	for _, id := range c.in {
		ps = append(ps, deleteSPI(id))
	}
	e.inform(p, ps...)
}

// phase1Of finds an ISAKMP SA with a child's peer.
func (e *Engine) phase1Of(c *child) *phase1 { return e.anySA(c.peer, c.idBody) }

// anySA finds the best ISAKMP SA with a peer to say something under; nil: there
// is none.
func (e *Engine) anySA(peer *Peer, idBody []byte) *phase1 {
	var best *phase1
	for _, p := range e.up[upKey{peer, string(idBody)}] {
		switch {
		case best == nil,
			!best.confirmed() && p.confirmed(),
			best.confirmed() == p.confirmed() && best.superseded && !p.superseded,
			best.confirmed() == p.confirmed() && best.superseded == p.superseded && p.established.After(best.established):
			best = p
		}
	}
	return best
}

// infoDatagram takes an informational message. In clear it is somebody's claim
// and changes nothing (attack C1).
func (e *Engine) infoDatagram(d Datagram, h isakmp.Header) {
	if h.Flags&isakmp.FlagEncrypted == 0 {
		e.hint(d, h)
		return
	}
	p := e.established(d, h)
	if p == nil {
		return
	}
	switch {
	case p.seen.has(h.MessageID), p.quicks[h.MessageID] != nil:
		e.drop(d, p, FaultStale, "an informational message whose message ID was used before")
		return
	case p.seen.full():
		e.drop(d, p, FaultLimit, "too many exchanges under one ISAKMP SA")
		return
	}
	m, _, rej := p.open(d, h, p.keys.Phase2IV(p.lastBlock, h.MessageID), &infoMessage, func(m *isakmp.Message) []byte {
		return p.keys.Hash1(h.MessageID, m.After(0))
	})
	if rej != nil {
		// No answer to an informational message, whatever it is (attack D3).
		e.drop(d, p, rej.fault, rej.reason)
		return
	}
	p.seen.add(h.MessageID)
	e.follow(p, d)
	e.used(p, len(d.Data))
	for _, pl := range m.Payloads {
		if p.dead {
			return
		}
		switch pl := pl.(type) {
		case *isakmp.Notify:
			e.notified(p, pl)
		case *isakmp.Delete:
			e.deleted(p, pl)
		}
	}
}

// hint keeps, for people, what a peer seems to say about an exchange that is
// under way. It is no part of the state.
func (e *Engine) hint(d Datagram, h isakmp.Header) {
	p := e.sas[cookiePair{h.Initiator, h.Responder}]
	if p == nil {
		p = e.byCookie[h.Initiator]
	}
	if p == nil {
		e.drop(d, nil, FaultStale, "an informational message in clear about nothing that we know")
		return
	}
	if p.neg == nil || d.Remote.Addr() != p.remote.Addr() {
		e.drop(d, p, FaultUnauthentic, "an informational message in clear; it changes nothing")
		return
	}
	m, err := isakmp.Parse(d.Data)
	if err != nil {
		e.drop(d, p, FaultMalformed, err.Error())
		return
	}
	n, _, ok := payload[*isakmp.Notify](m)
	if !ok || !n.Type.IsError() {
		e.drop(d, p, FaultUnauthentic, "an informational message in clear; it changes nothing")
		return
	}
	e.drop(d, p, FaultUnauthentic, fmt.Sprintf("%s in clear; it changes nothing", n.Type))
	if p.neg.hint != "" {
		return
	}
	p.neg.hint = n.Type.String()
	text := fmt.Sprintf("the peer seems to refuse our main mode with %s while we %s (not authenticated, so we go on trying)", n.Type, p.neg.state)
	if n.Type == doi.NotifyNoProposalChosen {
		text += "; we offered"
		for _, l := range describePhase1(p.peer) {
			text += "\n  " + l
		}
	}
	if why := refusalHint(n.Type, p); why != "" {
		p.neg.hint += ": " + why
		text += "\n  hint: " + why
	}
	e.emit(Notice{Peer: p.peer.Name, Remote: d.Remote, Text: text})
}

// refusalHint says what a notification in phase 1 usually means.
func refusalHint(n doi.Notify, p *phase1) string {
	switch n {
	case doi.NotifyNoProposalChosen:
		return "the peer's log says what it would accept; or it does not know our address"
	case doi.NotifyPayloadMalformed, doi.NotifyAuthenticationFailed, doi.NotifyInvalidHashInformation:
		if p.neg.state == awaitAuth6 {
			return "the pre-shared keys of the two sides differ"
		}
	case doi.NotifyInvalidIDInformation:
		return "the peer expects another identity than ours: compare ID= here with its Remote-ID"
	}
	return ""
}

// notified takes an authentic notification.
func (e *Engine) notified(p *phase1, n *isakmp.Notify) {
	switch {
	case n.Type == doi.NotifyInitialContact:
		e.initialContact(p)
	case n.Type == doi.NotifyResponderLifetime:
		e.responderLifetime(p, n)
	case n.Type.IsError():
		e.refused(p, n)
	}
}

// refused: the peer answers a quick mode of ours with an error. Peers rarely
// say which one they mean; when one alone is waiting it is that one.
func (e *Engine) refused(p *phase1, n *isakmp.Notify) {
	var waiting []*quick
	for _, q := range sortedQuicks(p) {
		if q.role == Initiator && q.state == awaitQuick2 {
			waiting = append(waiting, q)
		}
	}
	if len(waiting) > 1 {
		named := slices.DeleteFunc(slices.Clone(waiting), func(q *quick) bool { return !q.named(n.SPI) })
		if len(named) == 1 {
			waiting = named
		}
	}
	if len(waiting) != 1 {
		e.emit(Notice{Peer: p.peer.Name, Remote: p.remote, Text: fmt.Sprintf("the peer reports %s", n.Type)})
		return
	}
	q := waiting[0]
	f := &Failed{Reason: fmt.Sprintf("the peer refuses with %s", n.Type), Ours: describeSA(q.offer)}
	switch n.Type {
	case doi.NotifyNoProposalChosen:
		f.Differs = "the peer does not say: one of protocol, cipher, key length, authentication, PFS group, encapsulation or lifetime, or its policy is against them all; its log does"
		f.Hint = "make the two sides' phase 2 suites share one line (Configuration= and Suites= of the connection here)"
	case doi.NotifyInvalidIDInformation:
		f.Differs = fmt.Sprintf("the networks: ours %s, the peer's %s", q.local, q.remote)
		f.Hint = "the peer has no connection that joins these networks: compare Local-ID and Remote-ID with its settings"
	}
	e.failQuick(q, f)
}

// named tells whether a notification's SPI is one that the quick mode offered.
func (q *quick) named(spi []byte) bool {
	for _, s := range q.spis {
		if slices.Equal(s[:], spi) {
			return true
		}
	}
	return false
}

// responderLifetime shortens the ISAKMP SA (RFC 2407 section 4.6.3.1).
func (e *Engine) responderLifetime(p *phase1, n *isakmp.Notify) {
	if n.Protocol != doi.ProtoISAKMP {
		return
	}
	for _, l := range n.Lives() {
		if l.Type != doi.LifeSeconds || l.Value == 0 || l.Value >= p.chosen.seconds {
			continue
		}
		p.chosen.seconds = l.Value
		life := (&lifetimes{seconds: l.Value, haveSec: true}).duration()
		p.expireAt = p.established.Add(life)
		if !p.superseded {
			p.rekeyAt = p.established.Add(e.rekeyAfter(life, p.role))
		}
	}
	p.schedule(e)
}

// deleted: the peer no longer listens on SAs of its own. Naming one twice, or
// one that is not there, is nothing (attack B3).
func (e *Engine) deleted(p *phase1, d *isakmp.Delete) {
	if d.Protocol == doi.ProtoISAKMP {
		for _, spi := range d.SPIs {
			if len(spi) != 16 {
				continue
			}
			q := e.sas[cookiePair{isakmp.Cookie(spi[:8]), isakmp.Cookie(spi[8:])}]
			if q != nil && q.neg == nil && !q.dead && q.samePeer(p) {
				e.dropPhase1(q, "the peer deleted it")
			}
		}
		return
	}
	proto, ok := ipProtos[d.Protocol]
	if !ok || d.SPISize > 4 {
		return
	}
	for _, s := range d.SPIs {
		var spi [4]byte
		copy(spi[4-len(s):], s)
		c := e.childOf(p, proto, ipsec.SPI(binary.BigEndian.Uint32(spi[:])))
		if c == nil {
			e.refusedBy(p, d.Protocol, spi)
			continue
		}
		e.retireChild(c, "the peer deleted them", false)
		e.promote(c.cs)
		// What was to replace them has lost its reason, too.
		if q := c.cs.busy; q != nil && q.replaces == c && !c.cs.due() && c.cs.current() == nil {
			if q.state == awaitQuick2 {
				e.withdraw(q)
			}
			e.endQuick(q)
		}
	}
}

// refusedBy ends a quick mode whose other side takes its SA back instead of going
// on.
func (e *Engine) refusedBy(p *phase1, proto doi.Protocol, spi [4]byte) {
	for _, q := range sortedQuicks(p) {
		if q.state != quickDone && q.peerHas(proto, spi) {
			q.withdrawn = true
			e.failQuick(q, &Failed{Reason: "the peer took its SA back before it was agreed on", Hint: "the peer could not install its SAs, or the connection was ended there: its log says why"})
		}
	}
}

// peerHas tells whether an SPI is one that the peer offered or chose.
func (q *quick) peerHas(proto doi.Protocol, spi [4]byte) bool {
	cands := q.candidates
	if q.chosen != nil {
		cands = []candidate{*q.chosen}
	}
	return slices.ContainsFunc(cands, func(c candidate) bool {
		return slices.ContainsFunc(c.sas, func(s chosenSA) bool { return s.proto == proto && s.spi == spi })
	})
}

// promote lets an older child carry on when its successor is gone, or has a new
// one made when none is left.
func (e *Engine) promote(cs *connState) {
	if cs.current() != nil {
		return
	}
	for i := len(cs.children) - 1; i >= 0; i-- {
		if c := cs.children[i]; !c.deaf {
			c.superseded, c.deleteAt, c.rekeyAt = false, time.Time{}, e.now.Add(e.cfg.RetransmitAfter)
			c.schedule(e)
			return
		}
	}
	e.lostChild(cs)
}

// isInitialContact tells whether message 5 or 6 says that the peer knows of no
// SA with us (RFC 2407 section 4.6.3.3).
func isInitialContact(m *isakmp.Message) bool {
	return slices.ContainsFunc(payloads[*isakmp.Notify](m), func(n *isakmp.Notify) bool { return n.Type == doi.NotifyInitialContact })
}

// initialContact removes what was there with the same peer before this SA was
// begun. What was made since is the peer's too: both sides may start at once.
func (e *Engine) initialContact(p *phase1) {
	for _, cs := range slices.Clone(e.connsOf[p.peer]) {
		for _, c := range slices.Clone(cs.children) {
			if slices.Equal(c.idBody, p.idBody) && c.remote.Addr() == p.remote.Addr() && c.born.Before(p.created) {
				e.endChild(c, "the peer was restarted (INITIAL-CONTACT)", false)
			}
		}
	}
	for _, q := range slices.Clone(e.up[upKey{p.peer, string(p.idBody)}]) {
		if q != p && q.samePeer(p) && q.established.Before(p.created) {
			e.dropPhase1(q, "the peer was restarted (INITIAL-CONTACT)")
		}
	}
}

// isFirstContact tells whether we know of nothing else with a peer, so that
// INITIAL-CONTACT is true.
func (e *Engine) isFirstContact(p *phase1) bool {
	for _, cs := range e.connsOf[p.peer] {
		if len(cs.children) > 0 {
			return false
		}
	}
	for _, q := range e.up[upKey{p.peer, ""}] {
		if q.remote.Addr() == p.remote.Addr() {
			return false
		}
	}
	return true
}
