package ike

import (
	"fmt"
	"strings"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/isakmp"
	"oakley/internal/oakley"
)

// defaultKeyBits is the key length of an AES transform without the attribute.
// RFC 3602 section 5.1 demands it; peers that leave it out mean 128.
const defaultKeyBits = 128

// phase1Bits is the key length that an offer comes to. Blowfish without the
// attribute has 448 bits (RFC 2409 appendix B).
func phase1Bits(o *ikeOffer) int {
	if o.keyBits == 0 && o.cipher == doi.CipherBlowfish {
		return 448
	}
	return orBits(o.keyBits)
}

// chosenIKE is what both sides agreed on for an ISAKMP SA.
type chosenIKE struct {
	suite     oakley.Suite
	group     doi.Group
	auth      doi.AuthMethod
	seconds   uint64
	kilobytes uint64

	proposal, transform int // where it stands in the initiator's SA payload
}

func (c chosenIKE) String() string {
	return fmt.Sprintf("%s, %s, %s", c.suite, c.group, c.auth)
}

// reply is the SA payload with the chosen proposal and transform, exactly as
// they came (RFC 2408 section 4.2).
func (c chosenIKE) reply(sa *isakmp.SA) *isakmp.SA {
	pr := sa.Proposals[c.proposal]
	pr.Transforms = pr.Transforms[c.transform : c.transform+1]
	return &isakmp.SA{DOI: sa.DOI, Situation: sa.Situation, Proposals: []isakmp.Proposal{pr}}
}

// offerPhase1 is our SA payload: one proposal with all transforms in order.
func offerPhase1(peer *Peer) *isakmp.SA {
	pr := isakmp.Proposal{Number: 1, Protocol: doi.ProtoISAKMP}
	for _, t := range peer.Transforms {
		if len(pr.Transforms) == isakmp.MaxTransforms {
			break
		}
		pr.Transforms = append(pr.Transforms, isakmp.Transform{
			Number: uint8(len(pr.Transforms) + 1), ID: doi.IKETransformKEY, Attributes: t.attributes(),
		})
	}
	return &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []isakmp.Proposal{pr}}
}

func (t *Phase1Transform) attributes() []isakmp.Attribute {
	a := []isakmp.Attribute{
		isakmp.Basic(uint16(doi.IKEEncryption), uint16(orCipher(t.Cipher))),
		isakmp.Basic(uint16(doi.IKEHash), uint16(orHash(t.Hash))),
		isakmp.Basic(uint16(doi.IKEAuthMethod), uint16(orAuth(t.Auth))),
		isakmp.Basic(uint16(doi.IKEGroup), uint16(orGroup(t.Group))),
	}
	if !t.KeyLength.IsZero() {
		a = append(a, isakmp.Basic(uint16(doi.IKEKeyLength), uint16(t.KeyLength.Offer)))
	}
	return append(a, lifeAttributes(uint16(doi.IKELifeType), uint16(doi.IKELifeDuration), t.Seconds, t.Kilobytes)...)
}

// A transform of ours that accepts anything still has to offer something: what
// most peers have.
func orCipher(c doi.Cipher) doi.Cipher {
	if c == 0 {
		return doi.Cipher3DES
	}
	return c
}

func orHash(h doi.Hash) doi.Hash {
	if h == 0 {
		return doi.HashSHA1
	}
	return h
}

func orAuth(a doi.AuthMethod) doi.AuthMethod {
	if a == 0 {
		return doi.AuthPSK
	}
	return a
}

func orGroup(g doi.Group) doi.Group {
	if g == 0 {
		return doi.GroupMODP1024
	}
	return g
}

// lifeAttributes is the pairs of type and duration (RFC 2409 appendix A).
func lifeAttributes(typ, duration uint16, seconds, kilobytes Range) []isakmp.Attribute {
	var a []isakmp.Attribute
	if !seconds.IsZero() {
		a = append(a, isakmp.Basic(typ, uint16(doi.LifeSeconds)), isakmp.Uint(duration, seconds.Offer))
	}
	if !kilobytes.IsZero() {
		a = append(a, isakmp.Basic(typ, uint16(doi.LifeKilobytes)), isakmp.Uint(duration, kilobytes.Offer))
	}
	return a
}

// lifetimes collects the pairs of type and duration as they come by.
type lifetimes struct {
	unit               doi.LifeType
	seconds, kilobytes uint64
	haveSec, haveKB    bool
}

