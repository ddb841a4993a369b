package dh

import (
	"crypto/subtle"

	"filippo.io/bigmod"
)

// point is a point in projective coordinates: x/z and y/z, infinity is 0:1:0.
type point struct{ x, y, z *bigmod.Nat }

func (n *curveNumbers) infinity() *point { return &point{n.zero(), n.one(), n.zero()} }

// affine is the point's x and y. The error is for infinity, which a scalar
// below the prime order never reaches.
func (n *curveNumbers) affine(q *point) (x, y []byte, err error) {
	if q.z.IsZero() == 1 {
		return nil, nil, errInfinity
	}
	inverse := n.zero().Exp(q.z, n.pMinus2, n.p)
	return n.copied(q.x).Mul(inverse, n.p).Bytes(n.p), n.copied(q.y).Mul(inverse, n.p).Bytes(n.p), nil
}

// multiply is d times q, for a big-endian d as long as the order. It goes
// through d four bits at a time and always does the same: four doublings, one
// read of the whole table, one addition. The formulas know no special cases, so
// that neither a leading zero nor a doubling in disguise shows.
func (n *curveNumbers) multiply(q *point, d []byte) *point {
	var table [16]*point
	table[0] = n.infinity()
	s := n.newScratch()
	for i := 1; i < len(table); i++ {
		table[i] = n.infinity()
		s.add(table[i], table[i-1], q)
	}
	sum, chosen := n.infinity(), n.infinity()
	for _, b := range d {
		for _, nibble := range [2]byte{b >> 4, b & 15} {
			for range 4 {
				s.double(sum, sum)
			}
			choose(chosen, &table, nibble)
			s.add(sum, sum, chosen)
		}
	}
	return sum
}

// choose copies table[i] to q, reading all of the table.
func choose(q *point, table *[16]*point, i byte) {
	clear(q.x.Bits())
	clear(q.y.Bits())
	clear(q.z.Bits())
	for j, t := range table {
		mask := -uint(subtle.ConstantTimeByteEq(i, byte(j)))
		merge(q.x, t.x, mask)
		merge(q.y, t.y, mask)
		merge(q.z, t.z, mask)
	}
}

func merge(dst, src *bigmod.Nat, mask uint) {
	d := dst.Bits()
	for i, limb := range src.Bits()[:len(d)] {
		d[i] |= limb & mask
	}
}

// scratch holds the intermediate values of the formulas.
type scratch struct {
	n                      *curveNumbers
	t0, t1, t2, t3, t4, t5 *bigmod.Nat
	x, y, z                *bigmod.Nat
}

func (n *curveNumbers) newScratch() *scratch {
	return &scratch{
		n,
		n.zero(), n.zero(), n.zero(), n.zero(), n.zero(), n.zero(),
		n.zero(), n.zero(), n.zero(),
	}
}

func set(z, x *bigmod.Nat) *bigmod.Nat {
	copy(z.Bits(), x.Bits())
	return z
}

// The three operations of the formulas, z = x op y; z may be x or y.
func (s *scratch) mul(z, x, y *bigmod.Nat) {
	if z == y {
		x, y = y, x
	}
	set(z, x).Mul(y, s.n.p)
}

func (s *scratch) plus(z, x, y *bigmod.Nat) {
	if z == y {
		x, y = y, x
	}
	set(z, x).Add(y, s.n.p)
}

// minus does not take z = y.
func (s *scratch) minus(z, x, y *bigmod.Nat) { set(z, x).Sub(y, s.n.p) }

func (s *scratch) store(r *point) {
	set(r.x, s.x)
	set(r.y, s.y)
	set(r.z, s.z)
}

