package ipsec

import (
	"encoding/binary"
	"net/netip"
)

// IP protocol numbers that ParsePacket looks into.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoDCCP     = 33
	protoRouting  = 43
	protoFragment = 44
	protoICMP6    = 58
	protoDestOpts = 60
	protoSCTP     = 132
	protoUDPLite  = 136
)

// maxExtensions bounds the IPv6 extension headers of a packet. RFC 8200 section
// 4.1 knows six, one of which may be there twice.
const maxExtensions = 8

// upper says what ParsePacket takes from the first four bytes of a protocol:
// ports, or ICMP's type and code. Others have nothing that a selector looks at.
type upper uint8

const (
	opaque upper = iota
	ports
	icmp
)

var uppers = [256]upper{
	protoTCP: ports, protoUDP: ports, protoDCCP: ports, protoSCTP: ports, protoUDPLite: ports,
	protoICMP: icmp, protoICMP6: icmp,
}

// PacketInfo is what a selector is compared with, and what a tunnel copies into
// its outer header (RFC 4301 sections 4.4.1.1 and 5.1.2).
type PacketInfo struct {
	// Dir is the packet's direction, for SPD.Lookup. ParsePacket cannot know it
	// and leaves it as the caller set it.
	Dir Direction

	Version  uint8 // 4 or 6
	Src, Dst netip.Addr
	Proto    uint8 // upper-layer protocol, behind all extension headers that were there
	// HasPorts and HasICMP say whether the fields after them mean something.
	// They are false in a fragment that is not the first, which has no
	// upper-layer header; such a packet matches no selector with ports (RFC 4301
	// section 7).
	HasPorts         bool
	HasICMP          bool
	SrcPort, DstPort uint16
	ICMPType         uint8
	ICMPCode         uint8

	HeaderLen  int // bytes before the upper-layer header or the fragment's data
	TotalLen   int // bytes of the whole packet as its header says; never more than there were
	TOS        uint8
	TTL        uint8
	DontFrag   bool   // IPv4's bit; true for IPv6, which no router fragments
	Fragment   bool   // one part of a datagram
	FragOffset uint16 // in bytes; not 0: not the first part
	// SourceRoute: the packet carries a loose or strict source route (IPv4) or a
	// routing header of type 0 or one that is not used up (IPv6), so that its
	// destination is not where it ends. A gateway does not let it through a
	// tunnel: what the selectors judged is not where it would go.
	SourceRoute bool
}

// ParsePacket reads the headers of the IP packet b into p, every field but Dir.
// b may be longer than the packet (padding of a link or of RFC 4303 section 2.7);
// TotalLen tells. It returns DropNone, or DropMalformed for anything that lies
// about a length, ends before its headers do, or has extension headers without
// end; p's content is of no use then. It looks at lengths, not at checksums. It
// never allocates and does a bounded amount of work.
func ParsePacket(b []byte, p *PacketInfo) Drop {
	if len(b) == 0 {
		return DropMalformed
	}
	*p = PacketInfo{Dir: p.Dir, Version: b[0] >> 4}
	ok := false
	switch p.Version {
	case 4:
		ok = p.parse4(b)
	case 6:
		ok = p.parse6(b)
	}
	if !ok || !p.parseUpper(b[:p.TotalLen]) {
		return DropMalformed
	}
	return DropNone
}

func (p *PacketInfo) parse4(b []byte) bool {
	if len(b) < 20 {
		return false
	}
	p.HeaderLen = int(b[0]&15) * 4
	p.TotalLen = int(binary.BigEndian.Uint16(b[2:]))
	if p.HeaderLen < 20 || p.TotalLen < p.HeaderLen || p.TotalLen > len(b) {
		return false
	}
	frag := binary.BigEndian.Uint16(b[6:])
	p.TOS, p.TTL, p.Proto = b[1], b[8], b[9]
	p.DontFrag = frag&0x4000 != 0
	p.Fragment = frag&0x3fff != 0
	p.FragOffset = frag & 0x1fff << 3
	p.Src = netip.AddrFrom4([4]byte(b[12:16]))
	p.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	return p.TotalLen-p.HeaderLen+int(p.FragOffset) <= 0xffff && p.options4(b[20:p.HeaderLen])
}

