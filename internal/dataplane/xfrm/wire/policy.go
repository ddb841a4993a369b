package wire

import (
	"fmt"
	"net/netip"
)

// Dir is for which packets a policy is.
type Dir uint8

// Directions: to this host, from or through it on the way out, and through it on
// the way in.
const (
	DirIn  Dir = 0
	DirOut Dir = 1
	DirFwd Dir = 2
)

var dirNames = [...]string{"in", "out", "fwd"}

func (d Dir) String() string {
	if int(d) < len(dirNames) {
		return dirNames[d]
	}
	return fmt.Sprintf("direction %d", uint8(d))
}

// Action of a policy.
type Action uint8

// Actions.
const (
	Allow Action = 0
	Block Action = 1
)

// MaxTemplates is how many SAs a policy may ask for (XFRM_MAX_DEPTH).
const MaxTemplates = 6

// Template is an SA that a policy asks for.
type Template struct {
	Dst, Src netip.Addr // the tunnel's ends; zero or unspecified: any
	SPI      uint32     // 0: any
	Proto    uint8
	Family   uint16
	ReqID    uint32 // 0: any, for packets that come in
	Mode     Mode
	Share    uint8
	Optional bool
	// Algs are bit masks of the algorithms that may be used: 0 is AllAlgs.
	AuthAlgs, CryptAlgs, CompAlgs uint32
}

// AllAlgs is the mask of every algorithm.
const AllAlgs = ^uint32(0)

func (t *Template) append(b []byte) []byte {
	b = appendID(b, t.Dst, t.SPI, t.Proto)
	b = zeros(native.AppendUint16(b, t.Family), 2)
	b = appendAddr(b, t.Src)
	b = native.AppendUint32(b, t.ReqID)
	optional := uint8(0)
	if t.Optional {
		optional = 1
	}
	b = append(b, uint8(t.Mode), t.Share, optional, 0)
	for _, v := range [...]uint32{t.AuthAlgs, t.CryptAlgs, t.CompAlgs} {
		if v == 0 {
			v = AllAlgs
		}
		b = native.AppendUint32(b, v)
	}
	return b
}

func parseTemplate(b []byte) Template {
	family := native.Uint16(b[24:])
	mask := func(at int) uint32 {
		v := native.Uint32(b[at:])
		if v == AllAlgs {
			return 0
		}
		return v
	}
	return Template{
		Dst: parseAddr(b, family), SPI: net.Uint32(b[16:]), Proto: b[20], Family: family, Src: parseAddr(b[28:], family),
		ReqID: native.Uint32(b[44:]), Mode: Mode(b[48]), Share: b[49], Optional: b[50] != 0,
		AuthAlgs: mask(52), CryptAlgs: mask(56), CompAlgs: mask(60),
	}
}

func parseTemplates(v []byte) ([]Template, error) {
	if len(v)%tmplSize != 0 {
		return nil, fmt.Errorf("templates of %d bytes, expected a multiple of %d: %w", len(v), tmplSize, ErrShort)
	}
	if n := len(v) / tmplSize; n > MaxTemplates {
		return nil, fmt.Errorf("a policy of %d templates; the kernel's longest has %d", n, MaxTemplates)
	}
	var all []Template
	for ; len(v) > 0; v = v[tmplSize:] {
		all = append(all, parseTemplate(v))
	}
	return all, nil
}

// Policy is an entry of the kernel's SPD.
type Policy struct {
	Sel       Selector
	Limits    Limits
	Usage     Usage
	Priority  uint32 // lower is looked at first
	Index     uint32 // its lowest 3 bits are the direction; 0: the kernel chooses
	Dir       Dir
	Action    Action
	Flags     uint8
	Share     uint8
	Templates []Template // the one nearest to the plain packet first
	Mark      *Mark
	IfID      uint32
	Type      *uint8 // main 0 or sub 1
}

func (p *Policy) appendInfo(b []byte) []byte {
	b = p.Sel.append(b)
	b = p.Limits.append(b)
	b = p.Usage.append(b)
	b = native.AppendUint32(b, p.Priority)
	b = native.AppendUint32(b, p.Index)
	return zeros(append(b, uint8(p.Dir), uint8(p.Action), p.Flags, p.Share), 4)
}

