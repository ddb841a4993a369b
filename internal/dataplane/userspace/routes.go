package userspace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// shields tells whether packets of such a flow go into the device.
func shields(t ipsec.FlowType) bool { return t != ipsec.FlowBypass }

// isLocal tells whether a flow's far network has its near one in it, as
// 0.0.0.0/0 has: what stays in the near network is not the tunnel's business.
func isLocal(near, far netip.Prefix) bool {
	return far.Bits() < near.Bits() && far.Contains(near.Addr())
}

// atHome ends the names of such exemptions.
const atHome = " at home"

// withLocal puts in front of every flow whose far network has its near one in it
// a flow that exempts what stays at home. The result is in the SPD's order.
func withLocal(flows []ipsec.Flow, dir ipsec.Direction) []ipsec.Flow {
	var all []ipsec.Flow
	for i := range flows {
		f := flows[i]
		if f.Dir != dir {
			continue
		}
		near, far := f.Selector.Src, f.Selector.Dst
		if dir == ipsec.In {
			near, far = far, near
		}
		if f.Type != ipsec.FlowBypass && isLocal(near, far) {
			all = append(all, ipsec.Flow{
				ID: f.ID + atHome, Dir: dir, Type: ipsec.FlowBypass, Order: f.Order,
				Selector: ipsec.Selector{Src: near, Dst: near},
			})
		}
		all = append(all, f)
	}
	// The flows are in order; what was put between has a place of its own.
	slices.SortStableFunc(all, func(a, b ipsec.Flow) int {
		if c := cmp.Compare(a.Order, b.Order); c != 0 {
			return c
		}
		if c := cmp.Compare(b.Selector.Dst.Bits(), a.Selector.Dst.Bits()); c != 0 {
			return c
		}
		return cmp.Compare(b.Selector.Src.Bits(), a.Selector.Src.Bits())
	})
	return all
}

// want says which rules and routes these flows need. Rules are in levels: within
// one, order does not matter, because all do the same; a new one begins where
// protecting and exempting flows follow each other.
func (k *kernel) want(flows []ipsec.Flow) (map[ruleKey]bool, map[routeKey]bool, error) {
	rules, routes := map[ruleKey]bool{}, map[routeKey]bool{}
	out := withLocal(flows, ipsec.Out)
	if !slices.ContainsFunc(out, func(f ipsec.Flow) bool { return shields(f.Type) }) {
		return rules, routes, nil
	}
	own, err := k.addresses()
	if err != nil {
		return nil, nil, err
	}
	level := firstLevel
	for i := range out {
		f := &out[i]
		if i > 0 && shields(out[i-1].Type) != shields(f.Type) {
			level++
		}
		if level >= levels {
			return nil, nil, fmt.Errorf("flow %q: bypass and protected flows alternate %d times in the order of the SPD; sort them into fewer groups", f.ID, level)
		}
		k.wantRules(rules, f, level, own)
		if shields(f.Type) {
			k.wantRoutes(routes, f, own)
		}
	}
	// A rule for all sources takes packets without one too, and the kernel thinks
	// it the same as one for those alone.
	for r := range rules {
		all := r
		all.src = netip.Prefix{}
		if r.src.IsValid() && r.src.IsSingleIP() && r.src.Addr().IsUnspecified() && rules[all] {
			delete(rules, r)
		}
	}
	taken := map[slot]routeKey{}
	for r := range routes {
		if other, ok := taken[r.slot()]; ok {
			if other.src.Less(r.src) {
				delete(routes, r)
				continue
			}
			delete(routes, other)
		}
		taken[r.slot()] = r
	}
	return rules, routes, nil
}

func (k *kernel) wantRules(rules map[ruleKey]bool, f *ipsec.Flow, level int, own []netip.Addr) {
	s := f.Selector
	v6 := s.Dst.Addr().Is6()
	put := func(r ruleKey) {
		r.priority = k.priority + level*shapes + r.shape()
		rules[r] = true
	}
	r := ruleKey{
		v6: v6, src: unlessAll(s.Src), dst: unlessAll(s.Dst),
		proto: s.Proto, sport: s.SrcPort, dport: s.DstPort, table: unix.RT_TABLE_MAIN,
	}
	none := netip.IPv4Unspecified()
	if v6 {
		none = netip.IPv6Unspecified()
	}
	if !shields(f.Type) {
		// Home is only where this host knows a way to: the default route is not.
		r.near = strings.HasSuffix(string(f.ID), atHome)
		put(r)
		if r.near && !v6 {
			r.src = netip.PrefixFrom(none, none.BitLen())
			put(r)
		}
		return
	}
	r.table = k.table
	put(r)
	k.wantMarked(rules, v6)
	// A program of this host that did not choose a source address gets one from
	// the flow's network, if the host has one there. IPv4 has a rule for "no
	// source yet"; IPv6 has none, and there it is done between two hosts alone,
	// where the source cannot be another.
	if !hint(s, own).IsValid() {
		return
	}
	if v6 {
		if betweenHosts(&s) {
			r.src, r.own = netip.Prefix{}, true
			put(r)
		}
		return
	}
	r.src = netip.PrefixFrom(none, none.BitLen())
	put(r)
}

func (k *kernel) wantRoutes(routes map[routeKey]bool, f *ipsec.Flow, own []netip.Addr) {
	dst := f.Selector.Dst
	routes[routeKey{table: k.table, dst: dst, unreachable: true}] = true
	routes[routeKey{table: k.table, dst: dst, src: hint(f.Selector, own)}] = true
}

// hint is the address of this host that the flow's packets may come from. None
// for networks towards everything: this host's own packets to the Internet are
// not to be drawn into a tunnel that was made for its networks.
func hint(s ipsec.Selector, own []netip.Addr) netip.Addr {
	if s.Dst.Bits() == 0 && !s.Src.IsSingleIP() {
		return netip.Addr{}
	}
	for _, a := range own {
		if s.Src.Contains(a) {
			return a
		}
	}
	return netip.Addr{}
}

func unlessAll(p netip.Prefix) netip.Prefix {
	if p.Bits() == 0 {
		return netip.Prefix{}
	}
	return p
}

// addresses are this host's, in a stable order.
func (k *kernel) addresses() ([]netip.Addr, error) {
	list, err := k.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("reading this host's addresses: %w", err)
	}
	var own []netip.Addr
	for _, l := range list {
		a, ok := netip.AddrFromSlice(l.IP)
		if a = a.Unmap(); ok && !a.IsLoopback() && !a.IsLinkLocalUnicast() && l.LinkIndex != k.index {
			own = append(own, a)
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	return own, nil
}
