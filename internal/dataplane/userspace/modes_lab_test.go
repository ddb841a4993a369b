package userspace_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// protection is one SA of a stack between two hosts.
type protection struct {
	proto  ipsec.Proto
	mode   ipsec.Mode
	cipher ipsec.Cipher
	auth   ipsec.Auth
	udp    bool
}

// TestHostsOverTheKernel: two hosts protect all that they say to each other, so
// that a packet's address is also that of the tunnel's end; sockets, routes and
// filters are the kernel's. The longer packets are fragmented outside.
func TestHostsOverTheKernel(t *testing.T) {
	lab.Need(t, "root", "tun")
	x, esp, ah, comp := ipsec.Transport, ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp
	for _, c := range []struct {
		name  string
		stack []protection
	}{
		{"ESP transport", []protection{{esp, x, ipsec.CipherAESGCM16, ipsec.AuthNone, false}}},
		{"ESP tunnel in UDP", []protection{{esp, ipsec.Tunnel, ipsec.CipherAESGCM16, ipsec.AuthNone, true}}},
		{"ESP transport in UDP", []protection{{esp, x, ipsec.CipherAESCBC, ipsec.AuthHMACSHA1, true}}},
		{"AH transport", []protection{{ah, x, ipsec.CipherNone, ipsec.AuthHMACSHA256, false}}},
		{"AH tunnel", []protection{{ah, ipsec.Tunnel, ipsec.CipherNone, ipsec.AuthHMACSHA1, false}}},
		{"AH over ESP over IPComp", []protection{
			{comp, x, ipsec.CipherNone, ipsec.AuthNone, false},
			{esp, x, ipsec.CipherAESGCM16, ipsec.AuthNone, false},
			{ah, x, ipsec.CipherNone, ipsec.AuthHMACSHA256, false},
		}},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s IPv6 %t", c.name, v6), func(t *testing.T) {
				n := lab.New(t)
				a, err := n.Host("a")
				must(t, err)
				b, err := n.Host("b")
				must(t, err)
				must(t, n.Connect(
					lab.End{Host: a, If: "eth", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
					lab.End{Host: b, If: "eth", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}}))
				at, bt := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
				if v6 {
					at, bt = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
				}
				pa, pb := open(t, a, userspace.Options{}), open(t, b, userspace.Options{})
				an, bn := netip.PrefixFrom(at, at.BitLen()), netip.PrefixFrom(bt, bt.BitLen())
				protect(t, pa, pb, at, bt, an, bn, 0x1000, c.stack)
				protect(t, pb, pa, bt, at, bn, an, 0x2000, c.stack)
				if _, err := a.Ping(bt, 5, 10*time.Second); err != nil {
					sa, _ := pa.Dump(ctx, dataplane.Query{})
					sb, _ := pb.Dump(ctx, dataplane.Query{})
					t.Fatalf("%v\na: %v %+v\nb: %v %+v", err, sa.Drops, sa.SAs, sb.Drops, sb.SAs)
				}
				if _, err := a.Send(b, netip.AddrPortFrom(bt, 9100), 1<<20, 20*time.Second); err != nil {
					t.Error(err)
				}
				for _, p := range []*userspace.Plane{pa, pb} {
					st, err := p.Dump(ctx, dataplane.Query{})
					must(t, err)
					for _, sa := range st.SAs {
						if sa.Packets < 5 {
							t.Errorf("%s carried %d packets", sa.SA.ID, sa.Packets)
						}
					}
				}
			})
		}
	}
}

// protect makes one direction live: the flows of its sender, and SAs at both ends.
func protect(t *testing.T, from, to *userspace.Plane, src, dst netip.Addr, near, far netip.Prefix, spi ipsec.SPI, stack []protection) {
	t.Helper()
	changes := between(near, far, src, dst, ipsec.FlowRequire)
	for i := range changes {
		changes[i].Flow.Mode, changes[i].Flow.Proto = stack[0].mode, stack[0].proto
	}
	must(t, from.ApplyFlows(ctx, changes))
	for i, l := range stack {
		sa := &ipsec.SA{
			ID: ipsec.SAID{Dir: ipsec.Out, Proto: l.proto, SPI: spi + ipsec.SPI(i), Dst: dst}, Src: src, Mode: l.mode, Cipher: l.cipher,
			Key: someKey(l.cipher.Info().DefKey), Salt: someKey(l.cipher.Info().Salt), Auth: l.auth, AuthKey: someKey(l.auth.Info().Key),
			Replay: 64, Selector: ipsec.Selector{Src: near, Dst: far}, Flow: "vpn/out", Owner: ipsec.OwnerManual,
		}
		if l.proto == ipsec.ProtoIPComp {
			sa.Comp = ipsec.CompDeflate
		}
		if len(stack) > 1 {
			sa.Bundle = ipsec.Place{ID: uint64(spi), Index: uint8(i), Of: uint8(len(stack))}
		}
		in := *sa
		in.ID.Dir, in.Flow = ipsec.In, "vpn/in"
		if l.udp {
			a, b := netip.AddrPortFrom(src, 4500), netip.AddrPortFrom(dst, 4500)
			sa.ID.Port, sa.Encap, in.Encap = 4500, &ipsec.Encap{Local: a, Remote: b}, &ipsec.Encap{Local: b, Remote: a}
		}
		must(t, to.AddSA(ctx, &in))
		must(t, from.AddSA(ctx, sa))
	}
}
