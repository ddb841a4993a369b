package interop

import (
	"flag"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/lab"
)

var full = flag.Bool("full", false, "run every combination, not a pairwise part")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is the how-to's network with a spy on the internet.
type site struct {
	*lab.HowTo
	spy   *lab.Spy
	clear bool // ESP encrypts nothing: the spy reads what is in it
}

func newSite(t *testing.T, o lab.HowToOptions) *site {
	t.Helper()
	lab.Need(t, StrongSwanPrograms...)
	n, err := lab.New(t).HowTo(o)
	must(t, err)
	spy, err := n.Spy(lab.SpyOptions{})
	must(t, err)
	return &site{HowTo: n, spy: spy}
}

// east and west are the tunnel as Ragweed and as Slippery see it.
func (s *site) east(t Tunnel) Tunnel {
	t.Local, t.Remote, t.LocalNet, t.RemoteNet = s.V4.Ragweed, s.V4.Slippery, s.V4.NetBadplants, s.V4.NetCarefull
	return t
}

func (s *site) west(t Tunnel) Tunnel {
	t.Local, t.Remote, t.LocalNet, t.RemoteNet = s.V4.Slippery, s.V4.RagweedSeen, s.V4.NetCarefull, s.V4.NetBadplants
	t.RemoteID = s.V4.Ragweed
	return t
}

// traffic proves the tunnel both ways: pings, numbered UDP without a loss, and
// nothing but IKE and ESP on the internet.
func (s *site) traffic(t *testing.T) {
	t.Helper()
	// The first data may overtake quick mode's third message.
	_, err := s.Dandelion.Ping(s.V4.Icy, 1, 10*time.Second)
	must(t, err)
	_, err = s.Icy.Ping(s.V4.Dandelion, 1, 10*time.Second)
	must(t, err)
	for _, d := range []struct {
		from, to *lab.Host
		addr     netip.Addr
	}{{s.Dandelion, s.Icy, s.V4.Icy}, {s.Icy, s.Dandelion, s.V4.Dandelion}} {
		to := netip.AddrPortFrom(d.addr, 7777)
		echo, err := d.to.Echo(to)
		must(t, err)
		stream, err := d.from.StartUDP(to, 1000, 4*time.Millisecond)
		must(t, err)
		must(t, stream.AwaitAnswers(50, 10*time.Second))
		if c := stream.Stop(2 * time.Second); c.Lost() != 0 || c.Duplicates != 0 {
			t.Errorf("UDP %s - %s: %v; lost %v", d.from, d.to, c, stream.Missing(10))
		}
		echo.Close()
	}
	s.clean(t)
}

// clean checks what the spy has seen so far.
func (s *site) clean(t *testing.T) {
	t.Helper()
	v := s.spy.Settle()
	if err := v.Check(); err != nil && !s.clear {
		t.Error(err)
	}
	if v.Packets[lab.IKE] == 0 || v.Protected() == 0 {
		t.Errorf("the spy saw %v, but neither IKE nor ESP is missing from a tunnel", v)
	}
}
