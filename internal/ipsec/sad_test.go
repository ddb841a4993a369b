package ipsec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

type testSA struct{ _ byte }

func sadAddr(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 0x0a000000+uint32(i))
	return netip.AddrFrom4(b)
}

// fillSAD puts n SAs in, with the SPIs that two thousand peers would choose.
func fillSAD(t testing.TB, s *SAD[testSA], n int) {
	t.Helper()
	for i := range n {
		if err := s.Insert(sadAddr(i%2000), ProtoESP, sadSPI(i), &testSA{}); err != nil {
			t.Fatal(err)
		}
	}
}

func sadSPI(i int) SPI { return SPI(256 + uint32(i)*2654435761>>4) }

func TestSADAgainstMap(t *testing.T) {
	type key struct {
		dst   netip.Addr
		proto Proto
		spi   SPI
	}
	rapid.Check(t, func(t *rapid.T) {
		var s SAD[testSA]
		want := map[key]*testSA{}
		keys := rapid.Custom(func(t *rapid.T) key {
			return key{
				sadAddr(rapid.IntRange(0, 2).Draw(t, "dst")),
				rapid.SampledFrom([]Proto{ProtoESP, ProtoAH}).Draw(t, "proto"),
				SPI(rapid.Uint32Range(256, 300).Draw(t, "spi")),
			}
		})
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			k := keys.Draw(t, "key")
			if rapid.Bool().Draw(t, "insert") {
				v := &testSA{}
				err := s.Insert(k.dst, k.proto, k.spi, v)
				if (want[k] != nil) != errors.Is(err, ErrSAExists) {
					t.Fatalf("insert %v: %v, there before: %v", k, err, want[k] != nil)
				}
				if err == nil {
					want[k] = v
				}
			} else {
				if got := s.Delete(k.dst, k.proto, k.spi); got != want[k] {
					t.Fatalf("delete %v: %p, want %p", k, got, want[k])
				}
				delete(want, k)
			}
			if s.Len() != len(want) {
				t.Fatalf("%d SAs, want %d", s.Len(), len(want))
			}
			k = keys.Draw(t, "asked")
			if got := s.Lookup(k.dst, k.proto, k.spi); got != want[k] {
				t.Fatalf("lookup %v: %p, want %p", k, got, want[k])
			}
		}
		n := 0
		for range s.All() {
			n++
		}
		if n != len(want) {
			t.Fatalf("All has %d, want %d", n, len(want))
		}
	})
}

// A rekey is an insertion and a deletion. The table is written anew now and
// then, which is amortised over at least a quarter of its slots: the mean is
// taken over as many rekeys as there are SAs.
func TestSADRekeyCostsTheSameAtEverySize(t *testing.T) {
	cost := func(n int) uint64 {
		var s SAD[testSA]
		fillSAD(t, &s, n)
		return allocated(func() {
			for i := range n {
				if err := s.Insert(sadAddr(i%2000), ProtoESP, sadSPI(n+i), &testSA{}); err != nil {
					t.Fatal(err)
				}
				if s.Delete(sadAddr(i%2000), ProtoESP, sadSPI(i)) == nil {
					t.Fatal("an SA was not there")
				}
			}
		}) / uint64(n)
	}
	small, large := cost(100), cost(100_000)
	t.Logf("bytes for a rekey: %d at 100, %d at 100 000", small, large)
	if large > 2*small+128 {
		t.Fatalf("a rekey takes %d bytes at 100 000, %d at 100", large, small)
	}
}

func BenchmarkSADLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s SAD[testSA]
			fillSAD(b, &s, n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				k := i * 7919 % n
				if s.Lookup(sadAddr(k%2000), ProtoESP, sadSPI(k)) == nil {
					b.Fatal("nothing found")
				}
			}
		})
	}
}

func BenchmarkSADRekey(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s SAD[testSA]
			fillSAD(b, &s, n)
			v := &testSA{}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if s.Insert(sadAddr(3000), ProtoESP, SPI(i+256), v) != nil || s.Delete(sadAddr(3000), ProtoESP, SPI(i+256)) != v {
					b.Fatal("refused")
				}
			}
		})
	}
}
