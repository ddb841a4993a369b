package ike

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// What is offered under one number belongs together (RFC 2408 section 4.2): the
// protocols are applied to the same packet, in one order whatever order they are
// listed in: IPComp, then ESP, then AH (RFC 2401 section 4.3, RFC 3173 section
// 2). In tunnel mode the innermost of them makes the tunnel and the others are
// transport adjacency around it.

// inwardsOut are the protocols in the order in which they are applied.
var inwardsOut = [...]doi.Protocol{doi.ProtoIPComp, doi.ProtoESP, doi.ProtoAH}

// terms are what the ISAKMP SA and the two ends of the traffic allow, whatever
// the suites say.
type terms struct {
	udp       bool // NAT was found: ESP goes in UDP, and AH not at all
	private   bool // the peer is one of ours and knows our private numbers
	tunnel    bool // tunnel mode makes sense
	transport bool // the traffic is between the tunnel's ends themselves
}

// terms of a quick mode whose ends are known.
func (q *quick) terms() terms {
	p := q.p
	return terms{
		udp: p.nat(), private: p.kin, tunnel: !q.translated,
		transport: q.local.isHost(p.local.Addr()) && q.remote.isHost(p.remote.Addr()),
	}
}

// protocol finds one of a suite's protocols.
func (s *Suite) protocol(p doi.Protocol) *Protocol {
	for i := range s.Protocols {
		if s.Protocols[i].Proto == p {
			return &s.Protocols[i]
		}
	}
	return nil
}

// mode is a bundle's: tunnel if any of its transforms says so.
func (s *Suite) mode() ipsec.Mode {
	for i := range s.Protocols {
		for j := range s.Protocols[i].Transforms {
			if s.Protocols[i].Transforms[j].Mode == ipsec.Tunnel {
				return ipsec.Tunnel
			}
		}
	}
	return ipsec.Transport
}

func (s *Suite) private() bool {
	return slices.ContainsFunc(s.Protocols, func(p Protocol) bool {
		return slices.ContainsFunc(p.Transforms, func(t Phase2Transform) bool { return private(p.Proto, t.ID) })
	})
}

// usable are the transforms that mean something to the peer.
func (p *Protocol) usable(t terms) []Phase2Transform {
	if t.private {
		return p.Transforms
	}
	return slices.DeleteFunc(slices.Clone(p.Transforms), func(x Phase2Transform) bool { return private(p.Proto, x.ID) })
}

// unfit says why a suite of ours can neither be offered nor accepted here;
// empty: it can.
func (s *Suite) unfit(t terms) string {
	switch {
	case t.udp && s.protocol(doi.ProtoAH) != nil:
		return "suite " + s.Name + " has AH, which does not survive the address translation that was found"
	case s.mode() == ipsec.Transport && !t.transport:
		return "suite " + s.Name + " is in transport mode, which joins only the tunnel's ends themselves, and other addresses are to be joined"
	case s.mode() == ipsec.Tunnel && !t.tunnel:
		return "suite " + s.Name + " is in tunnel mode, and the peer names an address from before translation, which only transport mode can mean"
	case slices.ContainsFunc(s.Protocols, func(p Protocol) bool { return len(p.usable(t)) == 0 }):
		return "suite " + s.Name + " has no transform with a registered number, and the peer has not said that it is of our kind"
	}
	return ""
}

func (s *Suite) protocolNames() string {
	var l []string
	for _, p := range inwardsOut {
		if s.protocol(p) != nil {
			l = append(l, p.String())
		}
	}
	return strings.Join(l, " with ")
}

func offeredNames(g []*isakmp.Proposal) string {
	var l []string
	for _, p := range g {
		l = append(l, p.Protocol.String())
	}
	return strings.Join(l, " with ")
}

// candidate is one way to agree: a proposal of the peer's, all of its
// protocols, each with one transform.
type candidate struct {
	number uint8
	sas    []chosenSA     // in the order in which they are applied
	listed []doi.Protocol // in the peer's order
	mode   ipsec.Mode
}

// group is the group of perfect forward secrecy, 0 for none.
func (c *candidate) group() doi.Group {
	for i := range c.sas {
		if g := c.sas[i].offer.group; g != 0 {
			return g
		}
	}
	return 0
}

// sa finds the SA of one protocol.
func (c *candidate) sa(p doi.Protocol) *chosenSA {
	i := slices.IndexFunc(c.sas, func(s chosenSA) bool { return s.proto == p })
	return &c.sas[i]
}

// life is that of the bundle: it ends with the first of its SAs.
func (c *candidate) life() lifetimes {
	l := c.sas[0].offer.life
	for i := range c.sas[1:] {
		o := &c.sas[i+1].offer.life
		if o.haveSec && (!l.haveSec || o.seconds < l.seconds) {
			l.seconds, l.haveSec = o.seconds, true
		}
		if o.haveKB && (!l.haveKB || o.kilobytes < l.kilobytes) {
			l.kilobytes, l.haveKB = o.kilobytes, true
		}
	}
	return l
}

