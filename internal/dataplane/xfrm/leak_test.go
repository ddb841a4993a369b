package xfrm

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// TestNothingIsLeft: a plane that is closed, or that could not be opened, leaves
// no goroutine and no descriptor behind.
func TestNothingIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	count := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(all)
	}
	path := filepath.Join(t.TempDir(), "journal")
	life := func() {
		k := newFake()
		p, err := New(Options{Abilities: all(), kernel: k, noPort: true, AnySource: true, Journal: path})
		must(t, err)
		watch, end := context.WithCancel(ctx)
		_, err = p.Monitor(watch)
		must(t, err)
		must(t, p.Flush(ctx, ipsec.OwnerAny)) // what the last one kept
		must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
		must(t, p.AddSA(ctx, espOut("c", 0x1001)))
		k.acquire(ipsec.Selector{Src: netA, Dst: netB})
		if _, err := New(Options{Abilities: all(), kernel: newFake(), noPort: true, Journal: path}); err == nil {
			t.Error("two planes have one journal")
		}
		if _, err := New(Options{Abilities: all(), kernel: newFake(), noPort: true, NoIPv4: true, NoIPv6: true}); err == nil {
			t.Error("a plane of no family")
		}
		p.Close()
		if _, err := p.Monitor(ctx); err == nil {
			t.Error("a closed plane is watched")
		}
		end()
	}
	life()
	before := count()
	for range 5 {
		life()
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, before there were %d", after, before)
	}
}

// FuzzJournal: whatever is in the file, the plane starts, and agrees with the
// kernel.
func FuzzJournal(f *testing.F) {
	k, path := newFake(), filepath.Join(f.TempDir(), "journal")
	p := planeOn(f, k, func(o *Options) { o.Journal = path })
	if err := aLifeBegun(p); err != nil {
		f.Fatal(err)
	}
	p.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}\n{\"Off\":[50]}\n"))
	var sas, policies [][]byte
	for _, w := range k.sas {
		sas = append(sas, w.Append(nil))
	}
	for _, w := range k.policies {
		policies = append(policies, w.Append(nil))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 {
			return
		}
		k, path := newFake(), filepath.Join(t.TempDir(), "journal")
		for _, b := range sas {
			must(t, k.as(othersPID, wire.NewSA, b))
		}
		for _, b := range policies {
			must(t, k.as(othersPID, wire.NewPolicy, b))
		}
		must(t, os.WriteFile(path, text, 0o600))
		p := planeOn(t, k, func(o *Options) { o.Journal, o.Log = path, slog.New(slog.DiscardHandler) })
		if err := agrees(p, k); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Dump(ctx, dataplane.Query{Keys: true}); err != nil {
			t.Fatal(err)
		}
		must(t, p.Flush(ctx, ipsec.OwnerAny))
		if sas, policies := k.count(); sas+policies != 0 {
			t.Fatalf("%d SAs and %d policies are left", sas, policies)
		}
	})
}

// aLifeBegun puts something of each kind into the kernel.
func aLifeBegun(p *Plane) error {
	for _, step := range []func() error{
		func() error { return p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)) },
		func() error { return p.AddSA(ctx, espOut("c", 0x1001)) },
		func() error { return p.AddSA(ctx, espIn("c", 0x2001)) },
		func() error {
			sa := espOut("m", 0x3001)
			sa.Flow, sa.Owner, sa.Bundle = "", ipsec.OwnerManual, ipsec.Place{ID: 3, Index: 0, Of: 2}
			return p.AddSA(ctx, sa)
		},
		func() error { return p.Enable(ctx, ipsec.ProtoIPComp, false) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
