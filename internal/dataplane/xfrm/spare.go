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

// spares are flows that let pass what f leaves alone: of f's order, and more
// specific. Nobody but the kernel sees them.
func spares(f *flowEntry) (all []*flowEntry) {
	if f.Type == ipsec.FlowBypass {
		return nil
	}
	for _, p := range leftAlone {
		src, dst := f.Selector, f.Selector
		src.Src, dst.Dst = p, p
		for _, c := range []struct {
			of  netip.Prefix
			sel ipsec.Selector
		}{{f.Selector.Src, src}, {f.Selector.Dst, dst}} {
			whose := p.Addr().Is4() == c.of.Addr().Is4() && c.of.Bits() < p.Bits() && c.of.Bits() <= largest && c.of.Contains(p.Addr())
			if !whose || c.sel == src && (p.Addr().IsMulticast() || p.IsSingleIP()) { // nobody sends from there
				continue
			}
			s := &flowEntry{Flow: f.Flow, ifid: f.ifid, spare: true}
			s.ID = ipsec.FlowID(fmt.Sprintf("%s spares %s", f.ID, c.sel))
			s.Type, s.Selector = ipsec.FlowBypass, c.sel
			all = append(all, s)
		}
	}
	return all
}
