package icv

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// xcbc is AES-XCBC-MAC (RFC 3566 section 4): CBC under K1, with K2 or K3 mixed
// into the last block, so that messages of different lengths do not collide.
type xcbc struct {
	block  cipher.Block // K1
	k2, k3 [aes.BlockSize]byte
}

func newXCBC(key []byte) (*xcbc, error) {
	k, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	derive := func(n byte) (d [aes.BlockSize]byte) {
		for i := range d {
			d[i] = n
		}
		k.Encrypt(d[:], d[:])
		return d
	}
	k1 := derive(1)
	x := &xcbc{k2: derive(2), k3: derive(3)}
	x.block, err = aes.NewCipher(k1[:])
	return x, err
}

func (x *xcbc) sum(out *[maxSize]byte, a, b, c []byte) []byte {
	state, n := out[:aes.BlockSize], 0
	clear(state)
	for _, part := range [3][]byte{a, b, c} {
		for len(part) > 0 {
			// A full block is encrypted only when another byte follows: the last
			// one is special.
			if n == aes.BlockSize {
				x.block.Encrypt(state, state)
				n = 0
			}
			m := subtle.XORBytes(state[n:], state[n:], part)
			part = part[m:]
			n += m
		}
	}
	last := &x.k2
	if n < aes.BlockSize {
		state[n] ^= 0x80
		last = &x.k3
	}
	subtle.XORBytes(state, state, last[:])
	x.block.Encrypt(state, state)
	return state
}
