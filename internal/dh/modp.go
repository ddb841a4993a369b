package dh

import (
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"filippo.io/bigmod"
)

// modp is a group of integers modulo a safe prime with the generator 2 (RFC
// 2409 sections 6.1 and 6.2, RFC 3526).
type modp struct {
	bytes    int // length of the prime
	exponent int // length of the secret exponents in bytes
	modulus  func() *bigmod.Modulus
}

func newMODP(prime string, exponentBits int) *modp {
	m := &modp{bytes: len(prime) / 2, exponent: (exponentBits + 7) / 8}
	// What Montgomery's multiplication needs to know about a prime is computed
	// when the group is first used, and once only.
	m.modulus = sync.OnceValue(func() *bigmod.Modulus {
		b, err := hex.DecodeString(prime)
		if err != nil {
			panic("dh: prime is not hexadecimal: " + err.Error())
		}
		n, err := bigmod.NewModulus(b)
		if err != nil {
			panic("dh: prime is no modulus: " + err.Error())
		}
		return n
	})
	return m
}

func (m *modp) publicLen() int { return m.bytes }

func (m *modp) check(public []byte) error {
	n := m.modulus()
	y, err := bigmod.NewNat().SetBytes(public, n)
	switch {
	case err != nil:
		return ErrTooLarge
	case y.IsZero() == 1:
		return ErrZero
	case y.IsOne() == 1:
		return ErrOne
	case y.IsMinusOne(n) == 1:
		return ErrMinusOne
	}
	return nil
}

func (m *modp) generate(rand io.Reader) (keyPair, error) {
	x := make([]byte, m.exponent)
	if _, err := io.ReadFull(rand, x); err != nil {
		return nil, fmt.Errorf("random bytes: %w", err)
	}
	// Every exponent has its full length: no run of bad luck or of a bad
	// source makes one that can be guessed from the public value at sight.
	x[0] |= 0x80
	n := m.modulus()
	two := bigmod.NewNat().SetUint(2).ExpandFor(n)
	return &modpPair{m, x, bigmod.NewNat().Exp(two, x, n).Bytes(n)}, nil
}

type modpPair struct {
	group *modp
	x     []byte
	y     []byte
}

func (p *modpPair) public() []byte { return p.y }
func (p *modpPair) wipe()          { clear(p.x) }

func (p *modpPair) shared(peer []byte) ([]byte, error) {
	n := p.group.modulus()
	y, err := bigmod.NewNat().SetBytes(peer, n)
	if err != nil {
		return nil, ErrTooLarge
	}
	return bigmod.NewNat().Exp(y, p.x, n).Bytes(n), nil
}
