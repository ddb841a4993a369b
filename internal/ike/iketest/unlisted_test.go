package iketest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/internal/ike"
)

// unlisted makes east know west as a peer and no connection with it, but leave
// what west may have to its policy.
func unlisted(t *testing.T, listed ...*ike.Connection) *Gateways {
	return NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
		if side != "east" {
			return
		}
		x := *c.Connections[0]
		x.Peer, x.Local, x.Remote, x.Active = nil, ike.Net{}, ike.Net{}, false
		c.Unlisted, c.Connections = &x, listed
		for _, l := range listed {
			c.Peers = append(c.Peers, l.Peer)
		}
	}})
}

// TestThePolicyDecidesAboutWhatIsNotListed: it is asked, told for which networks,
// and what it allows has flows as long as it has SAs.
func TestThePolicyDecidesAboutWhatIsNotListed(t *testing.T) {
	for _, allow := range []bool{true, false} {
		g := unlisted(t)
		var asked []ike.QueryPolicy
		g.East.Faults.Policy = func(q ike.QueryPolicy) ike.PolicyAnswer {
			asked = append(asked, q)
			return ike.PolicyAnswer{Allow: slices.Repeat([]bool{allow}, len(q.Proposals)), Reason: "not for you"}
		}
		g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
		g.Run(20 * time.Second)
		want := 0
		if allow {
			want = 1
		}
		if err := Agreement(g.West, g.East, want); err != nil {
			t.Fatalf("%v\n%s", err, g.East.Said())
		}
		west := g.West.Config.Connections[0]
		if len(asked) == 0 || asked[0].Here != west.Remote || asked[0].There != west.Local || !strings.HasPrefix(asked[0].Conn, "by-policy@") {
			t.Errorf("asked: %+v", asked)
		}
		if !allow && !strings.Contains(g.East.Said(), "not for you") {
			t.Errorf("%s", g.East.Said())
		}
		if n := g.East.Plane.Flows(); n != 2*want {
			t.Errorf("%d flows", n)
		}
		if allow { // a restart of ours finds it again, a reload without a policy ends it
			c := *g.East.Config
			g.East.Handle(ike.Reload{Config: &c})
			g.Run(time.Second)
			if err := Agreement(g.West, g.East, 1); err != nil {
				t.Error(err)
			}
			c.Unlisted = nil
			g.East.Handle(ike.Reload{Config: &c})
			g.Run(20 * time.Second)
			if err := Agreement(g.West, g.East, 0); err != nil {
				t.Errorf("without a policy: %v", err)
			}
		}
		g.MustSettle()
	}
}

// TestTheTrafficOfAListedConnectionIsItsOwn: no policy gives it to another peer.
func TestTheTrafficOfAListedConnectionIsItsOwn(t *testing.T) {
	var west *ike.Connection
	NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
		if side == "west" {
			west = c.Connections[0]
		}
	}})
	other := *west
	peer := *west.Peer
	peer.Name, peer.Address = "third", netip.MustParseAddr("203.0.113.3")
	other.Name, other.Peer, other.Local, other.Remote = "others", &peer, west.Remote, west.Local
	g := unlisted(t, &other)
	g.East.Faults.Policy = func(q ike.QueryPolicy) ike.PolicyAnswer {
		t.Errorf("the policy was asked about %s", q.Selector)
		return ike.PolicyAnswer{Allow: slices.Repeat([]bool{true}, len(q.Proposals))}
	}
	g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
	g.Run(20 * time.Second)
	if err := Agreement(g.West, g.East, 0); err != nil {
		t.Fatal(err)
	}
}

// TestAPeerHasABoundOfConnections: a policy that lets a peer have any network does
// not let it have all of our memory.
func TestAPeerHasABoundOfConnections(t *testing.T) {
	g := unlisted(t)
	g.East.Config.MaxMadePerPeer = 1
	c := *g.West.Config
	second := *c.Connections[0]
	second.Name, second.Local.Prefix = "second", netip.MustParsePrefix("10.77.0.0/16")
	c.Connections = append(slices.Clone(c.Connections), &second)
	g.West.Handle(ike.Reload{Config: &c})
	g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
	g.Run(20 * time.Second)
	g.West.Handle(ike.Acquire{ID: 2, Conn: "second"})
	g.Run(20 * time.Second)
	if err := Agreement(g.West, g.East, 1); err != nil {
		t.Error(err)
	}
}
