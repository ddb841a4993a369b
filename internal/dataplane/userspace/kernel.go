package userspace

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// kernel is the System of a real host: routing rules lead what a flow protects
// into a table of our own, whose routes lead into the device. Behind each of
// them stands an unreachable one: when the device goes, with a process that
// crashed, nothing finds another way.
//
//	priority      marked packets (ours, sealed)         main
//	priority + 1  to a flow's own network                main, without its default route
//	priority + 2  from a flow's network to the remote    our table
//	priority + 3  without a source yet, to the remote    our table
//
// The last one is for programs of this host that leave the source address to
// the system: they get one inside the flow, if this host has one there.
type kernel struct {
	opt    *Options
	log    *slog.Logger
	nl     *netlink.Handle
	link   netlink.Link
	filter *filter // nil: none
	why    string  // there is none
	state  routing // what is there now
}

// routing is a set of rules and routes of ours, by what identifies them.
type routing struct {
	rules  map[ruleKey]bool
	routes map[routeKey]netip.Addr // the source to prefer, if any
}

type ruleKey struct {
	v6       bool
	step     int // after the first priority
	src, dst netip.Prefix
}

type routeKey struct {
	dst         netip.Prefix
	unreachable bool
}

// Metrics of the two routes to a network: the device, and what is behind it.
const (
	metricTUN         = 10
	metricUnreachable = 4000
)

// newKernel opens what is needed in the network namespace of this thread, and
// takes over what a predecessor left.
func newKernel(o *Options, dev string) (System, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("the kernel's routing cannot be reached: %w", err)
	}
	k := &kernel{opt: o, log: o.Log, nl: nl, state: routing{rules: map[ruleKey]bool{}, routes: map[routeKey]netip.Addr{}}}
	if k.link, err = nl.LinkByName(dev); err != nil {
		nl.Close()
		return nil, fmt.Errorf("device %s: %w", dev, err)
	}
	// The device has no address, and what comes out of it was checked already.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+dev+"/rp_filter", []byte("0"), 0o644); err != nil {
		k.log.Warn("rp_filter of the TUN device cannot be switched off; packets out of the tunnel may be dropped", "device", dev, "error", err)
	}
	if err := nl.LinkSetUp(k.link); err != nil {
		nl.Close()
		return nil, fmt.Errorf("device %s cannot be set up: %w", dev, err)
	}
	if k.filter, err = newFilter(o, dev); err != nil {
		k.why = err.Error()
		k.log.Warn("the kernel takes no packet-filter rules: clear text that should have been protected is not dropped on its way in", "error", err)
	}
	if err := k.adopt(); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Detail implements System.
func (k *kernel) Detail() string {
	s := fmt.Sprintf("routing table %d, rules from %d, mark %#x", k.opt.Table, k.opt.Priority, k.opt.Mark)
	if k.filter == nil {
		return s + ", no packet filter (" + k.why + ")"
	}
	return s + ", clear text dropped by nftables"
}

// adopt learns what is in our table and under our priorities. The routes of a
// device that is gone went with it.
func (k *kernel) adopt() error {
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := k.nl.RuleList(fam)
		if err != nil {
			return fmt.Errorf("the routing rules cannot be read: %w", err)
		}
		for _, r := range rules {
			if step := r.Priority - k.opt.Priority; step >= 0 && step < 4 {
				k.state.rules[ruleKey{v6: fam == unix.AF_INET6, step: step, src: prefixOf(r.Src), dst: prefixOf(r.Dst)}] = true
			}
		}
		routes, err := k.nl.RouteListFiltered(fam, &netlink.Route{Table: k.opt.Table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("routing table %d cannot be read: %w", k.opt.Table, err)
		}
		for _, r := range routes {
			dst := prefixOf(r.Dst)
			if !dst.IsValid() {
				dst = anyPrefix(fam == unix.AF_INET6)
			}
			src, _ := netip.AddrFromSlice(r.Src)
			k.state.routes[routeKey{dst: dst, unreachable: r.Type == unix.RTN_UNREACHABLE}] = src.Unmap()
		}
	}
	return nil
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}

