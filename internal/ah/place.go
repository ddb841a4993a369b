package ah

import (
	"encoding/binary"

	"oakley/internal/ipsec"
)

// IP protocol numbers of IPv6 extension headers.
const (
	protoHopByHop = 0
	protoRouting  = 43
	protoFragment = 44
	protoDestOpts = 60
)

// maxHeaders bounds the extension headers of a packet (RFC 8200 section 4.1 has
// six, one of them twice).
const maxHeaders = 8

// spot is where an authentication header is or goes.
type spot struct {
	offset int
	next   int // of the byte that says what is at offset
}

// headersOf checks a packet's fixed header and gives the spot behind it, for
// IPv4 behind its options. False: no whole packet.
func headersOf(pkt []byte) (at spot, v6, ok bool) {
	if len(pkt) < 20 {
		return at, false, false
	}
	switch pkt[0] >> 4 {
	case 4:
		n := int(pkt[0]&15) * 4
		whole := binary.BigEndian.Uint16(pkt[6:])&0x3fff == 0
		return spot{n, 9}, false, whole && n >= 20 && n <= len(pkt) && int(binary.BigEndian.Uint16(pkt[2:])) == len(pkt)
	case 6:
		return spot{40, 6}, true, len(pkt) >= 40 && 40+int(binary.BigEndian.Uint16(pkt[4:])) == len(pkt)
	}
	return at, false, false
}

// place finds where a header goes: behind IPv4's options; in IPv6 behind
// hop-by-hop and routing headers and what stands before them, and before
// destination options that are for the last host alone.
func place(pkt []byte) (at spot, ok bool) {
	at, v6, ok := headersOf(pkt)
	if !ok || !v6 {
		return at, ok
	}
	here := at
	for range maxHeaders {
		kind := pkt[here.next]
		switch kind {
		case protoFragment:
			return at, false
		case protoHopByHop, protoRouting, protoDestOpts:
		default:
			return at, true
		}
		if here, ok = skip(pkt, here); !ok {
			return at, false
		}
		if kind != protoDestOpts {
			at = here
		}
	}
	return at, false
}

// find finds the header of a packet that has one.
func find(pkt []byte) (at spot, ok bool) {
	at, v6, ok := headersOf(pkt)
	for range maxHeaders {
		if !ok {
			return at, false
		}
		switch pkt[at.next] {
		case uint8(ipsec.ProtoAH):
			return at, true
		case protoHopByHop, protoRouting, protoDestOpts:
			if !v6 {
				return at, false
			}
			at, ok = skip(pkt, at)
		default:
			return at, false
		}
	}
	return at, false
}

// skip goes behind the extension header at a spot.
func skip(pkt []byte, at spot) (spot, bool) {
	if len(pkt) < at.offset+8 {
		return at, false
	}
	end := at.offset + 8 + 8*int(pkt[at.offset+1])
	return spot{end, at.offset}, end <= len(pkt)
}

// setLength makes the length of a packet's header, and IPv4's checksum, true.
func setLength(pkt []byte) {
	if pkt[0]>>4 == 6 {
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
		return
	}
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	pkt[10], pkt[11] = 0, 0
	h := pkt[:int(pkt[0]&15)*4]
	sum := uint32(0)
	for i := 0; i+1 < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(pkt[10:], ^uint16(sum))
}
