package iketest

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// PSK is the key of Gateways.
const PSK = "mekmitasdigoat"

// Phase1 is a transform that offers and accepts one thing, with a lifetime of an
// hour that may be from a minute to a day.
func Phase1(c doi.Cipher, bits uint64, h doi.Hash, g doi.Group) ike.Phase1Transform {
	t := ike.Phase1Transform{
		Name:   c.String() + "-" + h.String() + "-" + g.String(),
		Cipher: c, Hash: h, Auth: doi.AuthPSK, Group: g, Seconds: ike.Range{Offer: 3600, Min: 60, Max: 86400},
	}
	if bits != 0 {
		t.KeyLength = ike.Range{Offer: bits, Min: bits, Max: bits}
	}
	return t
}

// ESP is a suite of one transform, for 20 minutes that may be from one to a day.
func ESP(id doi.ESP, bits uint64, a doi.AuthAlg, pfs doi.Group) ike.Suite {
	t := ike.Phase2Transform{
		Name: id.String() + "-" + a.String(),
		ID:   uint8(id), Auth: a, Group: pfs, Seconds: ike.Range{Offer: 1200, Min: 60, Max: 86400},
	}
	if bits != 0 {
		t.KeyLength = ike.Range{Offer: bits, Min: bits, Max: bits}
	}
	return ike.Suite{Name: t.Name, Protocols: []ike.Protocol{{Proto: doi.ProtoESP, Replay: 64, Transforms: []ike.Phase2Transform{t}}}}
}

// AH is a suite of one AH transform, with the lifetime of ESP's.
func AH(id doi.AH, a doi.AuthAlg, pfs doi.Group) ike.Suite {
	s := ESP(0, 0, a, pfs)
	t := &s.Protocols[0].Transforms[0]
	t.ID, t.Name = uint8(id), id.String()
	s.Name, s.Protocols[0].Proto = t.Name, doi.ProtoAH
	return s
}

// IPComp is deflate; it is for Bundle.
func IPComp(pfs doi.Group) ike.Suite {
	s := AH(doi.AH(doi.IPCompDeflate), 0, pfs)
	s.Name, s.Protocols[0].Proto, s.Protocols[0].Replay = doi.IPCompDeflate.String(), doi.ProtoIPComp, 0
	s.Protocols[0].Transforms[0].Name = s.Name
	return s
}

// Bundle makes one suite of several.
func Bundle(suites ...ike.Suite) ike.Suite {
	var b ike.Suite
	for _, s := range suites {
		if b.Name != "" {
			b.Name += "+"
		}
		b.Name += s.Name
		b.Protocols = append(b.Protocols, s.Protocols...)
	}
	return b
}

// InTransport is a suite with all of its transforms in transport mode.
func InTransport(s ike.Suite) ike.Suite {
	return Changed(s, func(t *ike.Phase2Transform) { t.Mode = ipsec.Transport })
}

// WithESN is a suite with extended sequence numbers.
func WithESN(s ike.Suite) ike.Suite { return Changed(s, func(t *ike.Phase2Transform) { t.ESN = true }) }

// Changed is a copy of a suite in which each transform was changed.
func Changed(s ike.Suite, change func(t *ike.Phase2Transform)) ike.Suite {
	s.Protocols = slices.Clone(s.Protocols)
	for i := range s.Protocols {
		s.Protocols[i].Transforms = slices.Clone(s.Protocols[i].Transforms)
		for k := range s.Protocols[i].Transforms {
			change(&s.Protocols[i].Transforms[k])
		}
	}
	return s
}

// AES is what tests use that do not care: quick to compute.
var (
	AES    = Phase1(doi.CipherAES, 128, doi.HashSHA1, doi.GroupCurve25519)
	AESESP = ESP(doi.ESPAES, 128, doi.AuthHMACSHA1, 0)
	PFSESP = ESP(doi.ESPAES, 128, doi.AuthHMACSHA1, doi.GroupCurve25519)
)

// Setup is what Gateways may differ in. The zero value is one tunnel over IPv4,
// AES and Curve25519, no PFS, nobody starts by itself.
type Setup struct {
	Seed   uint64
	V6     bool
	Phase1 []ike.Phase1Transform
	Suites []ike.Suite
	Active bool // both sides start by themselves
	NATT   bool
	Hosts  bool // the tunnel's ends themselves instead of networks behind them
	// Change has the last word about either side's configuration.
	Change func(side string, c *ike.Config)
}

// Gateways is the how-to's network: two gateways, a network behind each, one
// connection "vpn" between the networks. West is the one tests start.
type Gateways struct {
	*World
	West, East *Node
}

