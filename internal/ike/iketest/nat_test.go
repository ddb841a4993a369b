package iketest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// behindNAT is two hosts behind one address and a gateway that lets anybody in
// who has the key.
type behindNAT struct {
	*World
	nat      *NAT
	ann, bob *Node
	hub      *Node
}

func newBehindNAT(t *testing.T, change func(c *ike.Config)) *behindNAT {
	w := NewWorld(t, 11)
	s := Setup{NATT: true}
	hub := Config("roaming", "", "10.2.0.0/16", "10.11.0.0/16", s)
	ann, bob := hub.Connections[0], *hub.Connections[0]
	ann.Name, bob.Name = "ann", "bob"
	bob.Remote = ike.Net{Prefix: netip.MustParsePrefix("10.12.0.0/16")}
	hub.Connections = append(hub.Connections, &bob)
	host := func(net string) *ike.Config {
		c := Config("hub", "198.51.100.2", net, "10.2.0.0/16", s)
		if change != nil {
			change(c)
		}
		return c
	}
	b := &behindNAT{World: w, nat: w.NewNAT("203.0.113.1")}
	b.hub = w.NewNode("hub", "198.51.100.2", hub)
	b.ann = w.NewNode("ann", "172.16.0.2", host("10.11.0.0/16"))
	b.bob = w.NewNode("bob", "172.16.0.3", host("10.12.0.0/16"))
	b.nat.Hide(b.ann)
	b.nat.Hide(b.bob)
	return b
}

func (b *behindNAT) must(n *Node, conn string) {
	b.T.Helper()
	if err := b.Carries(n, "vpn", b.hub, conn); err != nil {
		b.Fatalf("%s: %v\n%s%s", conn, err, n.Said(), b.hub.Said())
	}
}

func (b *behindNAT) connect() {
	b.T.Helper()
	b.ann.Initiate("vpn")
	b.bob.Initiate("vpn")
	b.Run(5 * time.Second)
	b.must(b.ann, "ann")
	b.must(b.bob, "bob")
}

// TestNAT: both sides notice, move to port 4500 and encapsulate; the side behind
// it keeps the mapping open; nothing but IKE's first messages uses port 500.
func TestNAT(t *testing.T) {
	b := newBehindNAT(t, nil)
	var on500, on4500 int
	b.Tap = func(p *Packet) []Delivery {
		s := b.Observer().Of(p.Data)
		switch early := s.Exchange == doi.ExchangeMain && s.Step < 5; {
		case early && p.Sender != b.hub && (p.From.Port() != 500 || p.To.Port() != 500),
			!early && p.Sender != b.hub && (p.From.Port() != 4500 || p.To.Port() != 4500),
			!early && p.Sender == b.hub && p.From.Port() != 4500:
			t.Errorf("%s %d goes from %s to %s", s.Exchange, s.Step, p.From, p.To)
		case early:
			on500++
		default:
			on4500++
		}
		return Pass(p)
	}
	b.connect()
	if on500 != 8 || on4500 != 10 {
		t.Errorf("%d messages on port 500 and %d on 4500", on500, on4500)
	}
	for _, n := range []*Node{b.ann, b.bob} {
		up := Events[ike.Phase1Up](n)
		if len(up) != 1 || up[0].NAT != "we are behind NAT" {
			t.Errorf("%s", n.Said())
		}
		sa := n.OutSA()
		if sa.Encap == nil || sa.Encap.Remote.Port() != 4500 || sa.Mode != ipsec.Tunnel {
			t.Errorf("%s: %+v", n.Name, *sa)
		}
	}
	if up := Events[ike.Phase1Up](b.hub); len(up) != 2 || up[0].NAT != "the peer is behind NAT" || up[0].RemoteID == up[1].RemoteID {
		t.Errorf("%s", b.hub.Said())
	}
	b.Run(10 * time.Minute)
	if k := b.ann.Requests["KeepAlive"]; k < 29 || k > 31 {
		t.Errorf("%d keepalives in ten minutes, one each 20 s", k)
	}
	if b.hub.Requests["KeepAlive"] != 0 {
		t.Error("the side that is not behind NAT sends keepalives")
	}
}

// TestNoNAT: both could, and there is none: nothing changes.
func TestNoNAT(t *testing.T) {
	g := NewGateways(t, Setup{NATT: true})
	g.Tap = func(p *Packet) []Delivery {
		if p.From.Port() != 500 || p.To.Port() != 500 {
			t.Errorf("from %s to %s", p.From, p.To)
		}
		return Pass(p)
	}
	g.Connect()
	if sa := g.West.OutSA(); sa.Encap != nil {
		t.Errorf("%+v", *sa)
	}
	g.Run(time.Minute)
	if k := g.West.Requests["KeepAlive"] + g.East.Requests["KeepAlive"]; k != 0 {
		t.Errorf("%d keepalives", k)
	}
}

// TestKeepAlivesHoldTheMapping: a box that forgets after 30 s does not while
// nothing is sent, and the far side can still begin.
func TestKeepAlivesHoldTheMapping(t *testing.T) {
	b := newBehindNAT(t, nil)
	b.nat.Timeout = 30 * time.Second
	b.connect()
	for range 5 {
		b.Run(15 * time.Minute) // over several rekeys
		s := b.NewStream(b.hub, b.ann, "ann")
		s.Send()
		b.Run(time.Second)
		if s.Received != 1 {
			b.Fatalf("%s\n%s", s, b.hub.dump())
		}
	}
	b.must(b.bob, "bob")
}

