package userspace

import (
	"encoding/binary"
	"net/netip"
)

// Room for what SAs put around a packet: an SA in tunnel mode takes 40 bytes of
// IPv6 header and 44 of AH at most in front, and 15+2+32 bytes of ESP behind.
const (
	maxLayers  = 8 // SAs that are applied to one packet
	layersHead = maxLayers * 96
	layersTail = maxLayers * 64
)

// Protocol numbers of what may stand between an IP header and its payload.
const (
	protoHopByHop = 0
	protoRouting  = 43
	protoFragment = 44
	protoDestOpts = 60
)

// packet is a whole IP packet in the middle of a buffer.
type packet struct {
	buf    []byte
	off, n int
}

func (c *packet) bytes() []byte { return c.buf[c.off:][:c.n] }

// spot is where a packet's payload is, as transport mode sees it.
type spot struct {
	at   int // of the payload
	next int // of the byte that says what the payload is
}

// split finds the payload that transport mode protects: behind the IPv4 header,
// or behind those IPv6 extension headers that routers look at (RFC 4303 section
// 3.1.1). It is false for what is no whole packet: a fragment (section 3.3.4), or
// lengths that lie.
func split(pkt []byte) (s spot, ok bool) {
	if len(pkt) < 20 {
		return s, false
	}
	if pkt[0]>>4 == 4 {
		n := int(pkt[0]&15) * 4
		fragment := binary.BigEndian.Uint16(pkt[6:])&0x3fff != 0
		return spot{n, 9}, !fragment && n >= 20 && n <= len(pkt) && int(binary.BigEndian.Uint16(pkt[2:])) == len(pkt)
	}
	if pkt[0]>>4 != 6 || len(pkt) < 40 || int(binary.BigEndian.Uint16(pkt[4:]))+40 != len(pkt) {
		return s, false
	}
	s = spot{40, 6}
	here := s
	for range maxLayers {
		kind := pkt[here.next]
		switch kind {
		case protoFragment:
			return s, false
		case protoHopByHop, protoRouting, protoDestOpts:
		default:
			return s, true
		}
		if len(pkt) < here.at+8 {
			return s, false
		}
		size := (int(pkt[here.at+1]) + 1) * 8
		if here.at+size > len(pkt) {
			return s, false
		}
		here = spot{here.at + size, here.at}
		if kind != protoDestOpts { // those are the last host's, unless a routing header follows
			s = here
		}
	}
	return s, false
}

// last is the spot behind every extension header that an incoming packet may
// have before an IPsec header.
func last(pkt []byte) (s spot, ok bool) {
	if s, ok = split(pkt); !ok || pkt[0]>>4 == 4 {
		return s, ok
	}
	for range maxLayers {
		if pkt[s.next] != protoDestOpts {
			return s, true
		}
		if len(pkt) < s.at+8 {
			return s, false
		}
		size := (int(pkt[s.at+1]) + 1) * 8
		if s.at+size > len(pkt) {
			return s, false
		}
		s = spot{s.at + size, s.at}
	}
	return s, false
}

// mend writes a packet's length, which has changed, and an IPv4 checksum.
func mend(pkt []byte) {
	if pkt[0]>>4 == 6 {
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
		return
	}
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	h := pkt[:int(pkt[0]&15)*4]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^fold(sum(h, 0)))
}

// sum adds the 16-bit words of b to a one's complement sum.
func sum(b []byte, s uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func headerLen(v6 bool) int {
	if v6 {
		return 40
	}
	return 20
}

// putHeader writes an IP header without options over the front of pkt, whose
// length is final. id is IPv4's identification.
func putHeader(pkt []byte, src, dst netip.Addr, proto, tos, ttl uint8, dontFrag bool, id uint16) {
	if src.Is6() {
		pkt[0], pkt[1], pkt[2], pkt[3] = 0x60|tos>>4, tos<<4, 0, 0
		pkt[6], pkt[7] = proto, ttl
		s, d := src.As16(), dst.As16()
		copy(pkt[8:], s[:])
		copy(pkt[24:], d[:])
	} else {
		pkt[0], pkt[1] = 0x45, tos
		binary.BigEndian.PutUint16(pkt[4:], id)
		pkt[6], pkt[7] = 0, 0
		if dontFrag {
			pkt[6] = 0x40
		}
		pkt[8], pkt[9] = ttl, proto
		s, d := src.As4(), dst.As4()
		copy(pkt[12:], s[:])
		copy(pkt[16:], d[:])
	}
	mend(pkt)
}

func tosOf(pkt []byte) uint8 {
	if pkt[0]>>4 == 6 {
		return pkt[0]<<4 | pkt[1]>>4
	}
	return pkt[1]
}

func setTOS(pkt []byte, tos uint8) {
	if pkt[0]>>4 == 6 {
		pkt[0], pkt[1] = 0x60|tos>>4, tos<<4|pkt[1]&15
		return
	}
	pkt[1] = tos
	mend(pkt)
}

// Congestion marks (RFC 3168).
const (
	ecnMask = 3
	ecnNot  = 0
	ecnCE   = 3
)

// outward is the outer class of a packet with this inner one: the normal mode of
// RFC 6040 section 4.1.
func outward(tos uint8) uint8 { return tos }

// inward gives an inner packet the congestion mark of its outer header (RFC 6040
// section 4.2). False: the outer header says that the packet met congestion, and
// the inner one that its ends do not know about marks: it is to be dropped.
func inward(pkt []byte, outer uint8) bool {
	in := tosOf(pkt)
	out := outer & ecnMask
	switch {
	case out == ecnCE && in&ecnMask == ecnNot:
		return false
	case out == ecnCE && in&ecnMask != ecnCE, out == 1 && in&ecnMask == 2:
		setTOS(pkt, in&^ecnMask|out)
	}
	return true
}

// versionNext is the protocol number of an IP packet in another.
func versionNext(pkt []byte) uint8 {
	if pkt[0]>>4 == 6 {
		return nextIPv6
	}
	return nextIPv4
}

// destination is where a packet that was split goes.
func destination(pkt []byte) netip.Addr {
	if pkt[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(pkt[24:40]))
	}
	return netip.AddrFrom4([4]byte(pkt[16:20]))
}

func source(pkt []byte) netip.Addr {
	if pkt[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(pkt[8:24]))
	}
	return netip.AddrFrom4([4]byte(pkt[12:16]))
}
