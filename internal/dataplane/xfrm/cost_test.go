package xfrm

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"oakley/internal/ipsec"
)

// TestManyPolicies: what a flow costs on this machine's own kernel.
func TestManyPolicies(t *testing.T) {
	const tunnels = 5000
	b := newBare(t)
	p := b.plane(Options{Journal: filepath.Join(t.TempDir(), "journal")})
	began := time.Now()
	for i := range tunnels {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24)
		must(t, p.ApplyFlows(ctx, tunnel(fmt.Sprint("c", i), netA, dst, ipsec.FlowRequire)))
	}
	came := time.Since(began)
	began = time.Now()
	must(t, p.Flush(ctx, ipsec.OwnerAny))
	t.Logf("%d policies a second come, %d go", int(3*tunnels/came.Seconds()), int(3*tunnels/time.Since(began).Seconds()))
}
