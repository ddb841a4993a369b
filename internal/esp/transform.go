// Package esp seals and opens ESP packets (RFC 4303) with one security
// association: bytes in, bytes out, in place, without an allocation. Sequence
// numbers and the replay window are the caller's; this package turns a number
// into a header and an IV and proves that a packet carries what it says.
package esp

import (
	"crypto/cipher"
	"encoding/binary"

	"oakley/internal/icv"
	"oakley/internal/ipsec"
)

// baseHeader is SPI and sequence number (RFC 4303 section 2).
const baseHeader = 8

// trailerLen is pad length and next header.
const trailerLen = 2

// Transform is one SA made ready for packets: expanded keys and precomputed
// HMAC states. It holds nothing that a packet changes, so any number of
// goroutines may Seal and Open with one Transform at the same time; what a
// packet needs for the moment comes from a pool that all SAs share, so that a
// hundred thousand idle SAs do not each hold work space for every processor.
type Transform struct {
	spi    uint32
	esn    bool
	align  int // the ciphertext's length is a multiple of this, at least 4
	ivLen  int
	icvLen int

	mode  mode
	aead  cipher.AEAD  // of combined modes and, for its keystream, of counter mode
	salt  [4]byte      // of the nonce
	block cipher.Block // of CBC and of counter mode
	ivGen cipher.Block // makes CBC's IVs; nil for an incoming SA
	mac   *icv.MAC     // nil: none or a combined mode
}

// mode is how a cipher is used.
type mode uint8

const (
	modeNull  mode = iota
	modeCBC        // RFC 2451
	modeCTR        // RFC 3686
	modeAEAD       // RFC 4106, RFC 7634
	modeShort      // the same with an ICV of 8 bytes
	modeGMAC       // RFC 4543: authenticates and encrypts nothing
)

// combined tells whether the cipher makes the ICV.
func (m mode) combined() bool { return m >= modeAEAD }

// Overhead is the largest number of bytes that Seal adds to a packet.
func (t *Transform) Overhead() int { return t.HeaderLen() + t.TrailerMax() }

// HeaderLen is the room Seal needs before the plaintext: SPI, sequence number
// and IV, in bytes.
func (t *Transform) HeaderLen() int { return baseHeader + t.ivLen }

// TrailerMax is the room Seal may need after the plaintext: padding, pad
// length, next header and ICV, in bytes.
func (t *Transform) TrailerMax() int { return t.align - 1 + trailerLen + t.icvLen }

// SealedLen is the exact length of the packet that Seal makes of n bytes.
func (t *Transform) SealedLen(n int) int {
	return t.HeaderLen() + n + t.padLen(n) + trailerLen + t.icvLen
}

// MaxPlain is the largest plaintext whose sealed packet has no more than size
// bytes; 0 when there is none.
func (t *Transform) MaxPlain(size int) int {
	room := size - t.HeaderLen() - t.icvLen
	return max(0, room-room%t.align-trailerLen)
}

// padLen is the number of padding bytes, pad length and next header not
// counted, after n bytes of plaintext (RFC 4303 section 2.4).
func (t *Transform) padLen(n int) int { return -(n + trailerLen) & (t.align - 1) }

// ParseHeader reads SPI and sequence number of an ESP packet, b being what
// follows the IP or UDP header. It is false when b is too short to have them.
func ParseHeader(b []byte) (spi ipsec.SPI, seq uint32, ok bool) {
	if len(b) < baseHeader {
		return 0, 0, false
	}
	return ipsec.SPI(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:]), true
}
