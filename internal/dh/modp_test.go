package dh

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"testing"
)

// pi is ⌊2^bits·π⌋ by Machin's formula, π = 16 arctan(1/5) - 4 arctan(1/239).
func pi(bits uint) *big.Int {
	const guard = 64
	one := new(big.Int).Lsh(big.NewInt(1), bits+guard)
	arctan := func(n int64) *big.Int {
		sum, square := new(big.Int), big.NewInt(n*n)
		power := new(big.Int).Div(one, big.NewInt(n))
		for k := int64(0); power.Sign() != 0; k++ {
			term := new(big.Int).Div(power, big.NewInt(2*k+1))
			if k%2 == 0 {
				sum.Add(sum, term)
			} else {
				sum.Sub(sum, term)
			}
			power.Div(power, square)
		}
		return sum
	}
	p := new(big.Int).Mul(arctan(5), big.NewInt(16))
	p.Sub(p, new(big.Int).Mul(arctan(239), big.NewInt(4)))
	return p.Rsh(p, guard)
}

// TestPrimes: the primes follow their formulas, 2^n - 2^(n-64) - 1 + 2^64 *
// ([2^(n-130) pi] + k), with k as RFC 2409 section 6 and RFC 3526 have it, and
// are safe: (p-1)/2 is prime too.
func TestPrimes(t *testing.T) {
	for _, c := range []struct {
		group, bits uint16
		k           int64
	}{
		{1, 768, 149686},
		{2, 1024, 129093},
		{5, 1536, 741804},
		{14, 2048, 124476},
		{15, 3072, 1690314},
		{16, 4096, 240904},
		{17, 6144, 929484},
		{18, 8192, 4743158},
	} {
		g := inGroups(t, c.group)
		n := uint(c.bits)
		one := big.NewInt(1)
		want := new(big.Int).Lsh(one, n)
		want.Sub(want, new(big.Int).Lsh(one, n-64)).Sub(want, one)
		middle := pi(n - 130)
		middle.Add(middle, big.NewInt(c.k)).Lsh(middle, 64)
		want.Add(want, middle)
		p := g.prime()
		if p.Cmp(want) != 0 {
			t.Errorf("%v: prime %x, expected %x", g, p, want)
		}
		if p.Bit(0) != 1 || p.Bit(1) != 1 || p.Bit(2) != 1 {
			t.Errorf("%v: p mod 8 is not 7, so 2 generates more than the squares", g)
		}
		if testing.Short() || n > 4096 {
			continue // an equal formula is proof enough where the test takes seconds
		}
		q := new(big.Int).Rsh(p, 1)
		if !p.ProbablyPrime(0) || !q.ProbablyPrime(0) {
			t.Errorf("%v: not a safe prime", g)
		}
	}
}

func inGroups(t testing.TB, id uint16) *Group {
	t.Helper()
	for _, g := range inOrder() {
		if uint16(g.id) == id {
			return g
		}
	}
	t.Fatalf("no group %d", id)
	return nil
}

// TestExponents: RFC 3526 section 8, at least twice the strength of the group
// by the higher estimate.
func TestExponents(t *testing.T) {
	for id, bits := range map[uint16]int{1: 180, 2: 180, 5: 240, 14: 320, 15: 420, 16: 480, 17: 540, 18: 620} {
		m := inGroups(t, id).arithmetic.(*modp)
		if 8*m.exponent < bits || 8*m.exponent > bits+16 {
			t.Errorf("group %d: exponents of %d bits, expected %d", id, 8*m.exponent, bits)
		}
		k, err := m.generate(endless(0))
		if err != nil || k.(*modpPair).x[0]&0x80 == 0 {
			t.Errorf("group %d: an exponent shorter than the others: %v", id, err)
		}
	}
}

// TestAgainstMathBig: public value and shared secret are 2^x and y^x.
func TestAgainstMathBig(t *testing.T) {
	for _, g := range inOrder() {
		m, ok := g.arithmetic.(*modp)
		if !ok {
			continue
		}
		p := g.prime()
		for range 3 {
			a := mustGenerate(t, g, rand.Reader)
			x := new(big.Int).SetBytes(a.pair.(*modpPair).x)
			if got := new(big.Int).SetBytes(a.Public()); got.Cmp(new(big.Int).Exp(big.NewInt(2), x, p)) != 0 {
				t.Fatalf("%v: 2^%x is not %x", g, x, got)
			}
			y, err := rand.Int(rand.Reader, new(big.Int).Sub(p, big.NewInt(4)))
			if err != nil {
				t.Fatal(err)
			}
			y.Add(y, big.NewInt(2))
			s, err := a.Shared(y.FillBytes(make([]byte, m.bytes)))
			if err != nil || new(big.Int).SetBytes(s).Cmp(new(big.Int).Exp(y, x, p)) != 0 {
				t.Fatalf("%v: %x^%x is not %x (%v)", g, y, x, s, err)
			}
		}
	}
}

// TestSharedIsPadded: a secret with leading zeros has the length of the prime
// (RFC 2409 section 5).
func TestSharedIsPadded(t *testing.T) {
	g := inGroups(t, 1)
	p := g.prime()
	a := mustGenerate(t, g, rand.Reader)
	x := new(big.Int).SetBytes(a.pair.(*modpPair).x)
	// The peer's value whose x-th power is small: its root, since x has an
	// inverse modulo the order of the squares when it is odd.
	order := new(big.Int).Rsh(p, 1)
	inverse := new(big.Int).ModInverse(x, order)
	small := big.NewInt(4)
	y := new(big.Int).Exp(small, inverse, p)
	s, err := a.Shared(y.FillBytes(make([]byte, 96)))
	if err != nil {
		t.Fatal(err)
	}
	if want := append(make([]byte, 95), 4); !bytes.Equal(s, want) {
		t.Errorf("%x, expected %x", s, want)
	}
}

// TestBadMODP: KE of 0, 1, p-1, p and above (attack A3).
func TestBadMODP(t *testing.T) {
	for _, g := range inOrder() {
		m, ok := g.arithmetic.(*modp)
		if !ok {
			continue
		}
		p := g.prime()
		a := mustGenerate(t, g, rand.Reader)
		plus := func(n int64) *big.Int { return new(big.Int).Add(p, big.NewInt(n)) }
		all := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(8*m.bytes)), big.NewInt(1))
		for _, c := range []struct {
			y    *big.Int
			want error
		}{
			{big.NewInt(0), ErrZero},
			{big.NewInt(1), ErrOne},
			{big.NewInt(2), nil},
			{plus(-2), nil},
			{plus(-1), ErrMinusOne},
			{plus(0), ErrTooLarge},
			{plus(1), ErrTooLarge},
			{plus(2), ErrTooLarge},
			{all, ErrTooLarge},
		} {
			b := c.y.FillBytes(make([]byte, m.bytes))
			if err := g.Check(b); !errors.Is(err, c.want) {
				t.Errorf("%v: %x...: %v, expected %v", g, b[:8], err, c.want)
			}
			if s, err := a.Shared(b); !errors.Is(err, c.want) || (err != nil) != (s == nil) {
				t.Errorf("%v: shared with %x...: %v, expected %v", g, b[:8], err, c.want)
			}
		}
	}
}
