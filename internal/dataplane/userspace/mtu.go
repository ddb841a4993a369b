package userspace

import (
	"net/netip"

	"oakley/internal/ipsec"
)

// outerOverhead is what Options.MTU leaves for the path: see there.
const outerOverhead = 73

// pathMTU is the largest outer packet, in bytes, that is sent in one piece.
func (p *Plane) pathMTU() int { return p.opt.OuterMTU }

// DF says how the outer IPv4 headers of tunnels are marked not to be fragmented
// (RFC 4301 section 8.1). It concerns headers that are made here: those of AH, IP
// in IP and bundles in tunnel mode. ESP in tunnel mode that stands alone, and ESP
// in UDP, leave through sockets of which the kernel makes the header, always
// without the mark; transport mode keeps the host's own header. A packet that is
// longer than the path is fragmented whatever is said here.
type DF uint8

// What the mark is.
const (
	DFCopy  DF = iota // of an inner IPv4 header; IPv6, which has none: clear
	DFSet             // always there: who sets it must know that the path is as wide as Options.OuterMTU says
	DFClear           // never there
)

// of is the mark for an inner packet.
func (d DF) of(inner []byte) bool {
	return d == DFSet || d == DFCopy && inner[0]>>4 == 4 && dontFrag(inner)
}

// dontFrag tells whether a packet of the host must not be fragmented.
func dontFrag(pkt []byte) bool { return pkt[0]>>4 == 6 || pkt[6]&0x40 != 0 }

// sendFragments sends an IPv4 packet in pieces. It is for packets that an SA has
// made longer than the path.
func (p *Plane) sendFragments(s *sender, pkt []byte, to netip.AddrPort) ipsec.Drop {
	for at := 0; at >= 0; {
		buf := s.room.take(min(p.pathMTU(), len(pkt)))
		if buf == nil {
			return ipsec.DropTooBig
		}
		var n int
		n, at = piece(buf, pkt, at)
		s.whole(0, buf[:n], to)
	}
	return ipsec.DropNone
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
