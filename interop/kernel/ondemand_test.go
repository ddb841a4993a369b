package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/lab"
	"oakley/interop"
)

// general adds a tag to [General].
func general(tag string) func(conf string) string {
	return func(conf string) string { return strings.Replace(conf, "[General]\n", "[General]\n"+tag+"\n", 1) }
}

// onDemand: a packet asks for the tunnel. The kernel drops it, and holds it where
// it is told to.
func onDemand(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(string) string
		lost   int
	}{{"lost", nil, 1}, {"held", general("Data-plane-options= hold"), 0}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, lab.HowToOptions{}, false)
			east, west := twoKernels(t, s, quickest, c.change)
			// There is time for a negotiation between two of them.
			ping, err := s.Dandelion.StartPing(s.V4.Icy, time.Second)
			must(t, err)
			must(t, ping.AwaitAnswers(5, 20*time.Second))
			n := ping.Stop(2 * time.Second)
			t.Logf("from before the tunnel was there: %v, the first answer after %v", n, n.First.Round(time.Millisecond))
			if n.Lost() != c.lost {
				t.Errorf("%v, expected %d lost; lost %v", n, c.lost, ping.Missing(5))
			}
			s.saw(t, lab.ESP, 10)
			east.ends(t)
			west.ends(t)
		})
	}
}

// throughInterface: a connection for everything that routes lead into an xfrm
// interface, on both sides; what they do not lead there goes its way.
func throughInterface(t *testing.T) {
	s := newSite(t, lab.HowToOptions{}, false)
	everything := netip.MustParsePrefix("0.0.0.0/0")
	tun := quickest
	tun.Plane = "kernel"
	east, west := ends(s.V4, tun)
	var gateways []*gateway
	for _, g := range []struct {
		host *lab.Host
		tun  interop.Tunnel
	}{{s.Slippery, west}, {s.Ragweed, east}} {
		to := g.tun.RemoteNet
		must(t, g.host.Do(func() error {
			x := &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: "ipsec7"}, Ifid: 7}
			if err := netlink.LinkAdd(x); err != nil {
				return err
			}
			if err := netlink.LinkSetUp(x); err != nil {
				return err
			}
			dst := &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), 32)}
			return netlink.RouteAdd(&netlink.Route{LinkIndex: x.Attrs().Index, Dst: dst, Scope: netlink.SCOPE_LINK})
		}))
		g.tun.LocalNet, g.tun.RemoteNet = everything, everything
		conf := strings.Replace(g.tun.IsakmpdConf(), "Remote-ID= net-remote\n", "Remote-ID= net-remote\nXFRM-interface= 7\n", 1)
		gateways = append(gateways, s.gateway(t, g.host, conf))
	}
	there, back := s.pings(t, s.V4, tun, every) // the first asks for the tunnel
	for _, ping := range []*lab.Stream{there, back} {
		must(t, ping.AwaitAnswers(20, 10*time.Second))
		if n := ping.Stop(2 * time.Second); n.Lost() != 0 {
			t.Errorf("through the interface: %v", n)
		}
	}
	s.saw(t, lab.ESP, 80)
	// No route leads the internet itself into the tunnel, though the flow is for it.
	protected := s.spy.Settle().Packets[lab.ESP]
	n, err := s.Dandelion.Ping(netip.MustParseAddr("192.0.2.1"), 5, 10*time.Second)
	must(t, err)
	if n.Lost() != 0 {
		t.Errorf("past the interface: %v", n)
	}
	if more := s.spy.Settle().Packets[lab.ESP]; more != protected {
		t.Errorf("%d packets of ESP for what goes past the interface", more-protected)
	}
	for _, g := range gateways {
		g.ends(t)
	}
}

// marked: flows are for packets that bear a mark, which a packet filter puts on
// pings, and on ESP as it comes in; the rest passes by the tunnel.
func marked(t *testing.T) {
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	spy, err := n.Internet.Spy("west", lab.SpyOptions{Marks: [][]byte{lab.PingMark()}})
	must(t, err)
	s := &site{HowTo: n, spy: spy}
	for _, h := range []*lab.Host{s.Ragweed, s.Slippery} {
		must(t, h.Do(func() error { return markPings(0x2a) }))
	}
	east, west := twoKernels(t, s, quickest, general("Data-plane-options= mark=0x2a"))
	_, err = s.Dandelion.Ping(s.V4.Icy, 1, 15*time.Second)
	must(t, err)
	there, back := s.pings(t, s.V4, quickest, every)
	at := netip.AddrPortFrom(s.V4.Icy, 7777)
	echo, err := s.Icy.Echo(at)
	must(t, err)
	defer echo.Close()
	stream, err := s.Dandelion.StartUDP(at, 100, every)
	must(t, err)
	for _, c := range []*lab.Stream{there, back, stream} {
		must(t, c.AwaitAnswers(20, 10*time.Second))
		if n := c.Stop(2 * time.Second); n.Lost() != 0 {
			t.Errorf("%v", n)
		}
	}
	v := spy.Settle()
	if v.Leaked != 0 || v.Packets[lab.ESP] < 80 || v.Packets[lab.Other] < 40 {
		t.Errorf("the spy saw %v, expected pings in ESP and UDP in clear; %v", v, v.Leaks)
	}
	east.ends(t)
	west.ends(t)
}

// markPings has the packet filter of this thread's host mark what is forwarded or
// comes in: ICMP, and ESP.
func markPings(mark uint32) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "test-marks"})
	chain := c.AddChain(&nftables.Chain{
		Name: "marks", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
	})
	for _, proto := range []byte{unix.IPPROTO_ICMP, unix.IPPROTO_ESP} {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
		}})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("marking packets: %w", err)
	}
	return nil
}
