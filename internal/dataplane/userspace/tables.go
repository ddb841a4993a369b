package userspace

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// Tables. The kernel tries routing rules one after the other for every packet,
// but finds a route among thousands at once. So flows of all protocols and ports
// share one rule for each local network, "from it, look into its table", and the
// table has a route for each remote network. Numbers from Options.Table on:
//
//	first      flows with a protocol or ports, flows whose order matters and
//	           flows for which no table was left: a rule for each
//	second     this host's own packets that have no source address yet
//	the rest   a local network each, by address family
//
// IPv4 and IPv6 each have tables of their own under the same numbers.
const (
	tables      = 256
	hintTable   = 1 // from Options.Table on
	firstTable  = 2
	numbersLeft = 1<<31 - 2 // of metrics that come from addresses
)

// ours tells whether a table is one of the range.
func (k *kernel) ours(table int) bool { return table >= k.table && table < k.table+tables }

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
	case r.unreachable:
		return metricUnreachable
	case !r.src.IsValid():
		return metricTUN
	}
	sum := uint32(2166136261) // FNV-1a
	for _, b := range r.src.AsSlice() {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return 1 + int(sum%(numbersLeft-1))
}

// shares tells whether a flow's rule can be one for its local network.
func shares(s *ipsec.Selector) bool { return s.Proto == 0 && s.SrcPort == 0 && s.DstPort == 0 }

// sharedRule is the rule for all flows of a local network.
func (k *kernel) sharedRule(src netip.Prefix, table int) ruleKey {
	r := ruleKey{v6: src.Addr().Is6(), src: unlessAll(src), table: table}
	r.priority = k.priority + firstLevel*shapes + r.shape()
	return r
}

// hintRule is for this host's own packets without a source. IPv6 has no way to
// say that; its table has routes between two hosts alone.
func (k *kernel) hintRule(v6 bool) ruleKey {
	r := ruleKey{v6: v6, own: true, table: k.table + hintTable}
	if !v6 {
		r.src = netip.PrefixFrom(netip.IPv4Unspecified(), 32)
	}
	r.priority = k.priority + firstLevel*shapes + r.shape()
	return r
}

// tableOf is the table of a local network, a free one if it has none yet. It is
// false when all are taken.
func (k *kernel) tableOf(src netip.Prefix) (int, bool) {
	if t, ok := k.tables[src]; ok {
		return t, true
	}
	v6 := src.Addr().Is6()
	var taken [tables]bool
	for p, t := range k.tables {
		if p.Addr().Is6() == v6 {
			taken[t-k.table] = true
		}
	}
	for r := range k.oldRoutes { // they would stand in the way of another network
		if r.dst.Addr().Is6() == v6 && k.ours(r.table) {
			taken[r.table-k.table] = true
		}
	}
	for i := firstTable; i < tables; i++ {
		if !taken[i] {
			k.tables[src] = k.table + i
			return k.table + i, true
		}
	}
	return 0, false
}

// adopt gives a predecessor's tables to the networks that had them.
func (k *kernel) adopt() {
	for r := range k.oldRules {
		if !k.ours(r.table) || r.table < k.table+firstTable {
			continue
		}
		src := r.src
		if !src.IsValid() {
			src = prefixOf(nil, netlink.FAMILY_V4)
			if r.v6 {
				src = prefixOf(nil, netlink.FAMILY_V6)
			}
		}
		if k.sharedRule(src, r.table) == r {
			k.tables[src] = r.table
		}
	}
}

// release gives back the tables that no rule leads to.
func (k *kernel) release() {
	for src, t := range k.tables {
		if r := k.sharedRule(src, t); k.rules[r] == 0 && !k.oldRules[r] {
			delete(k.tables, src)
		}
	}
}

// share fills in what a flow needs that shares its rule. It is false when no
// table is left.
func (k *kernel) share(rules map[ruleKey]bool, routes map[routeKey]bool, s *ipsec.Selector, own []netip.Addr) bool {
	table, ok := k.tableOf(s.Src)
	if !ok {
		return false
	}
	v6 := s.Dst.Addr().Is6()
	k.wantMarked(rules, v6)
	rules[k.sharedRule(s.Src, table)] = true
	routes[routeKey{table: table, dst: s.Dst, unreachable: true}] = true
	from := hint(*s, own)
	if s.Src.Bits() == 0 { // takes packets without a source too
		routes[routeKey{table: table, dst: s.Dst, src: from}] = true
		return true
	}
	routes[routeKey{table: table, dst: s.Dst}] = true
	if !from.IsValid() || v6 && !betweenHosts(s) {
		return true
	}
	rules[k.hintRule(v6)] = true
	table = k.table + hintTable
	routes[routeKey{table: table, dst: s.Dst, src: from}] = true
	routes[routeKey{table: table, dst: s.Dst, unreachable: true}] = true
	return true
}

func betweenHosts(s *ipsec.Selector) bool { return s.Src.IsSingleIP() && s.Dst.IsSingleIP() }

// wantMarked keeps our own packets out of the tables: they find the main one or
// nothing at all.
func (k *kernel) wantMarked(rules map[ruleKey]bool, v6 bool) {
	rules[ruleKey{priority: k.priority, v6: v6, mark: k.mark, table: unix.RT_TABLE_MAIN}] = true
	rules[ruleKey{priority: k.priority + 1, v6: v6, mark: k.mark}] = true
}