func (c *candidate) String() string {
	var l []string
	for i := range c.sas {
		l = append(l, c.sas[i].String())
	}
	return strings.Join(l, " + ")
}

// maxCandidates bounds what the policy is asked about one message.
const maxCandidates = 64

// candidates lists, by our order, what both sides accept. differs is about the
// closest pair when there is none.
func candidates(conn *Connection, sa *isakmp.SA, t terms) (all []candidate, differs string) {
	groups := groupProposals(sa)
	var closest []difference
	for i := range conn.Suites {
		for _, g := range groups {
			cs, ds := matchSuite(&conn.Suites[i], g, t)
			all = append(all, cs...)
			if len(ds) > 0 && (closest == nil || len(ds) < len(closest)) {
				closest = ds
			}
		}
	}
	return all[:min(len(all), maxCandidates)], joinDifferences(closest)
}

// groupProposals puts together what has the same number (RFC 2408 section 4.2).
func groupProposals(sa *isakmp.SA) [][]*isakmp.Proposal {
	var gs [][]*isakmp.Proposal
	for i := range sa.Proposals {
		p := &sa.Proposals[i]
		if n := len(gs); n > 0 && gs[n-1][0].Number == p.Number {
			gs[n-1] = append(gs[n-1], p)
			continue
		}
		gs = append(gs, []*isakmp.Proposal{p})
	}
	return gs
}

// listedAs finds one protocol in a numbered offer. An offer of the same
// protocol twice, or of one that is none of ours, has no match.
func listedAs(g []*isakmp.Proposal, p doi.Protocol) (found *isakmp.Proposal, twice bool) {
	for _, o := range g {
		if o.Protocol == p {
			found, twice = o, found != nil
		}
	}
	return found, twice
}

// matchSuite holds one numbered offer of the peer's against one suite, and lists
// what both accept of it, by our order; the differences are those of the closest
// pair when that is nothing.
func matchSuite(s *Suite, g []*isakmp.Proposal, t terms) ([]candidate, []difference) {
	first := candidate{number: g[0].Number, mode: s.mode()}
	for _, p := range g {
		first.listed = append(first.listed, p.Protocol)
	}
	protocols := []difference{{"protocols", s.protocolNames(), offeredNames(g)}}
	if len(g) != len(s.Protocols) {
		return nil, protocols
	}
	unfit := s.unfit(t)
	withAH := s.protocol(doi.ProtoAH) != nil
	found := []candidate{first}
	for _, proto := range inwardsOut {
		ours := s.protocol(proto)
		theirs, twice := listedAs(g, proto)
		switch {
		case ours == nil && theirs == nil:
			continue
		case ours == nil || theirs == nil || twice:
			return nil, protocols
		case unfit != "":
			return nil, []difference{{attr: unfit}}
		}
		sas, ds := matchProtocol(ours, theirs, t, len(g) > 1, withAH)
		if len(sas) == 0 {
			return nil, ds
		}
		spi, err := peerSPI(theirs)
		if err != nil {
			return nil, []difference{{"SPI", "4 bytes from 256 up, a CPI from 256 to 61439", err.Error()}}
		}
		var longer []candidate
		for _, c := range found {
			for _, sa := range sas[:min(len(sas), maxCandidates-len(longer))] {
				sa.spi = spi
				more := c
				more.sas = append(slices.Clip(c.sas), sa)
				longer = append(longer, more)
			}
		}
		found = longer
	}
	var whole []candidate
	var closest []difference
	for _, c := range found {
		ds := c.misfit(t)
		if len(ds) == 0 {
			ds = c.settle()
		}
		if len(ds) == 0 {
			whole = append(whole, c)
		} else if closest == nil {
			closest = ds
		}
	}
	if len(whole) > 0 {
		return whole, nil
	}
	return nil, closest
}

// misfit is the difference between a bundle's mode and our suite's.
func (c *candidate) misfit(t terms) []difference {
	tunnel := slices.ContainsFunc(c.sas, func(sa chosenSA) bool { return sa.offer.mode == ipsec.Tunnel })
	if tunnel == (c.mode == ipsec.Tunnel) || len(c.sas) == 1 {
		return nil
	}
	return []difference{{"encapsulation", encapsulation(c.mode, t.udp).String(), encapsulation(c.sas[0].offer.mode, t.udp).String()}}
}

// settle sees to it that the protocols go together, and gives each its mode.
func (c *candidate) settle() []difference {
	group := c.group()
	for i := range c.sas {
		sa := &c.sas[i]
		switch {
		case sa.proto == doi.ProtoIPComp && len(c.sas) == 1:
			return []difference{{"protocols", "IPComp with ESP or AH", "IPComp alone, which protects nothing"}}
		case sa.proto == doi.ProtoIPComp:
			sa.offer.group = group
		case sa.offer.group != group:
			return []difference{{"PFS group", groupName(group), groupName(sa.offer.group)}}
		}
		if len(c.sas) > 1 {
			sa.offer.mode = ipsec.Transport
			if i == 0 {
				sa.offer.mode = c.mode
			}
		}
	}
	return nil
}

