package hostnet

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The numbers of our routing rules, from Options.Priority on: 64 for each level,
// the first for packets of ours, the last of all for the end.
const (
	ourProto = 113 // rtnetlink's protocol number of what we made
	levels   = 150 // the first and the last are for other rules
	shapes   = 64  // numbers of a level
	maxLevel = levels - 2
)

// What a level's numbers are for. Rules that differ in which fields they have
// must not have the same: the kernel takes a field that is not there for one that
// matches any when it looks for a rule to delete or for a double.
const (
	numberSkip = 32 // past the rules for packets without a source, for those with one
	numberOwn  = 33 // packets without a source
	numberNop  = 49 // where the former lead
)

// ruleKey is a routing rule. Zero fields match all.
type ruleKey struct {
	priority     int
	v6           bool
	src, dst     netip.Prefix // invalid: all
	proto        uint8
	sport, dport uint16
	mark         uint32
	table        int  // 0: none
	to           int  // priority of the rule to go on with; with neither, the rule does nothing
	near         bool // not the table's default route
	own          bool // of this host's own packets alone
}

// number is r's in its level.
func (r *ruleKey) number() (n int) {
	for i, has := range []bool{r.dst.IsValid(), r.proto != 0, r.sport != 0, r.dport != 0} {
		if has {
			n |= 1 << i
		}
	}
	switch {
	case r.own && r.to != 0:
		return numberSkip
	case r.own:
		return numberOwn + n
	case r.src.IsValid():
		return 2*n + 1
	}
	return 2 * n
}

// phase says when a rule comes: what others lead to before them, what keeps
// packets out of other rules before these, and what protects before what exempts.
// Rules go in the reverse order.
func (k *Kernel) phase(r *ruleKey) int {
	switch {
	case r.table == 0 && r.to == 0:
		return 0
	case r.mark != 0 || r.own && r.to != 0:
		return 1
	case k.ours(r.table):
		return 2
	}
	return phases - 1
}

const phases = 4

func (k *Kernel) rule(r ruleKey) *netlink.Rule {
	n := netlink.NewRule()
	n.Family = netlink.FAMILY_V4
	if r.v6 {
		n.Family = netlink.FAMILY_V6
	}
	n.Priority, n.Mark, n.Table, n.Protocol = r.priority, r.mark, r.table, ourProto
	n.Src, n.Dst, n.IPProto = ipnet(r.src), ipnet(r.dst), int(r.proto)
	if r.sport != 0 {
		n.Sport = netlink.NewRulePortRange(r.sport, r.sport)
	}
	if r.dport != 0 {
		n.Dport = netlink.NewRulePortRange(r.dport, r.dport)
	}
	if r.near {
		n.SuppressPrefixlen = 0
	}
	if r.own {
		n.IifName = "lo"
	}
	switch {
	case r.to != 0:
		n.Goto = r.to
	case r.table == 0:
		n.Type = nl.FR_ACT_NOP
	}
	return n
}

func keyOf(r *netlink.Rule, family int) ruleKey {
	k := ruleKey{
		priority: r.Priority, v6: family == netlink.FAMILY_V6, mark: r.Mark, table: r.Table, to: max(0, r.Goto),
		src: prefixOf(r.Src, 0), dst: prefixOf(r.Dst, 0), proto: uint8(r.IPProto),
		near: r.SuppressPrefixlen == 0, own: r.IifName == "lo",
	}
	if r.Sport != nil {
		k.sport = r.Sport.Start
	}
	if r.Dport != nil {
		k.dport = r.Dport.Start
	}
	return k
}

// kind is what a route of ours does.
type kind uint8

const (
	toDevice    kind = iota
	unreachable      // behind it
	throw            // as if the table had no route
)

// kinds are what the kernel calls those that outlive the device.
var kinds = map[int]kind{unix.RTN_UNREACHABLE: unreachable, unix.RTN_THROW: throw}

// Metrics: what a network has for itself is before what it is exempted from as a
// part of a larger one.
const (
	metricThrow       = 1<<31 - 1
	metricUnreachable = metricThrow - 1
	metricTUN         = metricUnreachable - 1 // behind those that know a source
	metricsOfSources  = metricTUN - 1
)

// routeKey is a route of one of our tables.
type routeKey struct {
	table int
	dst   netip.Prefix
	kind  kind
	src   netip.Addr // preferred source; invalid: the kernel's choice
}

// slot is where the kernel has place for one route.
type slot struct {
	table, metric int
	dst           netip.Prefix
}

func (r *routeKey) slot() slot { return slot{r.table, r.metric(), r.dst} }

// metric keeps routes apart that differ in their preferred source alone, which
// several local networks with the same remote one do. It fits an int of 32 bits.
func (r *routeKey) metric() int {
	switch {
	case r.kind == throw:
		return metricThrow
	case r.kind == unreachable:
		return metricUnreachable
	case !r.src.IsValid():
		return metricTUN
	}
	sum := uint32(2166136261) // FNV-1a
	for _, b := range r.src.AsSlice() {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return 1 + int(sum%metricsOfSources)
}

func (k *Kernel) route(r routeKey) *netlink.Route {
	n := &netlink.Route{Table: r.table, Dst: ipnet(r.dst), Protocol: ourProto, Priority: r.metric()}
	switch r.kind {
	case unreachable:
		n.Type = unix.RTN_UNREACHABLE
		return n
	case throw:
		n.Type = unix.RTN_THROW
		return n
	}
	n.LinkIndex = k.index
	if r.dst.Addr().Is4() {
		n.Scope = unix.RT_SCOPE_LINK
	}
	if r.src.IsValid() {
		n.Src = r.src.AsSlice()
	}
	return n
}

// ipnet is nil for no prefix.
func ipnet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() {
		return nil
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is the prefix of n; without n the default of the family, 0: none.
func prefixOf(n *net.IPNet, family int) netip.Prefix {
	if n == nil {
		switch family {
		case netlink.FAMILY_V4:
			return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		case netlink.FAMILY_V6:
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a, bits)
}
