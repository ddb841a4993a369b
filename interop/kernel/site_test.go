package kernel

import (
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/interop"
)

// site is the how-to's network with a spy on the internet.
type site struct {
	*lab.HowTo
	spy *lab.Spy
}

// newSite makes it. Where nothing is encrypted the spy may read what is in the
// packets.
func newSite(t *testing.T, o lab.HowToOptions, clear bool) *site {
	t.Helper()
	n, err := lab.New(t).HowTo(o)
	must(t, err)
	look := lab.SpyOptions{Inner: n.Inner(), Marks: [][]byte{lab.PingMark()}}
	if clear {
		look = lab.SpyOptions{}
	}
	spy, err := n.Internet.Spy("west", look)
	must(t, err)
	return &site{HowTo: n, spy: spy}
}

// saw checks that the internet has carried IKE and protected packets of one class,
// at least so many, and nothing else.
func (s *site) saw(t *testing.T, want lab.Class, least int) {
	t.Helper()
	v := s.spy.Settle()
	if err := v.Check(); err != nil {
		t.Error(err)
	}
	if v.Packets[want] < least || v.Protected() != v.Packets[want] || v.Packets[lab.Other] != 0 {
		t.Errorf("the spy saw %v, expected nothing but %v and IKE", v, want)
	}
}

// ends is a tunnel as Ragweed and as Slippery see it, with addresses of one
// family.
func ends(a lab.Addrs, t interop.Tunnel) (ragweed, slippery interop.Tunnel) {
	ragweed, slippery = t, t
	ragweed.Local, ragweed.Remote, ragweed.LocalNet, ragweed.RemoteNet = a.Ragweed, a.Slippery, a.NetBadplants, a.NetCarefull
	slippery.Local, slippery.Remote, slippery.LocalNet, slippery.RemoteNet = a.Slippery, a.RagweedSeen, a.NetCarefull, a.NetBadplants
	slippery.RemoteID = a.Ragweed
	return ragweed, slippery
}

// gateway is a host on which isakmpd runs.
type gateway struct {
	host   *lab.Host
	conf   string
	flags  []string
	before lab.State // of the host, before isakmpd was started the first time
	d      *interop.Isakmpd
}

// gateway starts isakmpd on a host.
func (s *site) gateway(t *testing.T, h *lab.Host, conf string, flags ...string) *gateway {
	t.Helper()
	before, err := h.State()
	must(t, err)
	g := &gateway{host: h, conf: conf, flags: flags, before: before}
	g.starts(t)
	return g
}

// starts starts isakmpd, again.
func (g *gateway) starts(t *testing.T) {
	t.Helper()
	d, err := interop.StartIsakmpd(g.host, t.TempDir(), g.conf, g.flags...)
	must(t, err)
	g.d = d
}

// waits waits for a line of its log.
func (g *gateway) waits(t *testing.T, pattern string) {
	t.Helper()
	if _, err := g.d.Log.Wait(pattern, 30*time.Second); err != nil {
		t.Fatalf("isakmpd on %s: %v", g.host, err)
	}
}

// ends stops isakmpd, which leaves nothing.
func (g *gateway) ends(t *testing.T) {
	t.Helper()
	must(t, g.d.End())
	for _, program := range []string{"isakmpd", "ipsecd"} {
		if pids := g.host.Find(program); len(pids) != 0 {
			t.Errorf("%s: %s still runs", g.host, program)
		}
	}
	after, err := g.host.State()
	must(t, err)
	if d := g.before.Diff(after); d != "" {
		t.Errorf("%s is not as it was:\n%s", g.host, d)
	}
}

const phase2Done = `phase 2 \(quick mode\) done`
