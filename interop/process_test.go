package interop

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// outside has the data plane in a process of its own.
func outside(conf string) string {
	return strings.Replace(conf, "Data-plane= isakmpd", "Data-plane= ipsecd", 1)
}

// Both daemons are killed and started again while a file goes through their
// tunnel: it arrives, over the SAs that were there. When both have ended well,
// ipsecd has gone too and left nothing.
func TestDaemonsKilledDuringATransfer(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	before, err := n.Ragweed.State()
	must(t, err)
	east := Tunnel{
		Local: n.V4.Ragweed, Remote: n.V4.Slippery, LocalNet: n.V4.NetBadplants, RemoteNet: n.V4.NetCarefull,
		P1: Phase1s[2], P2: Phase2s[4], Initiate: true,
	}
	west := east
	west.Local, west.Remote, west.LocalNet, west.RemoteNet, west.Initiate = east.Remote, east.Local, east.RemoteNet, east.LocalNet, false
	type gateway struct {
		host *lab.Host
		conf string
		d    *Isakmpd
	}
	gateways := []*gateway{{host: n.Slippery, conf: outside(west.IsakmpdConf())}, {host: n.Ragweed, conf: outside(east.IsakmpdConf())}}
	for _, g := range gateways {
		g.d, err = StartIsakmpd(g.host, t.TempDir(), g.conf)
		must(t, err)
	}
	_, err = gateways[1].d.Log.Wait(`phase 2 \(quick mode\) done`, 15*time.Second)
	must(t, err)
	first, err := n.Dandelion.StartPing(n.V4.Icy, 20*time.Millisecond)
	must(t, err)
	must(t, first.AwaitAnswers(1, 10*time.Second))
	first.Stop(0)

	spiLine := `esp SPI in [0-9a-f]+ out [0-9a-f]+`
	type sent struct {
		job lab.Job
		err error
	}
	done := make(chan sent, 1)
	go func() {
		j, err := n.Dandelion.Send(n.Icy, netip.AddrPortFrom(n.V4.Icy, 9100), 400<<20, time.Minute)
		done <- sent{j, err}
	}()
	for _, g := range gateways {
		g.d.Kill()
		if pids := g.host.Find("ipsecd"); len(pids) != 1 {
			t.Fatalf("%s has %d ipsecd after the kill\n%s", g.host, len(pids), g.d.Log)
		}
		g.d, err = StartIsakmpd(g.host, t.TempDir(), g.conf)
		must(t, err)
		_, err = g.d.Log.Wait(`were found again`, 10*time.Second)
		must(t, err)
	}
	s := <-done
	must(t, s.err)
	t.Logf("%d MB arrived at %.0f Mbit/s", s.job.Bytes>>20, s.job.MbitPerSecond())
	for _, g := range gateways {
		if k := g.d.Log.Count(`phase 2 \(quick mode\)|INITIAL-CONTACT|` + spiLine + `.*ended`); k != 0 {
			t.Errorf("%s negotiated anew\n%s", g.host, g.d.Log)
		}
	}
	for _, g := range gateways {
		must(t, g.d.End())
		if pids := g.host.Find("ipsecd"); len(pids) != 0 {
			t.Errorf("%s: ipsecd is still there", g.host)
		}
	}
	after, err := n.Ragweed.State()
	must(t, err)
	if d := before.Diff(after); d != "" {
		t.Errorf("Ragweed is not as it was:\n%s", d)
	}
}
