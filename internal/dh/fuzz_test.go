package dh

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"oakley/internal/doi"
)

// FuzzPublic: whatever a peer sends, Check and Shared agree, do not panic, and
// a secret comes only of a checked value.
func FuzzPublic(f *testing.F) {
	pairs := map[doi.Group]*Private{}
	for _, g := range inOrder() {
		if g.PublicLen() > 256 {
			continue // the same code as group 14, slower
		}
		p := mustGenerate(f, g, rand.Reader)
		pairs[g.ID()] = p
		f.Add(uint16(g.ID()), p.Public())
		f.Add(uint16(g.ID()), make([]byte, g.PublicLen()))
	}
	f.Fuzz(func(t *testing.T, id uint16, public []byte) {
		p, ok := pairs[doi.Group(id)]
		if !ok {
			return
		}
		g := p.Group()
		err := g.Check(public)
		s, err2 := p.Shared(public)
		if (err == nil) != (err2 == nil) || (s == nil) != (err2 != nil) {
			t.Fatalf("%v: Check says %v, Shared %v", g, err, err2)
		}
		var pe *PublicError
		if err != nil && !errors.As(err, &pe) {
			t.Fatalf("%v: %v is no *PublicError", g, err)
		}
	})
}

func BenchmarkGenerate(b *testing.B) {
	for _, g := range inOrder() {
		b.Run(fmt.Sprint(uint16(g.ID())), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustGenerate(b, g, rand.Reader)
			}
		})
	}
}

func BenchmarkShared(b *testing.B) {
	for _, g := range inOrder() {
		b.Run(fmt.Sprint(uint16(g.ID())), func(b *testing.B) {
			x, y := mustGenerate(b, g, rand.Reader), mustGenerate(b, g, rand.Reader)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.Shared(y.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
