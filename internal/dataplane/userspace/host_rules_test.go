package userspace_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// everything6 is to IPv6 what everything4 is to IPv4.
var everything6 = netip.MustParsePrefix("::/0")

// outgoing is a flow of a name.
func outgoing(name string, near, far netip.Prefix, typ ipsec.FlowType) ipsec.FlowChange {
	return ipsec.FlowChange{Flow: ipsec.Flow{
		ID: ipsec.FlowName(name, ipsec.Out), Dir: ipsec.Out, Type: typ, Selector: ipsec.Selector{Src: near, Dst: far},
		Proto: ipsec.ProtoESP, Owner: ipsec.OwnerManual,
	}}
}

func state(t testing.TB, h *lab.Host) lab.State {
	t.Helper()
	s, err := h.State()
	must(t, err)
	return s
}

// ipTool runs ip(8) on a host.
func ipTool(t testing.TB, h *lab.Host, args string) {
	t.Helper()
	ip, err := lab.Program("ip")
	if err != nil {
		lab.Need(t, "ip")
	}
	_, err = h.Run(10*time.Second, ip, strings.Fields(args)...)
	must(t, err)
}

// A packet from a network inside another meets the rule of the smaller one first
// or last: it finds its route in either's table.
func TestOverlappingLocalNetworks(t *testing.T) {
	for _, c := range []struct{ wide, narrow, farOfWide, farOfNarrow, host, beside, elsewhere string }{
		{"10.1.0.0/16", "10.1.2.0/24", "10.8.0.0/16", "10.9.0.0/16", "10.1.2.3", "10.1.3.3", "203.0.113.9"},
		{"fd00:1::/32", "fd00:1:2::/48", "fd00:8::/32", "fd00:9::/32", "fd00:1:2::3", "fd00:1:3::3", "2001:db8:c::9"},
	} {
		n := howTo(t)
		before := state(t, n.Ragweed)
		p, a := netip.MustParsePrefix, netip.MustParseAddr
		for _, first := range []bool{false, true} {
			east := open(t, n.Ragweed, userspace.Options{})
			flows := []ipsec.FlowChange{
				outgoing("wide", p(c.wide), p(c.farOfWide), ipsec.FlowRequire),
				outgoing("narrow", p(c.narrow), p(c.farOfNarrow), ipsec.FlowRequire),
			}
			if first {
				flows[0], flows[1] = flows[1], flows[0]
			}
			for _, f := range flows {
				must(t, east.ApplyFlows(ctx, []ipsec.FlowChange{f}))
			}
			host, far := a(c.host), func(s string) netip.Addr { return p(s).Addr().Next() }
			goes(t, n.Ragweed, packet{src: host, dst: far(c.farOfWide), iif: "lan"}, device, "the wide network's flow")
			goes(t, n.Ragweed, packet{src: host, dst: far(c.farOfNarrow), iif: "lan"}, device, "the narrow network's flow")
			goes(t, n.Ragweed, packet{src: a(c.beside), dst: far(c.farOfWide), iif: "lan"}, device, "the wide network's flow, from beside the narrow one")
			goes(t, n.Ragweed, packet{src: a(c.beside), dst: far(c.farOfNarrow), iif: "lan"}, "wan", "the narrow network's flow, from beside it")
			goes(t, n.Ragweed, packet{src: host, dst: a(c.elsewhere), iif: "lan"}, "wan", "no flow")
			east.Crash()
			goes(t, n.Ragweed, packet{src: host, dst: far(c.farOfWide), iif: "lan"}, nowhere, "the wide network's flow after a crash")
			goes(t, n.Ragweed, packet{src: host, dst: far(c.farOfNarrow), iif: "lan"}, nowhere, "the narrow network's flow after a crash")
			must(t, open(t, n.Ragweed, userspace.Options{}).Close())
			if d := before.Diff(state(t, n.Ragweed)); d != "" {
				t.Errorf("not as before:\n%s", d)
			}
		}
	}
}

