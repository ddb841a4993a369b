package ipsecd

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/planetest"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
	"oakley/internal/netio"
	"oakley/internal/tun"
)

// noSystem stands for routes and filters, where there is no host.
type noSystem struct{}

func (noSystem) Change(_, _ []ipsec.Flow) error { return nil }
func (noSystem) Detail() string                 { return "in memory" }
func (noSystem) Refused() uint64                { return 0 }
func (noSystem) Close() error                   { return nil }

// serve starts a server around a data plane, which is closed with the test.
func serve(t testing.TB, b dataplane.Backend) (path string, s *Server) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "sock")
	return path, serveAt(t, path, -1, b)
}

func serveAt(t testing.TB, path string, group int, b dataplane.Backend) *Server {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(b, group, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		b.Close()
		s.Close()
	})
	return s
}

func dial(t testing.TB, path string) *Client {
	t.Helper()
	c, err := Dial(ctx, path, AllEvents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dialTool connects as tools do, which take no events.
func dialTool(t testing.TB, path string) *Client {
	t.Helper()
	c, err := Dial(ctx, path, NoEvents)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	lab.Eventually(t, patience, what, ok)
}

func site(t *testing.T, hub *netio.Hub, name, a4, a6 string) *planetest.Site {
	v4, v6 := netip.MustParseAddr(a4), netip.MustParseAddr(a6)
	dev := tun.NewPipe(name, 1400)
	p, err := userspace.New(userspace.Options{
		Local: []netip.Addr{v4, v6}, Device: dev, Network: hub.Node(v4, v6), System: noSystem{},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte, 64)
	go func() {
		for pkt := dev.Take(); pkt != nil; pkt = dev.Take() {
			got <- pkt
		}
	}()
	path, _ := serve(t, p)
	return &planetest.Site{Backend: dial(t, path), Addr: v4, Addr6: v6, Put: func(b []byte) { dev.Put(b) }, Got: got}
}

// The conformance suite of data planes, through the socket.
func TestConformance(t *testing.T) {
	planetest.Run(t, func(t *testing.T) *planetest.Harness {
		hub := netio.NewHub()
		h := &planetest.Harness{A: site(t, hub, "a", "192.0.2.1", "2001:db8::1"), B: site(t, hub, "b", "192.0.2.2", "2001:db8::2")}
		var twice atomic.Bool
		var seen atomic.Pointer[netip.AddrPort]
		h.Twice = func(on bool) { twice.Store(on) }
		h.Readdress = func(a netip.AddrPort) { seen.Store(&a) }
		hub.SetFilter(func(p *netio.HubPacket) bool {
			if a := seen.Load(); a != nil && p.Proto == 17 {
				switch {
				case p.Src.Addr() == h.A.Addr:
					p.Src = *a
				case p.Dst == *a:
					p.Dst = netip.AddrPortFrom(h.A.Addr, 4500)
				default:
					return false
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
