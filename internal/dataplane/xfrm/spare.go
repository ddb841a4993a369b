package xfrm

import (
	"fmt"
	"net/netip"

	"oakley/internal/ipsec"
)

// leftAlone is what no flow of larger networks is about: groups, everybody on a
// link, and what never leaves a link. Neighbours are found with it, and routers.
var leftAlone = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fe80::/10"),
}

// largest is the length in bits of prefixes that are large enough to have such
// parts without being meant.
const largest = 16

// Neighbours are asked for and answer in ICMPv6 (RFC 4861 section 4), and the
// kernel's policies see that too: a flow for everything between two hosts on one
// link would keep them from ever finding each other. Both messages never leave a
// link.
const (
	icmp6                 = 58
	neighbourSolicitation = 135
	neighbourAdvert       = 136
)

// spares are flows that let pass what f leaves alone: of f's order, and more
// specific. Nobody but the kernel sees them.
func spares(f *flowEntry) (all []*flowEntry) {
	if f.Type == ipsec.FlowBypass {
		return nil
	}
	add := func(sel ipsec.Selector) {
		s := &flowEntry{Flow: f.Flow, spare: true}
		s.ID = ipsec.FlowID(fmt.Sprintf("%s spares %s", f.ID, sel))
		s.Type, s.Selector = ipsec.FlowBypass, sel
		all = append(all, s)
	}
	for _, p := range leftAlone {
		dst := f.Selector
		dst.Dst = p
		if contains(f.Selector.Dst, p) {
			add(dst)
		}
		src := f.Selector
		src.Src = p
		if contains(f.Selector.Src, p) && !p.Addr().IsMulticast() && !p.IsSingleIP() { // nobody sends from those
			add(src)
		}
	}
	if nearby(f) {
		for _, message := range []uint16{neighbourSolicitation, neighbourAdvert} {
			sel := f.Selector
			sel.Proto, sel.SrcPort = icmp6, message // where the kernel has ICMP's types
			add(sel)
		}
	}
	return all
}

// contains tells whether a network is so large that it merely contains p.
func contains(network, p netip.Prefix) bool {
	return p.Addr().Is4() == network.Addr().Is4() && network.Bits() < p.Bits() && network.Bits() <= largest && network.Contains(p.Addr())
}

// nearby tells whether a flow of IPv6 is for neighbours on a link: for the peer
// itself, or for so much that they are in it.
func nearby(f *flowEntry) bool {
	s := &f.Selector
	far := s.Dst
	if f.Dir == ipsec.In {
		far = s.Src
	}
	if !far.Addr().Is6() || s.Proto != 0 && s.Proto != icmp6 || s.SrcPort != 0 || s.DstPort != 0 {
		return false
	}
	return far.Bits() <= largest || far.IsSingleIP() || f.Remote.IsValid() && far.Contains(f.Remote)
}
