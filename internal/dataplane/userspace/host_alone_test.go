package userspace_test

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// both are flows between two networks, in both directions.
func both(name string, near, far netip.Prefix) []ipsec.FlowChange {
	out := outgoing(name, near, far, ipsec.FlowRequire)
	in := out
	in.Flow.ID, in.Flow.Dir, in.Flow.Selector = ipsec.FlowName(name, ipsec.In), ipsec.In, out.Flow.Selector.Reverse()
	return []ipsec.FlowChange{out, in}
}

// What goes to a group, to everybody or not beyond a link is not led into the
// device by flows of large networks; a flow for a group alone is obeyed.
func TestLargeNetworksHaveNoGroups(t *testing.T) {
	n := howTo(t)
	before := state(t, n.Ragweed)
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for _, c := range []struct {
		near, far netip.Prefix
		proto     uint8
	}{
		{everything4, everything4, 0},
		{n.V4.NetBadplants, everything4, 0},
		{everything4, everything4, 17},
		{n.V4.NetBadplants, p("128.0.0.0/1"), 0},
		{p("192.0.2.2/32"), everything4, 0},
		{everything6, everything6, 0},
		{n.V6.NetBadplants, everything6, 0},
		{everything6, everything6, 17},
		{p("2001:db8:a::2/128"), everything6, 0},
		{n.V6.NetBadplants, p("8000::/1"), 0},
	} {
		east := open(t, n.Ragweed, userspace.Options{})
		flow := outgoing("large", c.near, c.far, ipsec.FlowRequire)
		flow.Flow.Selector.Proto = c.proto
		must(t, east.ApplyFlows(ctx, []ipsec.FlowChange{flow}))
		sources := []netip.Addr{{}, n.V4.Ragweed, n.V4.RagweedLAN}
		groups := []string{"224.0.0.1", "224.0.0.251", "239.1.2.3", "255.255.255.255", "169.254.7.7"}
		beyond, group := "203.0.113.9", p("239.5.5.5/32")
		if c.near.Addr().Is6() {
			sources = []netip.Addr{{}, n.V6.Ragweed, n.V6.RagweedLAN}
			groups = []string{"ff02::1", "ff02::fb", "ff05::1:3", "ff0e::101", "fe80::77"}
			beyond, group = "2001:db8:c::9", p("ff05::5/128")
			if c.far.Bits() == 1 {
				beyond = "fd00:3::1"
			}
		} else if c.far.Bits() == 1 {
			beyond = "203.0.113.9"
		}
		for _, src := range sources {
			for _, dst := range groups {
				if dev, _ := way(t, n.Ragweed, packet{src: src, dst: a(dst), proto: c.proto}); dev == device {
					t.Errorf("a flow %s -> %s: a packet from %v to %s goes to %s", c.near, c.far, src, dst, dev)
				}
			}
		}
		some := c.near.Addr()
		if some.IsUnspecified() || !c.near.IsSingleIP() {
			some = n.V4.RagweedLAN
			if c.near.Addr().Is6() {
				some = n.V6.RagweedLAN
			}
		}
		goes(t, n.Ragweed, packet{src: some, dst: a(beyond), proto: c.proto}, device, "what the large network is about")
		must(t, east.ApplyFlows(ctx, []ipsec.FlowChange{outgoing("group", c.near, group, ipsec.FlowRequire)}))
		// A packet to a group that has a source leaves by its source's interface, and
		// IPv6 has a route to all groups in front of ours.
		if c.near.Addr().Is4() {
			goes(t, n.Ragweed, packet{dst: group.Addr()}, device, "a flow for a group alone")
		}
		east.Crash()
		goes(t, n.Ragweed, packet{src: some, dst: a(beyond), proto: c.proto}, nowhere, "after a crash")
		for _, dst := range groups {
			if dev, _ := way(t, n.Ragweed, packet{src: some, dst: a(dst), proto: c.proto}); dev == nowhere && c.near.Addr().Is4() && dst != "169.254.7.7" {
				t.Errorf("a flow %s -> %s: after a crash a packet to %s goes nowhere", c.near, c.far, dst)
			}
		}
		must(t, open(t, n.Ragweed, userspace.Options{}).Close())
		if d := before.Diff(state(t, n.Ragweed)); d != "" {
			t.Errorf("not as before:\n%s", d)
		}
	}
}

