package dh

import (
	"crypto/ecdh"
	"fmt"
	"io"
)

// standard is a curve that crypto/ecdh has: P-256, P-384 and P-521, whose
// public values are x|y (RFC 5903 section 7), and Curve25519.
type standard struct {
	curve  ecdh.Curve
	bytes  int    // of a coordinate, and of a scalar
	mask   byte   // of the highest byte of a scalar
	prefix []byte // 4, "uncompressed", before x|y in crypto/ecdh
}

func newNIST(c ecdh.Curve, bits int) *standard {
	return &standard{c, (bits + 7) / 8, byte(0xff >> (-bits & 7)), []byte{4}}
}

func (s *standard) publicLen() int { return s.bytes * (1 + len(s.prefix)) }

// point is a public value as crypto/ecdh has it.
func (s *standard) point(public []byte) (*ecdh.PublicKey, error) {
	return s.curve.NewPublicKey(append(s.prefix[:len(s.prefix):len(s.prefix)], public...))
}

func (s *standard) check(public []byte) error {
	if len(s.prefix) == 0 {
		return checkX25519(public)
	}
	if _, err := s.point(public); err != nil {
		return ErrOffCurve
	}
	return nil
}

// tries bounds how often a scalar of the order and above is thrown away. The
// worst curve, brainpoolP384r1, throws away nine of twenty: 256 times in a row
// is the work of a broken source.
const tries = 256

func (s *standard) generate(rand io.Reader) (keyPair, error) {
	d := make([]byte, s.bytes)
	defer clear(d)
	for range tries {
		if _, err := io.ReadFull(rand, d); err != nil {
			return nil, fmt.Errorf("random bytes: %w", err)
		}
		d[0] &= s.mask
		// crypto/ecdh refuses 0 and the order and above, in constant time for
		// those it accepts.
		if k, err := s.curve.NewPrivateKey(d); err == nil {
			return &standardPair{s, k, k.PublicKey().Bytes()[len(s.prefix):]}, nil
		}
	}
	return nil, errRandom
}

type standardPair struct {
	group *standard
	key   *ecdh.PrivateKey
	q     []byte
}

func (p *standardPair) public() []byte { return p.q }

// wipe can only let go: crypto/ecdh keeps its own copy of the scalar.
func (p *standardPair) wipe() { p.key = nil }

func (p *standardPair) shared(peer []byte) ([]byte, error) {
	q, err := p.group.point(peer)
	if err != nil {
		return nil, ErrOffCurve
	}
	z, err := p.key.ECDH(q)
	if err != nil {
		return nil, ErrLowOrder
	}
	return z, nil
}
