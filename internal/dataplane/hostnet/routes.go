package hostnet

import (
	"net/netip"

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

// realm is one of the things that a flow has a level in.
type realm uint8

const (
	routing realm = iota
	filterOut
	filterIn
	realms
)

func (r realm) String() string { return [...]string{"routing", "out", "in"}[r] }

// entry is what a flow says in one realm.
type entry struct {
	at     place
	level  int16
	realm  realm
	exempt bool
	home   bool // what stays at home
}

// entriesOf are a flow's, without their levels. One whose far network has its
// near one in it has in front of it the exemption of what stays at home.
func entriesOf(f *ipsec.Flow) []entry {
	near, far, filter := f.Selector.Src, f.Selector.Dst, filterOut
	if f.Dir == ipsec.In {
		near, far, filter = far, near, filterIn
	}
	shields := shields(f.Type)
	all := []entry{{at: placeOf(f, f.Type.MayClear()), realm: filter, exempt: f.Type.MayClear()}}
	if f.Dir == ipsec.Out {
		all = append(all, entry{at: placeOf(f, !shields), realm: routing, exempt: !shields})
	}
	if !shields || !isLocal(near, far) {
		return all
	}
	home := entry{at: placeOf(&ipsec.Flow{Order: f.Order, Selector: ipsec.Selector{Src: near, Dst: near}}, true), realm: filter, exempt: true, home: true}
	all = append(all, home)
	if f.Dir == ipsec.Out {
		home.realm = routing
		all = append(all, home)
	}
	return all
}

// selector is what packets must look like that the entry is about.
func (e *entry) selector(f *ipsec.Flow) ipsec.Selector {
	switch {
	case !e.home:
		return f.Selector
	case f.Dir == ipsec.In:
		return ipsec.Selector{Src: f.Selector.Dst, Dst: f.Selector.Dst}
	}
	return ipsec.Selector{Src: f.Selector.Src, Dst: f.Selector.Src}
}

// needs is what a flow takes in the host.
type needs struct {
	entries  []entry
	rules    []ruleKey // shared with other flows
	routes   []routeKey
	elements []element
	tables   []tableKey
}

// at gives a rule its number in a level.
func (k *Kernel) at(level int, r ruleKey) ruleKey {
	r.priority = k.priority + level*shapes + r.number()
	return r
}

// end is the rule behind all of ours; who goes on there finds what the host would
// do without us.
func (k *Kernel) end(v6 bool) ruleKey {
	return ruleKey{v6: v6, priority: k.priority + levels*shapes - 1}
}

// fill works out what n's entries take, which are f's.
func (k *Kernel) fill(n *needs, f *ipsec.Flow, h *home) error {
	for i := range n.entries {
		e := &n.entries[i]
		sel, level := e.selector(f), int(e.level)
		if e.realm != routing {
			n.elements = append(n.elements, elements(e, sel)...)
			continue
		}
		v6 := sel.Dst.Addr().Is6()
		end := k.end(v6)
		n.rules = append(n.rules, end)
		switch {
		case e.home:
			k.stayHome(n, level, sel.Src, v6)
		case e.exempt:
			n.rules = append(n.rules, k.at(level, ruleOf(&sel, ruleKey{v6: v6, to: end.priority})))
		default:
			// Our own packets are kept out of all this.
			n.rules = append(n.rules, ruleKey{priority: k.priority, v6: v6, mark: k.mark, to: end.priority})
			own, err := h.addresses()
			if err != nil {
				return err
			}
			k.protect(n, level, &sel, v6, own)
		}
	}
	return nil
}

// ruleOf fills a selector into a rule.
func ruleOf(s *ipsec.Selector, r ruleKey) ruleKey {
	r.src, r.dst, r.proto, r.sport, r.dport = unlessAll(s.Src), unlessAll(s.Dst), s.Proto, s.SrcPort, s.DstPort
	return r
}

// stayHome exempts what this host knows a way to; the default route is none.
func (k *Kernel) stayHome(n *needs, level int, home netip.Prefix, v6 bool) {
	r := ruleKey{v6: v6, src: home, dst: home, table: unix.RT_TABLE_MAIN, near: true}
	n.rules = append(n.rules, k.at(level, r))
	r.own, r.src = true, noSource(v6)
	k.sourceless(n, level, r)
}

// protect leads into the device. A packet of this host's own that has no source
// address yet gets one from the flow's network, if the host has one there.
func (k *Kernel) protect(n *needs, level int, s *ipsec.Selector, v6 bool, own []netip.Addr) {
	from := hint(s, own)
	if !shares(s) {
		k.single(n, level, s, v6, from)
		return
	}
	key := tableKey{level: level, v6: v6, near: s.Src}
	table, ok := k.tableOf(key)
	if !ok {
		k.single(n, level, s, v6, from)
		return
	}
	n.tables = append(n.tables, key)
	n.rules = append(n.rules, k.tableRule(key, table))
	n.lead(table, s.Dst)
	n.routes = append(n.routes, routeKey{table: table, dst: s.Dst})
	if !from.IsValid() {
		return
	}
	if s.Src.Bits() == 0 { // takes packets without a source too
		n.routes = append(n.routes, routeKey{table: table, dst: s.Dst, src: from})
		return
	}
	key.near = netip.Prefix{}
	r := k.at(level, ruleKey{v6: v6, own: true, src: noSource(v6), dst: unlessAll(s.Dst), table: k.table})
	if t, ok := k.tableOf(key); ok {
		n.tables = append(n.tables, key)
		table, r = t, k.tableRule(key, t)
	} else {
		table = k.table
	}
	k.sourceless(n, level, r)
	n.lead(table, s.Dst)
	n.routes = append(n.routes, routeKey{table: table, dst: s.Dst, src: from})
}

// single is for a flow that has a rule for itself.
func (k *Kernel) single(n *needs, level int, s *ipsec.Selector, v6 bool, from netip.Addr) {
	r := ruleOf(s, ruleKey{v6: v6, table: k.table})
	n.rules = append(n.rules, k.at(level, r))
	n.lead(k.table, s.Dst)
	n.routes = append(n.routes, routeKey{table: k.table, dst: s.Dst})
	if !from.IsValid() {
		return
	}
	n.routes = append(n.routes, routeKey{table: k.table, dst: s.Dst, src: from})
	if r.src.IsValid() {
		r.own, r.src = true, noSource(v6)
		k.sourceless(n, level, r)
	}
}

// lead puts behind a route to the device what stays when that goes, and the ways
// out for what no larger network is about.
func (n *needs) lead(table int, dst netip.Prefix) {
	n.routes = append(n.routes, routeKey{table: table, dst: dst, kind: unreachable})
	for _, p := range leftAlone {
		if covers(dst, p) {
			n.routes = append(n.routes, routeKey{table: table, dst: p, kind: throw})
		}
	}
}

// noSource is what IPv4 rules call a packet without a source. IPv6 has no name
// for it; see sourceless.
func noSource(v6 bool) netip.Prefix {
	if v6 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 32)
}

// halves are all IPv6 addresses. A rule with a source never matches a packet that
// has none, so these two match all others.
var halves = [2]netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")}

// sourceless adds a rule for this host's packets without a source, around which
// IPv6 packets that have one are led.
func (k *Kernel) sourceless(n *needs, level int, r ruleKey) {
	n.rules = append(n.rules, k.at(level, r))
	if !r.v6 {
		return
	}
	nop := ruleKey{v6: true, priority: k.priority + level*shapes + numberNop}
	n.rules = append(n.rules, nop)
	for _, p := range halves {
		n.rules = append(n.rules, k.at(level, ruleKey{v6: true, own: true, src: p, to: nop.priority}))
	}
}

// hint is the address of this host that the flow's packets may come from. None
// for networks towards everything: this host's own packets to the Internet are
// not to be drawn into a tunnel that was made for its networks.
func hint(s *ipsec.Selector, own []netip.Addr) netip.Addr {
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
