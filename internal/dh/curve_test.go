package dh

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"testing"
)

// naive is affine arithmetic with math/big, as in a textbook: the oracle.
type naive struct{ p, a *big.Int }

type affine struct{ x, y *big.Int } // x nil: infinity

func (c naive) add(p, q affine) affine {
	if p.x == nil {
		return q
	}
	if q.x == nil {
		return p
	}
	var slope *big.Int
	if p.x.Cmp(q.x) == 0 {
		if new(big.Int).Mod(new(big.Int).Add(p.y, q.y), c.p).Sign() == 0 {
			return affine{}
		}
		slope = new(big.Int).Mul(p.x, p.x)
		slope.Mul(slope, big.NewInt(3)).Add(slope, c.a)
		slope.Mul(slope, new(big.Int).ModInverse(new(big.Int).Lsh(p.y, 1), c.p))
	} else {
		run := new(big.Int).Mod(new(big.Int).Sub(q.x, p.x), c.p)
		slope = new(big.Int).Sub(q.y, p.y)
		slope.Mul(slope, run.ModInverse(run, c.p))
	}
	x := new(big.Int).Mul(slope, slope)
	x.Sub(x, p.x).Sub(x, q.x).Mod(x, c.p)
	y := new(big.Int).Sub(p.x, x)
	y.Mul(y, slope).Sub(y, p.y).Mod(y, c.p)
	return affine{x, y}
}

func (c naive) multiply(p affine, k *big.Int) affine {
	var sum affine
	for i := k.BitLen() - 1; i >= 0; i-- {
		sum = c.add(sum, sum)
		if k.Bit(i) == 1 {
			sum = c.add(sum, p)
		}
	}
	return sum
}

func number(s string) *big.Int { return new(big.Int).SetBytes(mustHex(s)) }

var ownCurves = map[string]curveParams{
	"P-192": p192, "P-224": p224,
	"brainpoolP224r1": brainpool224, "brainpoolP256r1": brainpool256,
	"brainpoolP384r1": brainpool384, "brainpoolP512r1": brainpool512,
}

// TestCurveConstants: p and the order are prime, the generator is on the curve,
// has that order, and the curve is neither singular nor anomalous.
func TestCurveConstants(t *testing.T) {
	for name, c := range ownCurves {
		p, a, b, order := number(c.p), number(c.a), number(c.b), number(c.order)
		if !p.ProbablyPrime(20) || !order.ProbablyPrime(20) || p.Cmp(order) == 0 {
			t.Errorf("%s: p or the order is not prime, or they are the same", name)
		}
		if 8*newCurve(c).bytes != p.BitLen() || p.BitLen() != order.BitLen() {
			t.Errorf("%s: %d bits of p, %d of the order", name, p.BitLen(), order.BitLen())
		}
		d := new(big.Int).Exp(a, big.NewInt(3), p)
		d.Lsh(d, 2).Add(d, new(big.Int).Mul(big.NewInt(27), new(big.Int).Mul(b, b))).Mod(d, p)
		if d.Sign() == 0 {
			t.Errorf("%s: singular", name)
		}
		g := affine{number(c.gx), number(c.gy)}
		if err := newCurve(c).check(append(mustHex(c.gx), mustHex(c.gy)...)); err != nil {
			t.Errorf("%s: generator: %v", name, err)
		}
		if (naive{p, a}).multiply(g, order).x != nil {
			t.Errorf("%s: the order times the generator is not infinity", name)
		}
	}
}

// scalars are the awkward ones and some random ones, below order.
func scalars(t *testing.T, order *big.Int, n int) []*big.Int {
	less := func(k int64) *big.Int { return new(big.Int).Sub(order, big.NewInt(k)) }
	all := []*big.Int{big.NewInt(1), big.NewInt(2), big.NewInt(3), big.NewInt(15), big.NewInt(16), big.NewInt(17), big.NewInt(256), less(1), less(2), less(16), new(big.Int).Rsh(order, 1)}
	for range n {
		k, err := rand.Int(rand.Reader, order)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k, new(big.Int).Rsh(k, 64)) // and one with leading zeros
	}
	return all
}

