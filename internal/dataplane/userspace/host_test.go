package userspace_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// These tests are about what a plane does to its host: routes, rules, filters.

var everything4 = netip.MustParsePrefix("0.0.0.0/0")

// silent pings for a while and demands that nothing comes back.
func silent(t *testing.T, from *lab.Host, to netip.Addr, why string) {
	t.Helper()
	s, err := from.StartPing(to, 20*time.Millisecond)
	must(t, err)
	_ = s.AwaitAnswers(1, 400*time.Millisecond)
	if c := s.Stop(0); c.Received > 0 {
		t.Errorf("%s: %s answered %s %d times", why, to, from, c.Received)
	}
}

func answers(t *testing.T, from *lab.Host, to netip.Addr, why string) {
	t.Helper()
	if _, err := from.Ping(to, 2, 10*time.Second); err != nil {
		t.Errorf("%s: %v", why, err)
	}
}

// refusals is how many packets were dropped for coming in clear, as both ways of
// asking tell.
func refusals(t *testing.T, p *userspace.Plane) uint64 {
	t.Helper()
	st, err := p.Dump(ctx, dataplane.Query{})
	must(t, err)
	sum, err := p.Totals(ctx)
	must(t, err)
	if st.Drops[ipsec.DropClear] > sum.Drops[ipsec.DropClear] {
		t.Errorf("%d packets in clear, %d a moment later", st.Drops[ipsec.DropClear], sum.Drops[ipsec.DropClear])
	}
	return sum.Drops[ipsec.DropClear]
}

func TestClearTextIsRefusedWhileItsFlowStands(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a := &n.V4
		if v6 {
			a = &n.V6
		}
		answers(t, n.Dandelion, a.Icy, "before")
		west := open(t, n.Slippery, userspace.Options{})
		flows := between(a.NetCarefull, a.NetBadplants, a.Slippery, a.Ragweed, ipsec.FlowRequire)
		must(t, west.ApplyFlows(ctx, flows[1:])) // the incoming one alone
		silent(t, n.Dandelion, a.Icy, "clear text to a protected network")
		silent(t, n.Dandelion, a.SlipperyLAN, "clear text to the gateway's address in it")
		answers(t, n.Ragweed, a.Slippery, "what no flow is about")
		answers(t, n.Slippery, a.Icy, "inside the protected network")
		refused := refusals(t, west)
		if refused == 0 {
			t.Error("clear text was refused and not counted")
		}
		must(t, west.Flush(ctx, ipsec.OwnerAny))
		if after := refusals(t, west); after != refused {
			t.Errorf("%d refused before the rules went, %d after", refused, after)
		}
		answers(t, n.Dandelion, a.Icy, "after the flows went")
	}
}

