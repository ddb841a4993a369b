package xfrm

import (
	"net/netip"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// In a bundle the kernel asks every SA whether it may carry the packet that is the
// innermost, though all but the first carry what another one has made.
func TestSelectorsInABundle(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	own := ipsec.Selector{Src: netip.PrefixFrom(gw2, 32), Dst: netip.PrefixFrom(gw1, 32)}
	inner, outer := espIn("c", 0x2001), espIn("c", 0x2002)
	outer.Mode, outer.Selector = ipsec.Transport, own
	must(t, p.AddSA(ctx, inner))
	must(t, p.AddSA(ctx, outer))
	kernels := func(id ipsec.SAID) wire.Selector {
		t.Helper()
		w, err := p.fetch(p.book.sas[id])
		must(t, err)
		return w.Sel
	}
	if s := selectorFrom(ptr(kernels(outer.ID))); s.Src != own.Src || s.Dst != own.Dst {
		t.Errorf("alone it carries %v", s)
	}
	for i, sa := range []*ipsec.SA{inner, outer} {
		must(t, p.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Bundle: &ipsec.Place{ID: 1, Index: uint8(i), Of: 2}}))
	}
	if s := kernels(outer.ID); s.Src.Bits() > 0 || s.Dst.Bits() > 0 {
		t.Errorf("the second of a bundle carries %v alone", s)
	}
	st, err := p.Dump(ctx, dataplane.Query{})
	must(t, err)
	for _, s := range st.SAs {
		if s.SA.ID == outer.ID && s.SA.Selector != own {
			t.Errorf("it shows as one of %v", s.SA.Selector)
		}
	}
}

// The kernel puts a type and a code where an ICMP packet has no ports.
func TestAcquiresWithoutPorts(t *testing.T) {
	f := &flowEntry{Flow: tunnel("c", netA, netB, ipsec.FlowRequire)[0].Flow}
	for proto, want := range map[uint8]uint16{1: 0, 6: 9100, 17: 9100, 58: 0, 47: 0} {
		k := newFake()
		p := planeOn(t, k, nil)
		must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
		p.mu.Lock()
		p.wanted(p.book.flows[f.ID], larva{}, wire.Selector{Proto: proto, DstPort: 9100, DstMask: 0xffff})
		p.mu.Unlock()
		if e, ok := (<-p.Events()).(dataplane.Acquire); !ok || e.Packet.DstPort != want {
			t.Errorf("protocol %d: %+v", proto, e)
		}
	}
}

func ptr[T any](v T) *T { return &v }
