package iketest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/isakmp"
)

// TestDisagreements: two sides that cannot agree fail on both, and both say why.
// The words are golden; here stands what must be in them.
func TestDisagreements(t *testing.T) {
	p3des := Phase1(doi.Cipher3DES, 0, doi.HashMD5, doi.GroupMODP1024)
	short := AES
	short.Seconds = ike.Range{Offer: 30, Min: 10, Max: 50}
	shortESP := ESP(doi.ESPAES, 128, doi.AuthHMACSHA1, 0)
	shortESP.Protocols[0].Transforms[0].Seconds = ike.Range{Offer: 30, Min: 10, Max: 50}
	for _, c := range []struct {
		name  string
		west  func(c *ike.Config)
		east  func(c *ike.Config)
		wants [2][]string // what West and East have to say
	}{
		{
			"wrong-key", func(c *ike.Config) { c.Peers[0].Key = []byte("another") }, nil,
			[2][]string{{"message 6", "pre-shared key"}, {"message 5", "pre-shared keys of the two sides differ"}},
		},
		{
			"wrong-phase-1", nil, func(c *ike.Config) { c.Peers[0].Transforms = []ike.Phase1Transform{p3des} },
			[2][]string{{"NO-PROPOSAL-CHOSEN", "AES_CBC", "3600s"}, {"no proposal", "encryption: ours 3DES_CBC, the peer's AES_CBC", "hash: ours MD5", "group: ours MODP_1024"}},
		},
		{
			"wrong-phase-1-lifetime", func(c *ike.Config) { c.Peers[0].Transforms = []ike.Phase1Transform{short} }, nil,
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"lifetime in seconds: ours 3600 (accepts 60 to 86400), the peer's 30"}},
		},
		{
			"wrong-phase-2", nil, func(c *ike.Config) { c.Connections[0].Suites = []ike.Suite{ESP(doi.ESP3DES, 0, doi.AuthHMACMD5, 0)} },
			[2][]string{{"NO-PROPOSAL-CHOSEN", "vpn"}, {"ESP_3DES", "ESP_AES", "HMAC_MD5"}},
		},
		{
			"wrong-pfs", nil, func(c *ike.Config) { c.Connections[0].Suites = []ike.Suite{PFSESP} },
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"PFS group: ours CURVE25519, the peer's no PFS"}},
		},
		{
			"ah-for-esp", nil, func(c *ike.Config) { c.Connections[0].Suites = []ike.Suite{AH(doi.AHSHA1, doi.AuthHMACSHA1, 0)} },
			[2][]string{{"NO-PROPOSAL-CHOSEN", "ESP_AES"}, {"protocols: ours IPSEC_AH, the peer's IPSEC_ESP", "AH_SHA", "ESP_AES"}},
		},
		{
			"bundle-for-esp", nil, func(c *ike.Config) { c.Connections[0].Suites = []ike.Suite{threefold()} },
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"protocols: ours IPCOMP with IPSEC_ESP with IPSEC_AH, the peer's IPSEC_ESP", "IPCOMP_DEFLATE", "ESP_AES"}},
		},
		{
			"transport-for-tunnel", func(c *ike.Config) { c.Connections[0].Local, c.Connections[0].Remote = ike.Net{}, ike.Net{} },
			func(c *ike.Config) {
				c.Connections[0].Local, c.Connections[0].Remote = ike.Net{}, ike.Net{}
				c.Connections[0].Suites = []ike.Suite{espTransport}
			},
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"encapsulation: ours TRANSPORT, the peer's TUNNEL"}},
		},
		{
			"transport-of-networks", func(c *ike.Config) { c.Connections[0].Suites = []ike.Suite{espTransport} }, nil,
			[2][]string{{"none of our own suites", "transport mode, which joins only the tunnel's ends", "a suite that fits"}, {}},
		},
		{
			"wrong-sequence-numbers", nil, func(c *ike.Config) { c.Connections[0].Suites = []ike.Suite{WithESN(AESESP)} },
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"extended sequence numbers: ours yes, the peer's no"}},
		},
		{
			"wrong-phase-2-lifetime", func(c *ike.Config) { c.Connections[0].Suites = []ike.Suite{shortESP} }, nil,
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"lifetime in seconds: ours 1200 (accepts 60 to 86400), the peer's 30"}},
		},
		{
			"wrong-network", nil, func(c *ike.Config) { c.Connections[0].Remote.Prefix = netip.MustParsePrefix("10.9.0.0/16") },
			[2][]string{{"INVALID-ID-INFORMATION", "10.1.0.0/16", "10.2.0.0/16"}, {"10.9.0.0/16", "10.1.0.0/16", "the peer's network"}},
		},
		{
			"wrong-id", nil, func(c *ike.Config) { c.Peers[0].RemoteID = &isakmp.ID{Type: doi.IDFQDN, Data: []byte("west.example")} },
			[2][]string{{"ID"}, {"west.example", "192.0.2.1", "Remote-ID"}},
		},
		{
			"unknown-peer", nil, func(c *ike.Config) { c.Peers[0].Address = netip.MustParseAddr("203.0.113.99") },
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"no peer is configured for this address", "192.0.2.1"}},
		},
		{
			"no-key", nil, func(c *ike.Config) { c.Peers[0].Key = nil },
			[2][]string{{"NO-PROPOSAL-CHOSEN"}, {"there is no key for this peer"}},
		},
		{
			"active-only", nil, func(c *ike.Config) { c.Connections[0].ActiveOnly = true },
			[2][]string{{"INVALID-ID-INFORMATION"}, {"Active-only"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGateways(t, Setup{Seed: 3, Change: func(side string, cfg *ike.Config) {
				if f := c.west; side == "west" && f != nil {
					f(cfg)
				}
				if f := c.east; side == "east" && f != nil {
					f(cfg)
				}
			}})
			g.Transcript = true
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			g.Run(3 * time.Minute)
			if g.West.Plane.live = nil; len(g.East.Plane.live) > 0 {
				t.Error("East has SAs")
			}
			if len(g.West.Ended) != 1 || g.West.Ended[0].Err == nil {
				t.Errorf("the acquire was answered with %v", g.West.Ended)
			}
			for i, n := range []*Node{g.West, g.East} {
				said := n.Said()
				for _, w := range c.wants[i] {
					if !strings.Contains(said, w) {
						t.Errorf("%s does not say %q:\n%s", n.Name, w, said)
					}
				}
				if k := len(n.Events); k > 14 {
					t.Errorf("%s says %d things:\n%s", n.Name, k, said)
				}
			}
			if k := g.Sent(); k > 24 { // and no notification answers another
				t.Errorf("%d datagrams:\n%s", k, g.Lines())
			}
			golden(t, "disagreements.txtar", c.name, cookies.ReplaceAllString(g.West.Said()+"\n"+g.East.Said(), "cookie"))
		})
	}
}

