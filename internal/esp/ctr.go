package esp

import "crypto/subtle"

// counter encrypts or decrypts b in place by counter mode (RFC 3686 section 4):
// the counter block is the nonce and a number that starts at 1.
//
// GCM of the same nonce encrypts with the numbers from 2 on, many blocks at a
// time where the processor can, and needs no state between packets, which the
// library's counter mode would allocate. So the first block is made here and GCM
// makes the others; its tag is thrown away.
func (t *Transform) counter(s *scratch, b, nonce []byte) {
	first := s.block[:] // holds the nonce already
	n := min(len(b), len(first))
	if len(b) > n {
		s.wide = t.aead.Seal(s.wide[:0], nonce, b[n:], nil)
		copy(b[n:], s.wide)
	}
	copy(first[12:], []byte{0, 0, 0, 1})
	t.block.Encrypt(first, first)
	subtle.XORBytes(b, b[:n], first)
}
