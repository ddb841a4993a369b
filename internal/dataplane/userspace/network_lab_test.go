package userspace_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// narrow is what the cable to Slippery carries, in bytes: the first link for
// what it sends, one that is further on for what Ragweed sends.
const narrow = 1340

// TestNarrowNetworks: a cable carries less than the gateways were told. What one
// gateway sends is fragmented on the way, or by itself once it has learnt of it,
// and whole again at the other's sockets; hosts behind the other are told to send
// less, or their packets are sent in pieces. Nobody clamps segment sizes.
func TestNarrowNetworks(t *testing.T) {
	lab.Need(t, "root", "tun", "ip")
	tun, x := ipsec.Tunnel, ipsec.Transport
	for _, c := range []struct {
		name  string
		stack []protection
	}{
		{"ESP", []protection{{ipsec.ProtoESP, tun, ipsec.CipherAESGCM16, ipsec.AuthNone, false}}},
		{"ESP in UDP", []protection{{ipsec.ProtoESP, tun, ipsec.CipherAESGCM16, ipsec.AuthNone, true}}},
		{"ESP by the workers", []protection{{ipsec.ProtoESP, tun, ipsec.CipherAESCBC, ipsec.AuthHMACSHA1, false}}},
		{"AH", []protection{{ipsec.ProtoAH, tun, ipsec.CipherNone, ipsec.AuthHMACSHA256, false}}},
		{"AH over ESP", []protection{
			{ipsec.ProtoESP, tun, ipsec.CipherAESGCM16, ipsec.AuthNone, false},
			{ipsec.ProtoAH, x, ipsec.CipherNone, ipsec.AuthHMACSHA1, false},
		}},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s IPv6 %t", c.name, v6), func(t *testing.T) {
				n := howTo(t)
				a := &n.V4
				if v6 {
					a = &n.V6
				}
				must(t, n.Internet.SetMTU("west", narrow))
				must(t, n.Slippery.SetMTU("wan", narrow))
				o := userspace.Options{NoClampMSS: true}
				east, west := open(t, n.Ragweed, o), open(t, n.Slippery, o)
				protect(t, east, west, a.Ragweed, a.Slippery, a.NetBadplants, a.NetCarefull, 0x1000, c.stack)
				protect(t, west, east, a.Slippery, a.Ragweed, a.NetCarefull, a.NetBadplants, 0x2000, c.stack)
				defer func() {
					if t.Failed() {
						for name, p := range map[string]*userspace.Plane{"east": east, "west": west} {
							st, _ := p.Dump(ctx, dataplane.Query{})
							t.Logf("%s: %v", name, st.Drops)
							for _, sa := range st.SAs {
								t.Logf("%s: %s: %d packets, drops %v", name, sa.SA.ID, sa.Packets, sa.Drops)
							}
						}
					}
				}()
				must(t, passes(n.Icy, n.Dandelion, a.Dandelion))
				// Icy, whose gateway has the narrow cable, was told.
				if got := pathMTU(t, n.Icy, a.Icy, a.Dandelion); got >= narrow-40 || got < narrow-160 {
					t.Errorf("Icy takes the path for %d bytes wide; want what fits %d", got, narrow)
				}
				must(t, passes(n.Dandelion, n.Icy, a.Icy))
				echo, err := n.Icy.Echo(netip.AddrPortFrom(a.Icy, 7))
				must(t, err)
				defer echo.Close()
				for _, size := range []int{1300, 4000, 20000} {
					s, err := n.Dandelion.StartUDP(netip.AddrPortFrom(a.Icy, 7), size, 20*time.Millisecond)
					must(t, err)
					if err := s.AwaitAnswers(3, 10*time.Second); err != nil {
						t.Errorf("datagrams of %d bytes: %v", size, err)
					}
					s.Stop(0)
				}
			})
		}
	}
}

// passes sends two megabytes.
func passes(from, to *lab.Host, addr netip.Addr) error {
	job, err := from.Send(to, netip.AddrPortFrom(addr, 9100), 2<<20, 20*time.Second)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", from, to, err)
	}
	if !job.Intact() {
		return fmt.Errorf("%s to %s: not what was sent", from, to)
	}
	return nil
}

var mtuOf = regexp.MustCompile(`mtu (\d+)`)