// TestPolicyRefuses: what the policy does not allow is neither offered nor
// accepted, in either role.
func TestPolicyRefuses(t *testing.T) {
	strong, weak := ESP(doi.ESPAES, 256, doi.AuthHMACSHA2256, 0), ESP(doi.ESPDES, 0, doi.AuthHMACMD5, 0)
	refuseDES := func(q ike.QueryPolicy) ike.PolicyAnswer {
		a := ike.PolicyAnswer{Allow: make([]bool, len(q.Proposals)), Reason: "no DES here"}
		for i, p := range q.Proposals {
			a.Allow[i] = p.Protocols[0].ID != uint8(doi.ESPDES)
		}
		return a
	}
	for _, who := range []string{"initiator", "responder"} {
		for _, only := range []bool{false, true} {
			suites := []ike.Suite{weak, strong}
			if only {
				suites = []ike.Suite{weak}
			}
			g := NewGateways(t, Setup{Suites: suites})
			n := g.West
			if who == "responder" {
				n = g.East
			}
			n.Faults.Policy = refuseDES
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			g.Run(20 * time.Second)
			if only {
				if err := Agreement(g.West, g.East, 0); err != nil {
					t.Error(err)
				}
				if !strings.Contains(n.Said(), "no DES here") {
					t.Errorf("%s", n.Said())
				}
				g.MustSettle()
				continue
			}
			if err := Agreement(g.West, g.East, 1); err != nil {
				t.Fatalf("%s: %v", who, err)
			}
			if k := len(g.West.OutSA().Key); k != 32 {
				t.Errorf("%s: a key of %d bytes: the weak suite was taken", who, k)
			}
		}
	}
}