// add is r = p + q for any p and q, equal, opposite or infinity (Renes,
// Costello and Batina, "Complete addition formulas for prime order elliptic
// curves", 2015, algorithm 1).
func (s *scratch) add(r, p, q *point) {
	a, b3 := s.n.a, s.n.b3
	s.mul(s.t0, p.x, q.x)
	s.mul(s.t1, p.y, q.y)
	s.mul(s.t2, p.z, q.z)
	s.plus(s.t3, p.x, p.y)
	s.plus(s.t4, q.x, q.y)
	s.mul(s.t3, s.t3, s.t4)
	s.plus(s.t4, s.t0, s.t1)
	s.minus(s.t3, s.t3, s.t4)
	s.plus(s.t4, p.x, p.z)
	s.plus(s.t5, q.x, q.z)
	s.mul(s.t4, s.t4, s.t5)
	s.plus(s.t5, s.t0, s.t2)
	s.minus(s.t4, s.t4, s.t5)
	s.plus(s.t5, p.y, p.z)
	s.plus(s.x, q.y, q.z)
	s.mul(s.t5, s.t5, s.x)
	s.plus(s.x, s.t1, s.t2)
	s.minus(s.t5, s.t5, s.x)
	s.mul(s.z, a, s.t4)
	s.mul(s.x, b3, s.t2)
	s.plus(s.z, s.x, s.z)
	s.minus(s.x, s.t1, s.z)
	s.plus(s.z, s.t1, s.z)
	s.mul(s.y, s.x, s.z)
	s.plus(s.t1, s.t0, s.t0)
	s.plus(s.t1, s.t1, s.t0)
	s.mul(s.t2, a, s.t2)
	s.mul(s.t4, b3, s.t4)
	s.plus(s.t1, s.t1, s.t2)
	s.minus(s.t0, s.t0, s.t2) // t0 is free, t2 = t0 - t2 is not to be had
	s.mul(s.t2, a, s.t0)
	s.plus(s.t4, s.t4, s.t2)
	s.mul(s.t0, s.t1, s.t4)
	s.plus(s.y, s.y, s.t0)
	s.mul(s.t0, s.t5, s.t4)
	s.mul(s.x, s.t3, s.x)
	s.minus(s.x, s.x, s.t0)
	s.mul(s.t0, s.t3, s.t1)
	s.mul(s.z, s.t5, s.z)
	s.plus(s.z, s.z, s.t0)
	s.store(r)
}

// double is r = 2p for any p (algorithm 3 of the same paper).
func (s *scratch) double(r, p *point) {
	a, b3 := s.n.a, s.n.b3
	s.mul(s.t0, p.x, p.x)
	s.mul(s.t1, p.y, p.y)
	s.mul(s.t2, p.z, p.z)
	s.mul(s.t3, p.x, p.y)
	s.plus(s.t3, s.t3, s.t3)
	s.mul(s.z, p.x, p.z)
	s.plus(s.z, s.z, s.z)
	s.mul(s.x, a, s.z)
	s.mul(s.y, b3, s.t2)
	s.plus(s.y, s.x, s.y)
	s.minus(s.x, s.t1, s.y)
	s.plus(s.y, s.t1, s.y)
	s.mul(s.y, s.x, s.y)
	s.mul(s.x, s.t3, s.x)
	s.mul(s.z, b3, s.z)
	s.mul(s.t2, a, s.t2)
	s.minus(s.t3, s.t0, s.t2)
	s.mul(s.t3, a, s.t3)
	s.plus(s.t3, s.t3, s.z)
	s.plus(s.z, s.t0, s.t0)
	s.plus(s.t0, s.z, s.t0)
	s.plus(s.t0, s.t0, s.t2)
	s.mul(s.t0, s.t0, s.t3)
	s.plus(s.y, s.y, s.t0)
	s.mul(s.t2, p.y, p.z)
	s.plus(s.t2, s.t2, s.t2)
	s.mul(s.t0, s.t2, s.t3)
	s.minus(s.x, s.x, s.t0)
	s.mul(s.z, s.t2, s.t1)
	s.plus(s.z, s.z, s.z)
	s.plus(s.z, s.z, s.z)
	s.store(r)
}
