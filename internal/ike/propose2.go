package ike

import (
	"encoding/binary"
	"fmt"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// defaultSeconds is the lifetime of an IPsec SA when nobody names one
// (RFC 2407 section 4.5).
const defaultSeconds = 28800

// espCiphers and authAlgs lead from the numbers of the wire to what the data
// plane knows.
var espCiphers = map[doi.ESP]ipsec.Cipher{
	doi.ESPDES:         ipsec.CipherDES,
	doi.ESP3DES:        ipsec.Cipher3DES,
	doi.ESPCAST:        ipsec.CipherCAST,
	doi.ESPBlowfish:    ipsec.CipherBlowfish,
	doi.ESPNull:        ipsec.CipherNull,
	doi.ESPAES:         ipsec.CipherAESCBC,
	doi.ESPAESCTR:      ipsec.CipherAESCTR,
	doi.ESPAESGCM8:     ipsec.CipherAESGCM8,
	doi.ESPAESGCM12:    ipsec.CipherAESGCM12,
	doi.ESPAESGCM16:    ipsec.CipherAESGCM16,
	doi.ESPNullAESGMAC: ipsec.CipherAESGMAC,
}

var authAlgs = map[doi.AuthAlg]ipsec.Auth{
	0:                   ipsec.AuthNone,
	doi.AuthHMACMD5:     ipsec.AuthHMACMD5,
	doi.AuthHMACSHA1:    ipsec.AuthHMACSHA1,
	doi.AuthHMACSHA2256: ipsec.AuthHMACSHA256,
	doi.AuthHMACSHA2384: ipsec.AuthHMACSHA384,
	doi.AuthHMACSHA2512: ipsec.AuthHMACSHA512,
	doi.AuthHMACRIPEMD:  ipsec.AuthHMACRIPEMD160,
	doi.AuthAESXCBC:     ipsec.AuthAESXCBC,
}

var ahAuths = map[doi.AH]ipsec.Auth{
	doi.AHMD5: ipsec.AuthHMACMD5, doi.AHSHA1: ipsec.AuthHMACSHA1, doi.AHRIPEMD: ipsec.AuthHMACRIPEMD160,
	doi.AHSHA2256: ipsec.AuthHMACSHA256, doi.AHSHA2384: ipsec.AuthHMACSHA384, doi.AHSHA2512: ipsec.AuthHMACSHA512,
	doi.AHAESXCBC: ipsec.AuthAESXCBC,
}

var ipProtos = map[doi.Protocol]ipsec.Proto{
	doi.ProtoESP: ipsec.ProtoESP, doi.ProtoAH: ipsec.ProtoAH, doi.ProtoIPComp: ipsec.ProtoIPComp,
}

// saOffer is a phase 2 transform, understood: the peer's, or what ours puts on
// the wire.
type saOffer struct {
	proto   doi.Protocol
	id      uint8
	mode    ipsec.Mode
	haveEnc bool
	udp     bool
	auth    doi.AuthAlg
	keyBits int
	group   doi.Group
	esn     bool
	life    lifetimes
}

// parseTransform2 understands a phase 2 transform, its attributes in any order.
func parseTransform2(proto doi.Protocol, t *isakmp.Transform) (o saOffer, err error) {
	o.proto, o.id = proto, t.ID
	var seen [64]bool
	for _, a := range t.Attributes {
		v, ok := a.Uint()
		if !ok {
			return o, fmt.Errorf("attribute %s has no number", doi.SAAttr(a.Type))
		}
		life := doi.SAAttr(a.Type) == doi.SALifeType || doi.SAAttr(a.Type) == doi.SALifeDuration
		if int(a.Type) < len(seen) && !life {
			if seen[a.Type] {
				return o, fmt.Errorf("attribute %s comes twice", doi.SAAttr(a.Type))
			}
			seen[a.Type] = true
		}
		if v > 0xffff && doi.SAAttr(a.Type) != doi.SALifeDuration {
			return o, fmt.Errorf("attribute %s is %d", doi.SAAttr(a.Type), v)
		}
		switch doi.SAAttr(a.Type) {
		case doi.SALifeType:
			err = o.life.setType(v)
		case doi.SALifeDuration:
			err = o.life.setDuration(v)
		case doi.SAGroup:
			o.group = doi.Group(v)
		case doi.SAEncapsulation:
			err = o.setEncapsulation(doi.Encapsulation(v))
		case doi.SAAuthentication:
			o.auth = doi.AuthAlg(v)
		case doi.SAKeyLength:
			if v == 0 {
				return o, fmt.Errorf("a key length of zero")
			}
			o.keyBits = int(v)
		case doi.SAExtendedSeq:
			o.esn = v == 1
		default:
			return o, fmt.Errorf("attribute %s is not supported", doi.SAAttr(a.Type))
		}
		if err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *saOffer) setEncapsulation(v doi.Encapsulation) error {
	o.haveEnc = true
	switch v {
	case doi.EncapTunnel:
	case doi.EncapTransport:
		o.mode = ipsec.Transport
	case doi.EncapUDPTunnel:
		o.udp = true
	case doi.EncapUDPTransport:
		o.mode, o.udp = ipsec.Transport, true
	default:
		return fmt.Errorf("encapsulation mode %d is not supported", v)
	}
	return nil
}

// encapsulation is the attribute's value (RFC 3947 section 5.1).
func encapsulation(m ipsec.Mode, udp bool) doi.Encapsulation {
	switch {
	case m == ipsec.Transport && udp:
		return doi.EncapUDPTransport
	case m == ipsec.Transport:
		return doi.EncapTransport
	case udp:
		return doi.EncapUDPTunnel
	}
	return doi.EncapTunnel
}

// wire is a transform of ours as it is offered.
func (t *Phase2Transform) wire(number uint8, udp bool) isakmp.Transform {
	a := lifeAttributes(uint16(doi.SALifeType), uint16(doi.SALifeDuration), t.Seconds, t.Kilobytes)
	a = append(a, isakmp.Basic(uint16(doi.SAEncapsulation), uint16(encapsulation(t.Mode, udp))))
	if t.Auth != 0 {
		a = append(a, isakmp.Basic(uint16(doi.SAAuthentication), uint16(t.Auth)))
	}
	if !t.KeyLength.IsZero() {
		a = append(a, isakmp.Basic(uint16(doi.SAKeyLength), uint16(t.KeyLength.Offer)))
	}
	if t.Group != 0 {
		a = append(a, isakmp.Basic(uint16(doi.SAGroup), uint16(t.Group)))
	}
	if t.ESN {
		a = append(a, isakmp.Basic(uint16(doi.SAExtendedSeq), 1))
	}
	return isakmp.Transform{Number: number, ID: t.ID, Attributes: a}
}

// differences holds an offer against one of our transforms.
func (t *Phase2Transform) differences(o *saOffer, udp bool) []difference {
	var ds []difference
	note := func(attr string, ours, theirs any) {
		ds = append(ds, difference{attr, fmt.Sprint(ours), fmt.Sprint(theirs)})
	}
	if t.ID != o.id {
		note("transform", transformName(o.proto, t.ID), transformName(o.proto, o.id))
	}
	if o.haveEnc && (o.mode != t.Mode || o.udp != udp) {
		note("encapsulation", encapsulation(t.Mode, udp), encapsulation(o.mode, o.udp))
	}
	if t.Auth != o.auth {
		note("authentication", authName(t.Auth), authName(o.auth))
	}
	if t.ID == o.id && !t.KeyLength.IsZero() && !t.KeyLength.Accepts(uint64(orBits(o.keyBits))) {
		note("key length", rangeText(t.KeyLength), orBits(o.keyBits))
	}
	if t.Group != o.group {
		note("PFS group", groupName(t.Group), groupName(o.group))
	}
	if o.esn && !t.ESN {
		note("extended sequence numbers", "no", "yes")
	}
	return append(ds, lifeDifferences(t.Seconds, t.Kilobytes, &o.life)...)
}

func transformName(p doi.Protocol, id uint8) string {
	switch p {
	case doi.ProtoESP:
		return doi.ESP(id).String()
	case doi.ProtoAH:
		return doi.AH(id).String()
	}
	return doi.IPComp(id).String()
}

func authName(a doi.AuthAlg) string {
	if a == 0 {
		return "none"
	}
	return a.String()
}

func groupName(g doi.Group) string {
	if g == 0 {
		return "no PFS"
	}
	return g.String()
}

// chosenSA is what both sides agreed on for one protocol of a suite.
type chosenSA struct {
	proto     doi.Protocol
	offer     saOffer
	replay    int
	cipher    ipsec.Cipher
	keyLen    int // bytes, salt not counted
	auth      ipsec.Auth
	spi       [4]byte // the peer's
	transform isakmp.Transform
}

// agree makes what the data plane needs of an offer; an error is about what no
// configuration can mend (attack B1: never an SA without a key).
func (o *saOffer) agree() (c chosenSA, err error) {
	c = chosenSA{proto: o.proto, offer: *o}
	switch o.proto {
	case doi.ProtoESP:
		cipher, ok := espCiphers[doi.ESP(o.id)]
		if !ok {
			return c, fmt.Errorf("%s is not spoken here", doi.ESP(o.id))
		}
		auth, ok := authAlgs[o.auth]
		if !ok {
			return c, fmt.Errorf("authentication by %s is not spoken here", o.auth)
		}
		i := cipher.Info()
		switch {
		case i.ICV != 0 && auth != ipsec.AuthNone:
			return c, fmt.Errorf("%s authenticates on its own, and %s is asked for besides", cipher, auth)
		case i.ICV == 0 && auth == ipsec.AuthNone:
			return c, fmt.Errorf("%s without authentication is refused", cipher)
		}
		c.cipher, c.auth, c.keyLen = cipher, auth, i.DefKey
		if o.keyBits != 0 {
			c.keyLen = o.keyBits / 8
		}
		if o.keyBits%8 != 0 || !cipher.KeyLenOK(c.keyLen) {
			return c, fmt.Errorf("a key of %d bits does not fit %s", o.keyBits, cipher)
		}
		if o.keyBits != 0 && i.MinKey == i.MaxKey && cipher != ipsec.CipherChaCha20Poly1305 {
			return c, fmt.Errorf("a key length for %s, whose keys have one length alone", cipher)
		}
	case doi.ProtoAH:
		auth, ok := ahAuths[doi.AH(o.id)]
		if !ok {
			return c, fmt.Errorf("%s is not spoken here", doi.AH(o.id))
		}
		// RFC 2407 section 4.4.3: the attribute must be there and agree.
		if authAlgs[o.auth] != auth {
			return c, fmt.Errorf("AH transform %s with authentication %s", doi.AH(o.id), authName(o.auth))
		}
		c.auth = auth
	default:
		return c, fmt.Errorf("protocol %s is not spoken here", o.proto)
	}
	return c, nil
}

// keyMaterial is how many bytes of KEYMAT an SA takes.
func (c *chosenSA) keyMaterial() int {
	return c.keyLen + c.cipher.Info().Salt + c.auth.Info().Key
}

func (c *chosenSA) String() string {
	s := transformName(c.proto, c.offer.id)
	if c.proto == doi.ProtoESP {
		s = c.cipher.String()
		if i := c.cipher.Info(); i.MinKey != i.MaxKey {
			s = fmt.Sprintf("%s-%d", s, c.keyLen*8)
		}
	}
	if c.auth != ipsec.AuthNone {
		s += " " + c.auth.String()
	}
	return fmt.Sprintf("%s %s %s", c.proto, encapsulation(c.offer.mode, c.offer.udp), s)
}

// candidate is one way to agree: a proposal of the peer's, all of its
// protocols, each with one transform.
type candidate struct {
	number uint8
	sas    []chosenSA
}

// group is the group of perfect forward secrecy, 0 for none.
func (c *candidate) group() doi.Group { return c.sas[0].offer.group }

// maxCandidates bounds what the policy is asked about one message.
const maxCandidates = 32

// candidates lists, by our order, what both sides accept. differs is about the
// closest pair when there is none.
func candidates(conn *Connection, sa *isakmp.SA, udp bool) (all []candidate, differs string) {
	groups := groupProposals(sa)
	var closest []difference
	for i := range conn.Suites {
		for _, g := range groups {
			c, ds := matchSuite(&conn.Suites[i], g, udp)
			switch {
			case len(ds) == 0 && len(all) < maxCandidates:
				all = append(all, c)
			case len(ds) > 0 && (closest == nil || len(ds) < len(closest)):
				closest = ds
			}
		}
	}
	return all, joinDifferences(closest)
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

// matchSuite holds one numbered offer of the peer's against one suite.
func matchSuite(s *Suite, g []*isakmp.Proposal, udp bool) (candidate, []difference) {
	c := candidate{number: g[0].Number}
	if len(g) != len(s.Protocols) {
		return c, []difference{{"protocols", fmt.Sprint(len(s.Protocols)), fmt.Sprint(len(g))}}
	}
	for i := range s.Protocols {
		ours, theirs := &s.Protocols[i], g[i]
		if ours.Proto != theirs.Protocol {
			return c, []difference{{"protocol", ours.Proto.String(), theirs.Protocol.String()}}
		}
		spi, err := peerSPI(theirs)
		if err != nil {
			return c, []difference{{"SPI", "4 bytes from 256 up", err.Error()}}
		}
		sa, ds := matchProtocol(ours, theirs, udp)
		if len(ds) > 0 {
			return c, ds
		}
		if i > 0 && sa.offer.group != c.sas[0].offer.group {
			return c, []difference{{"PFS group", groupName(c.sas[0].offer.group), groupName(sa.offer.group)}}
		}
		sa.spi = spi
		c.sas = append(c.sas, sa)
	}
	return c, nil
}

func matchProtocol(ours *Protocol, theirs *isakmp.Proposal, udp bool) (chosenSA, []difference) {
	var closest []difference
	for i := range ours.Transforms {
		for j := range theirs.Transforms {
			ds := []difference(nil)
			o, err := parseTransform2(theirs.Protocol, &theirs.Transforms[j])
			if err == nil {
				if ds = ours.Transforms[i].differences(&o, udp); len(ds) == 0 {
					if !o.haveEnc {
						o.mode, o.udp = ours.Transforms[i].Mode, udp
					}
					var c chosenSA
					if c, err = o.agree(); err == nil {
						c.replay, c.transform = ours.Replay, theirs.Transforms[j]
						return c, nil
					}
				}
			}
			if err != nil {
				ds = []difference{{"transform", ours.Transforms[i].Name, err.Error()}}
			}
			if closest == nil || len(ds) < len(closest) {
				closest = ds
			}
		}
	}
	return chosenSA{}, closest
}

// peerSPI is the SPI that the peer chose. 0 to 255 are reserved (RFC 4303
// section 2.1); IPComp has CPIs of two bytes (RFC 3173 section 4.1).
func peerSPI(p *isakmp.Proposal) (spi [4]byte, err error) {
	switch {
	case len(p.SPI) == 4:
		copy(spi[:], p.SPI)
	case len(p.SPI) == 2 && p.Protocol == doi.ProtoIPComp:
		copy(spi[2:], p.SPI)
	default:
		return spi, fmt.Errorf("%d bytes", len(p.SPI))
	}
	if v := binary.BigEndian.Uint32(spi[:]); v < 256 {
		return spi, fmt.Errorf("%d is reserved", v)
	}
	return spi, nil
}

// proposal puts a candidate to the policy.
func (c *candidate) proposal() PolicyProposal {
	p := PolicyProposal{PFS: c.group()}
	for i := range c.sas {
		sa := &c.sas[i]
		p.Protocols = append(p.Protocols, PolicyProtocol{
			Proto: sa.proto, ID: sa.offer.id, Mode: sa.offer.mode, Auth: sa.offer.auth, KeyBits: sa.keyLen * 8,
			Seconds: sa.offer.life.seconds, Kilobytes: sa.offer.life.kilobytes,
		})
	}
	return p
}

// offerPhase2 is our SA payload: a proposal for each allowed suite, with our
// SPI for each protocol.
func offerPhase2(conn *Connection, allowed []bool, spis map[doi.Protocol][4]byte, udp bool) *isakmp.SA {
	sa := &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly}
	number := uint8(0)
	for i := range conn.Suites {
		if !allowed[i] {
			continue
		}
		number++
		for j := range conn.Suites[i].Protocols {
			p := &conn.Suites[i].Protocols[j]
			spi := spis[p.Proto]
			w := isakmp.Proposal{Number: number, Protocol: p.Proto, SPI: spi[:]}
			if p.Proto == doi.ProtoIPComp {
				w.SPI = spi[2:]
			}
			for k := range p.Transforms {
				w.Transforms = append(w.Transforms, p.Transforms[k].wire(uint8(k+1), udp))
			}
			sa.Proposals = append(sa.Proposals, w)
		}
	}
	return sa
}

// suiteProposal puts one of our own suites to the policy: its first transforms.
func suiteProposal(s *Suite) PolicyProposal {
	var p PolicyProposal
	for i := range s.Protocols {
		t := &s.Protocols[i].Transforms[0]
		p.PFS = t.Group
		p.Protocols = append(p.Protocols, PolicyProtocol{
			Proto: s.Protocols[i].Proto, ID: t.ID, Mode: t.Mode, Auth: t.Auth, KeyBits: int(t.KeyLength.Offer),
			Seconds: t.Seconds.Offer, Kilobytes: t.Kilobytes.Offer,
		})
	}
	return p
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
		for j := range conn.Suites[i].Protocols {
			if p := &conn.Suites[i].Protocols[j]; p.Proto == proto {
				return p.Replay
			}
		}
	}
	return 0
}

// sameProposal finds each protocol's one transform of the reply in an offer of
// ours. Numbers are not compared: some peers count anew.
func sameProposal(ours, reply []*isakmp.Proposal) (c candidate, ok bool) {
	if len(ours) != len(reply) {
		return c, false
	}
	c.number = reply[0].Number
	for i := range ours {
		if ours[i].Protocol != reply[i].Protocol || len(reply[i].Transforms) != 1 {
			return c, false
		}
		t := &reply[i].Transforms[0]
		found := false
		for j := range ours[i].Transforms {
			w := &ours[i].Transforms[j]
			if w.ID == t.ID && sameAttributes(w.Attributes, t.Attributes) {
				found = true
				break
			}
		}
		if !found {
			return c, false
		}
		o, err := parseTransform2(reply[i].Protocol, t)
		if err != nil {
			return c, false
		}
		sa, err := o.agree()
		if err != nil {
			return c, false
		}
		if sa.spi, err = peerSPI(reply[i]); err != nil {
			return c, false
		}
		c.sas = append(c.sas, sa)
	}
	return c, true
}

// describeSuites is our column of a failed quick mode.
func describeSuites(conn *Connection, udp bool) []string {
	allowed := make([]bool, len(conn.Suites))
	for i := range allowed {
		allowed[i] = true
	}
	return describeSA(offerPhase2(conn, allowed, nil, udp))
}

// CipherOf is the data plane's name for an ESP transform, CipherNone when it has
// none.
func CipherOf(id doi.ESP) ipsec.Cipher { return espCiphers[id] }
