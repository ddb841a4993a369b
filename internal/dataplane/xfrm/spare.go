package xfrm

import (
	"fmt"
	"math"
	"net/netip"

	"oakley/internal/dataplane/xfrm/wire"
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
// specific. And one that drops what may be f's and does not say so. Nobody but the
// kernel sees them.
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
	if hides(f) {
		s := &flowEntry{Flow: f.Flow, spare: true, fragments: true}
		s.ID += " fragments"
		s.Type, s.Selector.SrcPort, s.Selector.DstPort = ipsec.FlowDeny, 0, 0
		all = append(all, s)
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

// hides tells whether what f is for may pass it unseen: for the kernel's policies
// no fragment of a packet that it forwards has ports, the first one neither, so
// that what may leave or come through an SA alone, if at all, would do so in clear
// as soon as it is long (RFC 4301 section 7). Those fragments are dropped. Where
// the kernel makes packets whole before, as it does where it tracks connections,
// there are none.
func hides(f *flowEntry) bool {
	ports := f.Selector.SrcPort != 0 || f.Selector.DstPort != 0
	return ports && hasPorts[f.Selector.Proto] && (f.Type == ipsec.FlowRequire || f.Type == ipsec.FlowDontAcq || f.Type == ipsec.FlowDeny)
}

// ofFragments makes w a policy of packets whose ports are 0, which is what
// fragments have. It comes before what has no ports.
func ofFragments(w *wire.Policy) {
	w.Sel.SrcMask, w.Sel.DstMask = math.MaxUint16, math.MaxUint16
	w.Priority &^= noSrcPort | noDstPort
}

func onlyFragments(s *wire.Selector) bool {
	return s.SrcMask != 0 && s.DstMask != 0 && s.SrcPort == 0 && s.DstPort == 0
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
