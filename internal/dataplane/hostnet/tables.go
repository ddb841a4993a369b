package hostnet

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// Tables is how many numbers of routing tables may be used.
//
// The kernel tries routing rules one after the other for every packet,
// but finds a route among thousands at once. So flows of all protocols and ports
// share one rule for each local network, "from it, look into its table", and the
// table has a route for each remote network. A packet for which the table of one
// local network has no route goes on to the rules of others that contain it.
// What a packet costs grows with the number of local networks, then, and not with
// that of flows. Numbers from Options.Table on, as they are needed:
//
//	first      flows with a protocol or ports, and flows for which no table was
//	           left: a rule for each
//	the rest   a local network each, by level; or what this host's own packets
//	           look into that have no source address yet
//
// IPv4 and IPv6 each have tables of their own under the same numbers.
const Tables = 1024

// tableKey says what a table is for.
type tableKey struct {
	level int
	v6    bool
	near  netip.Prefix // invalid: packets without a source
}

// ours tells whether a table is one of the range, which leaves out the three that
// the kernel has names for.
func (k *Kernel) ours(table int) bool {
	return table >= k.table && table < k.table+Tables && (table < unix.RT_TABLE_DEFAULT || table > unix.RT_TABLE_LOCAL)
}

// tableOf is the table for a key, a free one if it has none yet. It is false when
// all are taken.
func (k *Kernel) tableOf(key tableKey) (int, bool) {
	if t, ok := k.tables[key]; ok {
		return t, true
	}
	taken := &k.taken[family(key.v6)]
	for i := 1; i < Tables; i++ {
		if t := k.table + i; k.ours(t) && !taken[i] && !k.oldTables[family(key.v6)][i] {
			k.tables[key] = t
			taken[i] = true
			return t, true
		}
	}
	return 0, false
}

// family is an index.
func family(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// tableRule leads into a table.
func (k *Kernel) tableRule(key tableKey, table int) ruleKey {
	r := ruleKey{v6: key.v6, table: table}
	if key.near.IsValid() {
		r.src = unlessAll(key.near)
	} else {
		r.own, r.src = true, noSource(key.v6)
	}
	return k.at(key.level, r)
}

// adopt gives a predecessor's tables to those that had them, and keeps others
// away from what has its routes.
func (k *Kernel) adopt() {
	for r := range k.oldRoutes {
		k.oldTables[family(r.dst.Addr().Is6())][r.table-k.table] = true
	}
	for r := range k.oldRules {
		if !k.ours(r.table) || r.table == k.table {
			continue
		}
		key := tableKey{level: (r.priority - k.priority) / shapes, v6: r.v6}
		switch {
		case r.own:
		case r.src.IsValid():
			key.near = r.src
		case r.v6:
			key.near = prefixOf(nil, netlink.FAMILY_V6)
		default:
			key.near = prefixOf(nil, netlink.FAMILY_V4)
		}
		if i := r.table - k.table; k.tableRule(key, r.table) == r && !k.taken[family(r.v6)][i] {
			k.tables[key], k.taken[family(r.v6)][i] = r.table, true
		}
	}
}

// release gives back those of some tables that no rule leads to.
func (k *Kernel) release(keys map[tableKey]bool) {
	for key := range keys {
		t, ok := k.tables[key]
		if r := k.tableRule(key, t); ok && k.rules[r] == 0 && !k.oldRules[r] {
			delete(k.tables, key)
			k.taken[family(key.v6)][t-k.table] = false
		}
	}
}

// leftAlone are destinations that no flow of a network which they are a small
// part of is about: what goes to everybody, to a group, or not beyond a link. A
// flow for one of them alone is another matter.
var leftAlone = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10"),
}

// covers tells whether p is more than q.
func covers(p, q netip.Prefix) bool {
	return p.Bits() < q.Bits() && p.Addr().Is6() == q.Addr().Is6() && p.Contains(q.Addr())
}

// shares tells whether a flow's rule can be one for its local network.
func shares(s *ipsec.Selector) bool { return s.Proto == 0 && s.SrcPort == 0 && s.DstPort == 0 }
