package xfrm

import (
	"net/netip"
	"path/filepath"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// TestLeftAlone: groups and links are no business of a flow that merely contains
// them, unless somebody says so.
func TestLeftAlone(t *testing.T) {
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	groups := netip.MustParsePrefix("224.0.0.0/4")
	for _, c := range []struct {
		src, dst netip.Prefix
		typ      ipsec.FlowType
		want     int // policies
	}{
		{all4, all4, ipsec.FlowRequire, 15},
		{netA, all4, ipsec.FlowRequire, 8},
		{netA, netip.MustParsePrefix("224.0.0.0/3"), ipsec.FlowDeny, 5},
		{netA, groups, ipsec.FlowRequire, 3}, // just these are meant
		{netA, netB, ipsec.FlowRequire, 3},
		{all4, all4, ipsec.FlowBypass, 3},
		{all6, all6, ipsec.FlowDontAcq, 18},
		{netip.MustParsePrefix("fd00::/8"), all6, ipsec.FlowUse, 13},
		{netip.MustParsePrefix("fd01::1/128"), netip.MustParsePrefix("fd02::1/128"), ipsec.FlowRequire, 9},
		{netip.MustParsePrefix("fd01::/64"), netip.MustParsePrefix("fd02::/64"), ipsec.FlowRequire, 3},
	} {
		k, path := newFake(), filepath.Join(t.TempDir(), "journal")
		p, _ := keeping(t, k, path)
		flows := tunnel("c", c.src, c.dst, c.typ)
		must(t, p.ApplyFlows(ctx, flows))
		if _, n := k.count(); n != c.want {
			t.Errorf("%s to %s: %d policies, want %d", c.src, c.dst, n, c.want)
		}
		for _, w := range k.policies {
			if (w.Sel.Proto == icmp6) != (w.Sel.SrcPort == neighbourSolicitation || w.Sel.SrcPort == neighbourAdvert) {
				t.Errorf("left alone is %+v", w.Sel)
			}
		}
		if st, err := p.Dump(ctx, dataplane.Query{}); err != nil || len(st.Flows) != 2 {
			t.Errorf("%d flows are listed, %v; want two", len(st.Flows), err)
		}
		var own *wire.Policy
		for _, w := range k.policies {
			if w.Dir == wire.DirOut && w.Sel.Src == c.src && w.Sel.Dst == c.dst && w.Sel.Proto == 0 {
				own = w
			}
		}
		for _, w := range k.policies {
			if w.Dir == wire.DirOut && w != own && (w.Action != wire.Allow || len(w.Templates) > 0 || w.Priority >= own.Priority) {
				t.Errorf("what is left alone is %+v beside %+v", w, own)
			}
		}
		p.Close()
		p, _ = keeping(t, k, path)
		if _, n := k.count(); n != c.want {
			t.Errorf("%s to %s, taken over: %d policies, want %d", c.src, c.dst, n, c.want)
		}
		must(t, p.ApplyFlows(ctx, gone(flows)))
		if sas, n := k.count(); sas+n != 0 {
			t.Errorf("%d policies are left", n)
		}
	}

	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("large", all4, all4, ipsec.FlowRequire)))
	said := tunnel("said", all4, groups, ipsec.FlowDeny)
	must(t, p.ApplyFlows(ctx, said))
	if w := k.policy(wire.DirOut, groups.String()); w.Action != wire.Block {
		t.Errorf("a flow of groups alone is %+v, want what it says", w)
	}
	must(t, p.ApplyFlows(ctx, gone(said)))
	if w := k.policy(wire.DirOut, groups.String()); w == nil || w.Action != wire.Allow {
		t.Errorf("when it is gone: %+v", w)
	}
}
