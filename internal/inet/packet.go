// Package inet reads and writes IP packets where IPsec has to: headers before
// and behind a payload, lengths and checksums, the pieces of a packet that is
// too long, and the whole of pieces that came. Bytes in, bytes out.
package inet

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers of what may stand between an IPv6 header and its payload.
const (
	HopByHop = 0
	Routing  = 43
	fragment = 44
	DestOpts = 60
)

// maxHeaders bounds the extension headers of a packet: RFC 8200 section 4.1
// knows six, one of which may be there twice.
const maxHeaders = 8

// Spot is a place in a packet, and where what is there gets its name.
type Spot struct {
	At   int // of the payload
	Next int // of the byte that says what the payload is
}

// Payload finds what transport mode protects: what is behind the IPv4 header, or
// behind those IPv6 extension headers that routers look at (RFC 4303 section
// 3.1.1). It is false for what is no whole packet: a fragment (section 3.3.4), or
// lengths that lie.
func Payload(pkt []byte) (s Spot, ok bool) {
	s, _, ok = walk(pkt)
	return s, ok
}

// walk is Payload; here is as far as it looked, with the last host's destination
// options behind it.
func walk(pkt []byte) (s, here Spot, ok bool) {
	if len(pkt) < 20 {
		return s, s, false
	}
	if pkt[0]>>4 == 4 {
		n := int(pkt[0]&15) * 4
		piece := binary.BigEndian.Uint16(pkt[6:])&0x3fff != 0
		s = Spot{n, 9}
		return s, s, !piece && n >= 20 && n <= len(pkt) && int(binary.BigEndian.Uint16(pkt[2:])) == len(pkt)
	}
	if pkt[0]>>4 != 6 || len(pkt) < 40 || int(binary.BigEndian.Uint16(pkt[4:]))+40 != len(pkt) {
		return s, s, false
	}
	s = Spot{40, 6}
	here = s
	for range maxHeaders {
		kind := pkt[here.Next]
		switch kind {
		case HopByHop, Routing, DestOpts:
		case fragment:
			return s, here, false
		default:
			return s, here, true
		}
		if here, ok = skip(pkt, here); !ok {
			return s, here, false
		}
		if kind != DestOpts { // those are the last host's, unless a routing header follows
			s = here
		}
	}
	return s, here, false
}

// skip goes behind the extension header at a spot.
func skip(pkt []byte, s Spot) (Spot, bool) {
	if len(pkt) < s.At+8 {
		return s, false
	}
	end := s.At + (int(pkt[s.At+1])+1)*8
	return Spot{end, s.At}, end <= len(pkt)
}

// Last is the spot behind every extension header that an incoming packet may
// have before an IPsec header.
func Last(pkt []byte) (Spot, bool) {
	_, here, ok := walk(pkt)
	return here, ok
}

// Mend writes a packet's length, which has changed, and an IPv4 checksum.
func Mend(pkt []byte) {
	if pkt[0]>>4 == 6 {
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
		return
	}
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	h := pkt[:int(pkt[0]&15)*4]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^Fold(Sum(h, 0)))
}

// Sum adds the 16-bit words of b to a one's complement sum.
func Sum(b []byte, s uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

// Fold makes a sum one of 16 bits.
func Fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// HeaderLen is the length in bytes of a header without options or extensions.
func HeaderLen(v6 bool) int {
	if v6 {
		return 40
	}
	return 20
}

// Header is an IP header without options.
type Header struct {
	Src, Dst netip.Addr // of one family, which is the header's
	Proto    uint8
	TOS, TTL uint8
	DontFrag bool   // IPv4
	ID       uint16 // IPv4
}

// Put writes the header over the front of pkt, whose length is final.
func (h *Header) Put(pkt []byte) {
	if h.Src.Is6() {
		pkt[0], pkt[1], pkt[2], pkt[3] = 0x60|h.TOS>>4, h.TOS<<4, 0, 0
		pkt[6], pkt[7] = h.Proto, h.TTL
		s, d := h.Src.As16(), h.Dst.As16()
		copy(pkt[8:], s[:])
		copy(pkt[24:], d[:])
	} else {
		pkt[0], pkt[1] = 0x45, h.TOS
		binary.BigEndian.PutUint16(pkt[4:], h.ID)
		pkt[6], pkt[7] = 0, 0
		if h.DontFrag {
			pkt[6] = 0x40
		}
		pkt[8], pkt[9] = h.TTL, h.Proto
		s, d := h.Src.As4(), h.Dst.As4()
		copy(pkt[12:], s[:])
		copy(pkt[16:], d[:])
	}
	Mend(pkt)
}

// TOS is a packet's class octet.
func TOS(pkt []byte) uint8 {
	if pkt[0]>>4 == 6 {
		return pkt[0]<<4 | pkt[1]>>4
	}
	return pkt[1]
}

// SetTOS changes it.
func SetTOS(pkt []byte, tos uint8) {
	if pkt[0]>>4 == 6 {
		pkt[0], pkt[1] = 0x60|tos>>4, tos<<4|pkt[1]&15
		return
	}
	pkt[1] = tos
	Mend(pkt)
}

// Destination is where a packet with a whole header goes.
func Destination(pkt []byte) netip.Addr {
	if pkt[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(pkt[24:40]))
	}
	return netip.AddrFrom4([4]byte(pkt[16:20]))
}

// Source is where it comes from.
func Source(pkt []byte) netip.Addr {
	if pkt[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(pkt[8:24]))
	}
	return netip.AddrFrom4([4]byte(pkt[12:16]))
}
