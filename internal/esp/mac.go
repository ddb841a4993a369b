package esp

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"hash"
	"sync"

	"oakley/internal/ipsec"
)

// scratch is what one packet needs while it is worked on.
type scratch struct {
	h     hash.Hash                  // nil in the pool of no hash
	state encoding.BinaryUnmarshaler // h again
	sum   [sha512.Size]byte
	block [16]byte // nonce or IV
	aad   [12]byte
	esn   [4]byte
	wide  []byte // grown once, for ICVs that the AEAD cannot check itself
}

// hashAlg is a hash with its pool of work space.
type hashAlg struct {
	new  func() hash.Hash
	pool sync.Pool
}

// hashes has HMAC's hash for each authentication algorithm that is here; the
// first serves transforms without one.
var hashes = [...]*hashAlg{
	ipsec.AuthNone:       newHashAlg(nil),
	ipsec.AuthHMACMD5:    newHashAlg(md5.New),
	ipsec.AuthHMACSHA1:   newHashAlg(sha1.New),
	ipsec.AuthHMACSHA256: newHashAlg(sha256.New),
	ipsec.AuthHMACSHA384: newHashAlg(sha512.New384),
	ipsec.AuthHMACSHA512: newHashAlg(sha512.New),
}

func newHashAlg(newHash func() hash.Hash) *hashAlg {
	a := &hashAlg{new: newHash}
	a.pool.New = func() any {
		s := new(scratch)
		if newHash != nil {
			s.h = newHash()
			s.state = s.h.(encoding.BinaryUnmarshaler)
		}
		return s
	}
	return a
}

func (a *hashAlg) get() *scratch  { return a.pool.Get().(*scratch) }
func (a *hashAlg) put(s *scratch) { a.pool.Put(s) }

// mac is an HMAC (RFC 2104) whose two keyed first blocks were hashed once: a
// packet starts from the saved states, so the key costs nothing per packet.
type mac struct {
	alg          *hashAlg
	inner, outer []byte // saved hash states
	icvLen       int
}

func newMAC(alg *hashAlg, key []byte, icvLen int) (*mac, error) {
	h := alg.new()
	block := make([]byte, h.BlockSize())
	if len(key) > len(block) {
		h.Write(key)
		key = h.Sum(nil)
	}
	save := func(pad byte) ([]byte, error) {
		clear(block)
		copy(block, key)
		for i := range block {
			block[i] ^= pad
		}
		h.Reset()
		h.Write(block)
		return h.(encoding.BinaryMarshaler).MarshalBinary()
	}
	inner, err := save(0x36)
	if err != nil {
		return nil, err
	}
	outer, err := save(0x5c)
	if err != nil {
		return nil, err
	}
	clear(block)
	return &mac{alg: alg, inner: inner, outer: outer, icvLen: icvLen}, nil
}

// sum returns the truncated HMAC of a followed by b, in s.
func (m *mac) sum(s *scratch, a, b []byte) []byte {
	// A state that this package saved is always taken back.
	_ = s.state.UnmarshalBinary(m.inner)
	s.h.Write(a)
	if len(b) > 0 {
		s.h.Write(b)
	}
	d := s.h.Sum(s.sum[:0])
	_ = s.state.UnmarshalBinary(m.outer)
	s.h.Write(d)
	return s.h.Sum(s.sum[:0])[:m.icvLen]
}
