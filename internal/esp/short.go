package esp

import "crypto/subtle"

// The library's GCM makes tags of 12 to 16 bytes. RFC 4106 has one of 8, which
// is the first half of the long one; sealing is cutting, and opening is sealing
// the plaintext once more and comparing. That takes a second pass and a copy:
// ICVs of 8 bytes are for old peers, not for speed.

func (t *Transform) sealShort(s *scratch, pkt []byte, end int, nonce, aad []byte) {
	head := t.HeaderLen()
	s.wide = t.aead.Seal(s.wide[:0], nonce, pkt[head:end], aad)
	copy(pkt[head:], s.wide[:end-head+t.icvLen])
}

func (t *Transform) openShort(s *scratch, pkt []byte, end int, nonce, aad []byte) bool {
	head := t.HeaderLen()
	n := end - head
	// Counter mode undoes itself: this makes the plaintext, and a tag of no use.
	s.wide = t.aead.Seal(s.wide[:0], nonce, pkt[head:end], aad)
	again := len(s.wide) + n
	s.wide = t.aead.Seal(s.wide, nonce, s.wide[:n], aad)
	if subtle.ConstantTimeCompare(s.wide[again:again+t.icvLen], pkt[end:]) != 1 {
		return false
	}
	copy(pkt[head:end], s.wide)
	return true
}
