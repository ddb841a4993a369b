package dh

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"

	"oakley/internal/doi"
)

func inOrder() []*Group {
	var all []*Group
	for id := range doi.Group(64) {
		if g, err := Lookup(id); err == nil {
			all = append(all, g)
		}
	}
	return all
}

func mustGenerate(t testing.TB, g *Group, r io.Reader) *Private {
	t.Helper()
	p, err := g.Generate(r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// prime gives access to the prime of a group in a test.
func (g *Group) prime() *big.Int {
	switch a := g.arithmetic.(type) {
	case *modp:
		return new(big.Int).SetBytes(a.modulus().Nat().Bytes(a.modulus()))
	case *curve:
		return new(big.Int).SetBytes(a.numbers().p.Nat().Bytes(a.numbers().p))
	}
	return nil
}

func TestLookup(t *testing.T) {
	var have []string
	for _, g := range inOrder() {
		have = append(have, fmt.Sprint(uint16(g.ID())))
		again, _ := Lookup(g.ID())
		if again != g {
			t.Errorf("%v is not shared", g)
		}
	}
	if got, want := strings.Join(have, " "), "1 2 5 14 15 16 17 18 19 20 21 25 26 27 28 29 30 31"; got != want {
		t.Errorf("groups %s, expected %s", got, want)
	}
	for id, word := range map[doi.Group]string{3: "EC2N", 4: "EC2N", 22: "subgroup", 0: "unknown", 13: "unknown", 32: "unknown", 65535: "unknown"} {
		if _, err := Lookup(id); err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "14-21") {
			t.Errorf("group %d: error %v, expected one with %q and the groups there are", id, err, word)
		}
	}
}

func TestPublicLen(t *testing.T) {
	for id, want := range map[doi.Group]int{
		1: 96, 2: 128, 5: 192, 14: 256, 15: 384, 16: 512, 17: 768, 18: 1024,
		19: 64, 20: 96, 21: 132, 25: 48, 26: 56, 27: 56, 28: 64, 29: 96, 30: 128, 31: 32,
	} {
		if g, err := Lookup(id); err != nil || g.PublicLen() != want {
			t.Errorf("group %d: %v, length %d, expected %d", id, err, g.PublicLen(), want)
		}
	}
}

// TestBothSidesAgree: two key pairs of every group make one secret of the
// length that the RFC wants, and a third party's key pair another.
func TestBothSidesAgree(t *testing.T) {
	for _, g := range inOrder() {
		t.Run(g.String(), func(t *testing.T) {
			t.Parallel()
			a, b, c := mustGenerate(t, g, rand.Reader), mustGenerate(t, g, rand.Reader), mustGenerate(t, g, rand.Reader)
			if len(a.Public()) != g.PublicLen() || bytes.Equal(a.Public(), b.Public()) {
				t.Fatalf("public values %x and %x", a.Public(), b.Public())
			}
			s1, err1 := a.Shared(b.Public())
			s2, err2 := b.Shared(a.Public())
			s3, err3 := c.Shared(a.Public())
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Fatal(err)
			}
			want := g.PublicLen()
			if _, modp := g.arithmetic.(*modp); !modp && g.ID() != doi.GroupCurve25519 {
				want /= 2
			}
			if !bytes.Equal(s1, s2) || len(s1) != want {
				t.Errorf("%x and %x", s1, s2)
			}
			if bytes.Equal(s1, s3) {
				t.Errorf("a third key pair makes the same secret %x", s3)
			}
			if a.Group() != g {
				t.Errorf("key pair of %v", a.Group())
			}
			a.Wipe()
			if s, err := a.Shared(b.Public()); !errors.Is(err, errWiped) || s != nil {
				t.Errorf("shared %x after Wipe: %v", s, err)
			}
			switch k := a.pair.(type) {
			case *modpPair:
				if !bytes.Equal(k.x, make([]byte, len(k.x))) {
					t.Error("the exponent is still there after Wipe")
				}
			case *curvePair:
				if !bytes.Equal(k.d, make([]byte, len(k.d))) {
					t.Error("the scalar is still there after Wipe")
				}
			case *standardPair:
				if k.key != nil {
					t.Error("the key is still there after Wipe")
				}
			}
		})
	}
}