// TestCurvesAgainstNaive: our arithmetic on our curves is that of the textbook.
func TestCurvesAgainstNaive(t *testing.T) {
	for name, params := range ownCurves {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCurve(params)
			n := c.numbers()
			order := number(params.order)
			oracle := naive{number(params.p), number(params.a)}
			g := affine{number(params.gx), number(params.gy)}
			q := oracle.multiply(g, big.NewInt(0x2bcdef0123456789))
			public := append(q.x.FillBytes(make([]byte, c.bytes)), q.y.FillBytes(make([]byte, c.bytes))...)
			point, err := c.point(public)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range scalars(t, order, 4) {
				if k.Sign() == 0 {
					continue
				}
				x, y, err := n.affine(n.multiply(point, k.FillBytes(make([]byte, c.bytes))))
				want := oracle.multiply(q, k)
				if err != nil || new(big.Int).SetBytes(x).Cmp(want.x) != 0 || new(big.Int).SetBytes(y).Cmp(want.y) != 0 {
					t.Errorf("%x times the point: %x %x (%v), expected %x %x", k, x, y, err, want.x, want.y)
				}
			}
			for _, k := range []*big.Int{new(big.Int), order} {
				if _, _, err := n.affine(n.multiply(point, k.FillBytes(make([]byte, c.bytes)))); !errors.Is(err, errInfinity) {
					t.Errorf("%x times the point is not infinity: %v", k, err)
				}
			}
		})
	}
}

// TestCurvesAgainstStandardLibrary runs the standard library's curves through
// our arithmetic.
func TestCurvesAgainstStandardLibrary(t *testing.T) {
	for _, std := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384()} {
		s := std.Params()
		size := (s.BitSize + 7) / 8
		hex := func(v *big.Int) string { return fmt.Sprintf("%x", v.FillBytes(make([]byte, size))) }
		a := new(big.Int).Sub(s.P, big.NewInt(3))
		c := newCurve(curveParams{hex(s.P), hex(a), hex(s.B), hex(s.Gx), hex(s.Gy), hex(s.N)})
		n := c.numbers()
		for _, k := range scalars(t, s.N, 4) {
			if k.Sign() == 0 {
				continue
			}
			d := k.FillBytes(make([]byte, size))
			x, y, err := n.affine(n.multiply(n.g, d))
			//lint:ignore SA1019 the one oracle the standard library has for P-224
			wantX, wantY := std.ScalarBaseMult(d)
			if err != nil || new(big.Int).SetBytes(x).Cmp(wantX) != 0 || new(big.Int).SetBytes(y).Cmp(wantY) != 0 {
				t.Errorf("%s: %x times the generator: %x %x (%v)", s.Name, d, x, y, err)
			}
		}
	}
	// A whole exchange: our P-256 with crypto/ecdh's.
	own := &Group{19, "own P-256", newCurve(curveParams{
		p:     "FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF",
		a:     "FFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFC",
		b:     fmt.Sprintf("%064x", elliptic.P256().Params().B),
		gx:    fmt.Sprintf("%064x", elliptic.P256().Params().Gx),
		gy:    fmt.Sprintf("%064x", elliptic.P256().Params().Gy),
		order: fmt.Sprintf("%064x", elliptic.P256().Params().N),
	})}
	std := &Group{19, "P-256", newNIST(ecdh.P256(), 256)}
	x, y := mustGenerate(t, own, rand.Reader), mustGenerate(t, std, rand.Reader)
	s1, err1 := x.Shared(y.Public())
	s2, err2 := y.Shared(x.Public())
	if err := errors.Join(err1, err2); err != nil || !bytes.Equal(s1, s2) {
		t.Errorf("%x and %x, %v", s1, s2, err)
	}
}