func (l *lifetimes) setType(v uint64) error {
	if v != uint64(doi.LifeSeconds) && v != uint64(doi.LifeKilobytes) {
		return fmt.Errorf("life type %d is unknown", v)
	}
	l.unit = doi.LifeType(v)
	return nil
}

func (l *lifetimes) setDuration(v uint64) error {
	switch {
	case l.unit == 0:
		return fmt.Errorf("a life duration without a life type before it")
	case v == 0:
		return fmt.Errorf("a life duration of zero")
	case l.unit == doi.LifeSeconds && l.haveSec, l.unit == doi.LifeKilobytes && l.haveKB:
		return fmt.Errorf("two life durations in %s", l.unit)
	case l.unit == doi.LifeSeconds:
		l.seconds, l.haveSec = v, true
	default:
		l.kilobytes, l.haveKB = v, true
	}
	l.unit = 0
	return nil
}

// ikeOffer is a phase 1 transform of a peer, understood.
type ikeOffer struct {
	cipher  doi.Cipher
	keyBits int
	hash    doi.Hash
	auth    doi.AuthMethod
	group   doi.Group
	life    lifetimes
}

// parseIKE understands a transform, its attributes in any order. An attribute
// twice, an unknown one or one without a sensible value is an error: what is
// not understood cannot be agreed to (RFC 2408 section 4.2).
func parseIKE(t *isakmp.Transform) (o ikeOffer, err error) {
	if t.ID != doi.IKETransformKEY {
		return o, fmt.Errorf("transform ID %d is not KEY_IKE", t.ID)
	}
	var seen [64]bool
	for _, a := range t.Attributes {
		v, ok := a.Uint()
		if !ok {
			return o, fmt.Errorf("attribute %s has no number", doi.IKEAttr(a.Type))
		}
		life := doi.IKEAttr(a.Type) == doi.IKELifeType || doi.IKEAttr(a.Type) == doi.IKELifeDuration
		if int(a.Type) < len(seen) && !life {
			if seen[a.Type] {
				return o, fmt.Errorf("attribute %s comes twice", doi.IKEAttr(a.Type))
			}
			seen[a.Type] = true
		}
		if v > 0xffff && doi.IKEAttr(a.Type) != doi.IKELifeDuration {
			return o, fmt.Errorf("attribute %s is %d", doi.IKEAttr(a.Type), v)
		}
		switch doi.IKEAttr(a.Type) {
		case doi.IKEEncryption:
			o.cipher = doi.Cipher(v)
		case doi.IKEHash:
			o.hash = doi.Hash(v)
		case doi.IKEAuthMethod:
			o.auth = doi.AuthMethod(v)
		case doi.IKEGroup:
			o.group = doi.Group(v)
		case doi.IKEGroupType:
			// Some peers describe a known group once more by its type.
		case doi.IKEKeyLength:
			if v == 0 {
				return o, fmt.Errorf("a key length of zero")
			}
			o.keyBits = int(v)
		case doi.IKELifeType:
			err = o.life.setType(v)
		case doi.IKELifeDuration:
			err = o.life.setDuration(v)
		default:
			return o, fmt.Errorf("attribute %s is not supported", doi.IKEAttr(a.Type))
		}
		if err != nil {
			return o, err
		}
	}
	if o.keyBits != 0 && fixedKey(o.cipher) {
		// RFC 2409 appendix A: the attribute must not be there.
		return o, fmt.Errorf("a key length for %s, whose keys have one length alone", o.cipher)
	}
	return o, nil
}

func fixedKey(c doi.Cipher) bool {
	return c == doi.CipherDES || c == doi.Cipher3DES || c == doi.CipherIDEA
}

// difference is one attribute on which two sides do not agree, or by attr alone
// a sentence about what is in the way.
type difference struct{ attr, ours, theirs string }

func (d difference) String() string {
	if d.ours == "" && d.theirs == "" {
		return d.attr
	}
	return fmt.Sprintf("%s: ours %s, the peer's %s", d.attr, d.ours, d.theirs)
}

