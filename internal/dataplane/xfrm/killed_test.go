package xfrm

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// killed is what a kernel in memory says to a process that is dead.
type killed struct{}

// aLife is what a process does to the kernel between its start and its end.
func aLife(p *Plane) error {
	there, elsewhere := netip.MustParsePrefix("10.8.0.0/24"), netip.MustParsePrefix("10.9.0.0/24")
	moved := netip.MustParseAddrPort("198.51.100.7:3000")
	udp := espOut("c", 0x1002)
	udp.ID.Port, udp.Encap = 4500, &ipsec.Encap{Local: netip.AddrPortFrom(gw1, 4500), Remote: netip.AddrPortFrom(gw2, 4500)}
	pair := func(i uint8) *ipsec.SA {
		sa := espOut("use", 0x3000+ipsec.SPI(i))
		sa.Bundle = ipsec.Place{ID: 9, Index: i, Of: 2}
		return sa
	}
	single := pair(0)
	single.ID.SPI, single.Bundle = 0x3005, ipsec.Place{}
	for _, step := range []func() error{
		func() error { return p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)) },
		func() error { return p.AddSA(ctx, espIn("c", 0x2001)) },
		func() error { return p.AddSA(ctx, espOut("c", 0x1001)) },
		func() error { return p.ApplyFlows(ctx, tunnel("use", netA, there, ipsec.FlowUse)) },
		func() error { return p.AddSA(ctx, single) },
		func() error { return p.AddSA(ctx, pair(0)) },
		func() error { return p.AddSA(ctx, pair(1)) },
		func() error { return p.AddSA(ctx, udp) },
		func() error { return p.UpdateSA(ctx, udp.ID, ipsec.SAUpdate{Remote: &moved}) },
		func() error {
			return p.UpdateSA(ctx, single.ID, ipsec.SAUpdate{Bundle: &ipsec.Place{ID: 10, Index: 0, Of: 2}})
		},
		func() error { return p.UpdateSA(ctx, udp.ID, ipsec.SAUpdate{Hard: &ipsec.Lifetime{Bytes: 7}}) },
		func() error {
			return p.ApplyFlows(ctx, append(gone(tunnel("use", netA, there, ipsec.FlowUse)), tunnel("more", netA, elsewhere, ipsec.FlowDeny)...))
		},
		func() error { return p.Enable(ctx, ipsec.ProtoESP, false) },
		func() error { return p.DeleteSA(ctx, espOut("c", 0x1001).ID) },
		func() error { return p.Flush(ctx, ipsec.OwnerIKE) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// live runs it until the process is killed at request n; false: it came to its
// end before.
func live(t *testing.T, k *fake, p *Plane, n int) (dead bool) {
	t.Helper()
	defer func() {
		if _, dead = recover().(killed); dead {
			p.journal.close() // as the kernel does
		}
	}()
	k.refuse = func(wire.Type, []byte) error {
		if n--; n < 0 {
			panic(killed{})
		}
		return nil
	}
	if err := aLife(p); err != nil {
		t.Fatal(err)
	}
	return false
}

// agrees tells whether book and kernel say the same.
func agrees(p *Plane, k *fake) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, w := range k.sas {
		e := p.book.keys[key]
		if e == nil || e.reqid != w.ReqID {
			return fmt.Errorf("the kernel has an SA %v that nobody knows", key)
		}
	}
	if len(k.sas) != len(p.book.sas) || len(k.sas) != len(p.book.keys) {
		return fmt.Errorf("%d SAs in the kernel, %d in the book", len(k.sas), len(p.book.sas))
	}
	found := 0
	for _, w := range k.policies {
		g := p.book.policies[w.Index]
		if g == nil {
			return fmt.Errorf("the kernel has a policy %s %s that nobody knows", w.Dir, w.Sel.Dst)
		}
		want := p.desired(g)[w.Dir]
		if want == nil || !samePolicy(w, want) {
			return fmt.Errorf("policy %s %s is %+v, want %+v", w.Dir, w.Sel.Dst, w, want)
		}
		found++
	}
	for _, g := range p.book.groups {
		for _, want := range p.desired(g) {
			if want != nil {
				found--
			}
		}
	}
	if found != 0 {
		return fmt.Errorf("%d policies are missing or double", found)
	}
	return nil
}

// TestKilledAnywhere: whatever request to the kernel was the last one, the next
// process and the kernel agree on everything, and it can go on.
func TestKilledAnywhere(t *testing.T) {
	for n := 0; ; n++ {
		k, path := newFake(), filepath.Join(t.TempDir(), "journal")
		p, _ := keeping(t, k, path)
		dead := live(t, k, p, n)
		p.Close() // its goroutines end too
		k.refuse = nil
		p, log := keeping(t, k, path)
		if err := agrees(p, k); err != nil {
			t.Fatalf("killed at request %d: %v\n%s", n, err, log)
		}
		st := len(p.book.flows)
		must(t, p.Flush(ctx, ipsec.OwnerAny))
		if sas, policies := k.count(); sas+policies != 0 {
			t.Fatalf("killed at request %d: %d SAs and %d policies are left of %d flows", n, sas, policies, st)
		}
		if err := aLife(p); err != nil {
			t.Fatalf("killed at request %d, the next one: %v", n, err)
		}
		p.Close()
		if !dead {
			if n < 30 {
				t.Errorf("a life has only %d requests", n)
			}
			t.Logf("killed at each of %d requests", n)
			return
		}
	}
}
