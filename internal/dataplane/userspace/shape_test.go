package userspace_test

import (
	"testing"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
)

// A flow of one protocol is another shape of filter than one of all: clear text
// of that protocol alone is refused, whichever shapes come and go beside it.
func TestClearTextOfOneProtocolIsRefused(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		a, icmp := &n.V4, uint8(1)
		if v6 {
			a, icmp = &n.V6, 58
		}
		west := open(t, n.Slippery, userspace.Options{})
		flow := func(id ipsec.FlowID, proto uint8, port uint16) ipsec.FlowChange {
			f := between(a.NetCarefull, a.NetBadplants, a.Slippery, a.Ragweed, ipsec.FlowRequire)[1]
			f.Flow.ID, f.Flow.Selector.Proto, f.Flow.Selector.DstPort = id, proto, port
			return f
		}
		gone := func(id ipsec.FlowID) []ipsec.FlowChange {
			return []ipsec.FlowChange{{Remove: true, Flow: ipsec.Flow{ID: id}}}
		}
		must(t, west.ApplyFlows(ctx, []ipsec.FlowChange{flow("web/in", 6, 80)}))
		answers(t, n.Dandelion, a.Icy, "beside a flow of one port")
		must(t, west.ApplyFlows(ctx, []ipsec.FlowChange{flow("ping/in", icmp, 0)}))
		must(t, west.ApplyFlows(ctx, []ipsec.FlowChange{flow("again/in", icmp, 0)}))
		silent(t, n.Dandelion, a.Icy, "a flow of the pings' protocol")
		must(t, west.ApplyFlows(ctx, gone("ping/in")))
		silent(t, n.Dandelion, a.Icy, "another flow with the same selector")
		must(t, west.ApplyFlows(ctx, gone("again/in")))
		answers(t, n.Dandelion, a.Icy, "after both went")
	}
}