// pathMTU is what a host's kernel has learnt of a path; 0: nothing.
func pathMTU(t *testing.T, h *lab.Host, from, to netip.Addr) int {
	t.Helper()
	ip, err := lab.Program("ip")
	must(t, err)
	text, err := h.Run(10*time.Second, ip, "route", "get", to.String(), "from", from.String())
	must(t, err)
	m := mtuOf.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	must(t, err)
	return n
}

// twoHosts are joined by a cable.
func twoHosts(t *testing.T) (n *lab.Net, a, b *lab.Host) {
	lab.Need(t, "root", "tun")
	n = lab.New(t)
	a, err := n.Host("a")
	must(t, err)
	b, err = n.Host("b")
	must(t, err)
	must(t, n.Connect(
		lab.End{Host: a, If: "eth", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
		lab.End{Host: b, If: "eth", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}}))
	return n, a, b
}

var (
	host4 = [2]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	host6 = [2]netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")}
)

// TestThisHostIsTold: the packets are this host's own, as they always are in
// transport mode; a cable that became narrower is told to its own kernel.
func TestThisHostIsTold(t *testing.T) {
	lab.Need(t, "ip")
	for _, mode := range []ipsec.Mode{ipsec.Transport, ipsec.Tunnel} {
		for _, at := range [][2]netip.Addr{host4, host6} {
			t.Run(fmt.Sprintf("%s %s", mode, at[0]), func(t *testing.T) {
				_, a, b := twoHosts(t)
				must(t, a.SetMTU("eth", narrow))
				must(t, b.SetMTU("eth", narrow))
				pa, pb := open(t, a, userspace.Options{NoClampMSS: true}), open(t, b, userspace.Options{NoClampMSS: true})
				an, bn := netip.PrefixFrom(at[0], at[0].BitLen()), netip.PrefixFrom(at[1], at[1].BitLen())
				stack := []protection{{ipsec.ProtoESP, mode, ipsec.CipherAESGCM16, ipsec.AuthNone, false}}
				protect(t, pa, pb, at[0], at[1], an, bn, 0x1000, stack)
				protect(t, pb, pa, at[1], at[0], bn, an, 0x2000, stack)
				must(t, passes(a, b, at[1]))
				if got := pathMTU(t, a, at[0], at[1]); got >= narrow-20 || got < narrow-120 {
					t.Errorf("a takes the path for %d bytes wide; want what fits %d", got, narrow)
				}
			})
		}
	}
}

// TestTransportModeThroughNAT: TCP and UDP have checksums over addresses that the
// router has changed since (RFC 3948 section 3.1.2); the hosts' kernels verify
// them. The longer datagrams are the host's fragments.
func TestTransportModeThroughNAT(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{NAT: true})
	must(t, err)
	a := &n.V4
	inside, outside := open(t, n.Ragweed, userspace.Options{}), open(t, n.Slippery, userspace.Options{})
	host := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	flows := func(p *userspace.Plane, local, remote netip.Addr) {
		f := between(host(local), host(remote), local, remote, ipsec.FlowRequire)
		for i := range f {
			f[i].Flow.Mode = ipsec.Transport
		}
		must(t, p.ApplyFlows(ctx, f))
	}
	flows(inside, a.Ragweed, a.Slippery)
	flows(outside, a.Slippery, a.RagweedSeen)
	sa := func(p *userspace.Plane, dir ipsec.Direction, spi ipsec.SPI, local, remote netip.Addr, oa ipsec.NATOA) {
		s := &ipsec.SA{
			ID: ipsec.SAID{Dir: dir, Proto: ipsec.ProtoESP, SPI: spi, Dst: remote, Port: 4500}, Src: local, Mode: ipsec.Transport,
			Cipher: ipsec.CipherAESGCM16, Key: someKey(16), Salt: someKey(4), Replay: 64,
			Encap:    &ipsec.Encap{Local: netip.AddrPortFrom(local, 4500), Remote: netip.AddrPortFrom(remote, 4500)},
			Selector: ipsec.Selector{Src: host(local), Dst: host(remote)}, Flow: "vpn/out", Owner: ipsec.OwnerManual,
		}
		if dir == ipsec.In {
			s.ID.Dst, s.ID.Port, s.Src, s.Flow, s.NATOA = local, 0, remote, "vpn/in", oa
			s.Selector = s.Selector.Reverse()
		}
		must(t, p.AddSA(ctx, s))
	}
	sa(outside, ipsec.In, 0x1001, a.Slippery, a.RagweedSeen, ipsec.NATOA{Peer: a.Ragweed, Ours: a.Slippery})
	sa(inside, ipsec.In, 0x2001, a.Ragweed, a.Slippery, ipsec.NATOA{Peer: a.Slippery, Ours: a.RagweedSeen})
	sa(inside, ipsec.Out, 0x1001, a.Ragweed, a.Slippery, ipsec.NATOA{})
	sa(outside, ipsec.Out, 0x2001, a.Slippery, a.RagweedSeen, ipsec.NATOA{})

	answers(t, n.Ragweed, a.Slippery, "which has no such checksum, and opens the router's way back")
	must(t, passes(n.Ragweed, n.Slippery, a.Slippery))
	echo, err := n.Slippery.Echo(netip.AddrPortFrom(a.Slippery, 7))
	must(t, err)
	defer echo.Close()
	for _, size := range []int{100, 1300, 5000} {
		s, err := n.Ragweed.StartUDP(netip.AddrPortFrom(a.Slippery, 7), size, 20*time.Millisecond)
		must(t, err)
		if err := s.AwaitAnswers(5, 10*time.Second); err != nil {
			t.Errorf("datagrams of %d bytes: %v", size, err)
		}
		s.Stop(0)
	}
	for _, p := range []*userspace.Plane{inside, outside} {
		st, err := p.Dump(ctx, dataplane.Query{})
		must(t, err)
		for _, sa := range st.SAs {
			if sa.Packets < 50 {
				t.Errorf("%s carried %d packets", sa.SA.ID, sa.Packets)
			}
		}
	}
}

