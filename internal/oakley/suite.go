// Package oakley is the key schedule of IKE: the pseudo-random function, the
// keys of an ISAKMP SA, the hashes that authenticate its exchanges, the keying
// material of IPsec SAs and the encryption of messages (RFC 2409 sections 4, 5
// and appendix B).
//
// All of it is arithmetic on arguments: no state beyond the keys themselves, no
// clock, no randomness. Hashes that came from a peer are compared by the caller
// with crypto/subtle.
package oakley

import (
	"fmt"
	"strconv"

	"oakley/internal/doi"
)

// Suite is what a phase 1 transform chose for protecting messages.
type Suite struct {
	Cipher  doi.Cipher
	KeyBits int // 0: the fixed length of the cipher, or its default
	Hash    doi.Hash
}

// Check refuses a suite that Derive could not make keys for; the error names
// the attribute and what would be accepted.
func (s Suite) Check() error {
	if _, ok := hashes[s.Hash]; !ok {
		return fmt.Errorf("hash algorithm %d is not supported: use MD5 (1), SHA (2), SHA2-256 (4), SHA2-384 (5) or SHA2-512 (6)", uint16(s.Hash))
	}
	c, ok := ciphers[s.Cipher]
	if !ok {
		return fmt.Errorf("encryption algorithm %d is not supported: use DES (1), Blowfish (3), 3DES (5), CAST (6) or AES (7)", uint16(s.Cipher))
	}
	return c.checkBits(s.KeyBits)
}

// String names the suite as the configuration does: AES-128-SHA, 3DES-MD5,
// BLF-448-SHA2-256.
func (s Suite) String() string {
	cipher := "cipher " + strconv.Itoa(int(s.Cipher))
	c, known := ciphers[s.Cipher]
	if known {
		cipher = c.name
	}
	switch {
	case s.KeyBits != 0:
		cipher += "-" + strconv.Itoa(s.KeyBits)
	case known && !c.fixed():
		cipher += "-" + strconv.Itoa(c.bits)
	}
	hash := "hash " + strconv.Itoa(int(s.Hash))
	if h, ok := hashes[s.Hash]; ok {
		hash = h.name
	}
	return cipher + "-" + hash
}

// BlockSize is the block size of the cipher in bytes, 0 for an unknown one.
func (s Suite) BlockSize() int { return ciphers[s.Cipher].block }

// keyLen is the length of the cipher's key in bytes.
func (s Suite) keyLen() int {
	if s.KeyBits != 0 {
		return s.KeyBits / 8
	}
	return ciphers[s.Cipher].bits / 8
}
