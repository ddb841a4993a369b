package esp

import (
	"bytes"

	"oakley/internal/ipsec"
)

// Open proves and decrypts an ESP packet, from SPI to ICV, in place, and returns
// the part of pkt that is the plaintext and its protocol. seqHigh is the high
// half of the sequence number as the receiver infers it; it counts for extended
// sequence numbers alone.
//
// The order is that of RFC 4303 section 3.4: lengths, ICV in constant time,
// decryption, padding; the caller has looked into the replay window before and
// marks it after. A reason other than DropNone means that nothing came out; what
// is in pkt then is of no use. DropShort: there cannot be a header, IV,
// ciphertext and ICV, or the ciphertext is no whole number of blocks. DropAuth:
// forged, damaged, or of another SA. DropPadding: authentic, but not padded by
// section 2.4. Whatever the next header says is returned: whether it fits the
// SA's mode is for the caller to judge.
func (t *Transform) Open(pkt []byte, seqHigh uint32) (inner []byte, next uint8, drop ipsec.Drop) {
	head := t.HeaderLen()
	end := len(pkt) - t.icvLen // of the ciphertext
	if end-head < trailerLen || (t.mode == modeCBC && (end-head)&(t.align-1) != 0) {
		return nil, 0, ipsec.DropShort
	}
	s := scratches.Get().(*scratch)
	ok := t.reveal(s, pkt, end, seqHigh)
	scratches.Put(s)
	if !ok {
		return nil, 0, ipsec.DropAuth
	}
	pad := int(pkt[end-2])
	stop := end - trailerLen - pad
	if stop < head || !bytes.Equal(pkt[stop:end-trailerLen], padding[:pad]) {
		return nil, 0, ipsec.DropPadding
	}
	return pkt[head:stop:stop], pkt[end-1], ipsec.DropNone
}

// reveal proves a packet and decrypts it up to end.
func (t *Transform) reveal(s *scratch, pkt []byte, end int, seqHigh uint32) bool {
	if t.mac != nil && !t.mac.Verify(pkt[end:], pkt[:end], t.highBytes(s, seqHigh), nil) {
		return false
	}
	head := t.HeaderLen()
	nonce := t.nonce(s, pkt)
	switch t.mode {
	case modeCBC:
		if t.ivLen == 16 {
			decryptCBC16(t.block, pkt[baseHeader:end])
		} else {
			decryptCBC8(t.block, pkt[baseHeader:end])
		}
	case modeCTR:
		t.counter(s, pkt[head:end], nonce)
	case modeAEAD:
		_, err := t.aead.Open(pkt[head:head], nonce, pkt[head:], t.aad(s, pkt, seqHigh))
		return err == nil
	case modeShort:
		return t.openShort(s, pkt, end, nonce, t.aad(s, pkt, seqHigh))
	case modeGMAC:
		_, err := t.aead.Open(s.block[:0], nonce, pkt[end:], t.gmacAAD(s, pkt, end, seqHigh))
		return err == nil
	}
	return true
}
