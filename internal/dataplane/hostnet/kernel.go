// Package hostnet is what a data plane changes in its host besides its device and
// its sockets: routes and routing rules that lead packets into the device, and
// packet-filter rules that refuse what comes in clear. They are a function of the
// flows alone, whatever changes led there: nothing is left when the last flow
// goes, nothing that others made is touched, and what a process left that ended
// without cleaning up protects until its successor has its flows again.
//
// A flow that comes, changes or goes costs a few messages to the kernel, however
// many there are.
package hostnet

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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
// nothing that was protected leaves in clear. A flow that exempts has a rule that
// goes on behind all of ours, and so has our mark, in front.

// Options say where and with which numbers. All of these are needed.
type Options struct {
	Device    string // that flows lead into
	Mark      uint32 // of packets (SO_MARK) that are kept out of it
	Table     int    // the first of Tables routing tables
	Priority  int    // of the first of our routing rules; 9600 numbers are used
	Filter    string // name of the packet-filter table
	NoFilters bool
	EncapPort uint16 // UDP port for ESP in UDP, which comes in clear by nature
	// Grace is how long rules, routes and filters of a predecessor stay for flows
	// that have not come back yet. Negative: not at all.
	Grace time.Duration
	Log   *slog.Logger
}

// Kernel is the part of a network namespace that is a data plane's.
type Kernel struct {
	log      *slog.Logger
	nl       *netlink.Handle
	filter   *filter // nil: none
	dev      string
	index    int
	mark     uint32
	table    int
	priority int
	detail   string

	mu      sync.Mutex
	flows   map[ipsec.FlowID]*kept
	alike   map[likeness][]*kept // by name
	ladders [realms]ladder
	// How many flows need each of these.
	rules    map[ruleKey]int
	routes   map[routeKey]int
	elements map[element]int
	hints    map[slot]routeKey // the routes with a source, where they are
	tables   map[tableKey]int
	taken    [2][Tables]bool // by address family, as tables says
	ipip     int             // flows that let IP in IP in
	own      []netip.Addr    // this host's addresses when flows were last looked at for them
	// What the flow takes that was looked at last.
	rulesOfLast  []ruleKey
	tablesOfLast []tableKey
	// What a predecessor left; it stays until its flows came back or the grace
	// is over.
	oldRules  map[ruleKey]bool
	oldRoutes map[routeKey]bool
	oldTables [2][Tables]bool // in which there were routes
	grace     *time.Timer
	closed    bool
	done      chan struct{} // closed with it
	stuck     [2]bool       // forwarding was off at start and nobody was told, by family
	// Interfaces that ask for the way back when the process started, of which
	// nobody was told.
	strict []string
}

// New finds what a predecessor left in the network namespace of the thread that
// calls it, and changes nothing yet.
func New(o Options) (*Kernel, error) {
	k, err := empty(&o)
	if err != nil {
		return nil, err
	}
	if err := k.open(&o); err != nil {
		close(k.done)
		k.nl.Close()
		return nil, err
	}
	k.watch()
	if k.filter != nil {
		k.guard()
	}
	return k, nil
}

// empty is one that has not looked at anything.
func empty(o *Options) (*Kernel, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink for routes: %w", err)
	}
	return &Kernel{
		log: o.Log, nl: nl, dev: o.Device, mark: o.Mark, table: o.Table, priority: o.Priority,
		flows: map[ipsec.FlowID]*kept{}, alike: map[likeness][]*kept{},
		rules: map[ruleKey]int{}, routes: map[routeKey]int{}, elements: map[element]int{},
		hints: map[slot]routeKey{}, tables: map[tableKey]int{}, done: make(chan struct{}),
	}, nil
}

// Clear removes what a predecessor left, where no data plane of this kind follows
// it that would take its flows over: n rules, routes and filters there were.
func Clear(o Options) (n int, err error) {
	err = look(&o, func(k *Kernel) error {
		if n = k.Leftovers(); n == 0 {
			return nil
		}
		return k.sweep()
	})
	return n, err
}

// Left is how many rules, routes and filters a predecessor left, which are not
// touched.
func Left(o Options) (n int, err error) {
	err = look(&o, func(k *Kernel) error {
		n = k.Leftovers()
		return nil
	})
	return n, err
}

// look finds what a predecessor left, for see.
func look(o *Options, see func(k *Kernel) error) error {
	k, err := empty(o)
	if err != nil {
		return err
	}
	defer k.nl.Close()
	if k.filter, err = newFilter(k.dev, o.Mark, o.EncapPort, o.Filter); err != nil {
		k.filter = nil // no nftables in this kernel, and nothing left there
	} else {
		defer k.filter.close()
	}
	if err := k.findLeftovers(); err != nil {
		return err
	}
	return see(k)
}

