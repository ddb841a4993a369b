package ike

import (
	"bytes"
	"fmt"
	"slices"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// quick1 takes the first message as responder.
func (e *Engine) quick1(p *phase1, d Datagram, h isakmp.Header) (rej *rejection) {
	if p.seen.full() {
		return drop(FaultLimit, "too many exchanges under one ISAKMP SA")
	}
	if e.responding(p) >= e.cfg.MaxQuickPerPeer {
		return drop(FaultLimit, fmt.Sprintf("%d quick modes of this peer are under way", e.cfg.MaxQuickPerPeer))
	}
	m, next, rej := p.open(d, h, p.keys.Phase2IV(p.lastBlock, h.MessageID), &quickMessage[1], func(m *isakmp.Message) []byte {
		return p.keys.Hash1(h.MessageID, m.After(0))
	})
	if rej != nil {
		if rej.kill {
			p.seen.add(h.MessageID)
		}
		return rej
	}
	// Authentic and fresh: from here on the message ID is used up.
	p.seen.add(h.MessageID)
	e.follow(p, d)
	e.used(p, len(d.Data))
	nonce, _, _ := payload[*isakmp.Nonce](m)
	sa, _, _ := payload[*isakmp.SA](m)
	if rej := checkNonce(nonce.Data, &quickMessage[1]); rej != nil {
		return rej
	}
	q := &quick{
		p: p, role: Responder, id: h.MessageID, state: awaitPolicy, created: e.now, giveUpAt: e.now.Add(e.cfg.ExchangeMaxTime),
		iv: next, ni: bytes.Clone(nonce.Data), spis: map[doi.Protocol][4]byte{},
	}
	q.takeOriginals(m)
	if rej := e.takeIDs(q, m, sa); rej != nil {
		rej.failed.Theirs = describeSA(sa)
		return rej
	}
	defer func() {
		if rej != nil {
			e.dropIdle(q.cs)
		}
	}()
	cands, differs := candidates(q.cs.conn, sa, q.terms())
	if len(cands) == 0 {
		rej := kill(FaultIncompatible, doi.NotifyNoProposalChosen, "no proposal of the peer's is one of ours")
		rej.failed = &Failed{
			Conn: q.cs.conn.Name, Reason: rej.reason, Ours: describeSuites(q.cs.conn, p.nat()), Theirs: describeSA(sa), Differs: differs,
			Hint: q.cs.suitesHint(),
		}
		return rej
	}
	cands, rej = q.takeKE(m, cands)
	if rej != nil {
		return rej
	}
	q.candidates = cloneCandidates(cands)
	q.sending.accepted(d)
	e.addQuick(q)
	e.giveWay(q.cs)
	query := e.query(q)
	for i := range q.candidates {
		query.Proposals = append(query.Proposals, q.candidates[i].proposal())
	}
	query.ID = q.await(e, func(in Input) { e.policyAnswered(q, in.(PolicyAnswer)) })
	e.emit(query)
	q.schedule(e)
	return nil
}

func checkNonce(n []byte, s *shape) *rejection {
	if len(n) < 8 || len(n) > 256 {
		return kill(FaultMisbehaved, doi.NotifyPayloadMalformed, fmt.Sprintf("%s: a nonce of %d bytes; RFC 2409 section 5 wants 8 to 256", s.name, len(n)))
	}
	return nil
}

// cloneCandidates takes what outlives the datagram out of it.
func cloneCandidates(cs []candidate) []candidate {
	for i := range cs {
		for j := range cs[i].sas {
			t := &cs[i].sas[j].transform
			t.Attributes = slices.Clone(t.Attributes)
			for k := range t.Attributes {
				t.Attributes[k].Value = bytes.Clone(t.Attributes[k].Value)
			}
		}
	}
	return cs
}

// takeKE holds the KE payload against the group that the proposals ask for, and
// leaves those that it serves: one group for all that can be chosen (RFC 2409
// section 5.5).
func (q *quick) takeKE(m *isakmp.Message, cands []candidate) ([]candidate, *rejection) {
	ke, _, have := payload[*isakmp.KE](m)
	group := cands[0].group()
	if i := slices.IndexFunc(cands, func(c candidate) bool { return (c.group() != 0) == have }); i >= 0 {
		group = cands[i].group()
	}
	if have != (group != 0) {
		return nil, kill(FaultMisbehaved, doi.NotifyInvalidKeyInformation, fmt.Sprintf("the proposal asks for %s, and a KE payload is %s", groupName(group), thereOrNot(have)))
	}
	cands = slices.DeleteFunc(cands, func(c candidate) bool { return c.group() != group })
	if !have {
		return cands, nil
	}
	g, err := dh.Lookup(group)
	if err == nil {
		err = g.Check(ke.Data)
	}
	if err != nil {
		return nil, kill(FaultMisbehaved, doi.NotifyInvalidKeyInformation, "the KE payload: "+err.Error())
	}
	q.group, q.gx = g, bytes.Clone(ke.Data)
	return cands, nil
}

func thereOrNot(b bool) string {
	if b {
		return "there"
	}
	return "missing"
}

// takeIDs finds the connection that the peer's identities mean.
func (e *Engine) takeIDs(q *quick, m *isakmp.Message, sa *isakmp.SA) *rejection {
	p := q.p
	ids := payloads[*isakmp.ID](m)
	remote, local := Net{}.at(p.remote.Addr()), Net{}.at(p.local.Addr())
	switch len(ids) {
	case 0: // the tunnel's ends themselves (RFC 2409 section 5.5)
	case 2:
		var rej *rejection
		if remote, rej = netOf(ids[0]); rej != nil {
			return rej
		}
		if local, rej = netOf(ids[1]); rej != nil {
			return rej
		}
		q.idci, q.idcr = cloneID(ids[0]), cloneID(ids[1])
	default:
		return invalidID("quick mode has one identity; there are to be two, or none")
	}
	q.remote, q.local = remote, local
	q.cs = e.connFor(p, local, remote)
	if q.cs == nil && p.nat() && offersTransport(sa) {
		if l, r := q.seen(local, remote); l != local || r != remote {
			if q.cs = e.connFor(p, l, r); q.cs != nil {
				q.local, q.remote, q.translated = l, r, true
				q.guessOriginals(remote, local)
			}
		}
	}
	if q.cs == nil {
		rej := invalidID(fmt.Sprintf("no connection with this peer joins our %s and its %s", local, remote))
		rej.failed.Ours = e.describeNets(p.peer)
		rej.failed.Differs = e.closestNets(p.peer, local, remote)
		rej.failed.Hint = "compare Local-ID and Remote-ID of the connections here with the networks that the peer asks for"
		return rej
	}
	return nil
}

func invalidID(reason string) *rejection {
	rej := kill(FaultIncompatible, doi.NotifyInvalidIDInformation, reason)
	rej.failed = &Failed{Reason: reason}
	return rej
}

func netOf(id *isakmp.ID) (Net, *rejection) {
	if err := id.Check(); err != nil {
		return Net{}, invalidID("an identity of quick mode: " + err.Error())
	}
	// Names say nothing about packets (attack B2).
	p, ok := id.Prefix()
	if !ok {
		return Net{}, invalidID(fmt.Sprintf("the identity %s is no address or network", id))
	}
	n := Net{Prefix: p, Proto: id.Protocol, Port: id.Port}
	switch id.Type {
	case doi.IDIPv4Addr, doi.IDIPv6Addr:
		n.Addr = true
	case doi.IDIPv4Range, doi.IDIPv6Range:
		n.Range = true
	}
	return n, nil
}

func cloneID(id *isakmp.ID) *isakmp.ID {
	c := *id
	c.Data = bytes.Clone(id.Data)
	return &c
}

// policyAnswered takes the first candidate that the policy allows.
func (e *Engine) policyAnswered(q *quick, a PolicyAnswer) {
	q.pending--
	q.requests = q.requests[:0]
	if a.Err == nil && len(a.Allow) == len(q.candidates) {
		if i := slices.Index(a.Allow, true); i >= 0 {
			q.chosen = &q.candidates[i]
			q.candidates = nil
		}
	}
	if q.chosen == nil {
		e.inform(q.p, notifyPayload(doi.NotifyNoProposalChosen))
		e.failQuick(q, &Failed{Reason: "the policy refuses: " + policyReason(a), Ours: describeSuites(q.cs.conn, q.p.nat())})
		return
	}
	q.state = awaitQuickMeansR
	for i := range q.chosen.sas {
		e.askQuickSPI(q, q.chosen.sas[i].proto)
	}
	if q.group != nil {
		e.askQuickDH(q, q.group.ID(), q.gx)
	}
	q.schedule(e)
}

// installIncoming makes our incoming SAs live before the peer hears of them.
func (e *Engine) installIncoming(q *quick) {
	q.nr = make([]byte, nonceLen)
	e.random(q.nr)
	q.makeSAs(e)
	q.state = awaitInstallIn
	e.install(q, q.in, func() {
		q.installedIn = true
		e.quick2Send(q)
	})
}

// install asks the data plane for SAs; a failure ends the exchange on both
// sides.
func (e *Engine) install(q *quick, sas []*ipsec.SA, done func()) {
	id := e.ask(func(in Input) {
		q.requests = q.requests[:0]
		if err := in.(SAInstalled).Err; err != nil {
			e.inform(q.p, notifyPayload(doi.NotifyNoProposalChosen))
			e.failQuick(q, &Failed{Reason: "the data plane did not take the SAs: " + err.Error()})
			return
		}
		q.cs.hasFlows = q.cs.dynamic
		done()
		q.schedule(e)
	})
	q.requests = append(q.requests, id)
	e.emit(InstallSA{ID: id, Flows: q.cs.flows(q), SAs: sas})
}

func (e *Engine) quick2Send(q *quick) {
	p := q.p
	ps := []isakmp.Payload{nil, q.replySA(), &isakmp.Nonce{Data: q.nr}}
	if q.group != nil {
		ps = append(ps, &isakmp.KE{Data: q.gx})
	}
	if q.idci != nil {
		ps = append(ps, q.idci, q.idcr)
	}
	if first := &q.chosen.sas[0]; first.offer.udp && q.chosen.mode == ipsec.Transport {
		ps = append(ps, q.originals()...)
	}
	ps[0] = &isakmp.Hash{Data: p.keys.Hash2(q.id, q.ni, isakmp.AppendPayloads(nil, ps[1:]))}
	b, next := p.encrypt(doi.ExchangeQuick, q.id, q.iv, ps)
	q.iv = next
	q.state = awaitQuick3
	e.send(&q.sending, b, p.local, p.remote, true)
}

// replySA echoes the chosen proposal, in the peer's order, with our SPIs.
func (q *quick) replySA() *isakmp.SA {
	sa := &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly}
	for _, proto := range q.chosen.listed {
		sa.Proposals = append(sa.Proposals, isakmp.Proposal{
			Number: q.chosen.number, Protocol: proto, SPI: wireSPI(proto, q.spis[proto]), Transforms: []isakmp.Transform{q.chosen.sa(proto).transform},
		})
	}
	return sa
}

// quick3 is the initiator's word that it is listening.
func (e *Engine) quick3(q *quick, d Datagram, h isakmp.Header) *rejection {
	p := q.p
	_, _, rej := p.open(d, h, q.iv, &quickMessage[3], func(*isakmp.Message) []byte { return p.keys.Hash3(q.id, q.ni, q.nr) })
	if rej != nil {
		return rej
	}
	e.follow(p, d)
	e.used(p, len(d.Data))
	q.sending.accepted(d)
	q.sending.last = nil
	q.state = awaitInstallOut
	e.install(q, q.out, func() {
		q.installedOut = true
		e.finishQuick(q)
	})
	q.schedule(e)
	return nil
}
