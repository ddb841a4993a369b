package esp

import (
	"crypto/cipher"
	"encoding/binary"
)

// Cipher block chaining in place (RFC 2451 section 2, RFC 3602 section 2) over
// a buffer that starts with the IV, as a packet does from its IV on. Written
// over cipher.Block, since the library's BlockMode carries the IV as state: one
// would be needed for each goroutine and SA. Nothing is lost by it: on amd64 and
// arm64 the library goes block by block too. Each takes len(b) as a multiple of
// the block size, at least one block, the IV.

func encryptCBC16(c cipher.Block, b []byte) {
	h, l := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	for b = b[16:]; len(b) >= 16; b = b[16:] {
		x := b[:16:16]
		binary.LittleEndian.PutUint64(x, binary.LittleEndian.Uint64(x)^h)
		binary.LittleEndian.PutUint64(x[8:], binary.LittleEndian.Uint64(x[8:])^l)
		c.Encrypt(x, x)
		h, l = binary.LittleEndian.Uint64(x), binary.LittleEndian.Uint64(x[8:])
	}
}

// The decrypters go from the last block to the first: the block before is still
// ciphertext then, and no copy is needed.

func decryptCBC16(c cipher.Block, b []byte) {
	for end := len(b); end >= 32; end -= 16 {
		x := b[end-32 : end : end]
		p := x[16:32:32]
		c.Decrypt(p, p)
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^binary.LittleEndian.Uint64(x))
		binary.LittleEndian.PutUint64(p[8:], binary.LittleEndian.Uint64(p[8:])^binary.LittleEndian.Uint64(x[8:]))
	}
}

func encryptCBC8(c cipher.Block, b []byte) {
	v := binary.LittleEndian.Uint64(b)
	for b = b[8:]; len(b) >= 8; b = b[8:] {
		x := b[:8:8]
		binary.LittleEndian.PutUint64(x, binary.LittleEndian.Uint64(x)^v)
		c.Encrypt(x, x)
		v = binary.LittleEndian.Uint64(x)
	}
}

func decryptCBC8(c cipher.Block, b []byte) {
	for end := len(b); end >= 16; end -= 8 {
		x := b[end-16 : end : end]
		p := x[8:16:16]
		c.Decrypt(p, p)
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^binary.LittleEndian.Uint64(x))
	}
}
