package dh

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"

	"oakley/internal/doi"
)

// TestBothSidesAgree: two key pairs of every group make one secret of the
// length that the RFC wants.
func TestBothSidesAgree(t *testing.T) {
	for id := range groups {
		g, err := Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(g.String(), func(t *testing.T) {
			a, err := g.Generate(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			b, err := g.Generate(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Public()) != g.PublicLen() || bytes.Equal(a.Public(), b.Public()) {
				t.Fatalf("public values %x and %x", a.Public(), b.Public())
			}
			s1, err := a.Shared(b.Public())
			if err != nil {
				t.Fatal(err)
			}
			s2, err := b.Shared(a.Public())
			if err != nil {
				t.Fatal(err)
			}
			want := g.PublicLen()
			if _, modp := g.arithmetic.(*modp); !modp && id != doi.GroupCurve25519 {
				want /= 2
			}
			if !bytes.Equal(s1, s2) || len(s1) != want {
				t.Fatalf("%x and %x", s1, s2)
			}
		})
	}
}

func BenchmarkGenerate(b *testing.B) {
	for _, g := range inOrder() {
		b.Run(fmt.Sprint(uint16(g.id)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Generate(rand.Reader); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkShared(b *testing.B) {
	for _, g := range inOrder() {
		b.Run(fmt.Sprint(uint16(g.id)), func(b *testing.B) {
			x, _ := g.Generate(rand.Reader)
			y, _ := g.Generate(rand.Reader)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.Shared(y.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func inOrder() []*Group {
	var all []*Group
	for id := doi.Group(0); id < 64; id++ {
		if g, err := Lookup(id); err == nil {
			all = append(all, g)
		}
	}
	return all
}
