package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// An ipsecd that isakmpd uses is killed without a warning while a host pings.
// isakmpd says so, starts another, which takes over what the first one left, tells
// the peer, and negotiates: the pings go on by themselves, and none of them was in
// clear meanwhile. At the end nothing is left of any of them.
func TestIsakmpdGetsBackToWork(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	before, err := n.Ragweed.State()
	must(t, err)
	spy, err := n.Spy(lab.SpyOptions{})
	must(t, err)
	east := interop.Tunnel{
		Local: n.V4.Ragweed, Remote: n.V4.Slippery, LocalNet: n.V4.NetBadplants, RemoteNet: n.V4.NetCarefull,
		P1: interop.Phase1s[2], P2: interop.Phase2s[4], Initiate: true,
	}
	west := east
	west.Local, west.Remote, west.LocalNet, west.RemoteNet, west.Initiate = east.Remote, east.Local, east.RemoteNet, east.LocalNet, false
	b, err := interop.StartIsakmpd(n.Slippery, t.TempDir(), outside(west))
	must(t, err)
	a, err := interop.StartIsakmpd(n.Ragweed, t.TempDir(), outside(east))
	must(t, err)
	ping, err := n.Dandelion.StartPing(n.V4.Icy, 20*time.Millisecond)
	must(t, err)
	must(t, ping.AwaitAnswers(5, 20*time.Second))

	for _, side := range []struct {
		host *lab.Host
		d    *interop.Isakmpd
	}{{n.Ragweed, a}, {n.Slippery, b}} {
		pids := side.host.Find("ipsecd")
		if len(pids) != 1 {
			t.Fatalf("%d ipsecd on %s\n%s", len(pids), side.host, side.d.Log)
		}
		must(t, syscall.Kill(pids[0], syscall.SIGKILL))
		_, err = side.d.Log.Wait("the data plane ended", patience)
		must(t, err)
		_, err = side.d.Log.Wait("the flows are in place", patience)
		must(t, err)
		was := ping.Counts().Received
		lab.Eventually(t, 20*time.Second, "pings go through again", func() bool { return ping.Counts().Received > was+20 })
		if now := side.host.Find("ipsecd"); len(now) != 1 || now[0] == pids[0] {
			t.Errorf("%d ipsecd on %s\n%s", len(now), side.host, side.d.Log)
		}
	}
	ping.Stop(0)
	must(t, spy.Settle().Check())
	must(t, a.End())
	must(t, b.End())
	after, err := n.Ragweed.State()
	must(t, err)
	if d := before.Diff(after); d != "" {
		t.Errorf("%s is not as it was:\n%s", n.Ragweed, d)
	}
}

// outside is the configuration with a data plane in a process of its own.
func outside(tunnel interop.Tunnel) string {
	return strings.Replace(tunnel.IsakmpdConf(), "Data-plane= isakmpd", "Data-plane= ipsecd", 1)
}

// Where a service manager keeps ipsecd running, isakmpd waits for the next one and
// starts none of its own.
func TestIsakmpdWaitsForTheService(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	prog, err := lab.Build("oakley/cmd/ipsecd")
	must(t, err)
	service := func() *lab.Process {
		t.Helper()
		p, err := n.Ragweed.Start(lab.Command{Path: prog, Private: []string{lab.RunDir()}})
		must(t, err)
		_, err = p.Log.Wait("ipsecd is ready", patience)
		must(t, err)
		return p
	}
	tunnel := interop.Tunnel{
		Local: n.V4.Ragweed, Remote: n.V4.Slippery, LocalNet: n.V4.NetBadplants, RemoteNet: n.V4.NetCarefull,
		P1: interop.Phase1s[2], P2: interop.Phase2s[4],
	}
	first := service()
	d, err := interop.StartIsakmpd(n.Ragweed, t.TempDir(), outside(tunnel))
	must(t, err)
	first.Kill()
	second := service()
	_, err = d.Log.Wait("the flows are in place", patience)
	must(t, err)
	if pids := n.Ragweed.Find("ipsecd"); len(pids) != 1 || pids[0] != second.Pid() {
		t.Errorf("ipsecd are %v, the service's is %d\n%s", pids, second.Pid(), d.Log)
	}
	must(t, d.End())
	must(t, second.Stop(patience))
}