// Append appends the message of NewPolicy and UpdPolicy.
func (p *Policy) Append(b []byte) []byte {
	b = p.appendInfo(b)
	if p.Type != nil {
		b = appendAttr(b, attrPolicyType, func(b []byte) []byte { return zeros(append(b, *p.Type), 5) })
	}
	if len(p.Templates) > 0 {
		b = appendAttr(b, attrTmpl, func(b []byte) []byte {
			for i := range p.Templates {
				b = p.Templates[i].append(b)
			}
			return b
		})
	}
	b = appendMark(b, p.Mark)
	if p.IfID != 0 {
		b = appendU32(b, attrIfID, p.IfID)
	}
	return b
}

// parsePolicyInfo reads policySize bytes.
func parsePolicyInfo(b []byte) Policy {
	return Policy{
		Sel: parseSelector(b), Limits: parseLimits(b[56:]), Usage: parseUsage(b[120:]),
		Priority: native.Uint32(b[152:]), Index: native.Uint32(b[156:]),
		Dir: Dir(b[160]), Action: Action(b[161]), Flags: b[162], Share: b[163],
	}
}

func (p *Policy) parseAttrs(b []byte) error {
	return attributes(b, func(t attr, v []byte) (err error) {
		switch t {
		case attrTmpl:
			p.Templates, err = parseTemplates(v)
		case attrMark:
			p.Mark, err = parseMark(v)
		case attrIfID:
			err = parseU32(v, &p.IfID)
		case attrPolicyType:
			if v, err = atLeast(v, 1); err == nil {
				typ := v[0]
				p.Type = &typ
			}
		}
		return err
	})
}

// ParsePolicy reads NewPolicy and UpdPolicy.
func ParsePolicy(b []byte) (*Policy, error) {
	fixed, rest, err := body("a policy", b, policySize)
	if err != nil {
		return nil, err
	}
	p := parsePolicyInfo(fixed)
	return &p, p.parseAttrs(rest)
}

// PolicyID names a policy: by its index, or, that being 0, by its selector.
type PolicyID struct {
	Sel   Selector
	Index uint32
	Dir   Dir
	Mark  *Mark
	IfID  uint32
	Type  *uint8
}

// Append appends the message of DelPolicy and GetPolicy.
func (i *PolicyID) Append(b []byte) []byte {
	b = i.Sel.append(b)
	b = native.AppendUint32(b, i.Index)
	b = zeros(append(b, uint8(i.Dir)), 3)
	if i.Type != nil {
		b = appendAttr(b, attrPolicyType, func(b []byte) []byte { return zeros(append(b, *i.Type), 5) })
	}
	b = appendMark(b, i.Mark)
	if i.IfID != 0 {
		b = appendU32(b, attrIfID, i.IfID)
	}
	return b
}

// ParsePolicyID reads what Append wrote.
func ParsePolicyID(b []byte) (*PolicyID, error) {
	i, _, err := ParseDelPolicy(b)
	return i, err
}

// ParseDelPolicy reads the event that a policy was deleted; p is nil when it
// does not say more than its name.
func ParseDelPolicy(b []byte) (i *PolicyID, p *Policy, err error) {
	fixed, rest, err := body("the name of a policy", b, policyIDLen)
	if err != nil {
		return nil, nil, err
	}
	i = &PolicyID{Sel: parseSelector(fixed), Index: native.Uint32(fixed[selSize:]), Dir: Dir(fixed[selSize+4])}
	var more Policy
	err = attributes(rest, func(t attr, v []byte) (err error) {
		if t == attrPolicy {
			if v, err = atLeast(v, policySize); err == nil {
				x := parsePolicyInfo(v)
				p = &x
			}
		}
		return err
	})
	if err == nil {
		err = more.parseAttrs(rest)
	}
	i.Mark, i.IfID, i.Type = more.Mark, more.IfID, more.Type
	if p != nil {
		p.Templates, p.Mark, p.IfID, p.Type = more.Templates, more.Mark, more.IfID, more.Type
	}
	return i, p, err
}