// TestExtensionHeadersOverTheKernel: a program's options are before what AH and
// ESP put into the packet, and AH covers them; raw sockets bring them by another
// way than the packet.
func TestExtensionHeadersOverTheKernel(t *testing.T) {
	x := ipsec.Transport
	for name, stack := range map[string][]protection{
		"AH":  {{ipsec.ProtoAH, x, ipsec.CipherNone, ipsec.AuthHMACSHA256, false}},
		"ESP": {{ipsec.ProtoESP, x, ipsec.CipherAESGCM16, ipsec.AuthNone, false}},
		"both, by the workers": {
			{ipsec.ProtoESP, x, ipsec.CipherAESCBC, ipsec.AuthHMACSHA1, false},
			{ipsec.ProtoAH, x, ipsec.CipherNone, ipsec.AuthHMACSHA1, false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, b := twoHosts(t)
			pa, pb := open(t, a, userspace.Options{}), open(t, b, userspace.Options{})
			an, bn := netip.PrefixFrom(host6[0], 128), netip.PrefixFrom(host6[1], 128)
			protect(t, pa, pb, host6[0], host6[1], an, bn, 0x1000, stack)
			protect(t, pb, pa, host6[1], host6[0], bn, an, 0x2000, stack)
			in, err := b.ListenUDP(netip.AddrPortFrom(host6[1], 9300))
			must(t, err)
			defer in.Close()
			out, err := a.ListenUDP(netip.AddrPortFrom(host6[0], 0))
			must(t, err)
			defer out.Close()
			raw, err := out.SyscallConn()
			must(t, err)
			must(t, raw.Control(func(fd uintptr) {
				padding := string([]byte{0, 0, 1, 4, 0, 0, 0, 0})
				for _, o := range []int{unix.IPV6_HOPOPTS, unix.IPV6_DSTOPTS} {
					if e := unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, o, padding); e != nil {
						err = e
					}
				}
			}))
			must(t, err)
			got := make(chan string, 1)
			go func() {
				buf := make([]byte, 64)
				n, _, _ := in.ReadFromUDP(buf)
				got <- string(buf[:n])
			}()
			lab.Eventually(t, 10*time.Second, "a datagram with options arrives", func() bool {
				_, err := out.WriteToUDPAddrPort([]byte("with options"), netip.AddrPortFrom(host6[1], 9300))
				must(t, err)
				select {
				case s := <-got:
					return s == "with options"
				case <-time.After(20 * time.Millisecond):
					return false
				}
			})
			st, err := pb.Dump(ctx, dataplane.Query{})
			must(t, err)
			for _, sa := range st.SAs {
				if sa.Drops[ipsec.DropAuth] != 0 {
					t.Errorf("%s: %v", sa.SA.ID, sa.Drops)
				}
			}
		})
	}
}
