package iketest

import (
	"fmt"
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

// hosts is a host behind NAT and one that is not, which speak in transport mode
// in UDP with each other. Hub knows nobody beforehand.
type hosts struct {
	*World
	nat      *NAT
	ann, hub *Node
}

func newHosts(t testing.TB, suites, ours []ike.Suite) *hosts { return newHostsAt(t, 12, suites, ours) }

func newHostsAt(t testing.TB, seed uint64, suites, ours []ike.Suite) *hosts {
	w := NewWorld(t, seed)
	hub := Config("roaming", "", "10.2.0.0/16", "10.11.0.0/16", Setup{NATT: true, Suites: ours, Hosts: true})
	hub.DefaultConnection, hub.Connections = hub.Connections[0], nil
	hub.DefaultConnection.Peer = nil
	ann := Config("hub", "198.51.100.2", "10.11.0.0/16", "10.2.0.0/16", Setup{NATT: true, Suites: suites, Hosts: true})
	h := &hosts{World: w, nat: w.NewNAT("203.0.113.1")}
	h.hub = w.NewNode("hub", "198.51.100.2", hub)
	h.ann = w.NewNode("ann", "172.16.0.2", ann)
	h.nat.Hide(h.ann)
	return h
}

// back is the hub's name for the connection.
func (h *hosts) back() string {
	h.T.Helper()
	for id := range h.hub.Plane.flows {
		if name, ok := strings.CutSuffix(string(id), "/out"); ok {
			return name
		}
	}
	h.Fatalf("the hub has no flow\n%s%s", h.ann.Said(), h.hub.Said())
	return ""
}

func (h *hosts) must() {
	h.T.Helper()
	if err := h.Carries(h.ann, "vpn", h.hub, h.back()); err != nil {
		h.Fatalf("%v\n%s%s", err, h.ann.Said(), h.hub.Said())
	}
}

var espTransport = InTransport(AESESP)

// TestTransportThroughNAT: each side has SAs between the addresses that it sees,
// and knows what the other saw (RFC 3947 section 5.2); a rekey by either side goes
// on under the same identities.
func TestTransportThroughNAT(t *testing.T) {
	for _, suite := range []ike.Suite{espTransport, InTransport(Bundle(AESESP, IPComp(0)))} {
		h := newHosts(t, []ike.Suite{suite}, []ike.Suite{suite})
		var said []string
		h.Tap = func(p *Packet) []Delivery {
			if s := h.Observer().Of(p.Data); s.Exchange == doi.ExchangeQuick && s.Step < 3 {
				for _, pl := range s.Message.Payloads {
					switch pl.(type) {
					case *isakmp.NATOA, *isakmp.ID:
						said = append(said, fmt.Sprint(s.Step, " ", pl))
					}
				}
			}
			return Pass(p)
		}
		h.ann.Initiate("vpn")
		h.Run(5 * time.Second)
		h.must()
		want := "1 172.16.0.2|1 198.51.100.2|1 nat-oa(172.16.0.2)|1 nat-oa(198.51.100.2)|" +
			"2 172.16.0.2|2 198.51.100.2|2 nat-oa(203.0.113.1)|2 nat-oa(198.51.100.2)"
		if got := strings.Join(said, "|"); got != want {
			t.Errorf("said\n%s, expected\n%s", got, want)
		}
		check := func(n *Node, local, remote string, natOA ipsec.NATOA) {
			t.Helper()
			for _, sa := range n.Plane.Live(ipsec.Out) {
				sel := ipsec.Selector{Src: single(local), Dst: single(remote)}
				if sa.Mode != ipsec.Transport || (sa.Encap == nil) == (sa.ID.Proto == ipsec.ProtoESP) || sa.Selector != sel || sa.NATOA != natOA || sa.Src.String() != local || sa.ID.Dst.String() != remote {
					t.Errorf("%s: %+v", n.Name, *sa)
				}
			}
			for _, sa := range n.Plane.Live(ipsec.In) {
				sel := ipsec.Selector{Src: single(remote), Dst: single(local)}
				if sa.Mode != ipsec.Transport || (sa.Encap == nil) == (sa.ID.Proto == ipsec.ProtoESP) || sa.Selector != sel || sa.NATOA != natOA {
					t.Errorf("%s: %+v", n.Name, *sa)
				}
			}
		}
		for range 3 {
			check(h.ann, "172.16.0.2", "198.51.100.2", ipsec.NATOA{Peer: addr("198.51.100.2"), Ours: addr("203.0.113.1")})
			check(h.hub, "198.51.100.2", "203.0.113.1", ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")})
			expireSoft(h.ann)
			h.Run(90 * time.Second)
			h.must()
		}
		// And one by the hub, whose name for the peer is the translator's.
		sas := h.hub.Plane.newest[ipsec.FlowName(h.back(), ipsec.Out)]
		ups := Count[ike.Phase2Up](h.hub)
		h.hub.Handle(ike.Expire{SA: sas[len(sas)-1].sa.ID})
		h.Run(90 * time.Second)
		h.must()
		if Count[ike.Phase2Up](h.hub) != ups+1 || Count[ike.Failed](h.hub)+Count[ike.Failed](h.ann) != 0 {
			t.Errorf("the hub's rekey: %s%s", h.ann.Said(), h.hub.Said())
		}
		check(h.hub, "198.51.100.2", "203.0.113.1", ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")})
	}
}

func single(s string) netip.Prefix {
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

// TestTransportThroughNATIsJudged: what is no transport mode, no single host, or
// not what the NAT-OA payloads say finds no connection; AH does not pass NAT at
// all, and neither side tries.
func TestTransportThroughNATIsJudged(t *testing.T) {
	ah := InTransport(AH(doi.AHSHA1, doi.AuthHMACSHA1, 0))
	for name, c := range map[string]struct {
		ann, hub []ike.Suite
		change   func(c *ike.Connection)
		wants    string // of either side
	}{
		"a tunnel for a translated host":    {[]ike.Suite{AESESP}, []ike.Suite{AESESP, espTransport}, nil, "no connection with this peer joins"},
		"a host further behind":             {[]ike.Suite{espTransport}, []ike.Suite{espTransport}, func(c *ike.Connection) { c.Local.Prefix = single("172.16.0.9") }, "which joins only the tunnel's ends themselves"},
		"a network":                         {[]ike.Suite{espTransport}, []ike.Suite{espTransport}, func(c *ike.Connection) { c.Local.Prefix = prefix("172.16.0.0/24") }, "which joins only the tunnel's ends themselves"},
		"AH":                                {[]ike.Suite{ah}, []ike.Suite{ah}, nil, "AH, which does not survive"},
		"AH where ESP is there":             {[]ike.Suite{ah, espTransport}, []ike.Suite{ah, espTransport}, nil, ""},
		"a tunnel where transport is there": {[]ike.Suite{AESESP, espTransport}, []ike.Suite{AESESP, espTransport}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHosts(t, c.ann, c.hub)
			if c.change != nil {
				c.change(h.ann.Config.Connections[0])
			}
			h.ann.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			h.Run(10 * time.Second)
			said := h.ann.Said() + h.hub.Said()
			if c.wants == "" {
				h.must()
				if sa := h.ann.OutSA(); sa.ID.Proto != ipsec.ProtoESP || sa.Mode != ipsec.Transport {
					t.Errorf("%+v", *sa)
				}
				return
			}
			if len(h.ann.Plane.Live(ipsec.In))+len(h.hub.Plane.Live(ipsec.In)) > 0 || !strings.Contains(said, c.wants) {
				t.Errorf("it came up, or %q is not in\n%s", c.wants, said)
			}
			for _, n := range []*Node{h.ann, h.hub} {
				if err := n.Settled(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestOriginalAddresses: where NAT-OA payloads are of the other family or too few
// the identities say it, and identities have to be what those say.
func TestOriginalAddresses(t *testing.T) {
	oa := func(s string) isakmp.Payload {
		a, typ := addr(s), doi.IDIPv4Addr
		if a.Is6() {
			typ = doi.IDIPv6Addr
		}
		return &isakmp.NATOA{Type: typ, Data: a.AsSlice()}
	}
	id := func(s string) isakmp.Payload { return isakmp.IDFromAddr(addr(s), 0, 0) }
	esp := isakmp.Proposal{Number: 1, Protocol: doi.ProtoESP, SPI: []byte{9, 9, 9, 9}, Transforms: []isakmp.Transform{{
		Number: 1, ID: uint8(doi.ESPAES), Attributes: append(attrs(uint16(doi.EncapUDPTransport), uint16(doi.AuthHMACSHA1)), isakmp.Basic(uint16(doi.SAKeyLength), 128)),
	}}}
	draft := esp
	draft.Transforms = []isakmp.Transform{{Number: 1, ID: uint8(doi.ESPAES), Attributes: append(attrs(uint16(doi.EncapUDPTransportDraft), uint16(doi.AuthHMACSHA1)), isakmp.Basic(uint16(doi.SAKeyLength), 128))}}
	for name, c := range map[string]struct {
		p    isakmp.Proposal
		more []isakmp.Payload
		up   bool
		want ipsec.NATOA
	}{
		"as it should be":     {esp, []isakmp.Payload{id("172.16.0.2"), id("198.51.100.2"), oa("172.16.0.2"), oa("198.51.100.2")}, true, ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")}},
		"the drafts' mode":    {draft, []isakmp.Payload{id("172.16.0.2"), id("198.51.100.2"), oa("172.16.0.2"), oa("198.51.100.2")}, true, ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")}},
		"no identities":       {esp, []isakmp.Payload{oa("172.16.0.2"), oa("198.51.100.2")}, true, ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")}},
		"none":                {esp, []isakmp.Payload{id("172.16.0.2"), id("198.51.100.2")}, true, ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")}},
		"one":                 {esp, []isakmp.Payload{id("172.16.0.2"), id("198.51.100.2"), oa("172.16.0.2")}, true, ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")}},
		"of the other family": {esp, []isakmp.Payload{id("172.16.0.2"), id("198.51.100.2"), oa("fd00::1"), oa("fd00::2")}, true, ipsec.NATOA{Peer: addr("172.16.0.2"), Ours: addr("198.51.100.2")}},
		"nothing at all":      {esp, nil, true, ipsec.NATOA{}},
		"others":              {esp, []isakmp.Payload{id("172.16.0.2"), id("198.51.100.2"), oa("172.16.0.3"), oa("198.51.100.2")}, false, ipsec.NATOA{}},
		"not of us":           {esp, []isakmp.Payload{id("172.16.0.2"), id("198.51.100.9"), oa("172.16.0.2"), oa("198.51.100.9")}, false, ipsec.NATOA{}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHosts(t, []ike.Suite{espTransport}, []ike.Suite{espTransport})
			h.ann.Initiate("vpn")
			h.Run(5 * time.Second)
			h.ann.Handle(ike.Teardown{Name: "vpn"})
			h.Run(time.Minute)
			// The observer's messages come from where ann's come from.
			g := &Gateways{World: h.World, West: h.ann, East: h.hub}
			from := h.natted(h.ann)
			_, m := askQuickFrom(t, g, from.String(), 43, c.more, c.p)
			if (m != nil) != c.up {
				t.Fatalf("answered %t\n%s", m != nil, h.hub.Said())
			}
			for _, sa := range h.hub.Plane.Live(ipsec.In) {
				if sa.NATOA != c.want || sa.Selector.Src != single("203.0.113.1") {
					t.Errorf("%+v", *sa)
				}
			}
		})
	}
}

// natted is where a node behind the box is seen with its port 4500.
func (h *hosts) natted(n *Node) netip.AddrPort {
	m := h.nat.inside[netip.AddrPortFrom(n.Addr, 4500)]
	return netip.AddrPortFrom(h.nat.Public, m.port)
}

// TestPrivateTransforms: what has no registered number is offered and accepted
// only where both sides have said that they are of one kind, and nobody else is
// told of it.
func TestPrivateTransforms(t *testing.T) {
	chacha := ESP(doi.ESPChaCha20Poly1305, 0, 0, 0)
	vendor := func(g *Gateways) (n int) {
		g.Tap = func(p *Packet) []Delivery {
			if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeMain && s.Step < 3 {
				for _, pl := range s.Message.Payloads {
					if _, ok := pl.(*isakmp.Vendor); ok {
						n++
					}
				}
			}
			return Pass(p)
		}
		g.Connect()
		return n
	}
	if n := vendor(NewGateways(t, Setup{})); n != 0 {
		t.Errorf("%d vendor IDs, and nothing needs them", n)
	}
	g := NewGateways(t, Setup{Suites: []ike.Suite{chacha, AESESP}})
	if n := vendor(g); n != 2 || g.West.OutSA().Cipher != ipsec.CipherChaCha20Poly1305 {
		t.Errorf("%d vendor IDs, %s", n, g.West.OutSA().Cipher)
	}
	both := chacha
	both.Protocols = slices.Clone(chacha.Protocols)
	both.Protocols[0].Transforms = append(slices.Clone(chacha.Protocols[0].Transforms), AESESP.Protocols[0].Transforms...)
	for _, suites := range [][]ike.Suite{{chacha, AESESP}, {both}, {chacha}} {
		only := len(suites) == 1 && len(suites[0].Protocols[0].Transforms) == 1
		g := NewGateways(t, Setup{Suites: suites})
		g.Tap = func(p *Packet) []Delivery { // a peer of another kind does not know it
			if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeMain && s.Step == 2 {
				return []Delivery{{Data: damaged(p.Data, len(p.Data)-1, 1)}}
			}
			return Pass(p)
		}
		g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
		g.Run(20 * time.Second)
		switch {
		case only && (len(g.West.Plane.Live(ipsec.Out)) > 0 || !strings.Contains(g.West.Said(), "no transform with a registered number")):
			t.Errorf("it was offered to a stranger\n%s", g.West.Said())
		case !only && g.West.OutSA().Cipher != ipsec.CipherAESCBC:
			t.Errorf("%+v", *g.West.OutSA())
		}
		g.MustSettle()
	}
}
