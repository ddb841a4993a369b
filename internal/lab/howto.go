package lab

import (
	"errors"
	"net/netip"
)

// HowTo is the network of the how-to: two offices, each behind a gateway, and an
// internet between them that carries anything, clear text too, if a gateway
// should let it out.
//
//	Dandelion ── lan Ragweed wan ── east Internet west ── wan Slippery lan ── Icy
//
// With NAT a router stands between Ragweed and the internet, and Ragweed has a
// private address (192.168.0.2) which the router hides.
type HowTo struct {
	*Net
	Dandelion, Ragweed, Internet, Slippery, Icy *Host
	NAT                                         *Host // nil without NAT

	V4, V6 Addrs
}

// Addrs are the addresses of one family.
type Addrs struct {
	Dandelion, Icy              netip.Addr
	Ragweed, Slippery           netip.Addr // on the internet; Ragweed's own, even behind NAT
	RagweedSeen                 netip.Addr // as the internet sees it: the NAT router's
	RagweedLAN, SlipperyLAN     netip.Addr
	NetBadplants, NetCarefull   netip.Prefix // behind Ragweed, behind Slippery
	routerEast, routerWest      netip.Addr
	ragweedGateway, natToRouter netip.Addr
}

// HowToOptions change the network.
type HowToOptions struct {
	NAT      bool // Ragweed is behind a router that translates (IPv4)
	NewPorts bool // which gives every connection a new port
	// NoReturn leaves out the internet's routes to the private networks; a leak
	// is still seen by a spy, but goes nowhere.
	NoReturn bool
}

var (
	howToV4 = Addrs{
		Dandelion: netip.MustParseAddr("10.1.0.2"), Icy: netip.MustParseAddr("10.2.0.2"),
		Ragweed: netip.MustParseAddr("192.0.2.2"), Slippery: netip.MustParseAddr("198.51.100.2"),
		RagweedSeen: netip.MustParseAddr("192.0.2.2"),
		RagweedLAN:  netip.MustParseAddr("10.1.0.1"), SlipperyLAN: netip.MustParseAddr("10.2.0.1"),
		NetBadplants: netip.MustParsePrefix("10.1.0.0/24"), NetCarefull: netip.MustParsePrefix("10.2.0.0/24"),
		routerEast: netip.MustParseAddr("192.0.2.1"), routerWest: netip.MustParseAddr("198.51.100.1"),
		ragweedGateway: netip.MustParseAddr("192.0.2.1"),
	}
	howToV6 = Addrs{
		Dandelion: netip.MustParseAddr("fd00:1::2"), Icy: netip.MustParseAddr("fd00:2::2"),
		Ragweed: netip.MustParseAddr("2001:db8:a::2"), Slippery: netip.MustParseAddr("2001:db8:b::2"),
		RagweedSeen: netip.MustParseAddr("2001:db8:a::2"),
		RagweedLAN:  netip.MustParseAddr("fd00:1::1"), SlipperyLAN: netip.MustParseAddr("fd00:2::1"),
		NetBadplants: netip.MustParsePrefix("fd00:1::/64"), NetCarefull: netip.MustParsePrefix("fd00:2::/64"),
		routerEast: netip.MustParseAddr("2001:db8:a::1"), routerWest: netip.MustParseAddr("2001:db8:b::1"),
		ragweedGateway: netip.MustParseAddr("2001:db8:a::1"),
	}
)

// Inner are the private networks, for a spy.
func (t *HowTo) Inner() []netip.Prefix {
	return []netip.Prefix{t.V4.NetBadplants, t.V4.NetCarefull, t.V6.NetBadplants, t.V6.NetCarefull}
}

// Spy watches the cable between the internet and Slippery.
func (t *HowTo) Spy(o SpyOptions) (*Spy, error) {
	o.Inner = append(o.Inner, t.Inner()...)
	o.Marks = append(o.Marks, PingMark())
	return t.Internet.Spy("west", o)
}

