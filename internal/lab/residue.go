package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// State is what a host's network is made of, a line a thing, sorted: links with
// their addresses, routes of all tables, rules, packet-filter tables with their
// chains and rules, IPsec state of the kernel, and open sockets.
type State []string

// State reads the host's state.
func (h *Host) State() (State, error) {
	var s State
	for _, read := range []func(*State) error{h.links, h.routes, h.rules, h.filters, h.xfrm, h.sockets} {
		if err := read(&s); err != nil {
			return nil, fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	slices.Sort(s)
	return s, nil
}

// Diff says what is there now and was not before ("+") and the reverse ("-");
// "" when nothing changed.
func (before State) Diff(now State) string {
	var b strings.Builder
	count := map[string]int{}
	for _, l := range before {
		count[l]--
	}
	for _, l := range now {
		count[l]++
	}
	all := slices.Concat(before, now)
	slices.Sort(all)
	for _, l := range slices.Compact(all) {
		for range count[l] {
			fmt.Fprintf(&b, "+ %s\n", l)
		}
		for range -count[l] {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	return b.String()
}

func (s *State) add(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

func (h *Host) links(s *State) error {
	links, err := h.nl.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		a := l.Attrs()
		s.add("link %s %s mtu %d %s", a.Name, l.Type(), a.MTU, a.Flags)
		addrs, err := h.nl.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			s.add("addr %s %s", a.Name, addr.IPNet)
		}
	}
	return nil
}

func (h *Host) routes(s *State) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Table == unix.RT_TABLE_LOCAL || r.Flags&unix.RTM_F_CLONED != 0 {
				continue
			}
			dev := "-"
			if l, err := h.nl.LinkByIndex(r.LinkIndex); err == nil {
				dev = l.Attrs().Name
			}
			s.add("route table %d %v type %d via %v dev %s metric %d proto %d", r.Table, r.Dst, r.Type, r.Gw, dev, r.Priority, r.Protocol)
		}
	}
	return nil
}

func (h *Host) rules(s *State) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := h.nl.RuleList(family)
		if err != nil {
			return err
		}
		for _, r := range rules {
			s.add("rule family %d priority %d from %v to %v mark %#x table %d invert %v", family, r.Priority, r.Src, r.Dst, r.Mark, r.Table, r.Invert)
		}
	}
	return nil
}

func (h *Host) filters(s *State) error {
	c, err := h.nft()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, t := range tables {
		s.add("nft table %s (family %d)", t.Name, t.Family)
		sets, err := c.GetSets(t)
		if err != nil {
			return err
		}
		for _, set := range sets {
			s.add("nft set %s %s", t.Name, set.Name)
		}
	}
	chains, err := c.ListChains()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	for _, ch := range chains {
		rules, err := c.GetRules(&nftables.Table{Name: ch.Table.Name, Family: ch.Table.Family}, ch)
		if err != nil {
			return err
		}
		s.add("nft chain %s %s with %d rules", ch.Table.Name, ch.Name, len(rules))
	}
	return nil
}

func (h *Host) xfrm(s *State) error {
	states, err := h.nl.XfrmStateList(netlink.FAMILY_ALL)
	if err != nil {
		return nil // a kernel without IPsec has none
	}
	for _, x := range states {
		s.add("xfrm state %s %s spi %08x", x.Src, x.Dst, x.Spi)
	}
	policies, err := h.nl.XfrmPolicyList(netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	for _, x := range policies {
		s.add("xfrm policy %s %s dir %v", x.Src, x.Dst, x.Dir)
	}
	return nil
}

func (h *Host) sockets(s *State) error {
	return h.Do(func() error {
		for _, table := range []string{"udp", "udp6", "raw", "raw6", "packet"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + table)
			if err != nil {
				continue // a kernel without it
			}
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")[1:]
			for _, l := range lines {
				f := strings.Fields(l)
				if table == "packet" {
					s.add("socket packet")
				} else if len(f) > 2 {
					s.add("socket %s %s %s", table, f[1], f[2])
				}
			}
		}
		return nil
	})
}

// OpenFiles lists what this process has open, a line a descriptor without its
// number, sorted: for tests of code that runs inside the test's own process.
func OpenFiles() (State, error) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var s State
	for _, n := range names {
		to, err := os.Readlink("/proc/self/fd/" + n.Name())
		if err != nil {
			continue // the folder itself
		}
		kind, _, _ := strings.Cut(to, ":[") // socket:[123], anon_inode:[eventpoll]
		s.add("fd %s", kind)
	}
	slices.Sort(s)
	return s, nil
}
