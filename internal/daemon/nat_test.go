package daemon

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"oakley/internal/netio"
)

// TestATunnelThroughATranslatorUsesTheOtherPort puts east behind an address
// translator: IKE floats to port 4500, SAs are in UDP, and keepalives are sent.
func TestATunnelThroughATranslatorUsesTheOtherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, outside := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("203.0.113.9")
		var keepalives, plain atomic.Int64
		hub := netio.NewHub()
		hub.SetFilter(func(p *netio.HubPacket) bool {
			if len(p.Data) == 1 && p.Data[0] == 0xff && p.Dst.Port() == 4500 {
				keepalives.Add(1)
			}
			if p.Src.Addr() == inside {
				if p.Src.Port() == 500 {
					plain.Add(1)
				}
				p.Src = netip.AddrPortFrom(outside, p.Src.Port()+20000)
			}
			if p.Dst.Addr() == outside {
				p.Dst = netip.AddrPortFrom(inside, p.Dst.Port()-20000)
			}
			return true
		})
		e, w := east, west
		e.own, w.peer = inside.String(), outside.String()
		b := run(t, newFakeHost(hub, w.own), w.conf())
		a := run(t, newFakeHost(hub, e.own), e.conf())
		a.log.await(t, "phase 2 (quick mode) done for connection tunnel with peer far at 192.0.2.2:4500", 1)
		b.log.await(t, "phase 2 (quick mode) done for connection tunnel with peer far at 203.0.113.9:24500", 1)
		synctest.Wait()
		for _, s := range a.plane.state(t).SAs {
			if s.SA.Encap == nil || s.SA.Encap.Local.Port() != 4500 || s.SA.Encap.Remote.Port() != 4500 {
				t.Errorf("SA %s is not in UDP: %+v", s.SA.ID, s.SA.Encap)
			}
		}
		before := plain.Load()
		<-time.After(65 * time.Second)
		if n := keepalives.Load(); n < 2 || n > 4 {
			t.Errorf("%d keepalives in 65 seconds, one each 20", n)
		}
		a.end(t)
		b.log.await(t, "phase2-down", 1)
		if plain.Load() != before {
			t.Error("something was sent from port 500 after the change of ports")
		}
		b.end(t)
	})
}

func TestWithoutNATTraversalThereIsNoOtherPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		n := run(t, newFakeHost(hub, east.own), east.conf(), func(o *Options) { o.NoNATT = true })
		n.log.await(t, "listening on 192.0.2.1, UDP port 500 ", 1)
		if c := strings.Join(n.plane.Calls(), "\n"); strings.Contains(c, "EncapConn") {
			t.Errorf("the port was opened: %s", c)
		}
		n.end(t)
	})
}
