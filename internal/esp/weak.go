package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"oakley/internal/ipsec"
)

// errWeak is never about a mistake in the configuration: a negotiated key is
// weak once in 2^52 times. The cure is the same for a typed one: another key.
var errWeak = errors.New("weak key; negotiate or choose another one")

// parityBits are the bits of a DES key that are no key.
const parityBits = 0x0101010101010101

// weakDES are the 4 weak and 12 semi-weak keys of DES, in odd parity.
var weakDES = [16]uint64{
	0x0101010101010101, 0xfefefefefefefefe, 0xe0e0e0e0f1f1f1f1, 0x1f1f1f1f0e0e0e0e,
	0x01fe01fe01fe01fe, 0xfe01fe01fe01fe01, 0x1fe01fe00ef10ef1, 0xe01fe01ff10ef10e,
	0x01e001e001f101f1, 0xe001e001f101f101, 0x1ffe1ffe0efe0efe, 0xfe1ffe1ffe0efe0e,
	0x011f011f010e010e, 0x1f011f010e010e01, 0xe0fee0fef1fef1fe, 0xfee0fee0fef1fef1,
}

// checkDES refuses the weak keys of DES, and triple DES keys two of whose
// neighbours are the same, which makes it plain DES. What the parts of a triple
// DES key are by themselves does not matter (RFC 2451 section 2.3).
func checkDES(c ipsec.Cipher, key []byte) error {
	part := func(i int) uint64 { return binary.BigEndian.Uint64(key[8*i:]) | parityBits }
	switch c {
	case ipsec.CipherDES:
		k := part(0)
		if slices.ContainsFunc(weakDES[:], func(w uint64) bool { return w|parityBits == k }) {
			return fmt.Errorf("%s: %w", c, errWeak)
		}
	case ipsec.Cipher3DES:
		if part(0) == part(1) || part(1) == part(2) {
			return fmt.Errorf("%s with two equal parts in a row, which is DES: %w", c, errWeak)
		}
	}
	return nil
}
