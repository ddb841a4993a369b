package esp

import (
	"encoding/binary"
	"errors"
	"math"
)

// What Seal refuses; all of it is the caller's mistake but ErrSequenceEnd.
var (
	// ErrSequenceEnd: the SA has used its last sequence number. Nothing may be
	// sent on it any more (RFC 4303 section 3.3.3); a new SA is needed.
	ErrSequenceEnd = errors.New("esp: the SA's sequence numbers are used up; it must be replaced")
	// ErrRoom: the buffer has less head or tail room than HeaderLen and
	// TrailerMax ask for.
	ErrRoom = errors.New("esp: buffer without room for header, padding and ICV")
	// ErrIncoming: an incoming SA has no IV generator.
	ErrIncoming = errors.New("esp: seal with an incoming SA")
)

// padding is 1, 2, 3, ... (RFC 4303 section 2.4).
var padding = func() (p [255]byte) {
	for i := range p {
		p[i] = byte(i + 1)
	}
	return p
}()

// Seal makes an ESP packet around the n bytes of plaintext at buf[off:], in
// place: the header goes into the HeaderLen bytes before off, padding, trailer
// and ICV into the up to TrailerMax bytes behind. It returns the part of buf
// from SPI to ICV. next is the plaintext's protocol: 4 and 41 in tunnel mode,
// 59 for a dummy packet.
//
// seq must be given to no other packet of the SA: the IV, and with it the
// secrecy of everything sent, is made from it. 0 is never sent, and without
// extended sequence numbers nothing above 2^32-1; both are ErrSequenceEnd, since
// both are what a counter looks like that went too far.
func (t *Transform) Seal(buf []byte, off, n int, next uint8, seq uint64) (pkt []byte, err error) {
	if seq == 0 || (!t.esn && seq > math.MaxUint32) {
		return nil, ErrSequenceEnd
	}
	head := t.HeaderLen()
	if n < 0 || off < head || off > len(buf) || n > len(buf)-off {
		return nil, ErrRoom
	}
	size := t.SealedLen(n)
	if size > len(buf)-(off-head) {
		return nil, ErrRoom
	}
	pkt = buf[off-head:][:size:size]
	end := size - t.icvLen // of the ciphertext
	pad := end - trailerLen - head - n
	copy(pkt[head+n:], padding[:pad])
	pkt[end-2] = byte(pad)
	pkt[end-1] = next
	binary.BigEndian.PutUint32(pkt, t.spi)
	binary.BigEndian.PutUint32(pkt[4:], uint32(seq))

	if t.aead != nil {
		t.sealAEAD(pkt, end, seq)
		return pkt, nil
	}
	if t.block != nil && t.ivGen == nil {
		return nil, ErrIncoming
	}
	t.sealCBC(pkt, end, seq)
	return pkt, nil
}

// sealAEAD encrypts and authenticates with a combined mode. The IV is the
// sequence number: RFC 4106 section 3.1 asks for one that is used once.
func (t *Transform) sealAEAD(pkt []byte, end int, seq uint64) {
	head := t.HeaderLen()
	binary.BigEndian.PutUint64(pkt[baseHeader:], seq)
	alg := hashes[0]
	s := alg.get()
	nonce, aad := t.nonceAndAAD(s, pkt, uint32(seq>>32))
	if t.icvLen < t.aead.Overhead() {
		t.sealShort(s, pkt, end, nonce, aad)
	} else {
		t.aead.Seal(pkt[head:head], nonce, pkt[head:end], aad)
	}
	alg.put(s)
}

// nonceAndAAD puts together the nonce, salt and IV (RFC 4106 section 4), and
// what is authenticated beside the ciphertext (section 5).
func (t *Transform) nonceAndAAD(s *scratch, pkt []byte, seqHigh uint32) (nonce, aad []byte) {
	copy(s.block[:4], t.salt[:])
	copy(s.block[4:12], pkt[baseHeader:])
	if !t.esn {
		copy(s.aad[:8], pkt)
		return s.block[:12], s.aad[:8]
	}
	copy(s.aad[:4], pkt)
	binary.BigEndian.PutUint32(s.aad[4:], seqHigh)
	copy(s.aad[8:], pkt[4:8])
	return s.block[:12], s.aad[:12]
}

// sealCBC encrypts with a block cipher, or not at all, and then authenticates
// header, IV and ciphertext.
func (t *Transform) sealCBC(pkt []byte, end int, seq uint64) {
	alg := hashes[0]
	if t.mac != nil {
		alg = t.mac.alg
	}
	s := alg.get()
	if t.block != nil {
		t.makeIV(s, pkt[baseHeader:baseHeader+t.ivLen], seq)
		if t.ivLen == 16 {
			encryptCBC16(t.block, pkt[baseHeader:end])
		} else {
			encryptCBC8(t.block, pkt[baseHeader:end])
		}
	}
	if t.mac != nil {
		var high []byte
		if t.esn {
			binary.BigEndian.PutUint32(s.esn[:], uint32(seq>>32))
			high = s.esn[:]
		}
		copy(pkt[end:], t.mac.sum(s, pkt[:end], high))
	}
	alg.put(s)
}

// makeIV encrypts the sequence number under the SA's IV key. CBC wants an IV
// that nobody can foretell (RFC 3602 section 3); a counter under a secret key
// is that, never repeats with 16 bytes, and costs one block instead of a call
// for randomness. Eight-byte blocks take the first half.
func (t *Transform) makeIV(s *scratch, iv []byte, seq uint64) {
	clear(s.block[:8])
	binary.BigEndian.PutUint64(s.block[8:], seq)
	t.ivGen.Encrypt(s.block[:], s.block[:])
	copy(iv, s.block[:])
}
