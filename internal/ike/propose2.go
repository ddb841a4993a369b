package ike

import (
	"fmt"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// defaultSeconds is the lifetime of an IPsec SA when nobody names one
// (RFC 2407 section 4.5).
const defaultSeconds = 28800

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
			// RFC 4304 section 3: any other value ends the matter.
			if o.esn = v == 1; !o.esn {
				err = fmt.Errorf("attribute %s is %d", doi.SAExtendedSeq, v)
			}
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
	case doi.EncapUDPTunnel, doi.EncapUDPTunnelDraft:
		o.udp = true
	case doi.EncapUDPTransport, doi.EncapUDPTransportDraft:
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
func (t *Phase2Transform) wire(proto doi.Protocol, number uint8, udp bool) isakmp.Transform {
	a := lifeAttributes(uint16(doi.SALifeType), uint16(doi.SALifeDuration), t.Seconds, t.Kilobytes)
	a = append(a, isakmp.Basic(uint16(doi.SAEncapsulation), uint16(encapsulation(t.Mode, udp))))
	if t.Auth != 0 {
		a = append(a, isakmp.Basic(uint16(doi.SAAuthentication), uint16(t.Auth)))
	}
	if bits := t.offeredBits(proto); bits != 0 {
		a = append(a, isakmp.Basic(uint16(doi.SAKeyLength), bits))
	}
	if t.Group != 0 {
		a = append(a, isakmp.Basic(uint16(doi.SAGroup), uint16(t.Group)))
	}
	if t.ESN {
		a = append(a, isakmp.Basic(uint16(doi.SAExtendedSeq), 1))
	}
	return isakmp.Transform{Number: number, ID: t.ID, Attributes: a}
}

// offeredBits is the key length that we name; 0: none. A cipher whose keys have
// several lengths has to have one named (RFC 2407 section 4.5).
func (t *Phase2Transform) offeredBits(proto doi.Protocol) uint16 {
	i := espCiphers[doi.ESP(t.ID)].Info()
	switch {
	case !t.KeyLength.IsZero():
		return uint16(t.KeyLength.Offer)
	case proto == doi.ProtoESP && i.MinKey != i.MaxKey:
		return uint16(8 * i.DefKey)
	}
	return 0
}

// differences holds an offer against one of our transforms. In a bundle the
// encapsulation is the bundle's as a whole and is looked at there, and IPComp
// may leave the group to the others.
func (t *Phase2Transform) differences(o *saOffer, udp, bundle bool) []difference {
	var ds []difference
	note := func(attr string, ours, theirs any) {
		ds = append(ds, difference{attr, fmt.Sprint(ours), fmt.Sprint(theirs)})
	}
	comp := o.proto == doi.ProtoIPComp
	if t.ID != o.id {
		note("transform", transformName(o.proto, t.ID), transformName(o.proto, o.id))
	}
	if o.haveEnc && (!bundle && o.mode != t.Mode || !comp && o.udp != udp) {
		note("encapsulation", encapsulation(t.Mode, udp), encapsulation(o.mode, o.udp))
	}
	if t.Auth != o.auth {
		note("authentication", authName(t.Auth), authName(o.auth))
	}
	if t.ID == o.id && !t.KeyLength.IsZero() && !t.KeyLength.Accepts(bitsOf(o)) {
		note("key length", rangeText(t.KeyLength), bitsOf(o))
	}
	if t.Group != o.group && (!comp || o.group != 0) {
		note("PFS group", groupName(t.Group), groupName(o.group))
	}
	if t.ESN != o.esn {
		note("extended sequence numbers", yesNo(t.ESN), yesNo(o.esn))
	}
	return append(ds, lifeDifferences(t.Seconds, t.Kilobytes, &o.life)...)
}

// bitsOf is the key length that an offer comes to: without the attribute it is
// the cipher's own default (RFC 2451 section 2.2 has those of Blowfish and CAST).
func bitsOf(o *saOffer) uint64 {
	if o.keyBits == 0 {
		return 8 * uint64(espCiphers[doi.ESP(o.id)].Info().DefKey)
	}
	return uint64(o.keyBits)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
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
