package isakmp

import (
	"encoding/binary"

	"oakley/internal/doi"
)

// Transform is a transform payload (RFC 2408 section 3.6).
type Transform struct {
	Number     uint8
	ID         uint8
	Attributes []Attribute
}

// transformFixed is number, ID and two reserved bytes.
const transformFixed = 4

// Attribute is the first attribute of the type.
func (t Transform) Attribute(typ uint16) (Attribute, bool) {
	for _, a := range t.Attributes {
		if a.Type == typ {
			return a, true
		}
	}
	return Attribute{}, false
}

// append appends the transform with its generic header.
func (t *Transform) append(b []byte, next doi.Payload) []byte {
	begin := len(b)
	b = append(b, byte(next), 0, 0, 0, t.Number, t.ID, 0, 0)
	for _, a := range t.Attributes {
		b = appendAttribute(b, a)
	}
	putLength(b, begin)
	return b
}

// readTransforms reads all of chain, off bytes into the message. The numbers
// of the transforms grow (RFC 2408 section 4.2).
func (r *proposalReader) readTransforms(chain []byte, off int, p doi.Protocol) error {
	first := len(r.transforms)
	for next := doi.PayloadTransform; next != doi.PayloadNone; {
		if len(r.transforms) == MaxTransforms {
			return bad(off, doi.PayloadTransform, doi.NotifyBadProposalSyntax, "more than %d transforms", MaxTransforms)
		}
		follow, n, err := generic(doi.PayloadTransform, chain, off)
		if err != nil {
			return err
		}
		if follow != doi.PayloadNone && follow != doi.PayloadTransform {
			return bad(off, doi.PayloadTransform, doi.NotifyBadProposalSyntax, "payload type %d follows a transform", uint8(follow))
		}
		t, err := r.transform(chain[GenericLen:n], off+GenericLen, p)
		if err != nil {
			return err
		}
		if k := len(r.transforms); k > first && t.Number <= r.transforms[k-1].Number {
			return bad(off+GenericLen, doi.PayloadTransform, doi.NotifyBadProposalSyntax,
				"transform %d after transform %d", t.Number, r.transforms[k-1].Number)
		}
		r.transforms = append(r.transforms, t)
		chain, off, next = chain[n:], off+n, follow
	}
	if len(chain) > 0 {
		return bad(off, doi.PayloadTransform, doi.NotifyBadProposalSyntax, "%d bytes follow the last transform", len(chain))
	}
	return nil
}

func (r *proposalReader) transform(body []byte, off int, p doi.Protocol) (Transform, error) {
	fault := func(at int, n doi.Notify, format string, args ...any) (Transform, error) {
		return Transform{}, bad(off+at, doi.PayloadTransform, n, format, args...)
	}
	if len(body) < transformFixed {
		return fault(0, doi.NotifyPayloadMalformed, "%d bytes, a transform has at least %d", len(body), transformFixed)
	}
	t := Transform{Number: body[0], ID: body[1]}
	if t.ID == 0 {
		return fault(1, doi.NotifyInvalidTransformID, "transform ID 0 is reserved")
	}
	if reserved := binary.BigEndian.Uint16(body[2:]); reserved != 0 {
		return fault(2, doi.NotifyPayloadMalformed, "the reserved bytes are 0x%04x, not zero", reserved)
	}
	begin, at := len(r.attributes), transformFixed
	for at < len(body) {
		if len(r.attributes)-begin == MaxAttributes {
			return fault(at, doi.NotifyBadProposalSyntax, "more than %d attributes", MaxAttributes)
		}
		a, n, err := nextAttribute(body[at:], off+at, doi.PayloadTransform)
		if err != nil {
			return Transform{}, err
		}
		r.attributes = append(r.attributes, a)
		at += n
	}
	t.Attributes = r.attributes[begin:len(r.attributes):len(r.attributes)]
	if a, conflict := t.conflict(p); conflict {
		return fault(transformFixed, doi.NotifyAttributesNotSupported, "two values of %s", attributeName(p, a))
	}
	return t, nil
}

// countAttributes is how many attributes b holds, up to the first that is
// broken and to the bound.
func countAttributes(b []byte) int {
	n := 0
	for len(b) > 0 && n < MaxAttributes {
		_, took, err := nextAttribute(b, 0, doi.PayloadTransform)
		if err != nil {
			break
		}
		b = b[took:]
		n++
	}
	return n
}

// conflict finds an attribute that is there with two values. A lifetime in
// seconds and one in kilobytes are no conflict (RFC 2407 section 4.5.2), two
// in seconds are.
func (t Transform) conflict(p doi.Protocol) (typ uint16, found bool) {
	if p > doi.ProtoIPComp {
		return 0, false // its attributes are not known
	}
	lifeType, lifeDuration := lifeAttributes(p)
	var seen uint64 // a bit a type below 64: most transforms need no second look
	for i, a := range t.Attributes {
		if a.Type == lifeType || a.Type == lifeDuration {
			continue
		}
		bit := uint64(1) << (a.Type & 63)
		if seen&bit != 0 {
			for _, b := range t.Attributes[:i] {
				if b.Type == a.Type && !b.Equal(a) {
					return a.Type, true
				}
			}
		}
		seen |= bit
	}
	var room [MaxAttributes]Life // no allocation while parsing
	lives := t.appendLives(room[:0], p)
	for i, l := range lives {
		for _, k := range lives[:i] {
			if k.Type == l.Type && k.Value != l.Value {
				return lifeDuration, true
			}
		}
	}
	return 0, false
}

// Life is a lifetime that a transform offers. Kilobytes are 1024 bytes.
type Life struct {
	Type  doi.LifeType
	Value uint64
}

// lifeAttributes are the numbers of the attributes for a lifetime: phase 1 and
// phase 2 have their own.
func lifeAttributes(p doi.Protocol) (typ, duration uint16) {
	if p == doi.ProtoISAKMP {
		return uint16(doi.IKELifeType), uint16(doi.IKELifeDuration)
	}
	return uint16(doi.SALifeType), uint16(doi.SALifeDuration)
}

// Lives are the lifetimes of a transform of protocol p, in its order. A
// duration counts in the unit of the life type before it (RFC 2407 section
// 4.5), in seconds when there is none; a value that does not fit 64 bits is
// left out.
func (t Transform) Lives(p doi.Protocol) []Life { return t.appendLives(nil, p) }

func (t Transform) appendLives(lives []Life, p doi.Protocol) []Life {
	lifeType, lifeDuration := lifeAttributes(p)
	unit := doi.LifeSeconds
	for _, a := range t.Attributes {
		switch a.Type {
		case lifeType:
			v, ok := a.Uint()
			if !ok || v > 0xffff {
				v = 0
			}
			unit = doi.LifeType(v)
		case lifeDuration:
			if v, ok := a.Uint(); ok {
				lives = append(lives, Life{Type: unit, Value: v})
			}
		}
	}
	return lives
}
