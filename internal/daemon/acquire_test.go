package daemon

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// TestAnAcquireWaitsForThePeersQuickMode: the responder's data plane asks for an
// outgoing SA as soon as the incoming one is there, before the third message.
func TestAnAcquireWaitsForThePeersQuickMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		b := run(t, newFakeHost(hub, west.own), west.conf())
		b.plane.mu.Lock()
		b.plane.add = func(sa *ipsec.SA) error {
			if sa.ID.Dir == ipsec.In {
				b.plane.Inject(dataplane.Acquire{ID: 7, Flow: "tunnel/out"})
			}
			return nil
		}
		b.plane.mu.Unlock()
		a := run(t, newFakeHost(hub, east.own), east.conf())
		a.log.await(t, "phase 2 (quick mode) done", 1)
		b.log.await(t, "phase 2 (quick mode) done", 1)
		<-time.After(time.Minute) // of the bubble: a second one would be there
		synctest.Wait()
		for _, n := range []*node{a, b} {
			if n.log.count("phase 2 (quick mode)") != 1 || n.log.count("phase 1 (main mode)") != 1 {
				t.Errorf("one quick mode is enough:\n%s", n.log)
			}
		}
		calls := b.plane.Calls()
		last := -1
		for i, s := range calls {
			if strings.HasPrefix(s, "AddSA") {
				last = i
			}
		}
		if end := slices.Index(calls, "EndAcquire 7: <nil>"); end < last || last < 0 {
			t.Errorf("the acquire was not answered after its SAs: %v", calls)
		}
		a.end(t)
		b.end(t)
	})
}
