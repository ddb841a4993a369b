package ipsecd

import (
	"testing"
	"testing/synctest"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// heard are the events that came to a client so far.
func heard(c *Client) (all []dataplane.Event) {
	synctest.Wait()
	for {
		select {
		case e := <-c.Events():
			all = append(all, e)
			synctest.Wait()
		default:
			return all
		}
	}
}

// What one client takes away the others hear of, and it itself does not.
func TestWhatOthersTookAwayIsTold(t *testing.T) {
	inRoom(t, noPlane, func(t *testing.T, r *room) {
		km, tool, deaf := r.client(AllEvents), r.client(Expiries), r.client(Acquires|Mappings)
		defer km.Close()
		defer tool.Close()
		defer deaf.Close()
		one, two := someSA(0x1001), someSA(0x1002)
		two.Owner = ipsec.OwnerManual
		must(t, km.AddSA(ctx, one))
		must(t, km.AddSA(ctx, two))
		flow := ipsec.Flow{ID: "f/out", Selector: one.Selector}
		must(t, km.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: flow}}))
		if got := append(heard(km), heard(tool)...); len(got) > 0 {
			t.Fatalf("what is new was told as gone: %v", got)
		}

		must(t, tool.DeleteSA(ctx, one.ID))
		if err := tool.DeleteSA(ctx, one.ID); err == nil {
			t.Error("an SA was deleted twice")
		}
		if got := heard(km); len(got) != 1 || got[0] != (dataplane.Expire{SA: one.ID, Hard: true}) {
			t.Errorf("after a deletion: %v", got)
		}
		must(t, tool.ApplyFlows(ctx, []ipsec.FlowChange{{Remove: true, Flow: flow}, {Flow: flow}}))
		if got := heard(km); len(got) > 0 {
			t.Errorf("after a flow has changed: %v", got)
		}
		must(t, tool.ApplyFlows(ctx, []ipsec.FlowChange{{Remove: true, Flow: flow}}))
		if got := heard(km); len(got) != 1 || got[0] != (dataplane.Lost{}) {
			t.Errorf("after a flow was removed: %v", got)
		}
		must(t, tool.Flush(ctx, ipsec.OwnerManual))
		if got := heard(km); len(got) != 2 || got[0] != (dataplane.Expire{SA: two.ID, Hard: true}) || got[1] != (dataplane.Lost{}) {
			t.Errorf("after a flush: %v", got)
		}
		if got := append(heard(tool), heard(deaf)...); len(got) > 0 {
			t.Errorf("told to those who did it or do not want to know: %v", got)
		}
	})
}

// A flush of very many is told as one.
func TestAFlushOfManyFillsNoQueue(t *testing.T) {
	inRoom(t, noPlane, func(t *testing.T, r *room) {
		km, tool := r.client(AllEvents), r.client(NoEvents)
		defer km.Close()
		defer tool.Close()
		for i := range maxGone + 1 {
			must(t, r.b.AddSA(ctx, someSA(ipsec.SPI(0x1000+i))))
		}
		must(t, tool.Flush(ctx, ipsec.OwnerAny))
		if got := heard(km); len(got) != 1 || got[0] != (dataplane.Lost{}) {
			t.Errorf("%d events", len(got))
		}
	})
}