// TestMappingChanges: the box was rebooted; what comes from the new port,
// authenticated, moves the SAs, and nothing else does.
func TestMappingChanges(t *testing.T) {
	b := newBehindNAT(t, nil)
	b.connect()
	old := b.hub.Plane.Live(ipsec.Out)
	b.nat.Reset()
	s := b.NewStream(b.ann, b.hub, "vpn") // the sender's name for it
	s.Send()
	b.Run(time.Second)
	back := b.NewStream(b.hub, b.ann, "ann")
	back.Send()
	b.Run(time.Second)
	if s.Received != 1 || back.Received != 1 {
		b.Errorf("%s, %s\n%s", s, back, b.hub.dump())
	}
	if b.hub.Requests["UpdateSA"] == 0 {
		t.Error("no SA was told of the new port")
	}
	for i, sa := range b.hub.Plane.Live(ipsec.Out) {
		if sa.ID != old[i].ID {
			t.Errorf("the name of an SA changed from %s to %s", old[i].ID, sa.ID)
		}
	}
	// IKE moves the other one: bob has no traffic and rekeys.
	b.nat.Reset()
	expireSoft(b.bob)
	b.Run(time.Second)
	port := b.natted(b.bob)
	for _, l := range b.hub.Plane.newest[ipsec.FlowName("bob", ipsec.Out)] {
		if l.remote != port { // the old SA too
			t.Errorf("%s goes to %s, bob is at %s", l.sa.ID, l.remote, port)
		}
	}
	b.must(b.bob, "bob")
	b.Run(30 * time.Minute)
	b.must(b.ann, "ann")
	b.must(b.bob, "bob")
}

// TestTwoBehindOneAddress: what one of two peers behind an address does leaves
// the other alone.
func TestTwoBehindOneAddress(t *testing.T) {
	for name, do := range map[string]func(b *behindNAT){
		"deletes its SAs":   func(b *behindNAT) { b.ann.Handle(ike.Teardown{Name: "vpn"}) },
		"deletes phase 1":   func(b *behindNAT) { b.ann.Handle(ike.Teardown{Name: "hub", Phase1: true}) },
		"goes":              func(b *behindNAT) { b.ann.Handle(ike.Shutdown{}) },
		"is restarted":      func(b *behindNAT) { b.ann.Restart(); b.ann.Initiate("vpn") }, // INITIAL-CONTACT
		"is restarted anew": func(b *behindNAT) { b.ann.Restart(); b.nat.Reset(); b.ann.Initiate("vpn") },
		"rekeys":            func(b *behindNAT) { expireSoft(b.ann) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBehindNAT(t, nil)
			b.connect()
			sa := b.bob.OutSA().ID
			s := b.Stream(b.bob, b.hub, "vpn", 100*time.Millisecond)
			b.Run(time.Second)
			do(b)
			b.Run(90 * time.Second)
			s.Stop()
			b.Run(time.Second)
			if s.Missing() != 0 {
				t.Error(s)
			}
			b.must(b.bob, "bob")
			if got := b.bob.OutSA().ID; got != sa {
				t.Errorf("bob's SA was %s and is %s\n%s", sa, got, b.hub.Said())
			}
			for _, e := range Events[ike.Phase1Down](b.hub) {
				if strings.Contains(e.Cookies, Events[ike.Phase1Up](b.bob)[0].Cookies) {
					t.Errorf("bob's ISAKMP SA ended: %s", e)
				}
			}
			if strings.HasPrefix(name, "is restarted") || name == "rekeys" {
				b.must(b.ann, "ann")
			}
			if err := b.hub.Settled(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOneSpeaksNoNATT: without the vendor ID of both nothing floats.
func TestOneSpeaksNoNATT(t *testing.T) {
	for _, side := range []string{"west", "east"} {
		g := NewGateways(t, Setup{NATT: true, Change: func(s string, c *ike.Config) {
			if s == side {
				c.NATT = false
			}
		}})
		g.Connect()
		if sa := g.East.OutSA(); sa.Encap != nil {
			t.Errorf("%+v", *sa)
		}
	}
}

// TestRekeyByTheHub: the side that is not behind NAT reaches the other through
// the mapping, in both phases, without a lost packet.
func TestRekeyByTheHub(t *testing.T) {
	t.Parallel()
	b := newBehindNAT(t, nil)
	b.connect()
	s := b.Stream(b.hub, b.ann, "ann", 50*time.Millisecond)
	for range 20 {
		sas := b.hub.Plane.newest[ipsec.FlowName("ann", ipsec.Out)]
		b.hub.Handle(ike.Expire{SA: sas[len(sas)-1].sa.ID})
		b.Run(40 * time.Second)
	}
	b.Run(2 * time.Hour)
	s.Stop()
	b.Run(time.Second)
	if s.Missing() != 0 {
		b.Errorf("%s\n%s", s, b.hub.dump())
	}
	b.must(b.ann, "ann")
	b.must(b.bob, "bob")
}
