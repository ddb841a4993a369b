package esp

import (
	"bytes"
	"crypto/subtle"

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
	if end-head < trailerLen || (t.block != nil && (end-head)&(t.align-1) != 0) {
		return nil, 0, ipsec.DropShort
	}
	if t.aead != nil {
		if !t.openAEAD(pkt, end, seqHigh) {
			return nil, 0, ipsec.DropAuth
		}
	} else {
		if t.mac != nil && !t.verify(pkt, end, seqHigh) {
			return nil, 0, ipsec.DropAuth
		}
		switch {
		case t.block == nil:
		case t.ivLen == 16:
			decryptCBC16(t.block, pkt[baseHeader:end])
		default:
			decryptCBC8(t.block, pkt[baseHeader:end])
		}
	}
	pad := int(pkt[end-2])
	stop := end - trailerLen - pad
	if stop < head || !bytes.Equal(pkt[stop:end-trailerLen], padding[:pad]) {
		return nil, 0, ipsec.DropPadding
	}
	return pkt[head:stop:stop], pkt[end-1], ipsec.DropNone
}

func (t *Transform) verify(pkt []byte, end int, seqHigh uint32) bool {
	s := t.mac.alg.get()
	ok := subtle.ConstantTimeCompare(t.mac.sum(s, pkt[:end], t.highBytes(s, seqHigh)), pkt[end:]) == 1
	t.mac.alg.put(s)
	return ok
}

func (t *Transform) openAEAD(pkt []byte, end int, seqHigh uint32) bool {
	head := t.HeaderLen()
	alg := hashes[0]
	s := alg.get()
	nonce, aad := t.nonceAndAAD(s, pkt, seqHigh)
	ok := false
	if t.icvLen < t.aead.Overhead() {
		ok = t.openShort(s, pkt, end, nonce, aad)
	} else {
		_, err := t.aead.Open(pkt[head:head], nonce, pkt[head:], aad)
		ok = err == nil
	}
	alg.put(s)
	return ok
}