// HowTo builds the network in n.
func (n *Net) HowTo(o HowToOptions) (*HowTo, error) {
	t := &HowTo{Net: n, V4: howToV4, V6: howToV6}
	for _, h := range []struct {
		at     **Host
		name   string
		router bool
	}{
		{&t.Dandelion, "Dandelion", false},
		{&t.Ragweed, "Ragweed", true},
		{&t.Internet, "internet", true},
		{&t.Slippery, "Slippery", true},
		{&t.Icy, "Icy", false},
	} {
		host, err := n.Host(h.name)
		if err == nil && h.router {
			err = host.Forward()
		}
		if err != nil {
			return nil, err
		}
		*h.at = host
	}
	if o.NAT {
		if err := t.addNAT(o); err != nil {
			return nil, err
		}
	} else if err := n.Connect(t.end(t.Ragweed, "wan", 24, t.V4.Ragweed, t.V6.Ragweed), t.end(t.Internet, "east", 24, t.V4.routerEast, t.V6.routerEast)); err != nil {
		return nil, err
	}
	return t, errors.Join(
		n.Connect(t.end(t.Dandelion, "lan", 24, t.V4.Dandelion, t.V6.Dandelion), t.end(t.Ragweed, "lan", 24, t.V4.RagweedLAN, t.V6.RagweedLAN)),
		n.Connect(t.end(t.Internet, "west", 24, t.V4.routerWest, t.V6.routerWest), t.end(t.Slippery, "wan", 24, t.V4.Slippery, t.V6.Slippery)),
		n.Connect(t.end(t.Slippery, "lan", 24, t.V4.SlipperyLAN, t.V6.SlipperyLAN), t.end(t.Icy, "lan", 24, t.V4.Icy, t.V6.Icy)),
		t.addRoutes(o),
	)
}

// addNAT puts the router between Ragweed and the internet. IPv6 passes it
// unchanged.
func (t *HowTo) addNAT(o HowToOptions) (err error) {
	if t.NAT, err = t.Host("nat"); err != nil {
		return err
	}
	t.V4.RagweedSeen = t.V4.Ragweed // the router's address is what Ragweed's was
	t.V4.Ragweed = netip.MustParseAddr("192.168.0.2")
	t.V4.ragweedGateway = netip.MustParseAddr("192.168.0.1")
	t.V4.natToRouter = t.V4.RagweedSeen
	t.V6.ragweedGateway = netip.MustParseAddr("2001:db8:a:1::1")
	t.V6.natToRouter = t.V6.Ragweed
	t.V6.Ragweed = netip.MustParseAddr("2001:db8:a:1::2")
	t.V6.RagweedSeen = t.V6.Ragweed
	return errors.Join(
		t.NAT.Forward(),
		t.Connect(t.end(t.Ragweed, "wan", 24, t.V4.Ragweed, t.V6.Ragweed), t.end(t.NAT, "inside", 24, t.V4.ragweedGateway, t.V6.ragweedGateway)),
		t.Connect(t.end(t.NAT, "outside", 24, t.V4.natToRouter, t.V6.natToRouter), t.end(t.Internet, "east", 24, t.V4.routerEast, t.V6.routerEast)),
		t.NAT.Masquerade("outside", t.V4.natToRouter, o.NewPorts),
		t.NAT.Route("default", t.V4.routerEast.String()),
		t.NAT.Route("default", t.V6.routerEast.String()),
		t.NAT.Route(t.V4.NetBadplants.String(), t.V4.Ragweed.String()),
		t.NAT.Route(t.V6.NetBadplants.String(), t.V6.Ragweed.String()),
		t.Internet.Route("2001:db8:a:1::/64", t.V6.natToRouter.String()),
	)
}

func (t *HowTo) addRoutes(o HowToOptions) error {
	var errs []error
	for _, a := range []*Addrs{&t.V4, &t.V6} {
		errs = append(errs,
			t.Dandelion.Route("default", a.RagweedLAN.String()),
			t.Icy.Route("default", a.SlipperyLAN.String()),
			t.Ragweed.Route("default", a.ragweedGateway.String()),
			t.Slippery.Route("default", a.routerWest.String()),
		)
		if o.NoReturn {
			continue
		}
		next := a.Ragweed
		if t.NAT != nil {
			next = a.natToRouter
		}
		errs = append(errs,
			t.Internet.Route(a.NetBadplants.String(), next.String()),
			t.Internet.Route(a.NetCarefull.String(), a.Slippery.String()),
		)
	}
	return errors.Join(errs...)
}

func (t *HowTo) end(h *Host, ifname string, bits4 int, v4, v6 netip.Addr) End {
	return End{Host: h, If: ifname, Addrs: []string{netip.PrefixFrom(v4, bits4).String(), netip.PrefixFrom(v6, 64).String()}}
}

// HowToAddrs are the IPv4 addresses of the how-to's network without NAT, for
// tests that make none.
func HowToAddrs() Addrs { return howToV4 }
