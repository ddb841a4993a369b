package planetest

import (
	"context"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// incoming is an SA that A accepts packets with.
func incoming(h *Harness, spi ipsec.SPI) *ipsec.SA {
	sa := newSA(h.B, h.A, spi, gcm, nets4)
	sa.ID.Dir, sa.Flow = ipsec.In, "c/in"
	return sa
}

// limits: an SA has the lifetimes that it was given last.
func limits(t *testing.T, h *Harness) {
	b := h.A.Backend
	must(t, b.ApplyFlows(ctx, flows(h.A, h.B, nets4, ipsec.OwnerIKE)))
	sa := incoming(h, 0x1001)
	sa.Soft, sa.Hard = ipsec.Lifetime{Time: time.Hour, Bytes: 1 << 20}, ipsec.Lifetime{Time: 2 * time.Hour, Bytes: 1 << 21}
	must(t, b.AddSA(ctx, sa))
	is := func(soft, hard ipsec.Lifetime) {
		t.Helper()
		st, err := b.GetSA(ctx, sa.ID)
		must(t, err)
		if st.SA.Soft != soft || st.SA.Hard != hard || st.Added.IsZero() {
			t.Errorf("soft %v, hard %v, added %v; want %v and %v", st.SA.Soft, st.SA.Hard, st.Added, soft, hard)
		}
	}
	is(sa.Soft, sa.Hard)
	soft, hard := ipsec.Lifetime{Time: 3 * time.Hour}, ipsec.Lifetime{Time: 4 * time.Hour, Bytes: 1 << 30}
	must(t, b.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Hard: &hard}))
	is(sa.Soft, hard)
	must(t, b.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Soft: &soft, Hard: &hard}))
	is(soft, hard)
	other := sa.ID
	other.SPI++
	wantErr(t, "changing an SA that is not there", b.UpdateSA(ctx, other, ipsec.SAUpdate{Hard: &hard}), dataplane.ErrNoSA)
}

// changed: a flow that is removed and added in one call is another one, and keeps
// its SAs; one that is there is not added again.
func changed(t *testing.T, h *Harness) {
	b := h.A.Backend
	all := flows(h.A, h.B, nets4, ipsec.OwnerIKE)
	must(t, b.ApplyFlows(ctx, all))
	sa := incoming(h, 0x1001)
	must(t, b.AddSA(ctx, sa))
	wantErr(t, "adding a flow that is there", b.ApplyFlows(ctx, all[1:]), dataplane.ErrExists)
	next := all[1]
	next.Flow.Type, next.Flow.Conn = ipsec.FlowUse, "another"
	must(t, b.ApplyFlows(ctx, []ipsec.FlowChange{{Remove: true, Flow: all[1].Flow}, next}))
	st, err := b.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerIKE})
	must(t, err)
	if len(st.Flows) != 2 || len(st.SAs) != 1 || st.SAs[0].SA.ID != sa.ID {
		t.Fatalf("%d flows and %d SAs, want two and the one", len(st.Flows), len(st.SAs))
	}
	for _, f := range st.Flows {
		if f.ID == next.Flow.ID && f != next.Flow {
			t.Errorf("the flow is %+v, want %+v", f, next.Flow)
		}
	}
}

// asked: a dump has what it is asked for, and no more.
func asked(t *testing.T, h *Harness) {
	b := h.A.Backend
	must(t, b.ApplyFlows(ctx, flows(h.A, h.B, nets4, ipsec.OwnerIKE)))
	must(t, b.AddSA(ctx, incoming(h, 0x1001)))
	for _, c := range []struct {
		q          dataplane.Query
		sas, flows int
	}{
		{dataplane.Query{}, 1, 2},
		{dataplane.Query{Only: dataplane.SAs}, 1, 0},
		{dataplane.Query{Only: dataplane.Flows}, 0, 2},
		{dataplane.Query{Owner: ipsec.OwnerIKE}, 1, 2},
		{dataplane.Query{Owner: ipsec.OwnerManual}, 0, 0},
	} {
		st, err := b.Dump(ctx, c.q)
		must(t, err)
		if len(st.SAs) != c.sas || len(st.Flows) != c.flows {
			t.Errorf("%+v: %d SAs and %d flows, want %d and %d", c.q, len(st.SAs), len(st.Flows), c.sas, c.flows)
		}
	}
	total, err := b.Totals(ctx)
	must(t, err)
	if total.Since.IsZero() || time.Since(total.Since) > 24*time.Hour {
		t.Errorf("it sums up since %v", total.Since)
	}
}

// late: a call whose context is over changes nothing.
func late(t *testing.T, h *Harness) {
	b := h.A.Backend
	must(t, b.ApplyFlows(ctx, flows(h.A, h.B, nets4, ipsec.OwnerIKE)))
	over, end := context.WithCancel(ctx)
	end()
	_, spi := b.AllocSPI(over, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: h.B.Addr, Dst: h.A.Addr})
	for what, err := range map[string]error{
		"AllocSPI": spi, "AddSA": b.AddSA(over, incoming(h, 0x1001)), "Flush": b.Flush(over, ipsec.OwnerAny),
		"ApplyFlows": b.ApplyFlows(over, []ipsec.FlowChange{{Remove: true, Flow: ipsec.Flow{ID: "c/out"}}}),
	} {
		wantErr(t, what, err, context.Canceled)
	}
	st, err := b.Dump(ctx, dataplane.Query{})
	must(t, err)
	if len(st.SAs) != 0 || len(st.Flows) != 2 {
		t.Errorf("%d SAs and %d flows, want none and two", len(st.SAs), len(st.Flows))
	}
}