func anyPrefix(v6 bool) netip.Prefix {
	if v6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func ipNet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() {
		return nil
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// SetFlows implements System. What is new comes before what is old goes, so
// there is no moment in which neither is there; after an error what was there
// before is there again.
func (k *kernel) SetFlows(flows []ipsec.Flow) error {
	want, err := k.wanted(flows)
	if err != nil {
		return err
	}
	if k.filter != nil {
		if err := k.filter.set(flows); err != nil {
			return fmt.Errorf("the packet-filter rules cannot be set: %w", err)
		}
	}
	before := k.state.clone()
	if err := k.change(want); err != nil {
		return errors.Join(err, k.change(before))
	}
	return nil
}

// protects tells whether a flow's packets have to come to us.
func protects(f *ipsec.Flow) bool { return f.Dir == ipsec.Out && f.Type != ipsec.FlowBypass }

func (k *kernel) wanted(flows []ipsec.Flow) (routing, error) {
	r := routing{rules: map[ruleKey]bool{}, routes: map[routeKey]netip.Addr{}}
	own, err := k.addrs()
	if err != nil {
		return r, err
	}
	for i := range flows {
		f := &flows[i]
		if !protects(f) {
			continue
		}
		src, dst := f.Selector.Src.Masked(), f.Selector.Dst.Masked()
		v6 := dst.Addr().Is6()
		r.rules[ruleKey{v6: v6, step: 0}] = true
		if dst.Overlaps(src) {
			r.rules[ruleKey{v6: v6, step: 1, dst: src}] = true
		}
		r.rules[ruleKey{v6: v6, step: 2, src: src, dst: dst}] = true
		if ownsSource(own, src, dst) {
			r.rules[ruleKey{v6: v6, step: 3, src: unset(v6), dst: dst}] = true
		}
		r.routes[routeKey{dst: dst, unreachable: true}] = netip.Addr{}
		// Packets of our own towards the remote network leave from an address of
		// ours inside the flow, if we have one.
		at := routeKey{dst: dst}
		if !r.routes[at].IsValid() {
			r.routes[at] = netip.Addr{}
			for _, a := range own {
				if src.Contains(a) {
					r.routes[at] = a
					break
				}
			}
		}
	}
	return r, nil
}

// ownsSource tells whether packets of this host that have no source address yet
// belong into a flow: one address of ours is in it. Not so for a network towards
// everything, since then the host itself would be cut off from all the rest; and
// for IPv6 between single hosts alone, since its rules cannot tell a packet
// without a source.
func ownsSource(own []netip.Addr, src, dst netip.Prefix) bool {
	if dst.Bits() == 0 && !src.IsSingleIP() || dst.Addr().Is6() && !(src.IsSingleIP() && dst.IsSingleIP()) {
		return false
	}
	return slices.ContainsFunc(own, src.Contains)
}

// unset is the source of a packet that has none yet.
func unset(v6 bool) netip.Prefix {
	if v6 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 32)
}

func (k *kernel) addrs() ([]netip.Addr, error) {
	list, err := k.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("the host's addresses cannot be read: %w", err)
	}
	var all []netip.Addr
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			all = append(all, ip.Unmap())
		}
	}
	return all, nil
}

func (r routing) clone() routing {
	c := routing{rules: map[ruleKey]bool{}, routes: map[routeKey]netip.Addr{}}
	for x := range r.rules {
		c.rules[x] = true
	}
	for x, src := range r.routes {
		c.routes[x] = src
	}
	return c
}

// change goes from the state to another: routes, then the rules that lead to
// them; on the way back rules first.
func (k *kernel) change(want routing) error {
	for _, key := range sortedRoutes(want.routes) {
		src := want.routes[key]
		if had, ok := k.state.routes[key]; ok && had == src {
			continue
		}
		if err := k.nl.RouteReplace(k.route(key, src)); err != nil {
			return fmt.Errorf("the route to %s through %s cannot be set: %w", key.dst, k.opt.TUN, err)
		}
		k.state.routes[key] = src
	}
	for key := range want.rules {
		if k.state.rules[key] {
			continue
		}
		if err := k.nl.RuleAdd(k.rule(key)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("the routing rule from %s to %s cannot be set: %w", key.src, key.dst, err)
		}
		k.state.rules[key] = true
	}
	for key := range k.state.rules {
		if want.rules[key] {
			continue
		}
		if err := k.nl.RuleDel(k.rule(key)); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("the routing rule from %s to %s cannot be removed: %w", key.src, key.dst, err)
		}
		delete(k.state.rules, key)
	}
	for _, key := range sortedRoutes(k.state.routes) {
		if _, ok := want.routes[key]; ok {
			continue
		}
		if err := k.nl.RouteDel(k.route(key, netip.Addr{})); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("the route to %s cannot be removed: %w", key.dst, err)
		}
		delete(k.state.routes, key)
	}
	return nil
}

// sortedRoutes gives the unreachable ones first: they are to be there before,
// and are no hindrance after.
func sortedRoutes(m map[routeKey]netip.Addr) []routeKey {
	l := make([]routeKey, 0, len(m))
	for key := range m {
		l = append(l, key)
	}
	slices.SortFunc(l, func(a, b routeKey) int {
		if a.unreachable != b.unreachable {
			if a.unreachable {
				return -1
			}
			return 1
		}
		return cmp.Or(a.dst.Addr().Compare(b.dst.Addr()), a.dst.Bits()-b.dst.Bits())
	})
	return l
}

func (k *kernel) route(key routeKey, src netip.Addr) *netlink.Route {
	r := &netlink.Route{Dst: ipNet(key.dst), Table: k.opt.Table, Priority: metricTUN, LinkIndex: k.link.Attrs().Index, Family: family(key.dst.Addr().Is6())}
	if key.unreachable {
		r.Type, r.Priority, r.LinkIndex = unix.RTN_UNREACHABLE, metricUnreachable, 0
		return r
	}
	if key.dst.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if src.IsValid() {
		r.Src = src.AsSlice()
	}
	return r
}

func family(v6 bool) int {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (k *kernel) rule(key ruleKey) *netlink.Rule {
	r := netlink.NewRule()
	r.Family = family(key.v6)
	r.Priority = k.opt.Priority + key.step
	r.Src, r.Dst = ipNet(key.src), ipNet(key.dst)
	switch key.step {
	case 0:
		r.Mark, r.Table = k.opt.Mark, unix.RT_TABLE_MAIN
	case 1:
		r.Table, r.SuppressPrefixlen = unix.RT_TABLE_MAIN, 0
	case 3:
		r.Table = k.opt.Table
		if key.v6 {
			r.IifName = "lo"
		}
	default:
		r.Table = k.opt.Table
	}
	return r
}

// Close implements System: all of ours goes.
func (k *kernel) Close() error {
	err := k.change(routing{})
	if k.filter != nil {
		err = errors.Join(err, k.filter.close())
	}
	k.nl.Close()
	return err
}