// differences holds an offer against one of our transforms.
func (t *Phase1Transform) differences(o *ikeOffer) []difference {
	var ds []difference
	note := func(attr string, ours, theirs any) {
		ds = append(ds, difference{attr, fmt.Sprint(ours), fmt.Sprint(theirs)})
	}
	if t.Cipher != 0 && t.Cipher != o.cipher {
		note("encryption", t.Cipher, missing(o.cipher == 0, o.cipher))
	} else if !t.KeyLength.IsZero() && !t.KeyLength.Accepts(uint64(phase1Bits(o))) {
		note("key length", rangeText(t.KeyLength), phase1Bits(o))
	}
	if t.Hash != 0 && t.Hash != o.hash {
		note("hash", t.Hash, missing(o.hash == 0, o.hash))
	}
	if t.Auth != 0 && t.Auth != o.auth {
		note("authentication", t.Auth, missing(o.auth == 0, o.auth))
	}
	if t.Group != 0 && t.Group != o.group {
		note("group", t.Group, missing(o.group == 0, o.group))
	}
	return append(ds, lifeDifferences(t.Seconds, t.Kilobytes, &o.life)...)
}

func lifeDifferences(seconds, kilobytes Range, l *lifetimes) []difference {
	var ds []difference
	if !seconds.IsZero() && l.haveSec && !seconds.Accepts(l.seconds) {
		ds = append(ds, difference{"lifetime in seconds", rangeText(seconds), fmt.Sprint(l.seconds)})
	}
	if !kilobytes.IsZero() && l.haveKB && !kilobytes.Accepts(l.kilobytes) {
		ds = append(ds, difference{"lifetime in kilobytes", rangeText(kilobytes), fmt.Sprint(l.kilobytes)})
	}
	return ds
}

func orBits(n int) int {
	if n == 0 {
		return defaultKeyBits
	}
	return n
}

func missing(is bool, v any) any {
	if is {
		return "(missing)"
	}
	return v
}

func rangeText(r Range) string {
	if r.Min == r.Max {
		return fmt.Sprint(r.Offer)
	}
	return fmt.Sprintf("%d (accepts %d to %d)", r.Offer, r.Min, r.Max)
}

// agree makes what we would do with an offer that does not differ; an error is
// about what no configuration can mend.
func (o *ikeOffer) agree() (c chosenIKE, err error) {
	c = chosenIKE{suite: oakley.Suite{Cipher: o.cipher, KeyBits: o.keyBits, Hash: o.hash}, group: o.group, auth: o.auth}
	if o.keyBits == 0 && !fixedKey(o.cipher) {
		c.suite.KeyBits = phase1Bits(o)
	}
	if err := c.suite.Check(); err != nil {
		return c, err
	}
	if o.auth != doi.AuthPSK {
		return c, fmt.Errorf("authentication by %s is not spoken here", o.auth)
	}
	if _, err := dh.Lookup(o.group); err != nil {
		return c, err
	}
	const day = 86400
	c.seconds, c.kilobytes = o.life.seconds, o.life.kilobytes
	if c.seconds == 0 {
		// Nothing said: RFC 2407 section 4.5 has 8 hours for phase 2, and peers
		// take the same for phase 1.
		c.seconds = 28800
	}
	c.seconds = min(c.seconds, 365*day)
	return c, nil
}

// choosePhase1 picks, by our order, the first transform that both sides accept.
func choosePhase1(peer *Peer, sa *isakmp.SA) (chosenIKE, *rejection) {
	if sa.DOI != doi.IPsec && sa.DOI != doi.ISAKMP {
		return chosenIKE{}, noProposal(peer, sa, doi.NotifyDOINotSupported, fmt.Sprintf("the peer's DOI is %d, not IPsec's", sa.DOI), "")
	}
	if len(peer.Key) == 0 {
		rej := noProposal(peer, sa, doi.NotifyNoProposalChosen, "there is no key for this peer", "")
		rej.failed.Ours, rej.failed.Theirs, rej.failed.Hint = nil, nil, "give the peer's section an Authentication="
		return chosenIKE{}, rej
	}
	var closest []difference
	for i := range peer.Transforms {
		ours := &peer.Transforms[i]
		for pi := range sa.Proposals {
			pr := &sa.Proposals[pi]
			if pr.Protocol != doi.ProtoISAKMP || len(pr.SPI) > 16 {
				continue
			}
			for ti := range pr.Transforms {
				c, ds := consider(ours, &pr.Transforms[ti])
				if len(ds) == 0 {
					c.proposal, c.transform = pi, ti
					return c, nil
				}
				if closest == nil || len(ds) < len(closest) {
					closest = ds
				}
			}
		}
	}
	return chosenIKE{}, noProposal(peer, sa, doi.NotifyNoProposalChosen, "no proposal of the peer's is one of ours", joinDifferences(closest))
}

