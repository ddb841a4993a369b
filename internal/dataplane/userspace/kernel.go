package userspace

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// Routing. A flow that protects has a rule "from its source, look into its
// table", which it shares with the other flows from there or has for itself and
// its destination (see tables.go), and the table a route for the destination to
// the device with an unreachable one behind it: when the process dies, the
// device goes and takes its routes along, rules and unreachable routes stay, and
// nothing that was protected leaves in clear. Rules in front keep packets with
// our mark out, which then find the main table or nothing at all.

const (
	ourProto          = 113 // rtnetlink's protocol number of what we made
	levels            = 150
	shapes            = 64 // numbers of a level
	firstLevel        = 1  // of rules for flows; level 0 is for marked packets
	metricUnreachable = 1<<31 - 1
	metricTUN         = metricUnreachable - 1 // behind those that know a source
)

// ruleKey is a routing rule. Zero fields match all.
type ruleKey struct {
	priority     int
	v6           bool
	src, dst     netip.Prefix // invalid: all
	proto        uint8
	sport, dport uint16
	mark         uint32
	table        int  // 0: unreachable
	near         bool // not the table's default route
	own          bool // of this host's own packets alone
}

// shape is different for rules that differ in which fields they have. They must
// not have the same priority: the kernel takes a field that is not there for one
// that matches any when it looks for a rule to delete or for a double.
func (r *ruleKey) shape() (n int) {
	for i, has := range []bool{r.src.IsValid(), r.dst.IsValid(), r.proto != 0, r.sport != 0, r.dport != 0, r.own} {
		if has {
			n |= 1 << i
		}
	}
	return n
}

// routeKey is a route of one of our tables.
type routeKey struct {
	table       int
	dst         netip.Prefix
	unreachable bool
	src         netip.Addr // preferred source; invalid: the kernel's choice
}

// kernel is the System of the network namespace it was made in.
type kernel struct {
	log      *slog.Logger
	nl       *netlink.Handle
	filter   *filter // nil: none
	dev      string
	index    int
	mark     uint32
	table    int
	priority int
	detail   string

	mu     sync.Mutex
	rules  map[ruleKey]int // flows that need it
	routes map[routeKey]int
	flows  map[ipsec.FlowID]*kept
	// special is the number of flows that need all others looked at when one
	// changes (see isSpecial). exact: rules and routes are what the flows need each
	// for itself, and their numbers are right.
	special int
	exact   bool
	ways    map[slot]routeKey    // the routes to the device
	tables  map[netip.Prefix]int // of local networks that have their own
	// What a predecessor left; it stays until its flows came back or the grace
	// is over.
	oldRules  map[ruleKey]bool
	oldRoutes map[routeKey]bool
	grace     *time.Timer
	closed    bool
	stuck     [2]bool // forwarding was off at start and nobody was told, by family
}

func newKernel(o *Options, dev string) (System, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink for routes: %w", err)
	}
	k := &kernel{
		log: o.Log, nl: nl, dev: dev, mark: o.Mark, table: o.Table, priority: o.Priority,
		rules: map[ruleKey]int{}, routes: map[routeKey]int{}, flows: map[ipsec.FlowID]*kept{},
		ways: map[slot]routeKey{}, tables: map[netip.Prefix]int{}, exact: true,
	}
	if err := k.open(o); err != nil {
		nl.Close()
		return nil, err
	}
	return k, nil
}

func (k *kernel) open(o *Options) error {
	k.sysctls()
	link, err := k.nl.LinkByName(k.dev)
	if err != nil {
		return fmt.Errorf("device %s: %w", k.dev, err)
	}
	k.index = link.Attrs().Index
	if err := k.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bringing up device %s: %w", k.dev, err)
	}
	if o.NoFilters {
		k.detail = "packet filter off by configuration: what comes in clear is not refused"
	} else if k.filter, err = newFilter(k.dev, o.Mark, o.EncapPort); err != nil {
		k.log.Warn("no nftables in this kernel: packets that come in clear and should be protected are not refused; what goes out is still protected by routes", "err", err)
		k.detail = "no packet filter"
	} else {
		k.detail = "packet filter nftables"
	}
	if err := k.findLeftovers(); err != nil {
		return err
	}
	if len(k.oldRules)+len(k.oldRoutes) == 0 && (k.filter == nil || !k.filter.hasOld()) {
		return nil
	}
	k.log.Info("routes and filters of a data plane that ended without cleaning up were found; they protect its flows until these come back",
		"rules", len(k.oldRules), "routes", len(k.oldRoutes), "longest", o.Grace)
	if o.Grace < 0 {
		return k.sweep()
	}
	k.grace = time.AfterFunc(o.Grace, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.closed {
			return
		}
		if err := k.sweep(); err != nil {
			k.log.Warn("what a predecessor left could not all be removed", "err", err)
		}
	})
	return nil
}