func TestRemoteNetworkOfEverything(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	spy, err := n.Spy(lab.SpyOptions{})
	must(t, err)
	east, west := open(t, n.Ragweed, userspace.Options{}), open(t, n.Slippery, userspace.Options{})
	must(t, east.ApplyFlows(ctx, between(a.NetBadplants, everything4, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
	must(t, west.ApplyFlows(ctx, between(everything4, a.NetBadplants, a.Slippery, a.Ragweed, ipsec.FlowRequire)))
	wire(t, east, west, a.Ragweed, a.Slippery, a.NetBadplants, everything4, 0x1001, gcm)
	wire(t, west, east, a.Slippery, a.Ragweed, everything4, a.NetBadplants, 0x2001, gcm)
	answers(t, n.Dandelion, a.Icy, "through the tunnel")
	answers(t, n.Dandelion, a.RagweedLAN, "inside the local network")
	answers(t, n.Ragweed, a.Dandelion, "from the gateway into its network")
	answers(t, n.Ragweed, netip.MustParseAddr("192.0.2.1"), "the gateway's own way to the internet")
	must(t, spy.Settle().Check())
}

// A host that sends everything of its own into the tunnel, and no way to the
// peer: sealed packets must not be sealed again and again.
func TestNoLoopWithoutARouteToThePeer(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	east := open(t, n.Ragweed, userspace.Options{})
	self := netip.PrefixFrom(a.Ragweed, 32)
	must(t, east.ApplyFlows(ctx, between(self, everything4, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
	far := netip.MustParseAddr("203.0.113.9")
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: 0x1001, Dst: far}, Src: a.Ragweed,
		Cipher: ipsec.CipherNull, Auth: ipsec.AuthHMACSHA1, AuthKey: make([]byte, 20),
		Selector: ipsec.Selector{Src: self, Dst: everything4}, Flow: "vpn/out", Owner: ipsec.OwnerManual,
	}
	must(t, east.AddSA(ctx, sa))
	ip, err := lab.Program("ip")
	if err != nil {
		lab.Need(t, "ip")
	}
	_, err = n.Ragweed.Run(10*time.Second, ip, "route", "del", "default")
	must(t, err)
	stream, err := n.Ragweed.StartPing(a.Icy, 20*time.Millisecond)
	must(t, err)
	lab.Eventually(t, 10*time.Second, "packets are sealed", func() bool {
		st, err := east.GetSA(ctx, sa.ID)
		return err == nil && st.Packets >= 5
	})
	sent := uint64(stream.Stop(0).Sent)
	st, err := east.GetSA(ctx, sa.ID)
	must(t, err)
	all, err := east.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
	must(t, err)
	if st.Packets > sent || all.Drops[ipsec.DropSend] != st.Packets {
		t.Errorf("%d pings became %d sealed packets, of which the system refused %d", sent, st.Packets, all.Drops[ipsec.DropSend])
	}
}

func TestBypassAndUse(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	east := open(t, n.Ragweed, userspace.Options{})
	must(t, east.ApplyFlows(ctx, between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
	silent(t, n.Dandelion, a.Icy, "a required SA that is not there")
	hole := between(netip.PrefixFrom(a.Dandelion, 32), netip.PrefixFrom(a.Icy, 32), a.Ragweed, a.Slippery, ipsec.FlowBypass)
	hole[0].Flow.ID, hole[1].Flow.ID = "hole/out", "hole/in"
	must(t, east.ApplyFlows(ctx, hole))
	answers(t, n.Dandelion, a.Icy, "a bypass inside a required flow")
	silent(t, n.Ragweed, a.Icy, "beside the bypass")
	must(t, east.Flush(ctx, ipsec.OwnerAny))

	must(t, east.ApplyFlows(ctx, between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowUse)))
	answers(t, n.Dandelion, a.Icy, "a use flow without an SA")
	must(t, east.Flush(ctx, ipsec.OwnerAny))
	must(t, east.ApplyFlows(ctx, between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowDeny)))
	silent(t, n.Dandelion, a.Icy, "a deny flow")
}

func TestNothingLeaksAfterACrash(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a := &n.V4
		if v6 {
			a = &n.V6
		}
		before, err := n.Ragweed.State()
		must(t, err)
		spy, err := n.Spy(lab.SpyOptions{})
		must(t, err)
		east, west := tunnel(t, n, a, userspace.Options{}, gcm)
		answers(t, n.Dandelion, a.Icy, "before the crash")
		stream, err := n.Dandelion.StartPing(a.Icy, 5*time.Millisecond)
		must(t, err)
		must(t, stream.AwaitAnswers(1, 10*time.Second))
		east.Crash()
		silent(t, n.Dandelion, a.Icy, "after the crash")

		east = open(t, n.Ragweed, userspace.Options{Grace: time.Hour})
		silent(t, n.Dandelion, a.Icy, "with a new process that has no flows yet")
		// Another flow comes first: the old one is still covered.
		other := between(netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("10.78.0.0/24"), a.Ragweed, a.Slippery, ipsec.FlowRequire)
		other[0].Flow.ID, other[1].Flow.ID = "other/out", "other/in"
		must(t, east.ApplyFlows(ctx, other))
		silent(t, n.Dandelion, a.Icy, "with another flow")
		must(t, east.ApplyFlows(ctx, between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
		silent(t, n.Dandelion, a.Icy, "with the flow and no SA")
		wire(t, east, west, a.Ragweed, a.Slippery, a.NetBadplants, a.NetCarefull, 0x1002, gcm)
		wire(t, west, east, a.Slippery, a.Ragweed, a.NetCarefull, a.NetBadplants, 0x2002, gcm)
		answers(t, n.Dandelion, a.Icy, "with new SAs")
		stream.Stop(time.Second)
		must(t, spy.Settle().Check())
		must(t, east.Close())
		now, err := n.Ragweed.State()
		must(t, err)
		if d := before.Diff(now); d != "" {
			t.Errorf("after the end Ragweed is not as it was:\n%s", d)
		}
	}
}

func TestLeftoversGoWithTheGrace(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	east, _ := tunnel(t, n, a, userspace.Options{}, gcm)
	east.Crash()
	ours := func() string {
		s, err := n.Ragweed.State()
		must(t, err)
		var l []string
		for _, line := range s {
			if strings.Contains(line, "oakley") && strings.HasPrefix(line, "nft") || strings.Contains(line, "proto 113") || strings.Contains(line, "priority 5") {
				l = append(l, line)
			}
		}
		return strings.Join(l, "\n")
	}
	if ours() == "" {
		t.Error("the crash left nothing that would protect")
	}
	east = open(t, n.Ragweed, userspace.Options{Grace: 300 * time.Millisecond})
	lab.Eventually(t, 10*time.Second, "the leftovers go", func() bool { return !east.HasLeftovers() })
	if l := ours(); l != "" {
		t.Errorf("behind the grace there still are\n%s", l)
	}
	must(t, east.Close())
}

// Whoever loads packet-filter rules anew removes ours with all others: they come
// back, at once with a change of flows, and the end is clean without them too.
func TestSomebodyFlushesThePacketFilter(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	flush := func() {
		must(t, n.Slippery.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			c.FlushRuleset()
			return c.Flush()
		}))
	}
	before := state(t, n.Slippery)
	west := open(t, n.Slippery, userspace.Options{})
	flows := between(a.NetCarefull, a.NetBadplants, a.Slippery, a.Ragweed, ipsec.FlowRequire)
	must(t, west.ApplyFlows(ctx, flows[1:]))
	flush()
	lab.Eventually(t, 10*time.Second, "the filters come back", func() bool {
		return slices.ContainsFunc(state(t, n.Slippery), func(l string) bool { return strings.Contains(l, "nft set oakley") })
	})
	silent(t, n.Dandelion, a.Icy, "with filters that came back")
	flush()
	other := outgoing("other", netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("10.78.0.0/24"), ipsec.FlowRequire)
	must(t, west.ApplyFlows(ctx, []ipsec.FlowChange{other}))
	silent(t, n.Dandelion, a.Icy, "with filters that came back when a flow came")
	flush()
	must(t, west.ApplyFlows(ctx, []ipsec.FlowChange{{Remove: true, Flow: other.Flow}}))
	silent(t, n.Dandelion, a.Icy, "with filters that came back when a flow went")
	flush()
	must(t, west.Close())
	if d := before.Diff(state(t, n.Slippery)); d != "" {
		t.Errorf("not as before:\n%s", d)
	}
}

// The kernel mistakes a rule for another that has more fields. Flows come and go
// in any order all the same: packets of those that stand go into the device, of
// others not, and nothing is left at the end.
func TestRulesThatLookAlike(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	before, err := n.Ragweed.State()
	must(t, err)
	east := open(t, n.Ragweed, userspace.Options{})
	elsewhere, outside := netip.MustParseAddr("172.16.0.9"), netip.MustParseAddr("203.0.113.9")
	flows := []struct {
		sel ipsec.Selector
		pkt packet // of this flow, and of those alone whose selectors are wider
	}{
		{ipsec.Selector{Src: everything4, Dst: a.NetCarefull}, packet{src: elsewhere, dst: a.Icy}},
		{ipsec.Selector{Src: a.NetBadplants, Dst: a.NetCarefull}, packet{src: a.Dandelion, dst: a.Icy}},
		{ipsec.Selector{Src: a.NetBadplants, Dst: a.NetCarefull, Proto: 6}, packet{src: a.Dandelion, dst: a.Icy, proto: 6, sport: 7, dport: 7}},
		{ipsec.Selector{Src: a.NetBadplants, Dst: a.NetCarefull, Proto: 6, DstPort: 80}, packet{src: a.Dandelion, dst: a.Icy, proto: 6, sport: 7, dport: 80}},
		{ipsec.Selector{Src: a.NetBadplants, Dst: a.NetCarefull, Proto: 6, SrcPort: 80}, packet{src: a.Dandelion, dst: a.Icy, proto: 6, sport: 80, dport: 7}},
		{ipsec.Selector{Src: a.NetBadplants, Dst: everything4}, packet{src: a.Dandelion, dst: outside}},
		{ipsec.Selector{Src: everything4, Dst: everything4, Proto: 17, DstPort: 53}, packet{src: elsewhere, dst: outside, proto: 17, sport: 7, dport: 53}},
	}
	change := func(i int, remove bool) []ipsec.FlowChange {
		return []ipsec.FlowChange{{Remove: remove, Flow: ipsec.Flow{
			ID: ipsec.FlowID(string(rune('a'+i)) + "/out"), Dir: ipsec.Out, Selector: flows[i].sel, Proto: ipsec.ProtoESP,
			Local: a.Ragweed, Remote: a.Slippery, Owner: ipsec.OwnerManual,
		}}}
	}
	stand := make([]bool, len(flows))
	check := func(why string, order []int) {
		t.Helper()
		for i := range flows {
			p, want := flows[i].pkt, "wan"
			for k := range flows {
				s := &flows[k].sel
				if stand[k] && s.Src.Contains(p.src) && s.Dst.Contains(p.dst) && (s.Proto == 0 || s.Proto == p.proto) &&
					(s.SrcPort == 0 || s.SrcPort == p.sport) && (s.DstPort == 0 || s.DstPort == p.dport) {
					want = device
				}
			}
			p.iif = "lan"
			if dev, _ := way(t, n.Ragweed, p); dev != want {
				t.Fatalf("%s, in the order %v: flows %v stand, and a packet %+v goes to %q, not to %q", why, order, stand, p, dev, want)
			}
		}
	}
	for range 30 {
		first, second := rand.Perm(len(flows)), rand.Perm(len(flows))
		for _, i := range first {
			must(t, east.ApplyFlows(ctx, change(i, false)))
			stand[i] = true
			check("adding", first)
		}
		for _, i := range second {
			must(t, east.ApplyFlows(ctx, change(i, true)))
			stand[i] = false
			check("removing", append(first, second...))
		}
		now, err := n.Ragweed.State()
		must(t, err)
		for _, l := range strings.Split(before.Diff(now), "\n") {
			if strings.Contains(l, "rule ") || strings.Contains(l, "unreachable") || strings.Contains(l, "proto 113") {
				t.Fatalf("left after adding in the order %v and removing in the order %v: %s", first, second, l)
			}
		}
	}
}

// A gateway with many peers sets all its flows at once, and one more later.
func TestManyFlows(t *testing.T) {
	n := howTo(t)
	a := &n.V4
	before, err := n.Ragweed.State()
	must(t, err)
	east := open(t, n.Ragweed, userspace.Options{})
	var all []ipsec.FlowChange
	const peers = 2000
	for i := range peers + 1 {
		net := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), 0}), 24)
		f := between(a.NetBadplants, net, a.Ragweed, a.Slippery, ipsec.FlowRequire)
		for k := range f {
			f[k].Flow.ID = ipsec.FlowName(net.String(), f[k].Flow.Dir)
		}
		all = append(all, f...)
	}
	start := time.Now()
	must(t, east.ApplyFlows(ctx, all[:2*peers]))
	t.Logf("%d peers at once: %s", peers, time.Since(start).Round(time.Millisecond))
	start = time.Now()
	must(t, east.ApplyFlows(ctx, all[2*peers:]))
	t.Logf("one more: %s", time.Since(start).Round(time.Millisecond))
	start = time.Now()
	must(t, east.Close())
	t.Logf("all gone: %s", time.Since(start).Round(time.Millisecond))
	now, err := n.Ragweed.State()
	must(t, err)
	if d := before.Diff(now); d != "" {
		t.Errorf("not as before:\n%.2000s", d)
	}
}
