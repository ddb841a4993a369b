// Package ah seals and opens packets with the authentication header (RFC 4302)
// of one security association: whole IP packets in, whole IP packets out, in
// place, without an allocation. The header covers the IP header too, so the
// packets here have theirs. Sequence numbers and the replay window are the
// caller's.
package ah

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"

	"oakley/internal/icv"
	"oakley/internal/ipsec"
)

// fixedLen is the header before IV and ICV (RFC 4302 section 2).
const fixedLen = 12

// gmacIV is the explicit IV of AES-GMAC, at the start of the ICV field (RFC 4543
// section 4).
const gmacIV = 8

// What Seal refuses.
var (
	// ErrSequenceEnd: the SA has used its last sequence number (RFC 4302 section
	// 3.3.2); a new SA is needed.
	ErrSequenceEnd = errors.New("ah: the SA's sequence numbers are used up; it must be replaced")
	// ErrRoom: there is no room for the header before the packet, or the packet
	// would be longer than its length field can say.
	ErrRoom = errors.New("ah: no room for the header")
	// ErrPacket: no IP packet, a fragment (RFC 4302 section 3.3.4 has them made
	// whole before), or headers that lie about their lengths.
	ErrPacket = errors.New("ah: not a whole IP packet")
)

// Transform is one SA made ready for packets. Any number of goroutines may use
// it at the same time.
type Transform struct {
	spi    uint32
	esn    bool
	mac    *icv.MAC    // nil: gmac
	gmac   cipher.AEAD // nil: mac
	salt   [4]byte     // of gmac's nonce
	ivLen  int
	icvLen int
}

