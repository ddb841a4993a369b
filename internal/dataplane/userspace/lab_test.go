package userspace_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

var ctx = context.Background()

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func howTo(t testing.TB) *lab.HowTo {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	return n
}

// open starts a plane on a host.
func open(t testing.TB, h *lab.Host, o userspace.Options) *userspace.Plane {
	t.Helper()
	if testing.Verbose() && o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", h.Name)
	}
	var p *userspace.Plane
	must(t, h.Do(func() (err error) {
		p, err = userspace.New(o)
		return err
	}))
	t.Cleanup(func() { p.Close() })
	return p
}

// between are the flows of one gateway: near network to far network.
func between(near, far netip.Prefix, local, remote netip.Addr, typ ipsec.FlowType) []ipsec.FlowChange {
	out := ipsec.Flow{
		ID: "vpn/out", Dir: ipsec.Out, Type: typ, Selector: ipsec.Selector{Src: near, Dst: far},
		Local: local, Remote: remote, Proto: ipsec.ProtoESP, Owner: ipsec.OwnerManual,
	}
	in := out
	in.ID, in.Dir, in.Selector = "vpn/in", ipsec.In, out.Selector.Reverse()
	return []ipsec.FlowChange{{Flow: out}, {Flow: in}}
}

type keying struct {
	cipher ipsec.Cipher
	auth   ipsec.Auth
	udp    bool
}

// wire makes an SA live at both ends, the receiver first.
func wire(t testing.TB, from, to dataplane.Backend, src, dst netip.Addr, near, far netip.Prefix, spi ipsec.SPI, k keying) {
	t.Helper()
	key := func(n int, step byte) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i+1)*step + byte(spi)
		}
		return b
	}
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: spi, Dst: dst}, Src: src,
		Cipher: k.cipher, Key: key(k.cipher.Info().DefKey, 3), Salt: key(k.cipher.Info().Salt, 5),
		Auth: k.auth, AuthKey: key(k.auth.Info().Key, 7), Replay: 64,
		Selector: ipsec.Selector{Src: near, Dst: far}, Flow: "vpn/out", Owner: ipsec.OwnerManual,
	}
	in := *sa
	in.ID.Dir, in.Flow = ipsec.In, "vpn/in"
	if k.udp {
		a, b := netip.AddrPortFrom(src, 4500), netip.AddrPortFrom(dst, 4500)
		sa.ID.Port, sa.Encap, in.Encap = 4500, &ipsec.Encap{Local: a, Remote: b}, &ipsec.Encap{Local: b, Remote: a}
	}
	must(t, to.AddSA(ctx, &in))
	must(t, from.AddSA(ctx, sa))
}

// tunnel joins the how-to's two offices by hand.
func tunnel(t testing.TB, n *lab.HowTo, a *lab.Addrs, o userspace.Options, k keying) (east, west *userspace.Plane) {
	t.Helper()
	east, west = open(t, n.Ragweed, o), open(t, n.Slippery, o)
	must(t, east.ApplyFlows(ctx, between(a.NetBadplants, a.NetCarefull, a.Ragweed, a.Slippery, ipsec.FlowRequire)))
	must(t, west.ApplyFlows(ctx, between(a.NetCarefull, a.NetBadplants, a.Slippery, a.Ragweed, ipsec.FlowRequire)))
	wire(t, east, west, a.Ragweed, a.Slippery, a.NetBadplants, a.NetCarefull, 0x1001, k)
	wire(t, west, east, a.Slippery, a.Ragweed, a.NetCarefull, a.NetBadplants, 0x2001, k)
	return east, west
}

var gcm = keying{cipher: ipsec.CipherAESGCM16}

