package iketest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// threefold is IPComp, ESP and AH together, with PFS.
func threefold() ike.Suite {
	return Bundle(AH(doi.AHSHA2256, doi.AuthHMACSHA2256, doi.GroupCurve25519), IPComp(doi.GroupCurve25519), PFSESP)
}

// askQuick has a peer of the test's own making say message 1 of quick mode to
// East under West's ISAKMP SA, confirm the answer, and returns it.
func askQuick(t *testing.T, g *Gateways, id uint32, more []isakmp.Payload, proposals ...isakmp.Proposal) ([]isakmp.Proposal, *isakmp.Message) {
	t.Helper()
	return askQuickFrom(t, g, "192.0.2.1:500", id, more, proposals...)
}

func askQuickFrom(t *testing.T, g *Gateways, from string, id uint32, more []isakmp.Payload, proposals ...isakmp.Proposal) ([]isakmp.Proposal, *isakmp.Message) {
	t.Helper()
	g.Observer().Lenient = true
	s := g.Observer().Last()
	sa := &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: proposals}
	ps := append([]isakmp.Payload{sa, &isakmp.Nonce{Data: bytes.Repeat([]byte{5}, 32)}}, more...)
	hash := &isakmp.Hash{Data: s.Keys.Hash1(id, isakmp.AppendPayloads(nil, ps))}
	b, next := s.Seal(doi.ExchangeQuick, id, s.IV(id), append([]isakmp.Payload{hash}, ps...)...)
	var reply []byte
	g.Tap = func(p *Packet) []Delivery {
		if binary.BigEndian.Uint32(p.Data[20:]) == id {
			reply = p.Data
		}
		return nil
	}
	remote := addrPort(from)
	to := netip.AddrPortFrom(g.East.Addr, 500)
	if remote.Port() != 500 {
		to = netip.AddrPortFrom(g.East.Addr, 4500)
	}
	g.World.Inject(remote, to, b)
	g.Run(100 * time.Millisecond)
	if reply == nil {
		return nil, nil
	}
	h, err := isakmp.ParseHeader(reply)
	if err != nil {
		t.Fatal(err)
	}
	m, next, err := s.open(h, reply, next)
	if err != nil {
		t.Fatal(err)
	}
	ni, nr := bytes.Repeat([]byte{5}, 32), []byte(nil)
	if n, at := find[*isakmp.Nonce](m); at > 0 {
		nr = n.Data
	}
	third, _ := s.Seal(doi.ExchangeQuick, id, next, &isakmp.Hash{Data: s.Keys.Hash3(id, ni, nr)})
	g.World.Inject(remote, to, third)
	g.Run(100 * time.Millisecond)
	got, _ := find[*isakmp.SA](m)
	return got.Proposals, m
}

func attrs(mode, auth uint16) []isakmp.Attribute {
	a := []isakmp.Attribute{isakmp.Basic(uint16(doi.SAEncapsulation), mode)}
	if auth != 0 {
		a = append(a, isakmp.Basic(uint16(doi.SAAuthentication), auth))
	}
	return a
}