// A gateway's own packets without a source address get one from a flow's network
// and go into the device; with another source they are none of the flow's.
func TestOwnPacketsWithoutASource(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a, all := &n.V4, everything4
		if v6 {
			a, all = &n.V6, everything6
		}
		before := state(t, n.Ragweed)
		east := open(t, n.Ragweed, userspace.Options{})
		sourced := func(p packet, dev string, want netip.Addr, why string) {
			t.Helper()
			if got, source := way(t, n.Ragweed, p); got != dev || source != want {
				t.Errorf("%s, IPv6 %v: %+v goes to %q from %s, not to %q from %s", why, v6, p, got, source, dev, want)
			}
		}
		apply := func(changes ...ipsec.FlowChange) { t.Helper(); must(t, east.ApplyFlows(ctx, changes)) }
		flush := func() { t.Helper(); must(t, east.Flush(ctx, ipsec.OwnerAny)) }

		lan := outgoing("lan", a.NetBadplants, a.NetCarefull, ipsec.FlowRequire)
		apply(lan)
		sourced(packet{dst: a.Icy}, device, a.RagweedLAN, "no source")
		goes(t, n.Ragweed, packet{src: a.Ragweed, dst: a.Icy}, "wan", "a source of no flow")
		goes(t, n.Ragweed, packet{src: a.RagweedLAN, dst: a.Icy}, device, "a source of the flow")
		sourced(packet{dst: a.Slippery}, "wan", a.Ragweed, "no flow's destination")
		flush()

		self := netip.PrefixFrom(a.Ragweed, a.Ragweed.BitLen())
		peer := netip.PrefixFrom(a.Slippery, a.Slippery.BitLen())
		apply(outgoing("hosts", self, peer, ipsec.FlowRequire))
		sourced(packet{dst: a.Slippery}, device, a.Ragweed, "between hosts")
		goes(t, n.Ragweed, packet{src: a.RagweedLAN, dst: a.Slippery}, "wan", "between hosts, from another address of this one")
		goes(t, n.Ragweed, packet{dst: a.Slippery, mark: userspace.DefaultMark}, "wan", "our own packets to the peer")
		tcp := outgoing("tcp", self, netip.PrefixFrom(a.Icy, a.Icy.BitLen()), ipsec.FlowRequire)
		tcp.Flow.Selector.Proto, tcp.Flow.Selector.DstPort = 6, 80
		apply(tcp)
		sourced(packet{dst: a.Icy, proto: 6, dport: 80}, device, a.Ragweed, "one port between hosts")
		goes(t, n.Ragweed, packet{dst: a.Icy, proto: 6, dport: 81}, "wan", "another port")
		goes(t, n.Ragweed, packet{src: a.RagweedLAN, dst: a.Icy, proto: 6, dport: 80}, "wan", "one port, from another address")
		flush()

		apply(outgoing("everything", a.NetBadplants, all, ipsec.FlowRequire))
		sourced(packet{dst: a.Slippery}, "wan", a.Ragweed, "a network's flow towards everything")
		sourced(packet{dst: a.Dandelion}, "lan", a.RagweedLAN, "the local network")
		flush()
		apply(outgoing("road warrior", self, all, ipsec.FlowRequire))
		sourced(packet{dst: a.Slippery}, device, a.Ragweed, "a host's flow towards everything")
		goes(t, n.Ragweed, packet{src: a.RagweedLAN, dst: a.Slippery}, "wan", "from another address")
		flush()

		// What a flow exempts in front of another is exempted here too.
		apply(lan, outgoing("hole", all, netip.PrefixFrom(a.Icy, a.Icy.BitLen()), ipsec.FlowBypass))
		goes(t, n.Ragweed, packet{dst: a.Icy}, "wan", "a bypass from everywhere")
		sourced(packet{dst: a.SlipperyLAN}, device, a.RagweedLAN, "beside the bypass")
		must(t, east.Close())
		if d := before.Diff(state(t, n.Ragweed)); d != "" {
			t.Errorf("not as before:\n%s", d)
		}
	}
}

