package planetest

import (
	"bytes"
	"slices"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// manual makes one direction live with SAs that name no flow, as a person does
// who types SAs and flows in any order. There is no replay protection: a restart
// begins with the same keys and the same numbers.
func manual(t *testing.T, from, to *Site, spi ipsec.SPI) ipsec.SAID {
	t.Helper()
	sa := newSA(from, to, spi, suite{cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1}, nets4)
	sa.Flow, sa.Owner, sa.Replay, sa.Conn = "", ipsec.OwnerManual, 0, ""
	rx := *sa
	rx.ID.Dir = ipsec.In
	must(t, to.Backend.AddSA(ctx, &rx))
	must(t, from.Backend.AddSA(ctx, sa))
	return sa.ID
}

func byHand(t *testing.T, h *Harness) {
	pkt := packet(host(nets4.a), host(nets4.b), 1)
	uses := func(id ipsec.SAID, want uint64) {
		t.Helper()
		st, err := h.A.Backend.GetSA(ctx, id)
		must(t, err)
		if st.Packets != want {
			t.Fatalf("%s has %d packets, want %d", id, st.Packets, want)
		}
	}
	first := manual(t, h.A, h.B, 0x1001) // before there is a flow
	mine, theirs := flows(h.A, h.B, nets4, ipsec.OwnerManual), flows(h.B, h.A, nets4, ipsec.OwnerManual)
	must(t, h.A.Backend.ApplyFlows(ctx, mine))
	must(t, h.B.Backend.ApplyFlows(ctx, theirs))
	passes(t, h.A, h.B, pkt)
	uses(first, 1)
	second := manual(t, h.A, h.B, 0x1002)
	passes(t, h.A, h.B, pkt)
	uses(second, 1)
	must(t, h.A.Backend.DeleteSA(ctx, second))
	passes(t, h.A, h.B, pkt)
	uses(first, 2)
	// The flow comes anew, and finds the SA.
	must(t, h.A.Backend.ApplyFlows(ctx, []ipsec.FlowChange{{Remove: true, Flow: mine[0].Flow}}))
	must(t, h.A.Backend.ApplyFlows(ctx, mine[:1]))
	passes(t, h.A, h.B, pkt)
	uses(first, 3)
	// An SA of another owner serves none of them.
	other := newSA(h.A, h.B, 0x1003, gcm, nets4)
	other.Flow = ""
	must(t, h.A.Backend.AddSA(ctx, other))
	passes(t, h.A, h.B, pkt)
	uses(first, 4)
	must(t, h.A.Backend.DeleteSA(ctx, first))
	h.A.Put(pkt)
	nothing(t, h.B)
}

func keys(t *testing.T, h *Harness) {
	id := manual(t, h.A, h.B, 0x1001)
	for _, want := range []bool{false, true} {
		st, err := h.A.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerManual, Keys: want})
		must(t, err)
		if len(st.SAs) != 1 || st.SAs[0].SA.ID != id {
			t.Fatalf("%d SAs", len(st.SAs))
		}
		sa := st.SAs[0].SA
		if got := bytes.Equal(sa.Key, pattern(16, 0x01)) && len(sa.AuthKey) == 20; got != want || !want && len(sa.Key)+len(sa.AuthKey)+len(sa.Salt) > 0 {
			t.Errorf("asked for keys %t: %d and %d bytes", want, len(sa.Key), len(sa.AuthKey))
		}
	}
	st, err := h.A.Backend.GetSA(ctx, id)
	must(t, err)
	if len(st.SA.Key)+len(st.SA.AuthKey) > 0 {
		t.Error("GetSA shows keys")
	}
}

func switches(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	connect(t, h.A, h.B, gcm, nets4)
	pkt := packet(host(nets4.a), host(nets4.b), 1)
	passes(t, h.A, h.B, pkt)
	for _, s := range []*Site{h.A, h.B} {
		must(t, s.Backend.Enable(ctx, ipsec.ProtoESP, false))
		h.A.Put(pkt)
		nothing(t, h.B)
		st, err := s.Backend.Dump(ctx, dataplane.Query{})
		must(t, err)
		if !slices.Contains(st.Off, ipsec.ProtoESP) || len(st.SAs) != 1 || !s.Coarse && st.SAs[0].Drops[ipsec.DropDisabled] != 1 {
			t.Errorf("%v is off, %d SAs, drops %v", st.Off, len(st.SAs), st.SAs)
		}
		must(t, s.Backend.Enable(ctx, ipsec.ProtoESP, true))
		passes(t, h.A, h.B, pkt)
	}
}