// TestBundlesOfOtherKinds: other implementations list protocols in another
// order, say tunnel mode in the innermost alone or in all, and write CPIs in two
// bytes or four. The answer has their order, their words and CPIs of two bytes.
func TestBundlesOfOtherKinds(t *testing.T) {
	const tunnel, transport = uint16(doi.EncapTunnel), uint16(doi.EncapTransport)
	prop := func(n uint8, p doi.Protocol, spi []byte, id uint8, as ...isakmp.Attribute) isakmp.Proposal {
		return isakmp.Proposal{Number: n, Protocol: p, SPI: spi, Transforms: []isakmp.Transform{{Number: 1, ID: id, Attributes: as}}}
	}
	esp := func(mode uint16) isakmp.Proposal {
		return prop(7, doi.ProtoESP, []byte{2, 2, 2, 2}, uint8(doi.ESPAES), append(attrs(mode, uint16(doi.AuthHMACSHA1)), isakmp.Basic(uint16(doi.SAKeyLength), 128))...)
	}
	ah := func(mode uint16) isakmp.Proposal {
		return prop(7, doi.ProtoAH, []byte{3, 3, 3, 3}, uint8(doi.AHSHA2256), attrs(mode, uint16(doi.AuthHMACSHA2256))...)
	}
	comp := func(cpi []byte, mode uint16) isakmp.Proposal {
		return prop(7, doi.ProtoIPComp, cpi, uint8(doi.IPCompDeflate), attrs(mode, 0)...)
	}
	lzs := comp([]byte{0x12, 0x34}, tunnel)
	lzs.Transforms[0].ID = uint8(doi.IPCompLZS)
	two := comp([]byte{0, 2}, tunnel)
	two.Transforms = append(two.Transforms, isakmp.Transform{Number: 2, ID: uint8(doi.IPCompLZS), Attributes: attrs(tunnel, 0)})
	for name, c := range map[string]struct {
		offer []isakmp.Proposal
		cpi   ipsec.SPI // of the outgoing SA; 0: refused
	}{
		"canonical":               {[]isakmp.Proposal{comp([]byte{0x12, 0x34}, tunnel), esp(tunnel), ah(tunnel)}, 0x1234},
		"AH first":                {[]isakmp.Proposal{ah(tunnel), esp(tunnel), comp([]byte{0x12, 0x34}, tunnel)}, 0x1234},
		"tunnel innermost alone":  {[]isakmp.Proposal{esp(transport), ah(transport), comp([]byte{0x12, 0x34}, tunnel)}, 0x1234},
		"tunnel in ESP alone":     {[]isakmp.Proposal{ah(transport), esp(tunnel), comp([]byte{0x12, 0x34}, transport)}, 0x1234},
		"CPI of four bytes":       {[]isakmp.Proposal{esp(tunnel), ah(tunnel), comp([]byte{0, 0, 0x12, 0x34}, tunnel)}, 0x1234},
		"well-known CPI":          {[]isakmp.Proposal{esp(tunnel), ah(tunnel), comp([]byte{0, 2}, tunnel)}, 2},
		"another well-known CPI":  {[]isakmp.Proposal{esp(tunnel), ah(tunnel), comp([]byte{0, 3}, tunnel)}, 0},
		"well-known, two choices": {[]isakmp.Proposal{esp(tunnel), ah(tunnel), two}, 0},
		"private CPI":             {[]isakmp.Proposal{esp(tunnel), ah(tunnel), comp([]byte{0xf0, 0}, tunnel)}, 0},
		"reserved CPI":            {[]isakmp.Proposal{esp(tunnel), ah(tunnel), comp([]byte{0, 200}, tunnel)}, 0},
		"wide CPI":                {[]isakmp.Proposal{esp(tunnel), ah(tunnel), comp([]byte{0, 1, 0x12, 0x34}, tunnel)}, 0},
		"transport":               {[]isakmp.Proposal{esp(transport), ah(transport), comp([]byte{0x12, 0x34}, transport)}, 0},
		"LZS":                     {[]isakmp.Proposal{esp(tunnel), ah(tunnel), lzs}, 0},
		"ESP twice":               {[]isakmp.Proposal{esp(tunnel), esp(tunnel), ah(tunnel)}, 0},
		"no AH":                   {[]isakmp.Proposal{esp(tunnel), comp([]byte{0x12, 0x34}, tunnel)}, 0},
		"IPComp alone":            {[]isakmp.Proposal{comp([]byte{0x12, 0x34}, tunnel)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			suite := Bundle(AESESP, AH(doi.AHSHA2256, doi.AuthHMACSHA2256, 0), IPComp(0))
			g := NewGateways(t, Setup{Suites: []ike.Suite{suite}})
			g.Connect()
			before := g.East.Plane.Live(ipsec.Out)
			got, m := askQuick(t, g, 42, quickIDs(), c.offer...)
			if c.cpi == 0 {
				if f := Events[ike.Failed](g.East); m != nil || len(f) != 1 || len(f[0].Ours) != 3 || len(f[0].Theirs) < 1 {
					t.Errorf("it was taken, or not refused well: %v\n%s", got, g.East.Said())
				}
				return
			}
			if len(got) != len(c.offer) {
				t.Fatalf("%v\n%s", got, g.East.Said())
			}
			for i, p := range got {
				want := c.offer[i]
				want.SPI = p.SPI
				size := 4
				if p.Protocol == doi.ProtoIPComp {
					size = 2
				}
				if len(p.SPI) != size || !bytes.Equal(isakmp.BodyOf(&isakmp.SA{Proposals: []isakmp.Proposal{p}}), isakmp.BodyOf(&isakmp.SA{Proposals: []isakmp.Proposal{want}})) {
					t.Errorf("proposal %d is %+v, expected %+v", i, p, want)
				}
			}
			live := g.East.Plane.Live(ipsec.Out)
			i := slices.IndexFunc(live, func(sa *ipsec.SA) bool { return sa.ID.Proto == ipsec.ProtoIPComp && sa.ID.SPI == c.cpi })
			if len(live) != len(before)+3 || i < 0 || live[i].Bundle.Index != 0 || live[i].Mode != ipsec.Tunnel || live[i].Comp != ipsec.CompDeflate {
				t.Errorf("%d outgoing SAs, before %d: %v", len(live), len(before), live)
			}
		})
	}
}