func (k *Kernel) open(o *Options) error {
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
	} else if k.filter, err = newFilter(k.dev, o.Mark, o.EncapPort, o.Filter); err != nil {
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
func (k *Kernel) sysctls() {
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
	k.strict = strict(k.dev)
	all, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/rp_filter")
	if v := strings.TrimSpace(string(all)); err == nil && v != "0" {
		// The larger of "all" and the device's own counts.
		k.log.Warn("net.ipv4.conf.all.rp_filter overrides the TUN device's: packets out of the tunnel are dropped if no flow leads back to their source",
			"value", v, "remedy", "sysctl net.ipv4.conf.all.rp_filter=0")
	}
}

// warnForwarding says once a family that flows join networks while this host did
// not forward when it started. Called with mu held.
func (k *Kernel) warnForwarding(flows []ipsec.Flow) {
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

// warnStrict says once that a flow is also about the packets between its two
// gateways while an interface takes packets only from where it would send to: to
// its peer this host would send into the device. Called with mu held.
func (k *Kernel) warnStrict(flows []ipsec.Flow) {
	for i := range flows {
		f := &flows[i]
		if len(k.strict) == 0 {
			return
		}
		if f.Dir == ipsec.Out && shields(f.Type) && f.Remote.Is4() && f.Selector.Dst.Contains(f.Remote) && (!f.Local.IsValid() || f.Selector.Src.Contains(f.Local)) {
			k.log.Warn("a flow is about its own gateways too, and the strict reverse-path filter of an interface drops what such a peer sends",
				"flow", f.ID, "interfaces", k.strict, "remedy", "sysctl net.ipv4.conf."+k.strict[0]+".rp_filter=2")
			k.strict = nil // once
		}
	}
}

// strict are the interfaces with a strict reverse-path filter (RFC 3704 section
// 2.2), for IPv4, since IPv6 has none.
func strict(except string) (names []string) {
	each, _ := filepath.Glob("/proc/sys/net/ipv4/conf/*/rp_filter")
	for _, path := range each {
		name := filepath.Base(filepath.Dir(path))
		if v, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(v)) == "1" && name != except && name != "lo" && name != "default" {
			names = append(names, name)
		}
	}
	return names
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

// Detail says for people what is done.
func (k *Kernel) Detail() string { return k.detail }

// findLeftovers reads what has our protocol number.
func (k *Kernel) findLeftovers() error {
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
			return fmt.Errorf("reading tables %d to %d: %w", k.table, k.table+Tables-1, err)
		}
		for i := range routes {
			r := &routes[i]
			if kind, ok := kinds[r.Type]; ok && k.ours(r.Table) {
				k.oldRoutes[routeKey{table: r.Table, dst: prefixOf(r.Dst, family), kind: kind}] = true
			}
		}
	}
	k.adopt()
	return nil
}

// sweep removes what is left of a predecessor. Called with mu held.
func (k *Kernel) sweep() error {
	var errs []error
	rules := slices.SortedFunc(maps.Keys(k.oldRules), func(a, b ruleKey) int { return cmp.Compare(k.phase(&b), k.phase(&a)) })
	for _, r := range rules {
		errs = append(errs, ignoreGone(k.nl.RuleDel(k.rule(r))))
	}
	for r := range k.oldRoutes {
		errs = append(errs, ignoreGone(k.nl.RouteDel(k.route(r))))
	}
	clear(k.oldRules)
	clear(k.oldRoutes)
	k.oldTables = [2][Tables]bool{}
	adopted := map[tableKey]bool{}
	for key := range k.tables {
		adopted[key] = true
	}
	k.release(adopted)
	if k.filter != nil {
		errs = append(errs, k.filter.sweep())
	}
	return errors.Join(errs...)
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Leftovers is how many rules and routes of a predecessor there still are, and one
// more for its filters.
func (k *Kernel) Leftovers() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.oldRules) + len(k.oldRoutes)
	if k.filter != nil && k.filter.hasOld() {
		n++
	}
	return n
}

// Abandon lets go of everything and changes nothing, as the end of a process that
// is killed does.
func (k *Kernel) Abandon() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stop()
	k.nl.Close()
	if k.filter != nil {
		_ = k.filter.nft.CloseLasting()
	}
}

// stop is false when it was called before. Called with mu held.
func (k *Kernel) stop() bool {
	if k.closed {
		return false
	}
	k.closed = true
	close(k.done)
	if k.grace != nil {
		k.grace.Stop()
	}
	return true
}

// Close takes everything back, what predecessors left too.
func (k *Kernel) Close() error {
	k.mu.Lock()
	all := make([]ipsec.Flow, 0, len(k.flows))
	for _, f := range k.flows {
		all = append(all, f.flow)
	}
	k.mu.Unlock()
	if err := k.Change(all, nil); err != nil {
		k.log.Warn("routes and filters could not all be removed", "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.stop() {
		return nil
	}
	err := k.sweep()
	if k.filter != nil {
		err = errors.Join(err, k.filter.close())
	}
	k.nl.Close()
	return err
}