// A host that may talk to nobody in clear still finds its neighbours, hears and
// speaks to groups, and everybody on its link.
func TestTheLinkIsLeftAlone(t *testing.T) {
	n := howTo(t)
	east := open(t, n.Ragweed, userspace.Options{})
	must(t, east.ApplyFlows(ctx, append(both("four", everything4, everything4), both("six", everything6, everything6)...)))
	silent(t, n.Dandelion, n.V4.RagweedLAN, "clear text over IPv4")
	silent(t, n.Dandelion, n.V6.RagweedLAN, "clear text over IPv6")

	to := map[string]string{
		"an IPv4 group of the link": "224.0.0.251", "an IPv4 group": "239.1.2.3", "everybody": "255.255.255.255", "everybody in the network": "10.1.0.255",
		"an IPv6 group of the link": "ff02::fb", "an IPv6 group": "ff05::1:3", "all nodes": "ff02::1",
	}
	for why, dst := range to {
		for _, way := range []struct{ from, to *lab.Host }{{n.Dandelion, n.Ragweed}, {n.Ragweed, n.Dandelion}} {
			hear(t, way.from, way.to, netip.MustParseAddr(dst), why)
		}
	}
	for _, way := range []struct{ from, to *lab.Host }{{n.Dandelion, n.Ragweed}, {n.Ragweed, n.Dandelion}} {
		hear(t, way.from, way.to, linkLocal(t, way.to), "a link-local address")
	}
	// Neighbours are found anew, by those that ask and those that are asked.
	for _, h := range []*lab.Host{n.Dandelion, n.Ragweed} {
		ipTool(t, h, "neigh flush all")
	}
	must(t, east.Flush(ctx, ipsec.OwnerAny))
	answers(t, n.Dandelion, n.V4.RagweedLAN, "after the flows went")
	must(t, east.ApplyFlows(ctx, append(both("four", everything4, everything4), both("six", everything6, everything6)...)))
	ipTool(t, n.Dandelion, "neigh flush all")
	for _, dst := range []netip.Addr{n.V4.RagweedLAN, n.V6.RagweedLAN} {
		ask(t, n.Dandelion, dst)
		lab.Eventually(t, 10*time.Second, "the neighbour "+dst.String()+" is found", func() bool { return knows(t, n.Dandelion, dst) })
	}
}

// A flow for a group alone refuses what comes to it in clear.
func TestAGroupMayBeProtected(t *testing.T) {
	n := howTo(t)
	east := open(t, n.Ragweed, userspace.Options{})
	group := netip.MustParsePrefix("239.1.2.3/32")
	must(t, east.ApplyFlows(ctx, append(both("all", everything4, everything4), both("group", group, everything4)...)))
	if heard(t, n.Dandelion, n.Ragweed, group.Addr(), 300*time.Millisecond) {
		t.Error("clear text to a protected group was heard")
	}
	hear(t, n.Dandelion, n.Ragweed, netip.MustParseAddr("239.1.2.4"), "another group")
}

func hear(t *testing.T, from, to *lab.Host, dst netip.Addr, why string) {
	t.Helper()
	if !heard(t, from, to, dst, 5*time.Second) {
		t.Errorf("%s: %s does not hear what %s says to %s", why, to, from, dst)
	}
}

// heard sends datagrams on a LAN and tells whether one arrives.
func heard(t *testing.T, from, to *lab.Host, dst netip.Addr, within time.Duration) bool {
	t.Helper()
	v6 := dst.Is6()
	network, port := "udp4", 7777
	if v6 {
		network = "udp6"
	}
	var in, out *net.UDPConn
	must(t, to.Do(func() error {
		i, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		if dst.IsMulticast() {
			in, err = net.ListenMulticastUDP(network, i, &net.UDPAddr{IP: dst.AsSlice(), Port: port, Zone: "lan"})
			return err
		}
		in, err = net.ListenUDP(network, &net.UDPAddr{Port: port})
		return err
	}))
	defer in.Close()
	index := 0
	must(t, from.Do(func() error {
		i, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		index = i.Index
		out, err = net.ListenUDP(network, nil)
		return err
	}))
	defer out.Close()
	c, err := out.SyscallConn()
	must(t, err)
	must(t, c.Control(func(fd uintptr) {
		if v6 {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index)
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 4)
			return
		}
		_ = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)})
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
		if dst == netip.MustParseAddr("255.255.255.255") {
			_ = unix.BindToDevice(int(fd), "lan")
		}
	}))
	addr := &net.UDPAddr{IP: dst.AsSlice(), Port: port}
	if v6 {
		addr.Zone = strconv.Itoa(index) // names are those of this process's namespace
	}
	buf := make([]byte, 100)
	var refused error
	for end := time.Now().Add(within); time.Now().Before(end); {
		_, refused = out.WriteTo([]byte("hello"), addr)
		must(t, in.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		if n, _, err := in.ReadFrom(buf); err == nil && string(buf[:n]) == "hello" {
			return true
		}
	}
	t.Logf("nothing is heard of %s; sending ended with: %v", dst, refused)
	return false
}

func linkLocal(t *testing.T, h *lab.Host) (a netip.Addr) {
	t.Helper()
	must(t, h.Do(func() error {
		i, err := net.InterfaceByName("lan")
		if err != nil {
			return err
		}
		list, err := i.Addrs()
		for _, l := range list {
			if p, err := netip.ParsePrefix(l.String()); err == nil && p.Addr().IsLinkLocalUnicast() {
				a = p.Addr()
			}
		}
		return err
	}))
	return a
}

// ask sends something to an address, so that its neighbour is looked for.
func ask(t *testing.T, h *lab.Host, dst netip.Addr) {
	t.Helper()
	must(t, h.Do(func() error {
		c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: dst.AsSlice(), Port: 9})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello"))
		return err
	}))
}

// knows tells whether a host has the link-layer address of a neighbour.
func knows(t *testing.T, h *lab.Host, a netip.Addr) bool {
	t.Helper()
	list, err := neighbours(h)
	must(t, err)
	return list[a]
}