// Every local network there is: one rule, and its source address may go away.
func TestLocalNetworkOfEverything(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a, all := &n.V4, everything4
		if v6 {
			a, all = &n.V6, everything6
		}
		east := open(t, n.Ragweed, userspace.Options{})
		must(t, east.ApplyFlows(ctx, []ipsec.FlowChange{outgoing("all", all, a.NetCarefull, ipsec.FlowRequire)}))
		goes(t, n.Ragweed, packet{src: a.Dandelion, dst: a.Icy, iif: "lan"}, device, "forwarded")
		goes(t, n.Ragweed, packet{src: a.Ragweed, dst: a.Icy}, device, "from here")
		dev, hint := way(t, n.Ragweed, packet{dst: a.Icy})
		if dev != device || hint != a.Ragweed && hint != a.RagweedLAN {
			t.Errorf("a packet without a source goes to %q from %s", dev, hint)
		}
		link, other := "lan", a.Ragweed
		if hint == a.Ragweed {
			link, other = "wan", a.RagweedLAN
		}
		ipTool(t, n.Ragweed, fmt.Sprintf("addr del %s/%d dev %s", hint, map[bool]int{false: 24, true: 64}[v6], link))
		goes(t, n.Ragweed, packet{src: netip.MustParsePrefix("10.50.0.0/16").Addr(), dst: n.V4.Icy, iif: "lan"},
			map[bool]string{false: device, true: "wan"}[v6], "forwarded, when the address that packets without a source had is gone")
		if v6 {
			goes(t, n.Ragweed, packet{src: netip.MustParseAddr("fd00:50::1"), dst: a.Icy, iif: "lan"}, device, "forwarded, when that address is gone")
		}
		goes(t, n.Ragweed, packet{src: other, dst: a.Icy}, device, "from here, when that address is gone")
	}
}

// A gateway's address may come after its flows, go and come back: packets without
// a source have it when it is there, and go where they belong when it is not.
func TestAddressesComeAndGo(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a, bits := &n.V4, 24
		if v6 {
			a, bits = &n.V6, 64
		}
		move := func(how string) { ipTool(t, n.Ragweed, fmt.Sprintf("addr %s %s/%d dev lan", how, a.RagweedLAN, bits)) }
		before := state(t, n.Ragweed)
		move("del")
		east := open(t, n.Ragweed, userspace.Options{})
		hole := outgoing("hole", a.NetBadplants, netip.PrefixFrom(a.SlipperyLAN, a.Icy.BitLen()), ipsec.FlowBypass)
		must(t, east.ApplyFlows(ctx, []ipsec.FlowChange{outgoing("lan", a.NetBadplants, a.NetCarefull, ipsec.FlowRequire), hole}))
		goes(t, n.Ragweed, packet{dst: a.Icy}, "wan", "without an address in the network")
		for range 2 {
			move("add")
			lab.Eventually(t, 10*time.Second, "packets get the new address", func() bool {
				dev, source := way(t, n.Ragweed, packet{dst: a.Icy})
				return dev == device && source == a.RagweedLAN
			})
			goes(t, n.Ragweed, packet{src: a.RagweedLAN, dst: a.SlipperyLAN}, "wan", "what is exempted")
			move("del")
			lab.Eventually(t, 10*time.Second, "packets have another address again", func() bool {
				dev, source := way(t, n.Ragweed, packet{dst: a.Icy})
				return dev == "wan" && source == a.Ragweed
			})
			goes(t, n.Ragweed, packet{src: a.Dandelion, dst: a.Icy, iif: "wan"}, device, "forwarded")
		}
		move("add")
		move("del") // too fast for us to see more than the end
		move("add")
		lab.Eventually(t, 10*time.Second, "packets get the address", func() bool {
			dev, source := way(t, n.Ragweed, packet{dst: a.Icy})
			return dev == device && source == a.RagweedLAN
		})
		must(t, east.Close())
		if d := before.Diff(state(t, n.Ragweed)); d != "" {
			t.Errorf("not as before:\n%s", d)
		}
	}
}

// notes keep what is logged.
type notes struct {
	mu   sync.Mutex
	text []byte
}

func (n *notes) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = append(n.text, b...)
	return len(b), nil
}

func (n *notes) has(s string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Contains(string(n.text), s)
}