// matchProtocol lists the peer's transforms of one protocol that we accept, by our
// order.
func matchProtocol(ours *Protocol, theirs *isakmp.Proposal, t terms, bundle, withAH bool) (all []chosenSA, closest []difference) {
	for _, own := range ours.usable(t) {
		for j := range theirs.Transforms {
			ds := []difference(nil)
			o, err := parseTransform2(theirs.Protocol, &theirs.Transforms[j])
			if err == nil {
				if ds = own.differences(&o, t.udp, bundle); len(ds) == 0 {
					if !o.haveEnc {
						o.mode = own.Mode
					}
					o.udp = t.udp
					var c chosenSA
					if c, err = o.agree(withAH); err == nil {
						c.offered = own.Mode
						c.replay, c.transform = ours.Replay, theirs.Transforms[j]
						all = append(all, c)
						continue
					}
				}
			}
			if err != nil {
				ds = []difference{{"transform", own.Name, err.Error()}}
			}
			if closest == nil || len(ds) < len(closest) {
				closest = ds
			}
		}
	}
	return all[:min(len(all), maxCandidates)], closest
}

// peerSPI is the SPI that the peer chose. 0 to 255 are reserved (RFC 4303
// section 2.1). A CPI has two bytes, which may stand at the end of four; it is
// from the negotiated range, or the well-known one of the only transform (RFC
// 3173 sections 3.3 and 4.1).
func peerSPI(p *isakmp.Proposal) (spi [4]byte, err error) {
	switch {
	case len(p.SPI) == 4:
		copy(spi[:], p.SPI)
	case len(p.SPI) == 2 && p.Protocol == doi.ProtoIPComp:
		copy(spi[2:], p.SPI)
	default:
		return spi, fmt.Errorf("%d bytes", len(p.SPI))
	}
	v := binary.BigEndian.Uint32(spi[:])
	switch {
	case p.Protocol == doi.ProtoIPComp && len(p.Transforms) == 1 && v == uint32(p.Transforms[0].ID):
	case v < minSPI:
		return spi, fmt.Errorf("%d is reserved", v)
	case p.Protocol == doi.ProtoIPComp && v > maxCPI:
		return spi, fmt.Errorf("CPI %d is not in the negotiated range", v)
	}
	return spi, nil
}

const (
	minSPI = 256
	maxCPI = 61439
)

// proposal puts a candidate to the policy.
func (c *candidate) proposal() PolicyProposal {
	p := PolicyProposal{PFS: c.group()}
	for i := range c.sas {
		sa := &c.sas[i]
		p.Protocols = append(p.Protocols, PolicyProtocol{
			Proto: sa.proto, ID: sa.offer.id, Mode: sa.offered, Auth: sa.offer.auth, KeyBits: sa.keyLen * 8,
			Seconds: sa.offer.life.seconds, Kilobytes: sa.offer.life.kilobytes, UDP: sa.offer.udp, ESN: sa.offer.esn,
		})
	}
	return p
}

// ways are the ways in which the peer can choose from a suite of ours: one usable
// transform of each protocol.
func (s *Suite) ways(t terms) []Suite {
	ways := []Suite{{Name: s.Name}}
	for i := range s.Protocols {
		var longer []Suite
		for _, w := range ways {
			for _, x := range s.Protocols[i].usable(t) {
				p := s.Protocols[i]
				p.Transforms = []Phase2Transform{x}
				longer = append(longer, Suite{Name: s.Name, Protocols: append(slices.Clip(w.Protocols), p)})
			}
		}
		ways = longer[:min(len(longer), maxProposals)]
	}
	return ways
}

// permitted is what the policy leaves of a suite: the whole of it, or, each as an
// offer of its own, the ways that are allowed.
func permitted(s Suite, ways []Suite, allow []bool) (left []Suite) {
	for i := range ways {
		if allow[i] {
			left = append(left, ways[i])
		}
	}
	if len(left) == len(ways) && len(ways) < maxProposals {
		return []Suite{s}
	}
	return left
}

// suiteProposal puts one way of choosing from our own suites to the policy.
func suiteProposal(s *Suite, terms terms) PolicyProposal {
	var p PolicyProposal
	for _, proto := range inwardsOut {
		pr := s.protocol(proto)
		if pr == nil {
			continue
		}
		t := &pr.usable(terms)[0]
		p.PFS = max(p.PFS, t.Group)
		p.Protocols = append(p.Protocols, PolicyProtocol{
			Proto: proto, ID: t.ID, Mode: t.Mode, Auth: t.Auth, KeyBits: int(t.KeyLength.Offer),
			Seconds: t.Seconds.Offer, Kilobytes: t.Kilobytes.Offer, UDP: terms.udp, ESN: t.ESN,
		})
	}
	return p
}
