package userspace_test

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"oakley/internal/dataplane/planetest"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/tun"
)

// noSystem stands for routes and filters, where there is no host.
type noSystem struct{}

func (noSystem) Change(_, _ []ipsec.Flow) error { return nil }
func (noSystem) Detail() string                 { return "in memory" }
func (noSystem) Refused() uint64                { return 0 }
func (noSystem) Close() error                   { return nil }

func site(t *testing.T, hub *netio.Hub, name string, a4, a6 string, spread bool) *planetest.Site {
	v4, v6 := netip.MustParseAddr(a4), netip.MustParseAddr(a6)
	dev := tun.NewPipe(name, 1400)
	p, err := userspace.New(userspace.Options{
		Local: []netip.Addr{v4, v6}, Device: dev, Network: hub.Node(v4, v6), System: noSystem{}, Spread: spread,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	got := make(chan []byte, 64)
	go func() {
		for {
			pkt := dev.Take()
			if pkt == nil {
				return
			}
			got <- pkt
		}
	}()
	return &planetest.Site{Backend: p, Addr: v4, Addr6: v6, Put: func(b []byte) { dev.Put(b) }, Got: got}
}

func TestConformance(t *testing.T) { conform(t, false) }

// TestConformanceSpread is the same where workers seal and open for every cipher.
func TestConformanceSpread(t *testing.T) { conform(t, true) }

func conform(t *testing.T, spread bool) {
	planetest.Run(t, func(t *testing.T) *planetest.Harness {
		hub := netio.NewHub()
		h := &planetest.Harness{A: site(t, hub, "a", "192.0.2.1", "2001:db8::1", spread), B: site(t, hub, "b", "192.0.2.2", "2001:db8::2", spread)}
		if spread {
			h.Name = "userspace, spread"
		}
		var twice atomic.Bool
		var seen atomic.Pointer[netip.AddrPort]
		h.Twice = func(on bool) { twice.Store(on) }
		h.SetSequence = h.A.Backend.(*userspace.Plane).SetSequence
		h.Readdress = func(a netip.AddrPort) { seen.Store(&a) }
		hub.SetFilter(func(p *netio.HubPacket) bool {
			if a := seen.Load(); a != nil && p.Proto == 17 {
				switch {
				case p.Src.Addr() == h.A.Addr:
					p.Src = *a
				case p.Dst == *a:
					p.Dst = netip.AddrPortFrom(h.A.Addr, 4500)
				default:
					return false // what is sent to where the peer was is lost
				}
			}
			if twice.Load() {
				again := *p
				again.Data = append([]byte(nil), p.Data...)
				go hub.Inject(again)
			}
			return true
		})
		return h
	})
	t.Logf("\n%s", planetest.Table())
}
