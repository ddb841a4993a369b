package userspace_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/tun"

	"oakley/internal/dataplane/userspace"
)

// A flow that comes, changes or goes costs no more bytes among 50 000 than among
// a hundred but for the path in the SPD's tree.
func TestOneMoreFlowCostsLittle(t *testing.T) {
	const step = 50
	cost := func(n int) uint64 {
		hub := netio.NewHub()
		a := netip.MustParseAddr("192.0.2.1")
		p, err := userspace.New(userspace.Options{
			Local: []netip.Addr{a}, Device: tun.NewPipe("cost", 1400), Network: hub.Node(a), System: noSystem{},
		})
		must(t, err)
		defer p.Close()
		pair := func(i int) []ipsec.FlowChange {
			far := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
			f := between(netip.MustParsePrefix("172.16.0.0/16"), far, a, netip.MustParseAddr("192.0.2.2"), ipsec.FlowRequire)
			for k := range f {
				f[k].Flow.ID = ipsec.FlowName(fmt.Sprint(i), f[k].Flow.Dir)
			}
			return f
		}
		var all []ipsec.FlowChange
		for i := range n {
			all = append(all, pair(i)...)
		}
		must(t, p.ApplyFlows(ctx, all))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := n; i < n+step; i++ {
			f := pair(i)
			must(t, p.ApplyFlows(ctx, f))
			gone := []ipsec.FlowChange{{Remove: true, Flow: f[0].Flow}, {Remove: true, Flow: f[1].Flow}}
			must(t, p.ApplyFlows(ctx, append(gone, f...)))
			must(t, p.ApplyFlows(ctx, gone))
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / step
	}
	small, large := cost(100), cost(50_000)
	t.Logf("bytes to add, change and remove a pair of flows: %d among 100, %d among 50 000", small, large)
	if large > 3*small+8192 {
		t.Errorf("adding, changing and removing a pair of flows takes %d bytes among 50 000, %d among 100", large, small)
	}
}