// sysctls: packets out of the device come from networks that no route to it
// need lead to, and the device needs no addresses.
func (k *kernel) sysctls() {
	for _, s := range []struct{ path, value string }{
		{"ipv4/conf/" + k.dev + "/rp_filter", "0"},
		{"ipv6/conf/" + k.dev + "/addr_gen_mode", "1"},
		{"ipv6/conf/" + k.dev + "/accept_ra", "0"},
	} {
		err := os.WriteFile("/proc/sys/net/"+s.path, []byte(s.value), 0o644)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			k.log.Warn("a parameter of the TUN device could not be set", "path", "/proc/sys/net/"+s.path, "value", s.value, "err", err)
		}
	}
	// Read here: /proc/sys/net is that of the thread's network namespace.
	k.stuck = [2]bool{!forwards("ipv4"), !forwards("ipv6")}
	all, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter")
	if v := strings.TrimSpace(string(all)); err == nil && v != "0" {
		// The larger of "all" and the device's own counts.
		k.log.Warn("net.ipv4.conf.all.rp_filter overrides the TUN device's: packets out of the tunnel are dropped if no flow leads back to their source",
			"value", v, "remedy", "sysctl net.ipv4.conf.all.rp_filter=0")
	}
}

// warnForwarding says once a family that flows join networks while this host did
// not forward when it started. Called with mu held.
func (k *kernel) warnForwarding(flows []ipsec.Flow) {
	for i := range flows {
		s := &flows[i].Selector
		if s.Src.IsSingleIP() || s.Dst.IsSingleIP() || !shields(flows[i].Type) {
			continue
		}
		v, key := &k.stuck[0], "net.ipv4.ip_forward"
		if s.Dst.Addr().Is6() {
			v, key = &k.stuck[1], "net.ipv6.conf.all.forwarding"
		}
		if *v {
			*v = false // once
			k.log.Warn("a flow joins networks, and this host forwards no packets, or did not at start: only its own enter the tunnel",
				"flow", flows[i].ID, "remedy", "sysctl "+key+"=1")
		}
	}
}

// forwards tells whether any of this host's interfaces forwards packets. It is
// true as well when that cannot be found out.
func forwards(family string) bool {
	each, _ := filepath.Glob("/proc/sys/net/" + family + "/conf/*/forwarding")
	for _, path := range each {
		if v, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(v)) != "0" {
			return true
		}
	}
	return len(each) == 0
}

func (k *kernel) Detail() string { return k.detail }

// findLeftovers reads what has our protocol number.
func (k *kernel) findLeftovers() error {
	k.oldRules, k.oldRoutes = map[ruleKey]bool{}, map[routeKey]bool{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := k.nl.RuleList(family)
		if err != nil {
			return fmt.Errorf("reading routing rules: %w", err)
		}
		for i := range rules {
			r := &rules[i]
			if r.Protocol == ourProto && r.Priority >= k.priority && r.Priority < k.priority+levels*shapes {
				k.oldRules[keyOf(r, family)] = true
			}
		}
		// Of all tables at once, since there are many that may be ours.
		all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Protocol: ourProto}
		routes, err := k.nl.RouteListFiltered(family, all, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return fmt.Errorf("reading tables %d to %d: %w", k.table, k.table+tables-1, err)
		}
		for i := range routes {
			r := &routes[i]
			if r.Type == unix.RTN_UNREACHABLE && k.ours(r.Table) {
				k.oldRoutes[routeKey{table: r.Table, dst: prefixOf(r.Dst, family), unreachable: true}] = true
			}
		}
	}
	k.adopt()
	return nil
}

// sweep removes what is left of a predecessor. Called with mu held.
func (k *kernel) sweep() error {
	var errs []error
	for r := range k.oldRules {
		errs = append(errs, ignoreGone(k.nl.RuleDel(k.rule(r, true))))
	}
	for r := range k.oldRoutes {
		if k.routes[r] == 0 {
			errs = append(errs, ignoreGone(k.nl.RouteDel(k.route(r))))
		}
	}
	clear(k.oldRules)
	clear(k.oldRoutes)
	k.release()
	if k.filter != nil && k.filter.hasOld() {
		k.filter.forget()
		errs = append(errs, k.filter.set(k.inOrder(), k.special > 0))
	}
	return errors.Join(errs...)
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Close takes everything back, what predecessors left too.
func (k *kernel) Close() error {
	k.mu.Lock()
	all := k.inOrder()
	k.mu.Unlock()
	if err := k.Change(all, nil); err != nil {
		k.log.Warn("routes and filters could not all be removed", "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	if k.grace != nil {
		k.grace.Stop()
	}
	err := k.sweep()
	if k.filter != nil {
		err = errors.Join(err, k.filter.close())
	}
	k.nl.Close()
	return err
}

func (k *kernel) rule(r ruleKey, del bool) *netlink.Rule {
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
	if r.table == 0 && !del {
		n.Type = unix.RTN_UNREACHABLE
	}
	return n
}

func keyOf(r *netlink.Rule, family int) ruleKey {
	k := ruleKey{
		priority: r.Priority, v6: family == netlink.FAMILY_V6, mark: r.Mark, table: r.Table,
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

func (k *kernel) route(r routeKey) *netlink.Route {
	n := &netlink.Route{Table: r.table, Dst: ipnet(r.dst), Protocol: ourProto, Priority: r.metric()}
	if r.dst.Bits() == 0 {
		n.Dst = &net.IPNet{IP: r.dst.Addr().AsSlice(), Mask: net.CIDRMask(0, r.dst.Addr().BitLen())}
	}
	if r.unreachable {
		n.Type = unix.RTN_UNREACHABLE
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

// ipnet is nil for a prefix that is all or nothing.
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