// TestWellKnownCPI: an outgoing IPComp SA may have the CPI of its algorithm
// (RFC 3173 section 4.1).
func TestWellKnownCPI(t *testing.T) {
	g := NewGateways(t, Setup{Suites: []ike.Suite{Bundle(IPComp(0), AESESP)}})
	g.East.Plane.nextCPI = 1
	g.East.Plane.anyCPI = true
	g.Connect()
	out := g.West.Plane.Live(ipsec.Out)
	if len(out) != 2 || out[0].ID.SPI != ipsec.CPIDeflate || out[0].ID.Proto != ipsec.ProtoIPComp || out[0].Comp != ipsec.CompDeflate {
		t.Errorf("%+v", out)
	}
}

// TestBundlesSuffer puts a bundle through the faults of every message of quick
// mode: it is there as a whole on both sides, or not at all.
func TestBundlesSuffer(t *testing.T) {
	for _, s := range handshake() {
		if s.x != doi.ExchangeQuick {
			continue
		}
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			for i, f := range faults() {
				for _, wanted := range []bool{false, true} {
					suffer(t, s, f, wanted, Setup{Seed: uint64(i), Suites: []ike.Suite{threefold()}})
					suffer(t, s, f, wanted, Setup{Seed: uint64(i), Suites: []ike.Suite{AH(doi.AHSHA1, doi.AuthHMACSHA1, 0)}})
				}
			}
		})
	}
}

// TestBundlesThroughBadWeather rekeys bundles under traffic in a bad network.
func TestBundlesThroughBadWeather(t *testing.T) {
	t.Parallel()
	for seed := range uint64(fewer(60)) {
		g := NewGateways(t, Setup{Seed: seed, Suites: []ike.Suite{threefold()}, Active: seed%2 == 0})
		g.Net = Link{Latency: 20 * time.Millisecond, Jitter: time.Duration(seed%3) * time.Second, Loss: float64(seed%6) * 0.07, Dup: 0.2, Flip: 0.05, Cut: 0.03}
		g.West.Start()
		g.East.Start()
		g.West.Initiate("vpn")
		g.Run(time.Hour)
		g.Net = Link{Latency: 20 * time.Millisecond}
		g.Run(5 * time.Minute)
		if err := Agreement(g.West, g.East, 1); err != nil {
			g.Fatalf("%v\n%s%s", err, g.West.Said(), g.East.Said())
		}
		g.MustCarry()
		g.MustSettle()
	}
}

// TestBundlesAreRekeyedWithoutLoss: three SAs each way take over at once.
func TestBundlesAreRekeyedWithoutLoss(t *testing.T) {
	t.Parallel()
	g := NewGateways(t, Setup{Suites: []ike.Suite{threefold()}})
	g.Connect()
	b := g.bothWays(10 * time.Millisecond)
	for range 10 {
		expireSoft(g.West)
		g.Run(20 * time.Second)
		expireSoft(g.East)
		g.Run(20 * time.Second)
	}
	g.Run(time.Hour)
	b.finish()
	g.oneOfEach()
}

