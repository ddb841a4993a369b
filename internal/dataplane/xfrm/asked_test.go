package xfrm

import (
	"path/filepath"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// TestRealAskedBefore: what the kernel has asked the last process, and was not
// answered, it asks the next one: else it would wait for minutes.
func TestRealAskedBefore(t *testing.T) {
	b := newBare(t)
	path := filepath.Join(t.TempDir(), "journal")
	all := append(tunnel("c", netA, netB, ipsec.FlowRequire), tunnel("perhaps", netA, netOf("10.3.0.9"), ipsec.FlowAcquire)...)
	for _, o := range []Options{{Journal: path}, {Journal: path, Hold: true}} {
		p := b.plane(o)
		must(t, p.Flush(ctx, ipsec.OwnerAny))
		must(t, p.ApplyFlows(ctx, all))
		for range 2 {
			for _, to := range []string{"10.2.0.9", "10.3.0.9"} {
				b.send(to)
				if a := next[dataplane.Acquire](t, p); a.Packet.Dst.Addr().String() != to {
					t.Errorf("%+v, want one about %s", a, to)
				}
			}
			p.Close()
			p = b.plane(o)
		}
		p.Close()
	}
}