// TestFormulasAreComplete: no pair of points is special.
func TestFormulasAreComplete(t *testing.T) {
	for name, params := range ownCurves {
		n := newCurve(params).numbers()
		order := number(params.order)
		s := n.newScratch()
		at := func(k int64) *point { // k times the generator, -k from below the order
			d := big.NewInt(k)
			d.Mod(d, order)
			return n.multiply(n.g, d.FillBytes(make([]byte, len(mustHex(params.order)))))
		}
		for _, c := range [][3]int64{{0, 0, 0}, {0, 1, 1}, {1, 0, 1}, {1, 1, 2}, {1, -1, 0}, {-1, -1, -2}, {5, 7, 12}, {5, -7, -2}} {
			sum := n.infinity()
			s.add(sum, at(c[0]), at(c[1]))
			if !samePoint(n, sum, at(c[2])) {
				t.Errorf("%s: %dG + %dG is not %dG", name, c[0], c[1], c[2])
			}
		}
		for _, k := range []int64{0, 1, -1, 9} {
			sum := at(k)
			s.double(sum, sum)
			if !samePoint(n, sum, at(2*k)) {
				t.Errorf("%s: twice %dG is not %dG", name, k, 2*k)
			}
		}
	}
}

func samePoint(n *curveNumbers, p, q *point) bool {
	x1, y1, err1 := n.affine(p)
	x2, y2, err2 := n.affine(q)
	return (err1 == nil) == (err2 == nil) && bytes.Equal(x1, x2) && bytes.Equal(y1, y2)
}

// TestBadPoints: points off the curve and coordinates outside the field (attack
// A3).
func TestBadPoints(t *testing.T) {
	for _, g := range inOrder() {
		if _, modp := g.arithmetic.(*modp); modp || g.PublicLen() == 32 {
			continue
		}
		half := g.PublicLen() / 2
		a := mustGenerate(t, g, rand.Reader)
		good := mustGenerate(t, g, rand.Reader).Public()
		bad := map[string][]byte{
			"zero":      make([]byte, 2*half),
			"all ones":  bytes.Repeat([]byte{0xff}, 2*half),
			"x alone":   append(append([]byte(nil), good[:half]...), make([]byte, half)...),
			"y alone":   append(make([]byte, half), good[half:]...),
			"swapped":   append(append([]byte(nil), good[half:]...), good[:half]...),
			"x doubled": append(append([]byte(nil), good[:half]...), good[:half]...),
		}
		for _, bit := range []int{0, 7, 8*half - 1, 8 * half, 16*half - 1} {
			b := append([]byte(nil), good...)
			b[bit/8] ^= 0x80 >> (bit % 8)
			bad[fmt.Sprint("bit ", bit)] = b
		}
		if p := g.prime(); p != nil {
			bad["x is p"] = append(p.FillBytes(make([]byte, half)), good[half:]...)
			bad["y is p"] = append(append([]byte(nil), good[:half]...), p.FillBytes(make([]byte, half))...)
		}
		for what, b := range bad {
			err := g.Check(b)
			if !errors.Is(err, ErrOffCurve) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%v: %s: %v", g, what, err)
			}
			if s, err := a.Shared(b); err == nil || s != nil {
				t.Errorf("%v: %s: shared %x", g, what, s)
			}
		}
		// The same point with -y is another good one.
		if p := g.prime(); p != nil {
			minus := new(big.Int).Sub(p, new(big.Int).SetBytes(good[half:]))
			if err := g.Check(append(append([]byte(nil), good[:half]...), minus.FillBytes(make([]byte, half))...)); err != nil {
				t.Errorf("%v: the opposite of a good point: %v", g, err)
			}
		}
	}
}

// TestSmallOrder: points that make the secret zero for every scalar (RFC 7748
// section 6.1), with and without the bit that does not count.
func TestSmallOrder(t *testing.T) {
	g := inGroups(t, 31)
	a := mustGenerate(t, g, rand.Reader)
	for _, u := range lowOrder {
		for _, high := range []byte{0, 0x80} {
			u[31] = u[31]&0x7f | high
			if err := g.Check(u[:]); !errors.Is(err, ErrLowOrder) {
				t.Errorf("%x: %v", u, err)
			}
			if s, err := a.Shared(u[:]); !errors.Is(err, ErrLowOrder) || s != nil {
				t.Errorf("%x: shared %x, %v", u, s, err)
			}
			// The list says what the arithmetic says.
			if s, err := a.pair.shared(u[:]); !errors.Is(err, ErrLowOrder) {
				t.Errorf("%x is not of small order: %x, %v", u, s, err)
			}
		}
	}
	if err := g.Check(append([]byte{9}, make([]byte, 31)...)); err != nil {
		t.Errorf("the base point: %v", err)
	}
}
