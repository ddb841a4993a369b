package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

// gateway is one of the how-to's, with an ipsecd.
type gateway struct {
	t                 *testing.T
	host              *lab.Host
	near, far         netip.Prefix
	local, remote     netip.Addr
	inbound, outbound ipsec.SPI
	before            lab.State
	socket            string
	p                 *lab.Process
}

// twoGateways start an ipsecd each.
func twoGateways(t *testing.T) (n *lab.HowTo, east, west *gateway) {
	t.Helper()
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	a := &n.V4
	east = &gateway{
		t: t, host: n.Ragweed, near: a.NetBadplants, far: a.NetCarefull, local: a.Ragweed, remote: a.Slippery,
		inbound: 0x1001, outbound: 0x2001,
	}
	west = &gateway{
		t: t, host: n.Slippery, near: a.NetCarefull, far: a.NetBadplants, local: a.Slippery, remote: a.Ragweed,
		inbound: 0x2001, outbound: 0x1001,
	}
	for _, g := range []*gateway{east, west} {
		g.socket = filepath.Join(t.TempDir(), "sock")
		g.before, err = g.host.State()
		must(t, err)
		g.start()
	}
	return n, east, west
}

func (g *gateway) start() {
	g.t.Helper()
	prog, err := lab.Build("oakley/cmd/ipsecd")
	must(g.t, err)
	g.p, err = g.host.Start(lab.Command{Path: prog, Args: []string{"--socket", g.socket}, Private: []string{lab.RunDir()}})
	must(g.t, err)
	if _, err := g.p.Log.Wait("ipsecd is ready", patience); err != nil {
		g.t.Fatalf("%v\n%s", err, g.p.Log)
	}
}

// stop ends ipsecd, which leaves nothing.
func (g *gateway) stop() {
	g.t.Helper()
	if err := g.p.Stop(patience); err != nil {
		g.t.Errorf("%v\n%s", err, g.p.Log)
	}
	after, err := g.host.State()
	must(g.t, err)
	if d := g.before.Diff(after); d != "" {
		g.t.Errorf("%s is not as it was:\n%s", g.host, d)
	}
}

// dial connects as a key manager does.
func (g *gateway) dial() *ipsecd.Client {
	g.t.Helper()
	c, err := ipsecd.Dial(g.t.Context(), g.socket, ipsecd.AllEvents)
	must(g.t, err)
	g.t.Cleanup(func() { c.Close() })
	return c
}

// flows joins the networks.
func (g *gateway) flows(c *ipsecd.Client) {
	g.t.Helper()
	out := ipsec.Flow{
		ID: "vpn/out", Dir: ipsec.Out, Selector: ipsec.Selector{Src: g.near, Dst: g.far},
		Local: g.local, Remote: g.remote, Proto: ipsec.ProtoESP, Owner: ipsec.OwnerIKE, Conn: "vpn",
	}
	in := out
	in.ID, in.Dir, in.Selector = "vpn/in", ipsec.In, out.Selector.Reverse()
	must(g.t, c.ApplyFlows(g.t.Context(), []ipsec.FlowChange{{Flow: out}, {Flow: in}}))
}

// sas are those of one generation: each has keys and SPIs of its own.
func (g *gateway) sas(c *ipsecd.Client, generation byte) {
	g.t.Helper()
	far := ipsec.Selector{Src: g.near, Dst: g.far}
	add := func(id ipsec.SAID, src netip.Addr, sel ipsec.Selector, flow ipsec.FlowID) {
		id.SPI += ipsec.SPI(generation)
		id.Proto = ipsec.ProtoESP
		must(g.t, c.AddSA(g.t.Context(), &ipsec.SA{
			ID: id, Src: src, Cipher: ipsec.CipherAESGCM16, Key: []byte("0123456789abcdef"),
			Salt: []byte{generation, 2, 3, byte(id.SPI >> 12)}, Replay: 64, Selector: sel, Flow: flow, Owner: ipsec.OwnerIKE, Conn: "vpn",
		}))
	}
	add(ipsec.SAID{Dir: ipsec.In, SPI: g.inbound, Dst: g.local}, g.remote, far.Reverse(), "vpn/in")
	add(ipsec.SAID{Dir: ipsec.Out, SPI: g.outbound, Dst: g.remote}, g.local, far, "vpn/out")
}

// left are the rules, routes and filters of ours that are on the host.
func (g *gateway) left() string {
	g.t.Helper()
	now, err := g.host.State()
	must(g.t, err)
	var all []string
	for _, l := range strings.Split(g.before.Diff(now), "\n") {
		if strings.HasPrefix(l, "+ nft") || strings.HasPrefix(l, "+ rule") || strings.HasPrefix(l, "+ route") {
			all = append(all, l)
		}
	}
	return strings.Join(all, "\n")
}

// The clients that made a tunnel go, and the tunnel goes on.
func TestATunnelOutlivesItsKeyManagers(t *testing.T) {
	n, east, west := twoGateways(t)
	a, b := east.dial(), west.dial()
	east.flows(a)
	west.flows(b)
	west.sas(b, 1)
	east.sas(a, 1)
	ping, err := n.Dandelion.StartPing(n.V4.Icy, 10*time.Millisecond)
	must(t, err)
	must(t, ping.AwaitAnswers(10, patience))
	must(t, a.Close())
	must(t, b.Close())
	must(t, ping.AwaitAnswers(100, patience))
	if c := ping.Stop(time.Second); c.Lost() > 0 {
		t.Errorf("%d of %d pings were lost", c.Lost(), c.Sent)
	}
	east.stop()
	west.stop()
}

// Killed without a warning, ipsecd leaves what keeps the traffic from going out in
// clear; the next one takes that over, carries the traffic once it is keyed, and
// takes all of it away at its end.
func TestTheNextOneCleansUp(t *testing.T) {
	n, east, west := twoGateways(t)
	spy, err := n.Spy(lab.SpyOptions{})
	must(t, err)
	a, b := east.dial(), west.dial()
	east.flows(a)
	west.flows(b)
	west.sas(b, 1)
	east.sas(a, 1)
	if _, err := n.Dandelion.Ping(n.V4.Icy, 3, patience); err != nil {
		t.Fatal(err)
	}
	east.p.Kill()
	if east.left() == "" {
		t.Error("nothing is left that would protect")
	}
	ping, err := n.Dandelion.StartPing(n.V4.Icy, 10*time.Millisecond)
	must(t, err)
	lab.Eventually(t, patience, "pings are sent while nothing carries them", func() bool { return ping.Counts().Sent > 20 })
	if k := ping.Counts().Received; k > 0 {
		t.Errorf("%d pings were answered while no ipsecd ran", k)
	}
	if _, open := <-a.Events(); open {
		t.Error("the key manager does not hear that its data plane is gone")
	}
	east.start()
	a = east.dial()
	east.flows(a)
	west.sas(b, 2)
	east.sas(a, 2)
	must(t, ping.AwaitAnswers(20, patience))
	ping.Stop(0)
	must(t, spy.Settle().Check())
	east.stop()
	west.stop()
}
