package isakmp

import (
	"fmt"
	"strings"

	"oakley/internal/doi"
)

// word says one attribute's value in words.
type word struct {
	typ  uint16
	form func(v uint64) string
}

// name is a form for values of a named type.
func name[T interface {
	~uint16
	fmt.Stringer
}](v uint64) string {
	if v > 0xffff {
		return fmt.Sprintf("value %d", v)
	}
	return T(v).String()
}

func number(label string) func(uint64) string {
	return func(v uint64) string { return fmt.Sprintf("%s %d", label, v) }
}

// phase1Words and phase2Words are in the order in which attributes are shown,
// whatever order they were sent in; lifetimes follow them.
var (
	phase1Words = []word{
		{uint16(doi.IKEEncryption), name[doi.Cipher]},
		{uint16(doi.IKEKeyLength), number("key")},
		{uint16(doi.IKEHash), name[doi.Hash]},
		{uint16(doi.IKEAuthMethod), name[doi.AuthMethod]},
		{uint16(doi.IKEGroup), name[doi.Group]},
		{uint16(doi.IKEGroupType), number("group type")},
		{uint16(doi.IKEPRF), number("prf")},
	}
	phase2Words = []word{
		{uint16(doi.SAKeyLength), number("key")},
		{uint16(doi.SAKeyRounds), number("rounds")},
		{uint16(doi.SAAuthentication), name[doi.AuthAlg]},
		{uint16(doi.SAEncapsulation), name[doi.Encapsulation]},
		{uint16(doi.SAGroup), name[doi.Group]},
		{uint16(doi.SAECNTunnel), number("ecn")},
		{uint16(doi.SAExtendedSeq), number("esn")},
	}
)

// Describe is the transform's attributes in words, in an order of ours, so that
// two transforms can be compared side by side: "3DES_CBC SHA PRE_SHARED
// MODP_1024 life 3600s". p is the proposal's protocol.
func (t Transform) Describe(p doi.Protocol) string {
	return strings.Join(t.Words(p), " ")
}

// Words is Describe, an attribute an element.
func (t Transform) Words(p doi.Protocol) []string {
	words, out := phase2Words, []string{transformName(p, t.ID)}
	if p == doi.ProtoISAKMP {
		words = phase1Words
		if t.ID == doi.IKETransformKEY { // the only one: says nothing
			out = out[:0]
		}
	}
	lifeType, lifeDuration := lifeAttributes(p)
	said := map[uint16]bool{lifeType: true, lifeDuration: true}
	for _, w := range words {
		said[w.typ] = true
		a, ok := t.Attribute(w.typ)
		if !ok {
			continue
		}
		if v, ok := a.Uint(); ok {
			out = append(out, w.form(v))
			continue
		}
		out = append(out, rawAttribute(p, a))
	}
	if life := t.describeLife(p); life != "" {
		out = append(out, life)
	}
	for _, a := range t.Attributes {
		if !said[a.Type] {
			out = append(out, rawAttribute(p, a))
		}
	}
	return out
}

// describeLife is "life 3600s 50000KB", or nothing.
func (t Transform) describeLife(p doi.Protocol) string {
	var b strings.Builder
	for i, l := range t.Lives(p) {
		b.WriteString(separator(i, "life ", " "))
		switch l.Type {
		case doi.LifeSeconds:
			fmt.Fprintf(&b, "%ds", l.Value)
		case doi.LifeKilobytes:
			fmt.Fprintf(&b, "%dKB", l.Value)
		default:
			fmt.Fprintf(&b, "%d of %s", l.Value, l.Type)
		}
	}
	return b.String()
}

// transformName is the transform ID of a phase 2 proposal.
func transformName(p doi.Protocol, id uint8) string {
	switch p {
	case doi.ProtoESP:
		return doi.ESP(id).String()
	case doi.ProtoAH:
		return doi.AH(id).String()
	case doi.ProtoIPComp:
		return doi.IPComp(id).String()
	}
	return fmt.Sprintf("transform %d", id)
}

// attributeName is the name of an attribute's class.
func attributeName(p doi.Protocol, typ uint16) string {
	if p == doi.ProtoISAKMP {
		return doi.IKEAttr(typ).String()
	}
	return doi.SAAttr(typ).String()
}

// attributeShown is how many bytes of an attribute are shown in hex.
const attributeShown = 16

// rawAttribute is an attribute that has no words of its own.
func rawAttribute(p doi.Protocol, a Attribute) string {
	label := attributeName(p, a.Type)
	if v, ok := a.Uint(); ok {
		return fmt.Sprintf("%s=%d", label, v)
	}
	if len(a.Value) > attributeShown {
		return fmt.Sprintf("%s=0x%x...(%d bytes)", label, a.Value[:attributeShown], len(a.Value))
	}
	return fmt.Sprintf("%s=0x%x", label, a.Value)
}

// parseAttributes reads a run of attributes outside a transform, as
// RESPONDER-LIFETIME carries them (RFC 2407 section 4.6.3.1).
func parseAttributes(b []byte) (Transform, bool) {
	var t Transform
	for len(b) > 0 && len(t.Attributes) < MaxAttributes {
		a, n, err := nextAttribute(b, 0, doi.PayloadNotify)
		if err != nil {
			return t, false
		}
		t.Attributes = append(t.Attributes, a)
		b = b[n:]
	}
	return t, len(b) == 0
}

// Lives are the lifetimes in a RESPONDER-LIFETIME notification (RFC 2407
// section 4.6.3.1), nil when its data is no run of attributes.
func (n *Notify) Lives() []Life {
	t, ok := parseAttributes(n.Data)
	if !ok {
		return nil
	}
	return t.Lives(n.Protocol)
}
