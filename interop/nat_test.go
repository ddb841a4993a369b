package interop

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// garden is the how-to's network with a second gateway, Nettle, behind the NAT
// router that hides Ragweed: to Slippery both have one address. Clover is
// behind Nettle.
type garden struct {
	*site
	nettle, clover *lab.Host
	cloverAddr     netip.Addr
	cloverNet      netip.Prefix
	nettleAddr     netip.Addr
}

func newGarden(t *testing.T) *garden {
	t.Helper()
	g := &garden{
		site:       newPairSite(t, lab.HowToOptions{NAT: true}),
		cloverAddr: netip.MustParseAddr("10.3.0.2"), cloverNet: netip.MustParsePrefix("10.3.0.0/24"),
		nettleAddr: netip.MustParseAddr("192.168.1.2"),
	}
	var err error
	g.nettle, err = g.Host("Nettle")
	must(t, err)
	g.clover, err = g.Host("Clover")
	must(t, err)
	must(t, g.nettle.Forward())
	must(t, g.Connect(lab.End{Host: g.nettle, If: "wan", Addrs: []string{"192.168.1.2/24"}}, lab.End{Host: g.NAT, If: "inside2", Addrs: []string{"192.168.1.1/24"}}))
	must(t, g.Connect(lab.End{Host: g.clover, If: "lan", Addrs: []string{"10.3.0.2/24"}}, lab.End{Host: g.nettle, If: "lan", Addrs: []string{"10.3.0.1/24"}}))
	must(t, g.nettle.Route("default", "192.168.1.1"))
	must(t, g.clover.Route("default", "10.3.0.1"))
	return g
}

// twoConnections is Slippery's file: one address, two networks behind it.
func (g *garden) twoConnections(slippery Tunnel) string {
	conf := slippery.IsakmpdConf()
	conf = strings.Replace(conf, "Passive-connections= tunnel", "Passive-connections= tunnel, second", 1)
	var b strings.Builder
	b.WriteString(conf)
	fmt.Fprintf(&b, "\n[second]\nPhase= 2\nISAKMP-peer= peer\nConfiguration= quick-mode\nLocal-ID= net-local\nRemote-ID= net-second\n")
	writeID(&b, "net-second", g.cloverNet)
	return b.String()
}

// TestTwoPeersBehindOneAddress: what one of them deletes, or says as a first
// contact after a crash, is no matter of the other's.
func TestTwoPeersBehindOneAddress(t *testing.T) {
	g := newGarden(t)
	ragweed, slippery := ends(g.V4, g.V4, Tunnel{P1: Phase1s[2], P2: Phase2s[2]})
	_, err := StartIsakmpd(g.Slippery, t.TempDir(), g.twoConnections(slippery))
	must(t, err)
	ragweed.Initiate = true
	nettle := ragweed
	nettle.Local, nettle.LocalNet = g.nettleAddr, g.cloverNet
	one, err := StartIsakmpd(g.Ragweed, t.TempDir(), ragweed.IsakmpdConf())
	must(t, err)
	two, err := StartIsakmpd(g.nettle, t.TempDir(), nettle.IsakmpdConf())
	must(t, err)
	_, err = g.Dandelion.Ping(g.V4.Icy, 3, 15*time.Second)
	must(t, err)
	ping, err := g.clover.StartPing(g.V4.Icy, 10*time.Millisecond)
	must(t, err)
	must(t, ping.AwaitAnswers(20, 15*time.Second))
	before := ping.Counts().Lost()

	one.Kill() // its next first contact is a surprise to Slippery
	one, err = StartIsakmpd(g.Ragweed, t.TempDir(), ragweed.IsakmpdConf())
	must(t, err)
	_, err = g.Dandelion.Ping(g.V4.Icy, 3, 15*time.Second)
	must(t, err)
	must(t, ping.AwaitAnswers(20, 5*time.Second))
	must(t, one.End()) // with deletes
	must(t, ping.AwaitAnswers(50, 5*time.Second))
	if n := ping.Stop(time.Second); n.Lost() > before {
		t.Errorf("Nettle's traffic suffers: %v (%d before Ragweed's crash); lost %v", n, before, ping.Missing(10))
	}
	back, err := g.Icy.Ping(g.cloverAddr, 3, 5*time.Second)
	must(t, err)
	if back.Lost() != 0 {
		t.Errorf("from Icy to Clover: %v", back)
	}
	g.clean(t)
	must(t, two.End())
}