// TestVectors: the exchanges that the RFCs print.
func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.source, func(t *testing.T) {
			g, err := Lookup(v.group)
			if err != nil {
				t.Fatal(err)
			}
			side := func(secret, public, peer string) {
				p := mustGenerate(t, g, bytes.NewReader(mustHex(secret)))
				if hex.EncodeToString(p.Public()) != public {
					t.Errorf("public value %x, expected %s", p.Public(), public)
				}
				s, err := p.Shared(mustHex(peer))
				if err != nil || hex.EncodeToString(s) != v.gxy {
					t.Errorf("shared %x, %v, expected %s", s, err, v.gxy)
				}
			}
			side(v.x, v.gx, v.gy)
			side(v.y, v.gy, v.gx)
		})
	}
}

// TestDeterministic: the same random bytes make the same key pair, and a
// source that ends is an error.
func TestDeterministic(t *testing.T) {
	seed := bytes.Repeat([]byte("0123456789abcdef"), 16)
	for _, g := range inOrder() {
		a, b := mustGenerate(t, g, bytes.NewReader(seed)), mustGenerate(t, g, bytes.NewReader(seed))
		if !bytes.Equal(a.Public(), b.Public()) {
			t.Errorf("%v: %x and %x", g, a.Public(), b.Public())
		}
		if _, err := g.Generate(bytes.NewReader(seed[:16])); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), g.String()) {
			t.Errorf("%v: error %v, expected one that names the group and the end of the source", g, err)
		}
	}
}

// endless repeats one byte.
type endless byte

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e)
	}
	return len(b), nil
}

// TestBrokenRandomness: scalars of zero and above the order are never used.
func TestBrokenRandomness(t *testing.T) {
	for _, g := range inOrder() {
		for _, r := range []endless{0, 0xff} {
			p, err := g.Generate(r)
			switch g.arithmetic.(type) {
			case *modp:
				if err != nil {
					t.Errorf("%v: %v", g, err)
				} else if err := g.Check(p.Public()); err != nil {
					t.Error(err)
				}
			default:
				if g.ID() != doi.GroupCurve25519 && !errors.Is(err, errRandom) {
					t.Errorf("%v: made a key pair of bytes %#x: %v", g, byte(r), err)
				}
			}
		}
	}
}

// TestWrongLength: every length but the right one is refused (attack A3);
// leading zeros are neither to be added nor to be left out.
func TestWrongLength(t *testing.T) {
	for _, g := range inOrder() {
		p := mustGenerate(t, g, rand.Reader)
		good := append([]byte(nil), p.Public()...)
		for n := range len(good) {
			if err := g.Check(good[:n]); !errors.Is(err, ErrLength) {
				t.Fatalf("%v: %d bytes: %v", g, n, err)
			}
		}
		for _, bad := range [][]byte{nil, append([]byte{0}, good...), append(good, 0), make([]byte, 1<<16)} {
			if err := g.Check(bad); !errors.Is(err, ErrLength) {
				t.Errorf("%v: %d bytes: %v", g, len(bad), err)
			}
			if s, err := p.Shared(bad); !errors.Is(err, ErrLength) || s != nil {
				t.Errorf("%v: shared with %d bytes: %v", g, len(bad), err)
			}
		}
		var pe *PublicError
		if err := g.Check(nil); !errors.As(err, &pe) || pe.Group != g || !strings.Contains(err.Error(), fmt.Sprint(g.PublicLen())) {
			t.Errorf("%v: %v names neither group nor length", g, err)
		}
	}
}