// A strict reverse-path filter drops what a peer sends that is in its own flow;
// that is said, with the remedy, which helps.
func TestStrictReversePathFilter(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	e, w := netip.PrefixFrom(a.Ragweed, 32), netip.PrefixFrom(a.Slippery, 32)
	filter := func(v string) {
		must(t, n.Ragweed.Sysctls(map[string]string{"net.ipv4.conf.wan.rp_filter": v}))
	}
	filter("1")
	var said notes
	east := open(t, n.Ragweed, userspace.Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	west := open(t, n.Slippery, userspace.Options{})
	must(t, east.ApplyFlows(ctx, []ipsec.FlowChange{outgoing("other", a.NetBadplants, a.NetCarefull, ipsec.FlowRequire)}))
	if said.has("rp_filter") {
		t.Error("said of a flow between other networks")
	}
	must(t, east.ApplyFlows(ctx, between(e, w, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
	must(t, west.ApplyFlows(ctx, between(w, e, a.Slippery, a.Ragweed, ipsec.FlowRequire)))
	wire(t, east, west, a.Ragweed, a.Slippery, e, w, 0x1001, gcm)
	wire(t, west, east, a.Slippery, a.Ragweed, w, e, 0x2001, gcm)
	if !said.has("remedy=\"sysctl net.ipv4.conf.wan.rp_filter=2\"") {
		t.Error("not said what the filter does")
	}
	filter("2")
	answers(t, n.Ragweed, a.Slippery, "with a loose filter")
}

// There are not tables for any number of local networks; further ones have rules
// for each flow.
func TestMoreLocalNetworksThanTables(t *testing.T) {
	const networks = userspace.Tables + 60
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a := &n.V4
		if v6 {
			a = &n.V6
		}
		near := func(i int) netip.Prefix {
			b := []byte{10, 100, byte(i), byte(i >> 8)}
			if v6 {
				return netip.PrefixFrom(netip.AddrFrom16([16]byte(append([]byte{0xfd, 0x55, 11: 0}, b...))), 128)
			}
			return netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), 32)
		}
		before := state(t, n.Ragweed)
		east := open(t, n.Ragweed, userspace.Options{})
		var all []ipsec.FlowChange
		for i := range networks {
			all = append(all, outgoing(fmt.Sprint(i), near(i), a.NetCarefull, ipsec.FlowRequire))
		}
		must(t, east.ApplyFlows(ctx, all[:networks-1]))
		must(t, east.ApplyFlows(ctx, all[networks-1:]))
		check := func(why string, want ...string) {
			t.Helper()
			for i := 0; i < networks; i += 1 + i%17 {
				if got, _ := way(t, n.Ragweed, packet{src: near(i).Addr(), dst: a.Icy, iif: "lan"}); !slices.Contains(want, got) {
					t.Fatalf("%s, IPv6 %v: a packet from network %d goes to %q, not to %q", why, v6, i, got, want)
				}
			}
		}
		check("with all flows", device)
		east.Crash()
		check("after a crash", nowhere)
		east = open(t, n.Ragweed, userspace.Options{Grace: time.Hour})
		// Others come first; the leftovers stay in their tables.
		others := make([]ipsec.FlowChange, 0, networks)
		for i := range networks {
			others = append(others, outgoing(fmt.Sprint("other ", i), near(i+networks), a.NetCarefull, ipsec.FlowRequire))
		}
		must(t, east.ApplyFlows(ctx, others))
		check("with another process and other flows", nowhere, device)
		must(t, east.ApplyFlows(ctx, all))
		check("when all flows are back", device)
		must(t, east.Close())
		if d := before.Diff(state(t, n.Ragweed)); d != "" {
			t.Errorf("not as before:\n%.2000s", d)
		}
	}
}

// Two planes with numbers of their own are on one host: one comes, crashes, comes
// back and goes, and what the other one did is not touched.
func TestTwoPlanesOnOneHost(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	before := state(t, n.Ragweed)
	first := open(t, n.Ragweed, userspace.Options{})
	must(t, first.ApplyFlows(ctx, between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
	alone := state(t, n.Ragweed)
	other := userspace.Options{TUN: "other0", Table: 10000, Priority: 20000, Mark: 0xb72, EncapPort: 4600, Grace: 200 * time.Millisecond}
	far := netip.MustParsePrefix("10.77.0.0/16")
	for range 2 {
		second := open(t, n.Ragweed, other)
		must(t, second.ApplyFlows(ctx, between(a.NetBadplants, far, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
		goes(t, n.Ragweed, packet{src: a.Dandelion, dst: a.Icy, iif: "lan"}, device, "beside another plane")
		goes(t, n.Ragweed, packet{src: a.Dandelion, dst: far.Addr().Next(), iif: "lan"}, "other0", "beside another plane")
		second.Crash()
		goes(t, n.Ragweed, packet{src: a.Dandelion, dst: a.Icy, iif: "lan"}, device, "beside another plane that crashed")
		goes(t, n.Ragweed, packet{src: a.Dandelion, dst: far.Addr().Next(), iif: "lan"}, nowhere, "after a crash")
		second = open(t, n.Ragweed, other)
		lab.Eventually(t, 10*time.Second, "the leftovers go", func() bool { return !second.HasLeftovers() })
		must(t, second.Close())
		lab.Eventually(t, 10*time.Second, "the first is alone again", func() bool { return alone.Diff(state(t, n.Ragweed)) == "" })
	}
	must(t, first.Close())
	if d := before.Diff(state(t, n.Ragweed)); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// Rules, routes and filters that somebody else made stay, even with our numbers.
func TestWhatOthersMadeStays(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	for _, args := range []string{
		"rule add pref 5329 from 10.1.0.0/24 to 10.99.0.0/16 lookup main",
		"rule add pref 5200 fwmark 0x99 lookup main",
		"rule add pref 30000 from 10.1.0.0/24 lookup 2674",
		"route add 10.98.0.0/16 dev wan table 2674",
		"route add unreachable 10.97.0.0/16 table 2674 metric 7",
		"route add 10.96.0.0/16 dev wan table 2673",
		"-6 rule add pref 5329 from fd00:1::/64 to fd00:99::/64 lookup main",
		"-6 route add fd00:98::/64 dev wan table 2674",
	} {
		ipTool(t, n.Ragweed, args)
	}
	before := state(t, n.Ragweed)
	flows := between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowRequire)
	six := outgoing("six", n.V6.NetBadplants, n.V6.NetCarefull, ipsec.FlowRequire)
	for _, crash := range []bool{false, true} {
		east := open(t, n.Ragweed, userspace.Options{})
		must(t, east.ApplyFlows(ctx, append(flows, six)))
		if crash {
			east.Crash()
			east = open(t, n.Ragweed, userspace.Options{Grace: -1})
		}
		must(t, east.Close())
		if d := before.Diff(state(t, n.Ragweed)); d != "" {
			t.Errorf("crash %v: not as before:\n%s", crash, d)
		}
	}
}

// A change that the kernel refuses half way has changed nothing.
func TestAChangeThatFailsIsTakenBack(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	east := open(t, n.Ragweed, userspace.Options{})
	must(t, east.ApplyFlows(ctx, between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
	hole := outgoing("hole", netip.MustParsePrefix("10.1.0.7/32"), a.NetCarefull, ipsec.FlowBypass)
	more := outgoing("more", netip.MustParsePrefix("10.44.0.0/16"), a.NetCarefull, ipsec.FlowRequire)
	hosts := func(changes ...ipsec.FlowChange) string {
		before := state(t, n.Ragweed)
		if err := east.ApplyFlows(ctx, changes); err == nil {
			t.Error("a change succeeded that could not be made")
		}
		var left []string
		for _, l := range strings.Split(before.Diff(state(t, n.Ragweed)), "\n") {
			if l != "" && !strings.Contains(l, " nft ") { // sets without elements may stay
				left = append(left, l)
			}
		}
		return strings.Join(left, "\n")
	}
	// The very rule of the last step is there.
	ipTool(t, n.Ragweed, "rule add pref 5267 from 10.1.0.7 to 10.2.0.0/24 goto 14799 protocol 113")
	if d := hosts(hole, more); d != "" {
		t.Errorf("with a rule that is there already:\n%s", d)
	}
	ipTool(t, n.Ragweed, "rule del pref 5267")
	ipTool(t, n.Ragweed, "link set oakley0 down")
	ipTool(t, n.Ragweed, "link set oakley0 up") // its routes went
	goes(t, n.Ragweed, packet{src: a.Dandelion, dst: a.Icy, iif: "lan"}, nowhere, "without the route to the device")
	ipTool(t, n.Ragweed, "link set oakley0 down")
	if d := hosts(hole, more); d != "" {
		t.Errorf("with the device down:\n%s", d)
	}
	ipTool(t, n.Ragweed, "link set oakley0 up")
	must(t, east.ApplyFlows(ctx, []ipsec.FlowChange{hole, more}))
	goes(t, n.Ragweed, packet{src: hole.Flow.Selector.Src.Addr(), dst: a.Icy, iif: "lan"}, "wan", "the exemption")
	goes(t, n.Ragweed, packet{src: more.Flow.Selector.Src.Addr().Next(), dst: a.Icy, iif: "lan"}, device, "the other flow")
}
