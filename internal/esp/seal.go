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

	if t.mode == modeCBC && t.ivGen == nil {
		return nil, ErrIncoming
	}
	s := scratches.Get().(*scratch)
	t.makeIV(s, pkt[baseHeader:head], seq)
	t.protect(s, pkt, end, uint32(seq>>32))
	scratches.Put(s)
	return pkt, nil
}

// makeIV fills in the IV. Combined modes and counter mode ask for one that is
// used once (RFC 4106 section 3.1, RFC 3686 section 3.1): the sequence number.
// CBC asks for one that nobody can foretell (RFC 3602 section 3): the sequence
// number encrypted under the SA's IV key, which costs one block instead of a call
// for randomness, and never repeats with 16 bytes. Eight-byte blocks take the
// first half.
func (t *Transform) makeIV(s *scratch, iv []byte, seq uint64) {
	switch t.mode {
	case modeNull:
	case modeCBC:
		clear(s.block[:8])
		binary.BigEndian.PutUint64(s.block[8:], seq)
		t.ivGen.Encrypt(s.block[:], s.block[:])
		copy(iv, s.block[:])
	default:
		binary.BigEndian.PutUint64(iv, seq)
	}
}

// protect encrypts a packet that is otherwise complete, up to end, and puts the
// ICV behind.
func (t *Transform) protect(s *scratch, pkt []byte, end int, seqHigh uint32) {
	head := t.HeaderLen()
	nonce := t.nonce(s, pkt)
	switch t.mode {
	case modeCBC:
		if t.ivLen == 16 {
			encryptCBC16(t.block, pkt[baseHeader:end])
		} else {
			encryptCBC8(t.block, pkt[baseHeader:end])
		}
	case modeCTR:
		t.counter(s, pkt[head:end], nonce)
	case modeAEAD:
		t.aead.Seal(pkt[head:head], nonce, pkt[head:end], t.aad(s, pkt, seqHigh))
	case modeShort:
		t.sealShort(s, pkt, end, nonce, t.aad(s, pkt, seqHigh))
	case modeGMAC:
		t.aead.Seal(pkt[end:end], nonce, nil, t.gmacAAD(s, pkt, end, seqHigh))
	}
	if t.mac != nil {
		t.mac.Sum(pkt[end:], pkt[:end], t.highBytes(s, seqHigh), nil)
	}
}

// highBytes is what is authenticated behind the packet and not sent: the high
// half of an extended sequence number (RFC 4303 section 2.2.1).
func (t *Transform) highBytes(s *scratch, seqHigh uint32) []byte {
	if !t.esn {
		return nil
	}
	binary.BigEndian.PutUint32(s.high[:], seqHigh)
	return s.high[:]
}

// nonce is salt and IV (RFC 4106 section 4, RFC 3686 section 4). Without an IV
// of 8 bytes it means nothing.
func (t *Transform) nonce(s *scratch, pkt []byte) []byte {
	copy(s.block[:4], t.salt[:])
	copy(s.block[4:12], pkt[baseHeader:])
	return s.block[:12]
}

// aad is what combined modes authenticate beside the ciphertext (RFC 4106
// section 5).
func (t *Transform) aad(s *scratch, pkt []byte, seqHigh uint32) []byte {
	if !t.esn {
		copy(s.aad[:8], pkt)
		return s.aad[:8]
	}
	copy(s.aad[:4], pkt)
	binary.BigEndian.PutUint32(s.aad[4:], seqHigh)
	copy(s.aad[8:], pkt[4:8])
	return s.aad[:12]
}

// gmacAAD is all of the packet up to its ICV, with the whole sequence number
// (RFC 4543 section 3.3; figure 4 shows that the IV is part of it).
func (t *Transform) gmacAAD(s *scratch, pkt []byte, end int, seqHigh uint32) []byte {
	if !t.esn {
		return pkt[:end]
	}
	s.wide = append(s.wide[:0], pkt[:4]...)
	s.wide = binary.BigEndian.AppendUint32(s.wide, seqHigh)
	s.wide = append(s.wide, pkt[4:end]...)
	return s.wide
}