// consider holds a transform of the peer's against one of ours.
func consider(ours *Phase1Transform, theirs *isakmp.Transform) (chosenIKE, []difference) {
	o, err := parseIKE(theirs)
	if err != nil {
		return chosenIKE{}, []difference{{"transform", ours.Name, err.Error()}}
	}
	if ds := ours.differences(&o); len(ds) > 0 {
		return chosenIKE{}, ds
	}
	c, err := o.agree()
	if err != nil {
		return c, []difference{{"transform", ours.Name, err.Error()}}
	}
	return c, nil
}

func joinDifferences(ds []difference) string {
	s := make([]string, len(ds))
	for i, d := range ds {
		s[i] = d.String()
	}
	return strings.Join(s, "; ")
}

func noProposal(peer *Peer, sa *isakmp.SA, n doi.Notify, reason, differs string) *rejection {
	return &rejection{fault: FaultIncompatible, notify: n, reason: reason, failed: &Failed{
		Reason: reason, Ours: describePhase1(peer), Theirs: describeSA(sa), Differs: differs,
		Hint: "make the two sides' phase 1 transforms share one line (Configuration= and Transforms= here)",
	}}
}

// chosenPhase1 checks the responder's choice against what we offered
// (RFC 2408 section 4.2: it may not change it).
func chosenPhase1(peer *Peer, offer, sa *isakmp.SA) (chosenIKE, *rejection) {
	if len(sa.Proposals) != 1 || len(sa.Proposals[0].Transforms) != 1 {
		return chosenIKE{}, dropNotify(FaultMisbehaved, doi.NotifyBadProposalSyntax, "the answer has several proposals or transforms, where one has to be chosen")
	}
	reply := &sa.Proposals[0].Transforms[0]
	if sa.Proposals[0].Protocol == doi.ProtoISAKMP {
		for i := range offer.Proposals[0].Transforms {
			ours := &offer.Proposals[0].Transforms[i]
			if ours.ID != reply.ID || !sameAttributes(ours.Attributes, reply.Attributes) {
				continue
			}
			o, err := parseIKE(reply)
			if err == nil {
				var c chosenIKE
				if c, err = o.agree(); err == nil {
					return c, nil
				}
			}
			return chosenIKE{}, drop(FaultIncompatible, err.Error())
		}
	}
	rej := dropNotify(FaultMisbehaved, doi.NotifyBadProposalSyntax, "the peer chose what we did not offer")
	rej.failed = &Failed{Reason: rej.reason, Ours: describePhase1(peer), Theirs: describeSA(sa), Hint: "the peer changed our proposal, which RFC 2408 section 4.2 forbids: look at its version and settings"}
	return chosenIKE{}, rej
}

// sameAttributes compares without regard to order and encoding.
func sameAttributes(a, b []isakmp.Attribute) bool {
	if len(a) != len(b) {
		return false
	}
	// Life type and duration come in pairs whose order matters; the pair is
	// found again by comparing each attribute with those not taken yet.
	var taken [isakmp.MaxAttributes]bool
next:
	for i := range a {
		for j := range b {
			if !taken[j] && a[i].Equal(b[j]) {
				taken[j] = true
				continue next
			}
		}
		return false
	}
	return true
}

// describePhase1 and describeSA are the two columns of a failed negotiation.
func describePhase1(peer *Peer) []string {
	var l []string
	for i, t := range peer.Transforms {
		w := isakmp.Transform{Number: uint8(i + 1), ID: doi.IKETransformKEY, Attributes: t.attributes()}
		s := w.Describe(doi.ProtoISAKMP)
		if t.Name != "" {
			s = t.Name + ": " + s
		}
		l = append(l, s)
	}
	return l
}

func describeSA(sa *isakmp.SA) []string {
	var l []string
	for i := range sa.Proposals {
		pr := &sa.Proposals[i]
		for j := range pr.Transforms {
			l = append(l, fmt.Sprintf("%d.%d %s: %s", pr.Number, pr.Transforms[j].Number, pr.Protocol, pr.Transforms[j].Describe(pr.Protocol)))
		}
	}
	return l
}