// options4 walks IPv4's options (RFC 791 section 3.1) to find source routes.
func (p *PacketInfo) options4(o []byte) bool {
	const (
		end, nop     = 0, 1
		loose, tight = 131, 137
	)
	for len(o) > 0 {
		switch o[0] {
		case end:
			return true
		case nop:
			o = o[1:]
			continue
		case loose, tight:
			p.SourceRoute = true
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return false
		}
		o = o[o[1]:]
	}
	return true
}

func (p *PacketInfo) parse6(b []byte) bool {
	if len(b) < 40 {
		return false
	}
	p.HeaderLen = 40
	p.TotalLen = 40 + int(binary.BigEndian.Uint16(b[4:]))
	if p.TotalLen > len(b) {
		return false
	}
	p.TOS, p.TTL, p.Proto = b[0]<<4|b[1]>>4, b[7], b[6]
	p.DontFrag = true
	p.Src = netip.AddrFrom16([16]byte(b[8:24]))
	p.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	return p.extensions6(b[:p.TotalLen])
}

// extensions6 walks IPv6's extension headers (RFC 8200 section 4) up to the
// upper-layer header, or to the data of a fragment that is not the first.
func (p *PacketInfo) extensions6(b []byte) bool {
	for n := range maxExtensions + 1 {
		rest := b[p.HeaderLen:]
		size := 8
		switch p.Proto {
		case protoHopByHop:
			if n != 0 {
				return false // allowed right behind the fixed header alone
			}
		case protoDestOpts, protoRouting, protoFragment:
		default:
			return true
		}
		if n == maxExtensions || len(rest) < size {
			return false
		}
		if p.Proto == protoFragment {
			if p.Fragment {
				return false // a fragment of a fragment
			}
			p.fragment6(rest)
		} else {
			size = 8 + int(rest[1])*8
		}
		if p.Proto == protoRouting && (rest[2] == 0 || rest[3] > 0) {
			p.SourceRoute = true
		}
		if size > len(rest) {
			return false
		}
		p.Proto = rest[0]
		p.HeaderLen += size
		if p.FragOffset != 0 {
			return true // what follows is data
		}
	}
	return false
}

// fragment6 reads a fragment header. One that is alone, offset 0 and no more to
// come (an atomic fragment, RFC 6946), is a whole packet.
func (p *PacketInfo) fragment6(h []byte) {
	off := binary.BigEndian.Uint16(h[2:])
	p.FragOffset = off &^ 7
	p.Fragment = off&^6 != 0
}

// parseUpper reads ports or ICMP's type. A first fragment too small to have them
// is refused: it would slip through selectors that look at them (RFC 1858).
func (p *PacketInfo) parseUpper(b []byte) bool {
	if p.FragOffset != 0 {
		return true
	}
	kind := uppers[p.Proto]
	if kind == opaque {
		return true
	}
	h := b[p.HeaderLen:]
	if len(h) < 4 {
		return false
	}
	if kind == icmp {
		p.HasICMP, p.ICMPType, p.ICMPCode = true, h[0], h[1]
		return true
	}
	p.HasPorts = true
	p.SrcPort = binary.BigEndian.Uint16(h)
	p.DstPort = binary.BigEndian.Uint16(h[2:])
	return true
}

// Match tells whether the packet is one that s means. Direction, source routes
// and whether the packet is whole do not count here. A selector with a port
// matches no packet without ports: fragments behind the first, ICMP, others.
// An IPv6 fragment behind the first whose data starts with another extension
// header is taken for that header's protocol. An invalid prefix matches nothing.
func (s Selector) Match(p *PacketInfo) bool { return s.match(p) }

func (s *Selector) match(p *PacketInfo) bool {
	if s.Proto != 0 && s.Proto != p.Proto {
		return false
	}
	if s.SrcPort|s.DstPort != 0 {
		if !p.HasPorts || (s.SrcPort != 0 && s.SrcPort != p.SrcPort) || (s.DstPort != 0 && s.DstPort != p.DstPort) {
			return false
		}
	}
	return s.Dst.Contains(p.Dst) && s.Src.Contains(p.Src)
}
