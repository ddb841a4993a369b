package inet

import "encoding/binary"

// Flags of IPv4's fragment field.
const (
	dontFragment  = 0x4000
	moreFragments = 0x2000
	offsetMask    = 0x1fff // in units of 8 bytes
)

// fragmentLen is IPv6's fragment header.
const fragmentLen = 8

// Fragment writes a piece of a packet to dst: as much of what can be divided,
// from at on, as goes there. It returns the piece's length and where the next
// begins; -1: this was the last. at is 0 for the first. id is IPv6's
// identification, the same for all pieces of a packet and of no other between
// these hosts for a while. An IPv4 packet may be a fragment itself (RFC 791
// section 3.2); an IPv6 packet must be whole (RFC 8200 section 4.5).
//
// n is 0 when dst has no room for headers and 8 bytes, or pkt is no such packet.
func Fragment(dst, pkt []byte, at int, id uint32) (n, next int) {
	if len(pkt) > 0 && pkt[0]>>4 == 6 {
		return fragment6(dst, pkt, at, id)
	}
	if len(pkt) < 20 || int(pkt[0]&15)*4 < 20 || int(pkt[0]&15)*4+at > len(pkt) {
		return 0, -1
	}
	head := int(pkt[0]&15) * 4
	data, next, ok := share(pkt[head+at:], len(dst)-head, at)
	if !ok {
		return 0, -1
	}
	where := binary.BigEndian.Uint16(pkt[6:])
	if next > 0 {
		where |= moreFragments
	}
	copy(dst, pkt[:head])
	if at > 0 {
		onlyCopied(dst[20:head])
	}
	n = head + copy(dst[head:], data)
	binary.BigEndian.PutUint16(dst[6:], where&^dontFragment+uint16(at/8))
	Mend(dst[:n])
	return n, next
}

func fragment6(dst, pkt []byte, at int, id uint32) (n, next int) {
	s, ok := Payload(pkt)
	if !ok || s.At+at > len(pkt) {
		return 0, -1
	}
	head := s.At + fragmentLen
	data, next, ok := share(pkt[s.At+at:], len(dst)-head, at)
	if !ok {
		return 0, -1
	}
	copy(dst, pkt[:s.At])
	h := dst[s.At:head]
	where := uint16(at)
	if next > 0 {
		where |= 1
	}
	h[0], h[1] = pkt[s.Next], 0
	binary.BigEndian.PutUint16(h[2:], where)
	binary.BigEndian.PutUint32(h[4:], id)
	dst[s.Next] = fragment
	n = head + copy(dst[head:], data)
	Mend(dst[:n])
	return n, next
}

// share is what of data goes into room bytes, and where the rest begins.
func share(data []byte, room, at int) (part []byte, next int, ok bool) {
	if len(data) <= room {
		return data, -1, true
	}
	if room < 8 {
		return nil, -1, false
	}
	part = data[:room&^7]
	return part, at + len(part), true
}

// onlyCopied turns options that belong to the first fragment alone into no
// operation: those without the copied flag (RFC 791 section 3.1).
func onlyCopied(o []byte) {
	for len(o) > 0 && o[0] != 0 {
		n := 1
		if o[0] != 1 {
			if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
				return
			}
			n = int(o[1])
		}
		if o[0]&0x80 == 0 {
			for i := range n {
				o[i] = 1
			}
		}
		o = o[n:]
	}
}

// Atomic takes the fragment header off an IPv6 packet that is whole all the same
// (RFC 6946): the headers before it move up, and what is left is returned. Other
// packets are returned as they are.
func Atomic(pkt []byte) []byte {
	if len(pkt) < 40 || pkt[0]>>4 != 6 {
		return pkt
	}
	s, h, ok := fragmentHeader(pkt)
	if !ok || binary.BigEndian.Uint16(h[2:])&^6 != 0 {
		return pkt
	}
	pkt[s.Next] = h[0]
	copy(pkt[fragmentLen:], pkt[:s.At])
	pkt = pkt[fragmentLen:]
	Mend(pkt)
	return pkt
}

// fragmentHeader finds an IPv6 packet's fragment header.
func fragmentHeader(pkt []byte) (s Spot, h []byte, ok bool) {
	s = Spot{40, 6}
	for range maxHeaders {
		switch pkt[s.Next] {
		case fragment:
			if len(pkt) < s.At+fragmentLen {
				return s, nil, false
			}
			return s, pkt[s.At:][:fragmentLen], true
		case HopByHop, Routing, DestOpts:
		default:
			return s, nil, false
		}
		if s, ok = skip(pkt, s); !ok {
			return s, nil, false
		}
	}
	return s, nil, false
}
