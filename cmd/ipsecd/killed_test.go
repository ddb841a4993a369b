package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// An ipsecd that isakmpd uses is killed without a warning. isakmpd ends and says
// why; started again, as a service manager would, it has a new ipsecd that has
// taken over what the old one left, and the traffic goes on. At the end nothing is
// left of any of them.
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

	pids := n.Ragweed.Find("ipsecd")
	if len(pids) != 1 {
		t.Fatalf("%d ipsecd on %s\n%s", len(pids), n.Ragweed, a.Log)
	}
	must(t, syscall.Kill(pids[0], syscall.SIGKILL))
	if err := a.Wait(patience); err == nil {
		t.Errorf("isakmpd ended well without its data plane\n%s", a.Log)
	}
	if a.Log.Count("data plane") == 0 {
		t.Errorf("isakmpd does not say why it ended\n%s", a.Log)
	}
	a, err = interop.StartIsakmpd(n.Ragweed, t.TempDir(), outside(east))
	must(t, err)
	if pids := n.Ragweed.Find("ipsecd"); len(pids) != 1 {
		t.Errorf("%d ipsecd on %s\n%s", len(pids), n.Ragweed, a.Log)
	}
	must(t, ping.AwaitAnswers(20, 20*time.Second))
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