// TestABundleEndsAsAWhole: whatever one SA of it suffers, the others go with it,
// and whoever wants the connection gets a new one.
func TestABundleEndsAsAWhole(t *testing.T) {
	for _, proto := range []doi.Protocol{doi.ProtoIPComp, doi.ProtoESP, doi.ProtoAH} {
		g := NewGateways(t, Setup{Suites: []ike.Suite{threefold()}})
		g.Connect()
		ip := map[doi.Protocol]ipsec.Proto{doi.ProtoIPComp: ipsec.ProtoIPComp, doi.ProtoESP: ipsec.ProtoESP, doi.ProtoAH: ipsec.ProtoAH}[proto]
		find := func(n *Node, d ipsec.Direction) *ipsec.SA {
			l := n.Plane.Live(d)
			return l[slices.IndexFunc(l, func(sa *ipsec.SA) bool { return sa.ID.Proto == ip })]
		}
		spi := SPIBytes(find(g.East, ipsec.Out).ID.SPI)
		if proto == doi.ProtoIPComp {
			spi = spi[2:]
		}
		d := &isakmp.Delete{DOI: doi.IPsec, Protocol: proto, SPISize: uint8(len(spi)), SPIs: [][]byte{spi}}
		g.East.Inject("192.0.2.1:500", g.Observer().Last().Inform(77, d))
		g.Run(time.Second)
		if n := len(g.East.Plane.Live(ipsec.Out)); n != 0 {
			t.Errorf("%s deleted: %d outgoing SAs are left\n%s", proto, n, g.East.Said())
		}

		g = NewGateways(t, Setup{Suites: []ike.Suite{threefold()}})
		g.Connect()
		g.West.Plane.expired(g.West.Plane.live[find(g.West, ipsec.In).ID])
		g.Run(time.Minute)
		g.oneOfEach()
		g.MustCarry()
		g.Run(5 * time.Minute)
		g.MustSettle()
	}
}

// TestDeletesNameEachProtocol: a bundle is taken down by one message with a
// DELETE a protocol, whose SPIs are as long as in the proposal.
func TestDeletesNameEachProtocol(t *testing.T) {
	g := NewGateways(t, Setup{Suites: []ike.Suite{threefold()}})
	g.Connect()
	var seen []string
	g.Tap = func(p *Packet) []Delivery {
		if s := g.Observer().Of(p.Data); s != nil && s.Message != nil && s.Exchange == doi.ExchangeInformational {
			seen = append(seen, s.Message.String())
			for _, pl := range s.Message.Payloads[1:] {
				d := pl.(*isakmp.Delete)
				if (d.SPISize == 2) != (d.Protocol == doi.ProtoIPComp) || len(d.SPIs) != 1 {
					t.Errorf("%s with SPIs of %d bytes", d, d.SPISize)
				}
			}
		}
		return Pass(p)
	}
	g.West.Handle(ike.Teardown{Name: "vpn"})
	g.Run(time.Second)
	if len(seen) != 1 || strings.Count(seen[0], "delete(") != 3 {
		t.Fatalf("%q", seen)
	}
	g.Run(time.Minute)
	if err := Agreement(g.West, g.East, 0); err != nil {
		t.Error(err)
	}
}

// TestBundlesAreFoundAgain: a daemon that was killed takes bundles back as they
// were.
func TestBundlesAreFoundAgain(t *testing.T) {
	g := NewGateways(t, Setup{Suites: []ike.Suite{threefold()}, Active: true})
	g.West.Start()
	g.MustUp(10 * time.Second)
	before := g.West.Plane.Live(ipsec.Out)
	g.West.Reborn()
	g.West.Start()
	g.MustCarry()
	if found := Events[ike.Phase2Found](g.West); len(found) != 1 || len(found[0].Out) != 3 {
		t.Errorf("%s", g.West.Said())
	}
	if after := g.West.Plane.Live(ipsec.Out); len(after) != 3 || after[0].ID != before[0].ID {
		t.Errorf("%+v", after)
	}
	g.Run(time.Hour)
	g.oneOfEach()
	g.MustCarry()
	g.MustSettle()
}

// TestTheShortestLifetimeCounts: a bundle is replaced before its first SA ends.
func TestTheShortestLifetimeCounts(t *testing.T) {
	s := threefold()
	s.Protocols[0].Transforms[0].Seconds = ike.Range{Offer: 100, Min: 60, Max: 86400}
	g := NewGateways(t, Setup{Suites: []ike.Suite{s}})
	g.Connect()
	for _, sa := range append(g.West.Plane.Live(ipsec.In), g.East.Plane.Live(ipsec.Out)...) {
		if sa.Hard.Time != 100*time.Second {
			t.Errorf("%s lives for %s", sa.ID, sa.Hard.Time)
		}
	}
	b := g.bothWays(50 * time.Millisecond)
	g.Run(10 * time.Minute)
	b.finish()
	up := Events[ike.Phase2Up](g.West)
	if len(up) < 5 || up[0].Lifetime != 100*time.Second {
		t.Errorf("%s", g.West.Said())
	}
	g.MustCarry()
}
