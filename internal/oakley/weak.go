package oakley

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"oakley/internal/doi"
)

// ErrWeakKey is a cipher key that must not be used (RFC 2409 appendix A). It
// comes once in 2^52 negotiations; a new one has other keys.
var ErrWeakKey = errors.New("the negotiation came out with a weak DES key, which must not be used: negotiate again")

// weakDES are the weak and semi-weak keys of RFC 2409 appendix A.
var weakDES = [...]uint64{
	0x0101010101010101, 0x1f1f1f1fe0e0e0e0, 0xe0e0e0e01f1f1f1f, 0xfefefefefefefefe,

	0x01fe01fe01fe01fe, 0x1fe01fe00ef10ef1, 0x01e001e001f101f1,
	0x1ffe1ffe0efe0efe, 0x011f011f010e010e, 0xe0fee0fef1fef1fe,

	0xfe01fe01fe01fe01, 0xe01fe01ff10ef10e, 0xe001e001f101f101,
	0xfe1ffe1ffe0efe0e, 0x1f011f010e010e01, 0xfee0fee0fef1fef1,
}

// parity is the lowest bit of each byte, which DES does not look at.
const parity = 0x0101010101010101

// checkWeak refuses weak keys of DES and of each third of a 3DES key, and 3DES
// keys with two thirds in a row alike, which make it single DES (RFC 2451
// section 2.3). It takes as long for every key.
func checkWeak(c doi.Cipher, key []byte) error {
	if c != doi.CipherDES && c != doi.Cipher3DES {
		return nil
	}
	weak, before := 0, uint64(parity) // no third equals it: its parity bits are set
	for ; len(key) >= 8; key = key[8:] {
		k := binary.BigEndian.Uint64(key) &^ parity
		for _, w := range weakDES {
			weak |= equal(k, w&^parity)
		}
		weak |= equal(k, before)
		before = k
	}
	if weak != 0 {
		return ErrWeakKey
	}
	return nil
}

func equal(a, b uint64) int {
	d := a ^ b
	return subtle.ConstantTimeEq(int32(d>>32|d&0xffffffff), 0)
}
