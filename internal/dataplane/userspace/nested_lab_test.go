package userspace_test

import (
	"net/netip"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// TestATunnelInATunnel: from Ragweed to Icy itself, inside the one to Slippery,
// which knows nothing of the first but that it carries packets between the two.
// What Icy sends is longer than what fits Slippery's device, and comes to Ragweed
// as fragments inside the outer tunnel, which are made whole before they lose the
// inner one (RFC 4303 section 3.4.1).
func TestATunnelInATunnel(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a := &n.V4
		if v6 {
			a = &n.V6
		}
		spy, err := n.Spy(lab.SpyOptions{})
		must(t, err)
		o := userspace.Options{NoClampMSS: true}
		ragweed, slippery, icy := open(t, n.Ragweed, o), open(t, n.Slippery, o), open(t, n.Icy, o)
		host := func(x netip.Addr) netip.Prefix { return netip.PrefixFrom(x, x.BitLen()) }
		must(t, ragweed.ApplyFlows(ctx, between(a.NetBadplants, host(a.Icy), a.Ragweed, a.Slippery, ipsec.FlowRequire)))
		must(t, slippery.ApplyFlows(ctx, between(host(a.Icy), host(a.Ragweed), a.Slippery, a.Ragweed, ipsec.FlowRequire)))
		must(t, icy.ApplyFlows(ctx, between(host(a.Icy), a.NetBadplants, a.Icy, a.Ragweed, ipsec.FlowRequire)))

		sa := func(dir ipsec.Direction, spi ipsec.SPI, src, dst netip.Addr, near, far netip.Prefix, at ipsec.Place) *ipsec.SA {
			s := &ipsec.SA{
				ID: ipsec.SAID{Dir: dir, Proto: ipsec.ProtoESP, SPI: spi, Dst: dst}, Src: src, Cipher: ipsec.CipherAESGCM16,
				Key: someKey(16), Salt: someKey(4), Replay: 64, Selector: ipsec.Selector{Src: near, Dst: far},
				Flow: "vpn/out", Owner: ipsec.OwnerManual, Bundle: at,
			}
			if dir == ipsec.In {
				s.Flow = "vpn/in"
			}
			return s
		}
		place := func(number uint64, i uint8) ipsec.Place { return ipsec.Place{ID: number, Index: i, Of: 2} }
		out, in, alone := ipsec.Out, ipsec.In, ipsec.Place{}
		// Towards Icy.
		must(t, icy.AddSA(ctx, sa(in, 0x1001, a.Ragweed, a.Icy, a.NetBadplants, host(a.Icy), alone)))
		must(t, slippery.AddSA(ctx, sa(in, 0x1002, a.Ragweed, a.Slippery, host(a.Ragweed), host(a.Icy), alone)))
		must(t, ragweed.AddSA(ctx, sa(out, 0x1001, a.Ragweed, a.Icy, a.NetBadplants, host(a.Icy), place(1, 0))))
		must(t, ragweed.AddSA(ctx, sa(out, 0x1002, a.Ragweed, a.Slippery, a.NetBadplants, host(a.Icy), place(1, 1))))
		// And back.
		must(t, ragweed.AddSA(ctx, sa(in, 0x2001, a.Icy, a.Ragweed, host(a.Icy), a.NetBadplants, place(2, 0))))
		must(t, ragweed.AddSA(ctx, sa(in, 0x2002, a.Slippery, a.Ragweed, host(a.Icy), a.NetBadplants, place(2, 1))))
		must(t, slippery.AddSA(ctx, sa(out, 0x2002, a.Slippery, a.Ragweed, host(a.Icy), host(a.Ragweed), alone)))
		must(t, icy.AddSA(ctx, sa(out, 0x2001, a.Icy, a.Ragweed, host(a.Icy), a.NetBadplants, alone)))

		defer func() {
			if t.Failed() {
				for name, p := range map[string]*userspace.Plane{"Ragweed": ragweed, "Slippery": slippery, "Icy": icy} {
					st, _ := p.Dump(ctx, dataplane.Query{})
					t.Logf("%s: %v", name, st.Drops)
					for _, sa := range st.SAs {
						t.Logf("%s: %s: %d packets, drops %v", name, sa.SA.ID, sa.Packets, sa.Drops)
					}
				}
			}
		}()
		if _, err := n.Dandelion.Ping(a.Icy, 3, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		must(t, passes(n.Dandelion, n.Icy, a.Icy))
		must(t, passes(n.Icy, n.Dandelion, a.Dandelion))
		must(t, spy.Settle().Check())
	}
}