// NewGateways makes two gateways.
func NewGateways(t testing.TB, s Setup) *Gateways {
	w := NewWorld(t, s.Seed+1)
	west, east := "192.0.2.1", "198.51.100.2"
	netWest, netEast := "10.1.0.0/16", "10.2.0.0/16"
	if s.V6 {
		west, east = "2001:db8:1::1", "2001:db8:2::2"
		netWest, netEast = "fd00:1::/64", "fd00:2::/64"
	}
	g := &Gateways{World: w}
	cw := Config("east", east, netWest, netEast, s)
	ce := Config("west", west, netEast, netWest, s)
	if s.Change != nil {
		s.Change("west", cw)
		s.Change("east", ce)
	}
	g.West = w.NewNode("west", west, cw)
	g.East = w.NewNode("east", east, ce)
	return g
}

// Config is one gateway's configuration: a peer and a connection "vpn" with it.
func Config(peer, addr, local, remote string, s Setup) *ike.Config {
	if s.Phase1 == nil {
		s.Phase1 = []ike.Phase1Transform{AES}
	}
	if s.Suites == nil {
		s.Suites = []ike.Suite{AESESP}
	}
	p := &ike.Peer{Name: peer, Key: []byte(PSK), Transforms: s.Phase1}
	if addr != "" {
		p.Address = netip.MustParseAddr(addr)
	}
	c := &ike.Connection{
		Name: "vpn", Peer: p, Active: s.Active,
		Local:  ike.Net{Prefix: netip.MustParsePrefix(local)},
		Remote: ike.Net{Prefix: netip.MustParsePrefix(remote)},
		Suites: s.Suites,
	}
	if s.Hosts {
		c.Local, c.Remote = ike.Net{}, ike.Net{}
	}
	cfg := &ike.Config{NATT: s.NATT, Peers: []*ike.Peer{p}, Connections: []*ike.Connection{c}}
	if addr == "" {
		cfg.Peers, cfg.DefaultPeer = nil, p
	}
	return cfg.Defaults()
}

// Up tells whether both sides have one pair of SAs that fit.
func (g *Gateways) Up() bool { return Agreement(g.West, g.East, 1) == nil }

// Connect has West bring the connection up and fails the test when it does not.
func (g *Gateways) Connect() {
	g.T.Helper()
	g.West.Initiate("vpn")
	g.MustUp(10 * time.Second)
}

// MustUp waits for one pair of SAs and sends a packet each way.
func (g *Gateways) MustUp(patience time.Duration) {
	g.T.Helper()
	if !g.RunUntil(patience, g.Up) {
		g.Fatalf("not up after %s: %v\n%s%s", patience, Agreement(g.West, g.East, 1), g.West.Said(), g.East.Said())
	}
	g.MustCarry()
}

// MustCarry sends a packet each way.
func (g *Gateways) MustCarry() {
	g.T.Helper()
	if err := g.Carries(g.West, "vpn", g.East, "vpn"); err != nil {
		g.Fatalf("%v\n%s%s", err, g.West.Said(), g.East.Said())
	}
}

// MustSettle fails the test unless both sides' books are in order.
func (g *Gateways) MustSettle() {
	g.T.Helper()
	for _, n := range []*Node{g.West, g.East} {
		if err := n.Settled(); err != nil {
			g.Errorf("%v\n%s", err, n.Said())
		}
	}
}

// Said is all that an engine said to people.
func (n *Node) Said() string {
	s := ""
	for _, e := range n.Events {
		s += n.Name + ": " + Text(e) + "\n"
	}
	return s
}

// Text is an event in words.
func Text(o ike.Output) string {
	if s, ok := o.(interface{ String() string }); ok {
		return s.String()
	}
	return ""
}

// Count counts the events of one type.
func Count[E ike.Output](n *Node) int { return len(Events[E](n)) }

// Events are the events of one type.
func Events[E ike.Output](n *Node) []E {
	var all []E
	for _, o := range n.Events {
		if e, ok := o.(E); ok {
			all = append(all, e)
		}
	}
	return all
}

// Inject gives a node a datagram from somewhere.
func (n *Node) Inject(from string, data []byte) {
	n.World.Inject(netip.MustParseAddrPort(from), netip.AddrPortFrom(n.Addr, 500), data)
}

// OutSA is the node's only outgoing SA.
func (n *Node) OutSA() *ipsec.SA {
	n.World.T.Helper()
	l := n.Plane.Live(ipsec.Out)
	if len(l) != 1 {
		n.World.Fatalf("%s has %d outgoing SAs\n%s", n.Name, len(l), n.dump())
	}
	return l[0]
}
