// Package cast128 is the block cipher CAST-128 (RFC 2144) with all of its key
// lengths: those of up to 80 bits have twelve rounds instead of sixteen, which
// other libraries leave out. It is for old peers: its tables are looked up by
// secret bytes.
package cast128

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Sizes in bytes.
const (
	BlockSize = 8
	MinKey    = 5
	MaxKey    = 16
)

// shortKey is the longest key with twelve rounds (RFC 2144 section 2.5).
const shortKey = 10

type block struct {
	mask   [16]uint32
	rotate [16]uint8
	rounds int
}

// New makes a cipher with a key of 5 to 16 bytes.
func New(key []byte) (cipher.Block, error) {
	if len(key) < MinKey || len(key) > MaxKey {
		return nil, fmt.Errorf("CAST-128 takes a key of %d to %d bytes, this one has %d", MinKey, MaxKey, len(key))
	}
	b := &block{rounds: 16}
	if len(key) <= shortKey {
		b.rounds = 12
	}
	var full [MaxKey]byte
	copy(full[:], key)
	k := subkeys(&full)
	for i := range b.mask {
		b.mask[i], b.rotate[i] = k[i], uint8(k[16+i]&31)
	}
	return b, nil
}

func (c *block) BlockSize() int { return BlockSize }

func (c *block) Encrypt(dst, src []byte) {
	l, r := binary.BigEndian.Uint32(src), binary.BigEndian.Uint32(src[4:])
	for i := range c.rounds {
		l, r = r, l^c.f(i, r)
	}
	binary.BigEndian.PutUint32(dst, r)
	binary.BigEndian.PutUint32(dst[4:], l)
}

func (c *block) Decrypt(dst, src []byte) {
	r, l := binary.BigEndian.Uint32(src), binary.BigEndian.Uint32(src[4:])
	for i := c.rounds - 1; i >= 0; i-- {
		l, r = r^c.f(i, l), l
	}
	binary.BigEndian.PutUint32(dst, l)
	binary.BigEndian.PutUint32(dst[4:], r)
}

// f is the round function, of three types in turn (RFC 2144 section 2.2).
func (c *block) f(i int, d uint32) uint32 {
	m, n := c.mask[i], int(c.rotate[i])
	switch i % 3 {
	case 0:
		x := bits.RotateLeft32(m+d, n)
		return ((sbox[0][x>>24] ^ sbox[1][x>>16&255]) - sbox[2][x>>8&255]) + sbox[3][x&255]
	case 1:
		x := bits.RotateLeft32(m^d, n)
		return ((sbox[0][x>>24] - sbox[1][x>>16&255]) + sbox[2][x>>8&255]) ^ sbox[3][x&255]
	default:
		x := bits.RotateLeft32(m-d, n)
		return ((sbox[0][x>>24] + sbox[1][x>>16&255]) ^ sbox[2][x>>8&255]) - sbox[3][x&255]
	}
}
