package dh

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"

	"filippo.io/bigmod"
)

// curve is a curve y² = x³ + ax + b over the integers modulo p, of prime order,
// that the standard library does not have. Public values are x|y (RFC 5903
// section 7), shared secrets x alone (section 9).
type curve struct {
	bytes int // of a coordinate and of a scalar: p and the order are as long
	// numbers are made when the curve is first used.
	numbers func() *curveNumbers
}

type curveNumbers struct {
	p, order *bigmod.Modulus
	pMinus2  []byte // the exponent that inverts
	a, b, b3 *bigmod.Nat
	g        *point
}

// curveParams are the constants of a curve as the RFCs print them, in
// hexadecimal with spaces.
type curveParams struct{ p, a, b, gx, gy, order string }

func newCurve(c curveParams) *curve {
	return &curve{len(unspaced(c.p)) / 2, sync.OnceValue(func() *curveNumbers { return c.numbers() })}
}

func (c curveParams) numbers() *curveNumbers {
	n := &curveNumbers{p: mustModulus(c.p), order: mustModulus(c.order)}
	n.a, n.b = n.must(c.a), n.must(c.b)
	n.b3 = n.zero()
	n.b3.Add(n.b, n.p).Add(n.b, n.p).Add(n.b, n.p)
	n.g = &point{n.must(c.gx), n.must(c.gy), n.one()}
	n.pMinus2 = n.zero().Sub(n.small(2), n.p).Bytes(n.p)
	return n
}

func unspaced(s string) string { return strings.Join(strings.Fields(s), "") }

func mustHex(s string) []byte {
	b, err := hex.DecodeString(unspaced(s))
	if err != nil {
		panic("dh: constant is not hexadecimal: " + err.Error())
	}
	return b
}

func mustModulus(s string) *bigmod.Modulus {
	m, err := bigmod.NewModulus(mustHex(s))
	if err != nil {
		panic("dh: constant is no modulus: " + err.Error())
	}
	return m
}

func (n *curveNumbers) must(s string) *bigmod.Nat {
	x, err := bigmod.NewNat().SetBytes(mustHex(s), n.p)
	if err != nil {
		panic("dh: constant is not below the prime: " + err.Error())
	}
	return x
}

func (n *curveNumbers) zero() *bigmod.Nat                { return bigmod.NewNat().ExpandFor(n.p) }
func (n *curveNumbers) small(u uint) *bigmod.Nat         { return bigmod.NewNat().SetUint(u).ExpandFor(n.p) }
func (n *curveNumbers) one() *bigmod.Nat                 { return n.small(1) }
func (n *curveNumbers) copied(x *bigmod.Nat) *bigmod.Nat { return n.zero().Add(x, n.p) }

func (c *curve) publicLen() int { return 2 * c.bytes }

func (c *curve) check(public []byte) error {
	_, err := c.point(public)
	return err
}

// point is a public value that lies on the curve. The group's order is prime,
// so that every point but infinity, which x|y cannot express, generates it.
func (c *curve) point(public []byte) (*point, error) {
	n := c.numbers()
	x, err := bigmod.NewNat().SetBytes(public[:c.bytes], n.p)
	if err != nil {
		return nil, ErrTooLarge
	}
	y, err := bigmod.NewNat().SetBytes(public[c.bytes:], n.p)
	if err != nil {
		return nil, ErrTooLarge
	}
	// x³ + ax + b = (x² + a)x + b
	right := n.copied(x).Mul(x, n.p).Add(n.a, n.p).Mul(x, n.p).Add(n.b, n.p)
	if n.copied(y).Mul(y, n.p).Equal(right) != 1 {
		return nil, ErrOffCurve
	}
	return &point{x, y, n.one()}, nil
}

func (c *curve) generate(rand io.Reader) (keyPair, error) {
	n := c.numbers()
	d := make([]byte, c.bytes)
	for range tries {
		if _, err := io.ReadFull(rand, d); err != nil {
			clear(d)
			return nil, fmt.Errorf("random bytes: %w", err)
		}
		// Throwing away what is 0 or not below the order, instead of reducing
		// it, makes all scalars equally likely.
		k, err := bigmod.NewNat().SetBytes(d, n.order)
		if err != nil || k.IsZero() == 1 {
			continue
		}
		x, y, err := n.affine(n.multiply(n.g, d))
		if err != nil {
			return nil, err
		}
		return &curvePair{c, d, append(x, y...)}, nil
	}
	return nil, errRandom
}

type curvePair struct {
	group *curve
	d     []byte
	q     []byte
}

func (p *curvePair) public() []byte { return p.q }
func (p *curvePair) wipe()          { clear(p.d) }

func (p *curvePair) shared(peer []byte) ([]byte, error) {
	q, err := p.group.point(peer)
	if err != nil {
		return nil, err
	}
	n := p.group.numbers()
	x, _, err := n.affine(n.multiply(q, p.d))
	return x, err
}