// TestPolicySeesEachTransform: of a suite with several transforms in one protocol
// only those are offered that the policy allows, whatever the peer would choose;
// and the policy is told who the peer is.
func TestPolicySeesEachTransform(t *testing.T) {
	strong, weak := ESP(doi.ESPAES, 256, doi.AuthHMACSHA2256, 0), ESP(doi.ESPDES, 0, doi.AuthHMACMD5, 0)
	both := weak
	both.Protocols = slices.Clone(weak.Protocols)
	both.Protocols[0].Transforms = append(slices.Clone(weak.Protocols[0].Transforms), strong.Protocols[0].Transforms...)
	for _, who := range []string{"initiator", "responder"} {
		g := NewGateways(t, Setup{Suites: []ike.Suite{both}})
		n := g.West
		if who == "responder" {
			n = g.East
		}
		asked := 0
		n.Faults.Policy = func(q ike.QueryPolicy) ike.PolicyAnswer {
			asked = len(q.Proposals)
			if q.Exchange != doi.ExchangeMain || q.Group == 0 || q.Auth != doi.AuthPSK || len(q.Key) == 0 || len(q.Identity.Data) == 0 || !q.Here.Prefix.IsValid() || !q.There.Prefix.IsValid() {
				t.Errorf("the policy is not told who it is: %v %v %v %v, %v and %v", q.Exchange, q.Group, q.Auth, q.Identity, q.Here, q.There)
			}
			a := ike.PolicyAnswer{Allow: make([]bool, len(q.Proposals))}
			for i, p := range q.Proposals {
				a.Allow[i] = p.Protocols[0].ID != uint8(doi.ESPDES)
			}
			return a
		}
		g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
		g.Run(20 * time.Second)
		if err := Agreement(g.West, g.East, 1); err != nil {
			t.Fatalf("%s: %v", who, err)
		}
		if k := len(g.West.OutSA().Key); k != 32 || asked != 2 {
			t.Errorf("%s: a key of %d bytes, %d proposals asked for", who, k, asked)
		}
	}
}

// TestPolicyFails: no answer is no permission.
func TestPolicyFails(t *testing.T) {
	for _, a := range []ike.PolicyAnswer{{Err: errFull}, {}, {Allow: []bool{true, true}}, {Allow: []bool{false}}} {
		for _, west := range []bool{true, false} {
			g := NewGateways(t, Setup{})
			n := g.East
			if west {
				n = g.West
			}
			n.Faults.Policy = func(ike.QueryPolicy) ike.PolicyAnswer { return a }
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			g.Run(3 * time.Minute)
			if err := Agreement(g.West, g.East, 0); err != nil {
				t.Errorf("%+v: %v", a, err)
			}
			g.MustSettle()
		}
	}
}

// TestRequestsFail: each kind of request fails, on either side, once or always.
func TestRequestsFail(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"DiffieHellman", "AllocSPI", "InstallSA", "QueryPolicy"} {
		for _, west := range []bool{true, false} {
			for _, times := range []int{1, 2, 1000} {
				g := NewGateways(t, Setup{Suites: []ike.Suite{PFSESP}})
				n, left := g.East, times
				if west {
					n = g.West
				}
				n.Faults.Fail = func(o ike.Output) error {
					hit := false
					switch o.(type) {
					case ike.DiffieHellman:
						hit = kind == "DiffieHellman"
					case ike.AllocSPI:
						hit = kind == "AllocSPI"
					case ike.InstallSA:
						hit = kind == "InstallSA"
					case ike.QueryPolicy:
						hit = kind == "QueryPolicy"
					}
					if !hit || left == 0 {
						return nil
					}
					left--
					return errFull
				}
				g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
				g.Run(4 * time.Minute)
				if left == times {
					t.Fatalf("no %s was asked for", kind)
				}
				if err := Agreement(g.West, g.East, 0); err != nil {
					t.Errorf("%s at %s: %v", kind, n.Name, err)
				}
				g.MustSettle()
				if !strings.Contains(n.Said(), errFull.Error()) {
					t.Errorf("%s at %s: nobody says why:\n%s", kind, n.Name, n.Said())
				}
				if times == 1000 {
					continue
				}
				g.West.Initiate("vpn")
				g.MustUp(2 * time.Minute)
			}
		}
	}
}