func TestTunnelByHand(t *testing.T) {
	for _, c := range []struct {
		name   string
		v6     bool
		k      keying
		plain  bool // without offload
		jobMiB int64
	}{
		{"IPv4, raw, GCM", false, gcm, false, 20},
		{"IPv4, UDP, GCM", false, keying{cipher: ipsec.CipherAESGCM16, udp: true}, false, 20},
		{"IPv6, raw, GCM", true, gcm, false, 20},
		{"IPv6, UDP, GCM", true, keying{cipher: ipsec.CipherAESGCM16, udp: true}, false, 20},
		{"IPv4, UDP, 3DES-SHA1 by the workers", false, keying{ipsec.Cipher3DES, ipsec.AuthHMACSHA1, true}, false, 5},
		{"IPv4, raw, AES-SHA1 by the workers", false, keying{ipsec.CipherAESCBC, ipsec.AuthHMACSHA1, false}, false, 10},
		{"IPv4, UDP, GCM without offload", false, keying{cipher: ipsec.CipherAESGCM16, udp: true}, true, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := howTo(t)
			a := &n.V4
			if c.v6 {
				a = &n.V6
			}
			before := map[*lab.Host]lab.State{}
			for _, h := range []*lab.Host{n.Ragweed, n.Slippery} {
				s, err := h.State()
				must(t, err)
				before[h] = s
			}
			spy, err := n.Spy(lab.SpyOptions{})
			must(t, err)
			east, west := tunnel(t, n, a, userspace.Options{NoTUNOffload: c.plain, NoUDPOffload: c.plain}, c.k)
			if _, err := n.Dandelion.Ping(a.Icy, 3, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			job, err := n.Dandelion.Send(n.Icy, netip.AddrPortFrom(a.Icy, 9100), c.jobMiB<<20, 60*time.Second)
			must(t, err)
			t.Logf("%d MiB, %.0f Mbit/s", c.jobMiB, job.MbitPerSecond())
			_, err = n.Icy.Send(n.Dandelion, netip.AddrPortFrom(a.Dandelion, 9100), c.jobMiB<<20, 60*time.Second)
			must(t, err)
			// The gateway itself has an address in the network, and uses it (IPv6's
			// routing rules cannot tell a packet that has no source yet).
			if !c.v6 {
				if _, err := n.Ragweed.Ping(a.Icy, 1, 10*time.Second); err != nil {
					t.Errorf("from the gateway itself: %v", err)
				}
			}
			sight := spy.Settle()
			must(t, sight.Check())
			if sight.Protected() == 0 {
				t.Errorf("the spy saw no protected packet: %s", sight)
			}
			for _, p := range []*userspace.Plane{east, west} {
				st, err := p.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
				must(t, err)
				for i, d := range st.Drops {
					if d > 0 && ipsec.Drop(i) != ipsec.DropNoFlow {
						t.Errorf("%d packets dropped: %s", d, ipsec.Drop(i))
					}
				}
				must(t, p.Close())
			}
			for h, s := range before {
				now, err := h.State()
				must(t, err)
				if d := s.Diff(now); d != "" {
					t.Errorf("%s is not as it was:\n%s", h, d)
				}
			}
		})
	}
}

// BenchmarkTCP is one TCP stream, or four, from host to host through two
// gateways whose planes are both in this process.
func BenchmarkTCP(b *testing.B) {
	lab.Need(b, "iperf3")
	for _, c := range []struct {
		name string
		k    keying
		o    userspace.Options
	}{
		{"UDP AES-128-GCM", keying{cipher: ipsec.CipherAESGCM16, udp: true}, userspace.Options{}},
		{"UDP AES-128-GCM no offload", keying{cipher: ipsec.CipherAESGCM16, udp: true}, userspace.Options{NoTUNOffload: true, NoUDPOffload: true}},
		{"raw AES-128-GCM", gcm, userspace.Options{}},
		{"UDP AES-CBC-SHA1", keying{ipsec.CipherAESCBC, ipsec.AuthHMACSHA1, true}, userspace.Options{}},
		{"UDP 3DES-SHA1", keying{ipsec.Cipher3DES, ipsec.AuthHMACSHA1, true}, userspace.Options{}},
	} {
		for _, streams := range []string{"1", "4"} {
			b.Run(c.name+" x"+streams, func(b *testing.B) {
				n := howTo(b)
				tunnel(b, n, &n.V4, c.o, c.k)
				iperf, err := lab.Program("iperf3")
				must(b, err)
				srv, err := n.Icy.Start(lab.Command{Path: iperf, Args: []string{"-s", "-1", "--forceflush"}})
				must(b, err)
				_, err = srv.Log.Wait("listening", 10*time.Second)
				must(b, err)
				for range b.N {
					text, err := n.Dandelion.Run(30*time.Second, iperf, "-c", n.V4.Icy.String(), "-t", "4", "-P", streams, "-C", "cubic", "-J")
					must(b, err)
					var out struct {
						End struct {
							SumReceived struct {
								BitsPerSecond float64 `json:"bits_per_second"`
							} `json:"sum_received"`
						}
					}
					must(b, json.Unmarshal([]byte(text), &out))
					b.ReportMetric(out.End.SumReceived.BitsPerSecond/1e6, "Mbit/s")
				}
			})
		}
	}
}
