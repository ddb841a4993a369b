package oakley

import (
	"encoding/binary"

	"oakley/internal/doi"
)

func messageID(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }

// Hash1 is HASH(1): prf(SKEYID_a, M-ID | rest), where rest is all of the message
// after the hash payload (RFC 2409 section 5.5, and 5.7 for informational
// exchanges).
func (k *Keys) Hash1(msgid uint32, rest []byte) []byte {
	return PRF(k.hash, k.a(), messageID(msgid), rest)
}

// Hash2 is HASH(2): prf(SKEYID_a, M-ID | Ni_b | rest) (RFC 2409 section 5.5).
func (k *Keys) Hash2(msgid uint32, ni, rest []byte) []byte {
	return PRF(k.hash, k.a(), messageID(msgid), ni, rest)
}

// Hash3 is HASH(3): prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b) (RFC 2409 section
// 5.5).
func (k *Keys) Hash3(msgid uint32, ni, nr []byte) []byte {
	return PRF(k.hash, k.a(), []byte{0}, messageID(msgid), ni, nr)
}

// KeyMat is n bytes of keying material for one SA: prf(SKEYID_d, [g(qm)^xy |]
// protocol | SPI | Ni_b | Nr_b), fed back until it is long enough (RFC 2409
// section 5.5). gxy is nil without PFS; the SPI is that of the SA's receiver.
func (k *Keys) KeyMat(gxy []byte, proto doi.Protocol, spi []byte, ni, nr []byte, n int) []byte {
	return feedback(k.hash, k.d(), nil, [][]byte{gxy, {byte(proto)}, spi, ni, nr}, n)
}
