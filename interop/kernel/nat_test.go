package kernel

import (
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"oakley/internal/lab"
)

// remapped: a router forgets what it has translated, as home routers do, and gives
// the tunnel a new port. The kernel tells of packets that come from there, and the
// other gateway sends there from then on; nothing is negotiated for it.
func remapped(t *testing.T) {
	s := newSite(t, lab.HowToOptions{NAT: true, NewPorts: true}, false)
	tun := quickest
	tun.Initiate = true
	east, west := twoKernels(t, s, tun, nil)
	east.waits(t, phase2Done)
	there, back := s.pings(t, s.V4, tun, every)
	must(t, there.AwaitAnswers(20, 10*time.Second))
	before, marks := west.tables(t), [...]int{east.d.Log.Mark(), west.d.Log.Mark()}
	must(t, s.NAT.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
	must(t, there.AwaitAnswers(20, 10*time.Second))
	must(t, back.AwaitAnswers(20, 10*time.Second))
	for _, ping := range []*lab.Stream{there, back} {
		n := ping.Stop(2 * time.Second)
		t.Logf("the router has forgotten: %v", n)
		if n.Lost() > 5 {
			t.Errorf("lost %v", ping.Missing(20))
		}
	}
	if now := west.tables(t); len(now.states) != len(before.states) || slices.Equal(now.states, before.states) {
		t.Errorf("the SAs are\n%q\nand were, with the port before,\n%q", now.states, before.states)
	}
	for i, g := range []*gateway{east, west} {
		if l := linesAfter(g.d, marks[i], again); len(l) != 0 {
			t.Errorf("%s: %q", g.host, l)
		}
	}
	s.saw(t, lab.ESPinUDP, 80)
	east.ends(t)
	west.ends(t)
}
