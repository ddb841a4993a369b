package conf

import (
	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// config2 is an IPsec-configuration section.
type config2 struct {
	name   string
	suites []Suite
}

// phase2Configuration reads an IPsec-configuration section.
func (l *loader) phase2Configuration(ref value) *config2 {
	v, ok := l.open(roleConfig2, ref)
	if !ok {
		return nil
	}
	if c, ok := l.configs2[fold(v.name)]; ok {
		return c
	}
	c := &config2{name: v.name}
	l.configs2[fold(v.name)] = c
	l.interpretation(v)
	if x, ok := l.need(v, "EXCHANGE_TYPE", "write EXCHANGE_TYPE=QUICK_MODE"); ok {
		oneOf(l, x, "EXCHANGE_TYPE of phase 2", []choice[bool]{{"QUICK_MODE", true}})
	}
	if x, ok := l.need(v, "Suites", "write Suites=QM-ESP-AES-SHA-PFS-SUITE, or several with commas between them"); ok {
		c.suites = l.suiteList(x)
	}
	return c
}

// maxSuites is how many proposals one offer can number (RFC 2408 section 3.5).
const maxSuites = 255

// suiteList reads names of suites and checks that one offer can hold them.
func (l *loader) suiteList(list value) []Suite {
	items := list.items()
	if len(items) > maxSuites {
		l.fail(list, "the peer takes the first that it knows: the later ones are never reached", "%d suites; an offer has room for %d", len(items), maxSuites)
		items = items[:maxSuites]
	}
	if len(items) == 0 {
		l.fail(list, "write Suites=QM-ESP-AES-SHA-PFS-SUITE", "this list is empty")
	}
	var suites []Suite
	seen := map[string]bool{}
	warned := false
	groups := groupCheck{l: l}
	for _, x := range items {
		if seen[fold(x.text)] {
			l.warn(x, "name it once", "%s is in this list twice", clip(x.text))
			continue
		}
		seen[fold(x.text)] = true
		s := l.suite(x)
		if s == nil {
			continue
		}
		groups.add(x, s)
		if !warned {
			warned = l.weakSuite(x, s)
		}
		suites = append(suites, *s)
	}
	return suites
}

// groupCheck sees to it that an offer has one group, or none: quick mode sends
// its key share with the offer, before the peer chose (RFC 2409 section 5.5).
type groupCheck struct {
	l     *loader
	first *Phase2Transform
	suite string
	told  bool
}

func (g *groupCheck) add(x value, s *Suite) {
	for i := range s.Protocols {
		for k := range s.Protocols[i].Transforms {
			t := &s.Protocols[i].Transforms[k]
			switch {
			case t.IPComp != 0 && t.Group == 0: // it has no key
			case g.first == nil:
				g.first, g.suite = t, x.text
			case g.told || t.Group == g.first.Group:
			case t.Group == 0 || g.first.Group == 0:
				g.told = true
				g.l.fail(x, "write two connections, or take suites that all have PFS", "%s and %s cannot be in one offer: one is with PFS and one is without", clip(g.suite), clip(x.text))
			default:
				g.told = true
				g.l.fail(x, "take one group for all suites of a list", "%s and %s cannot be in one offer: their groups are %s and %s", clip(g.suite), clip(x.text), g.first.Group, t.Group)
			}
		}
	}
}

// weakSuite warns of what protects little.
func (l *loader) weakSuite(x value, s *Suite) bool {
	for i := range s.Protocols {
		for k := range s.Protocols[i].Transforms {
			t := &s.Protocols[i].Transforms[k]
			if l.weakCipher(x, t.ESP == doi.ESPDES) || l.weakGroup(x, t.Group) {
				return true
			}
			if s.Needs().Has(FeatureUnauthenticated) {
				l.warn(x, "take a suite with a hash, as QM-ESP-AES-SHA-PFS-SUITE", "%s encrypts without authentication: packets can be changed on their way", clip(x.text))
				return true
			}
		}
	}
	return false
}

// suite reads an IPsec-suite section.
func (l *loader) suite(ref value) *Suite {
	v, ok := l.open(roleSuite, ref)
	if !ok {
		return nil
	}
	if s, ok := l.suites[fold(v.name)]; ok {
		return s
	}
	s := &Suite{Name: v.name}
	l.suites[fold(v.name)] = s
	list, ok := l.need(v, "Protocols", "write Protocols=QM-ESP-AES-SHA-PFS")
	if !ok {
		return s
	}
	has := map[ipsec.Proto]bool{}
	for _, x := range list.items() {
		p := l.protocol(x)
		if p == nil {
			continue
		}
		if has[p.Proto] {
			l.fail(x, "a suite has each protocol once at most; alternatives are Transforms= of one protocol, or suites", "suite %s has %s twice", clip(s.Name), p.Proto)
			continue
		}
		has[p.Proto] = true
		s.Protocols = append(s.Protocols, *p)
	}
	l.checkBundle(list, s)
	return s
}

// checkBundle looks at what protocols have to do with each other.
func (l *loader) checkBundle(list value, s *Suite) {
	first := s.protocol(ipsec.ProtoIPComp)
	if first != nil && len(s.Protocols) == 1 {
		l.fail(list, "name an ESP or AH protocol beside it", "suite %s compresses and does not protect", clip(s.Name))
		return
	}
	for _, p := range inwardsOut {
		q := s.protocol(p)
		if q == nil {
			continue
		}
		if first == nil {
			first = q
		}
		if q.tunnels() && !first.tunnels() {
			l.fail(list, "give the innermost protocol ENCAPSULATION_MODE=TUNNEL: of several, IPComp is inside ESP and ESP inside AH",
				"suite %s has tunnel mode in %s around transport mode in %s", clip(s.Name), q.Name, first.Name)
			return
		}
	}
}

// inwardsOut are the protocols of a bundle in the order in which they are
// applied to a packet.
var inwardsOut = []ipsec.Proto{ipsec.ProtoIPComp, ipsec.ProtoESP, ipsec.ProtoAH}

func (s *Suite) protocol(p ipsec.Proto) *Protocol {
	for i := range s.Protocols {
		if s.Protocols[i].Proto == p {
			return &s.Protocols[i]
		}
	}
	return nil
}

// tunnels tells whether some transform of p is in tunnel mode.
func (p *Protocol) tunnels() bool {
	for i := range p.Transforms {
		if p.Transforms[i].Mode == ipsec.Tunnel {
			return true
		}
	}
	return false
}

// Transport tells whether s is in transport mode as a whole: a bundle has one
// mode.
func (s *Suite) Transport() bool {
	for i := range s.Protocols {
		if s.Protocols[i].tunnels() {
			return false
		}
	}
	return len(s.Protocols) > 0
}

var protocolChoices = []choice[ipsec.Proto]{{"IPSEC_ESP", ipsec.ProtoESP}, {"IPSEC_AH", ipsec.ProtoAH}, {"IPCOMP", ipsec.ProtoIPComp}}

// replayWindow is what a protocol has when nobody says otherwise, in packets
// (RFC 4303 section 3.4.3).
const replayWindow = 64

// protocol reads an IPsec-protocol section.
func (l *loader) protocol(ref value) *Protocol {
	v, ok := l.open(roleProtocol, ref)
	if !ok {
		return nil
	}
	if p, ok := l.protocols[fold(v.name)]; ok {
		return p
	}
	p := &Protocol{Name: v.name, Replay: replayWindow}
	l.protocols[fold(v.name)] = p
	x, ok := l.need(v, "PROTOCOL_ID", "write PROTOCOL_ID=IPSEC_ESP")
	if !ok {
		return nil
	}
	if p.Proto, ok = oneOf(l, x, "PROTOCOL_ID", protocolChoices); !ok {
		return nil
	}
	if x := v.get("ReplayWindow"); x.text != "" {
		p.Replay, _ = l.number(x, "ReplayWindow in packets", 0, 65536)
		if x.text == "0" {
			l.warn(x, "remove the line; 64 is the default", "without a replay window anybody can send a packet again that was sent before")
		}
	}
	if l.cfg.General.SharedSADB {
		p.Replay = 0
	}
	list, ok := l.need(v, "Transforms", "write Transforms= with the names of IPsec-transform sections")
	if !ok {
		return p
	}
	items := list.items()
	if len(items) > maxTransforms {
		l.fail(list, "", "%d transforms; a proposal has room for %d", len(items), maxTransforms)
		items = items[:maxTransforms]
	}
	for _, x := range items {
		if t := l.transform2(x, p.Proto); t != nil {
			p.Transforms = append(p.Transforms, *t)
		}
	}
	return p
}