// scratch is what one packet needs while it is worked on.
type scratch struct {
	head  []byte // the packet's headers with the mutable fields masked
	all   []byte // what GMAC needs in one piece
	tag   [64]byte
	nonce [12]byte
	high  [4]byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Auths lists the algorithms that New takes.
func Auths() []ipsec.Auth { return append(icv.Auths(), ipsec.AuthAESGMAC) }

// New makes an SA ready. Its errors name the SA, what it has and what is right.
func New(sa *ipsec.SA) (*Transform, error) {
	t, err := build(sa)
	if err != nil {
		return nil, fmt.Errorf("SA %s: %w", sa.ID, err)
	}
	return t, nil
}

func build(sa *ipsec.SA) (*Transform, error) {
	switch {
	case sa.ID.Proto != ipsec.ProtoAH:
		return nil, fmt.Errorf("protocol is %s, this is AH's sealing", sa.ID.Proto)
	case sa.Cipher != ipsec.CipherNone || len(sa.Key) != 0:
		return nil, fmt.Errorf("AH does not encrypt, and the SA has %s", sa.Cipher)
	}
	t := &Transform{spi: uint32(sa.ID.SPI), esn: sa.ESN, icvLen: sa.Auth.Info().ICV}
	var err error
	if sa.Auth != ipsec.AuthAESGMAC {
		if len(sa.Salt) != 0 {
			return nil, fmt.Errorf("%s takes no salt, this one has %d bytes", sa.Auth, len(sa.Salt))
		}
		t.mac, err = icv.New(sa.Auth, sa.AuthKey)
		return t, err
	}
	if n := len(sa.AuthKey); n != 16 && n != 24 && n != 32 {
		return nil, fmt.Errorf("%s takes a key of 16, 24 or 32 bytes, this one has %d", sa.Auth, n)
	}
	if len(sa.Salt) != len(t.salt) {
		return nil, fmt.Errorf("%s takes a salt of %d bytes, this one has %d", sa.Auth, len(t.salt), len(sa.Salt))
	}
	copy(t.salt[:], sa.Salt)
	t.ivLen = gmacIV
	block, err := aes.NewCipher(sa.AuthKey)
	if err == nil {
		t.gmac, err = cipher.NewGCM(block)
	}
	return t, err
}

// HeaderLen is the length of the header in bytes: a multiple of 4 for IPv4 and
// of 8 for IPv6 (RFC 4302 section 2.2).
func (t *Transform) HeaderLen(v6 bool) int {
	n := fixedLen + t.ivLen + t.icvLen
	if v6 {
		return (n + 7) &^ 7
	}
	return (n + 3) &^ 3
}

// Seal puts an authentication header into the IP packet at buf[off:][:n], behind
// those of its headers that come before one (RFC 4302 section 3.1.1), and mends
// the packet's length, protocol and checksum. The packet's headers move to the
// front: HeaderLen bytes before off are used. In tunnel mode the packet has its
// outer header already.
//
// seq must be given to no other packet of the SA; 0 is never sent.
func (t *Transform) Seal(buf []byte, off, n int, seq uint64) (pkt []byte, err error) {
	if seq == 0 || (!t.esn && seq > math.MaxUint32) {
		return nil, ErrSequenceEnd
	}
	if off < 0 || n < 0 || off > len(buf) || n > len(buf)-off {
		return nil, ErrRoom
	}
	at, ok := place(buf[off:][:n])
	if !ok {
		return nil, ErrPacket
	}
	v6 := buf[off]>>4 == 6
	size := t.HeaderLen(v6)
	if off < size || n+size > math.MaxUint16 {
		return nil, ErrRoom
	}
	pkt = buf[off-size:][:n+size]
	copy(pkt, buf[off:][:at.offset])
	h := pkt[at.offset:][:size]
	clear(h)
	h[0], h[1] = pkt[at.next], uint8(size/4-2)
	binary.BigEndian.PutUint32(h[4:], t.spi)
	binary.BigEndian.PutUint32(h[8:], uint32(seq))
	if t.gmac != nil {
		binary.BigEndian.PutUint64(h[fixedLen:], seq)
	}
	pkt[at.next] = uint8(ipsec.ProtoAH)
	setLength(pkt)
	s := scratches.Get().(*scratch)
	copy(h[fixedLen+t.ivLen:], t.sum(s, pkt, at.offset, uint32(seq>>32)))
	scratches.Put(s)
	return pkt, nil
}

// Open proves a whole IP packet that has an authentication header of this SA,
// takes the header out in place and mends length, next header and checksum. What
// comes back is the packet without it; the caller has looked into the replay
// window before and marks it after. DropShort: there cannot be such a header.
// DropAuth: forged, damaged, changed where no router changes anything, or of
// another SA. A fragment is DropMalformed. What is refused is as it was.
func (t *Transform) Open(pkt []byte, seqHigh uint32) (inner []byte, drop ipsec.Drop) {
	at, ok := find(pkt)
	if !ok {
		return nil, ipsec.DropMalformed
	}
	rest := pkt[at.offset:]
	least := fixedLen + t.ivLen + t.icvLen
	if len(rest) < least {
		return nil, ipsec.DropShort
	}
	// Some pad to 64 bits in IPv4 as well; the padding is authentic like the rest.
	size := (int(rest[1]) + 2) * 4
	if size < least || size >= least+8 || size > len(rest) {
		return nil, ipsec.DropShort
	}
	got := rest[fixedLen+t.ivLen:][:t.icvLen]
	s := scratches.Get().(*scratch)
	var claimed [64]byte
	copy(claimed[:], got)
	clear(got)
	ok = subtle.ConstantTimeCompare(t.sum(s, pkt, at.offset, seqHigh), claimed[:t.icvLen]) == 1
	scratches.Put(s)
	if !ok {
		copy(got, claimed[:])
		return nil, ipsec.DropAuth
	}
	pkt[at.next] = rest[0]
	copy(pkt[size:], pkt[:at.offset])
	inner = pkt[size:]
	setLength(inner)
	return inner, ipsec.DropNone
}

// sum is the ICV of a packet whose ICV field is zero (RFC 4302 section 3.3.3):
// of its headers with the mutable fields masked, of all that follows, and of the
// high half of an extended sequence number.
func (t *Transform) sum(s *scratch, pkt []byte, at int, seqHigh uint32) []byte {
	s.head = append(s.head[:0], pkt[:at]...)
	mask(s.head)
	var high []byte
	if t.esn {
		binary.BigEndian.PutUint32(s.high[:], seqHigh)
		high = s.high[:]
	}
	if t.mac != nil {
		t.mac.Sum(s.tag[:], s.head, pkt[at:], high)
		return s.tag[:t.icvLen]
	}
	s.all = append(append(append(s.all[:0], s.head...), pkt[at:]...), high...)
	copy(s.nonce[:], t.salt[:])
	copy(s.nonce[4:], pkt[at+fixedLen:][:gmacIV])
	return t.gmac.Seal(s.tag[:0], s.nonce[:], nil, s.all)
}

// ParseHeader reads SPI and sequence number of an IP packet's authentication
// header. It is false when the packet has none, or ends before it does.
func ParseHeader(pkt []byte) (spi ipsec.SPI, seq uint32, ok bool) {
	at, ok := find(pkt)
	if !ok || len(pkt) < at.offset+fixedLen {
		return 0, 0, false
	}
	h := pkt[at.offset:]
	return ipsec.SPI(binary.BigEndian.Uint32(h[4:])), binary.BigEndian.Uint32(h[8:]), true
}
