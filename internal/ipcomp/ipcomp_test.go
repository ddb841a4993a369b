package ipcomp

import (
	"bytes"
	"compress/flate"
	"math/rand/v2"
	"strings"
	"testing"

	"oakley/internal/ipsec"
)

var text = []byte(strings.Repeat("The quick brown fox jumps over the lazy dog. ", 30))

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	for n := range len(text) {
		var c Compressor
		out, ok := c.Compress(make([]byte, 2000), text[:n], 6, 0x1234)
		if n < threshold {
			if ok {
				t.Fatalf("%d bytes were compressed", n)
			}
			continue
		}
		if !ok {
			continue // some short ones do not shrink
		}
		if len(out) >= n {
			t.Fatalf("%d bytes became %d", n, len(out))
		}
		if next, cpi, ok := ParseHeader(out); !ok || next != 6 || cpi != 0x1234 || out[1] != 0 {
			t.Fatalf("header %x", out[:4])
		}
		out[1] = 0xff // ignored
		got, next, drop := Decompress(make([]byte, n), out)
		if drop != ipsec.DropNone || next != 6 || !bytes.Equal(got, text[:n]) {
			t.Fatalf("%d bytes: %v, %d, %q", n, drop, next, got)
		}
	}
	if out, ok := new(Compressor).Compress(make([]byte, 2000), text, 6, 1); !ok || len(out) > len(text)/4 {
		t.Errorf("%d bytes of text became %d (%t)", len(text), len(out), ok)
	}
}

// What does not shrink is sent as it is, whatever room there is.
func TestNeverLonger(t *testing.T) {
	for _, n := range []int{threshold, 500, 1400, 65000} {
		if _, ok := new(Compressor).Compress(make([]byte, 70000), noise(n), 6, 1); ok {
			t.Errorf("%d bytes of noise were compressed", n)
		}
	}
	if _, ok := new(Compressor).Compress(make([]byte, 3), text, 6, 1); ok {
		t.Error("compressed into nothing")
	}
}

// A flow that does not shrink is tried more and more seldom, and again when it
// does.
func TestRests(t *testing.T) {
	var c Compressor
	dst, bad := make([]byte, 2000), noise(1000)
	tried := func(payload []byte, n int) (k int) {
		for range n {
			before := c.skip.Load()
			c.Compress(dst, payload, 6, 1)
			if before <= 0 {
				k++
			}
		}
		return k
	}
	if k := tried(bad, tries); k != tries {
		t.Errorf("of the first %d packets %d were tried", tries, k)
	}
	if k := tried(bad, 10000); k > 20 || k < 8 {
		t.Errorf("of 10000 packets that do not shrink %d were tried", k)
	}
	tried(text, mostGap+1)
	if k := tried(text, 100); k != 100 {
		t.Errorf("of 100 packets that shrink %d were tried", k)
	}
}

// A bomb: a kilobyte that would become a megabyte.
func TestBomb(t *testing.T) {
	var b bytes.Buffer
	b.Write([]byte{6, 0, 0, 2})
	w, _ := flate.NewWriter(&b, 9)
	_, _ = w.Write(make([]byte, 1<<20))
	_ = w.Close()
	if _, _, drop := Decompress(make([]byte, 65535), b.Bytes()); drop != ipsec.DropCompression {
		t.Errorf("%d bytes: %v", b.Len(), drop)
	}
	// Exactly what there is room for is fine, one more is not.
	out, _ := new(Compressor).Compress(make([]byte, 2000), text, 6, 1)
	if _, _, drop := Decompress(make([]byte, len(text)), out); drop != ipsec.DropNone {
		t.Errorf("with just enough room: %v", drop)
	}
	if _, _, drop := Decompress(make([]byte, len(text)-1), out); drop != ipsec.DropCompression {
		t.Errorf("with a byte too few: %v", drop)
	}
}

func TestEveryPrefixIsRefused(t *testing.T) {
	out, ok := new(Compressor).Compress(make([]byte, 2000), text, 6, 1)
	if !ok {
		t.Fatal("text does not shrink")
	}
	for n := range out {
		_, _, drop := Decompress(make([]byte, 2000), out[:n])
		if n < HeaderLen && drop != ipsec.DropShort || n >= HeaderLen && drop != ipsec.DropCompression {
			t.Errorf("the first %d bytes: %v", n, drop)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	out, _ := new(Compressor).Compress(make([]byte, 2000), text, 6, 1)
	f.Add(out)
	f.Add([]byte{6, 0, 0, 2, 3, 0})
	f.Fuzz(func(t *testing.T, pkt []byte) {
		dst := make([]byte, 3000)
		if got, _, drop := Decompress(dst[:2000], pkt); drop == ipsec.DropNone && (len(got) == 0 || len(got) > 2000) {
			t.Fatalf("%d bytes", len(got))
		}
		if !bytes.Equal(dst[2000:], make([]byte, 1000)) {
			t.Fatal("wrote behind its room")
		}
		var c Compressor
		if out, ok := c.Compress(dst, pkt, 4, 2); ok {
			got, next, drop := Decompress(make([]byte, len(pkt)), out)
			if drop != ipsec.DropNone || next != 4 || !bytes.Equal(got, pkt) {
				t.Fatalf("%x came back as %x, %v", pkt, got, drop)
			}
		}
	})
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("sync.Pool forgets on purpose under the race detector: nothing is counted")
		return
	}
	var c Compressor
	room, back := make([]byte, 2000), make([]byte, 2000)
	if n := testing.AllocsPerRun(50, func() {
		out, ok := c.Compress(room, text, 6, 1)
		if !ok {
			t.Fatal("not compressed")
		}
		if _, _, drop := Decompress(back, out); drop != ipsec.DropNone {
			t.Fatal(drop)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCompress(b *testing.B) {
	var c Compressor
	room := make([]byte, 2000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		c.Compress(room, text, 6, 1)
	}
}

func BenchmarkDecompress(b *testing.B) {
	out, ok := new(Compressor).Compress(make([]byte, 2000), text, 6, 1)
	if !ok {
		b.Fatal("text does not shrink")
	}
	room := make([]byte, 2000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, drop := Decompress(room, out); drop != ipsec.DropNone {
			b.Fatal(drop)
		}
	}
}
