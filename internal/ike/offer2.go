package ike

import (
	"fmt"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// maxProposals is how many proposals can be numbered (RFC 2408 section 3.5).
const maxProposals = 255

// offerPhase2 is our SA payload: a proposal for each suite, with our SPI for each
// protocol.
func offerPhase2(suites []Suite, spis map[doi.Protocol][4]byte, t terms) *isakmp.SA {
	sa := &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly}
	for i := range suites[:min(len(suites), maxProposals)] {
		for _, proto := range inwardsOut {
			p := suites[i].protocol(proto)
			if p == nil {
				continue
			}
			w := isakmp.Proposal{Number: uint8(i + 1), Protocol: proto, SPI: wireSPI(proto, spis[proto])}
			for k, x := range p.usable(t) {
				w.Transforms = append(w.Transforms, x.wire(proto, uint8(k+1), t.udp))
			}
			sa.Proposals = append(sa.Proposals, w)
		}
	}
	return sa
}

// wireSPI is an SPI as proposals, deletes and KEYMAT have it: CPIs have two
// bytes (RFC 3173 section 4.1).
func wireSPI(p doi.Protocol, spi [4]byte) []byte {
	if p == doi.ProtoIPComp {
		return spi[2:]
	}
	return spi[:]
}

// offersTransport tells whether an SA payload asks for transport mode in UDP.
func offersTransport(sa *isakmp.SA) bool {
	for i := range sa.Proposals {
		p := &sa.Proposals[i]
		for j := range p.Transforms {
			if o, err := parseTransform2(p.Protocol, &p.Transforms[j]); err == nil && o.udp && o.mode == ipsec.Transport {
				return true
			}
		}
	}
	return false
}

// chosenPhase2 checks the responder's choice: one proposal, one transform a
// protocol, unchanged.
func chosenPhase2(conn *Connection, offer, sa *isakmp.SA, udp bool) (candidate, *rejection) {
	bad := func(reason string) (candidate, *rejection) {
		rej := dropNotify(FaultMisbehaved, doi.NotifyBadProposalSyntax, reason)
		rej.failed = &Failed{Reason: reason, Ours: describeSA(offer), Theirs: describeSA(sa), Hint: "the peer may not change what it chooses (RFC 2408 section 4.2): look at its version and settings"}
		return candidate{}, rej
	}
	groups := groupProposals(sa)
	if len(groups) != 1 {
		return bad(fmt.Sprintf("the answer has %d proposals, where one has to be chosen", len(groups)))
	}
	reply := groups[0]
	for _, ours := range groupProposals(offer) {
		c, ok := sameProposal(ours, reply)
		if !ok {
			continue
		}
		for i := range c.sas {
			c.sas[i].replay = replayOf(conn, c.sas[i].proto)
			if c.sas[i].offer.udp != udp {
				return bad("the peer chose an encapsulation that does not fit what was found about NAT")
			}
		}
		return c, nil
	}
	return bad("the peer chose what we did not offer")
}

func replayOf(conn *Connection, proto doi.Protocol) int {
	for i := range conn.Suites {
		if p := conn.Suites[i].protocol(proto); p != nil {
			return p.Replay
		}
	}
	return 0
}

// sameProposal finds each protocol's one transform of the reply in an offer of
// ours. Numbers and the order of the protocols are not compared: some peers count
// anew.
func sameProposal(ours, reply []*isakmp.Proposal) (c candidate, ok bool) {
	if len(ours) != len(reply) {
		return c, false
	}
	c = candidate{number: reply[0].Number, mode: ipsec.Transport}
	ah, _ := listedAs(ours, doi.ProtoAH)
	for _, own := range ours { // which is in the order of the bundle
		r, twice := listedAs(reply, own.Protocol)
		if r == nil || twice || len(r.Transforms) != 1 || !offeredAs(own, &r.Transforms[0]) {
			return c, false
		}
		o, err := parseTransform2(own.Protocol, &r.Transforms[0])
		if err != nil {
			return c, false
		}
		sa, err := o.agree(ah != nil)
		if err != nil {
			return c, false
		}
		if sa.spi, err = peerSPI(r); err != nil {
			return c, false
		}
		if o.mode == ipsec.Tunnel {
			c.mode = ipsec.Tunnel
		}
		sa.offered = o.mode
		c.sas = append(c.sas, sa)
	}
	return c, len(c.settle()) == 0
}

// offeredAs tells whether a transform of a reply is one of those offered.
func offeredAs(own *isakmp.Proposal, t *isakmp.Transform) bool {
	for j := range own.Transforms {
		if w := &own.Transforms[j]; w.ID == t.ID && sameAttributes(w.Attributes, t.Attributes) {
			return true
		}
	}
	return false
}

// describeSuites is our column of a failed quick mode.
func describeSuites(conn *Connection, udp bool) []string {
	return describeSA(offerPhase2(conn.Suites, nil, terms{udp: udp, private: true}))
}
