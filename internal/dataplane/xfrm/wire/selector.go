package wire

import "net/netip"

// Selector says which packets are meant, seen in the direction in which they
// travel. Zero fields match all.
type Selector struct {
	Dst, Src         netip.Prefix
	DstPort, DstMask uint16
	SrcPort, SrcMask uint16
	Family           uint16
	Proto            uint8
	IfIndex          int32
	User             uint32
}

// appendAddr appends an address in the 16 bytes that either family gets.
func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case a.Is4() || a.Is4In6():
		v := a.Unmap().As4()
		return zeros(append(b, v[:]...), addrSize-4)
	case a.IsValid():
		v := a.As16()
		return append(b, v[:]...)
	}
	return zeros(b, addrSize)
}

// parseAddr reads an address of a family; of none, it is the invalid address.
func parseAddr(b []byte, family uint16) netip.Addr {
	switch family {
	case FamilyIPv4:
		return netip.AddrFrom4([4]byte(b))
	case FamilyIPv6:
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.Addr{}
}

func parsePrefix(b []byte, family uint16, bits uint8) netip.Prefix {
	return netip.PrefixFrom(parseAddr(b, family), int(bits))
}

// FamilyOf is the family of an address; of an invalid one, FamilyNone.
func FamilyOf(a netip.Addr) uint16 {
	switch {
	case !a.IsValid():
		return FamilyNone
	case a.Is4() || a.Is4In6():
		return FamilyIPv4
	}
	return FamilyIPv6
}

func bits(p netip.Prefix) uint8 { return uint8(max(p.Bits(), 0)) }

func (s *Selector) append(b []byte) []byte {
	b = appendAddr(b, s.Dst.Addr())
	b = appendAddr(b, s.Src.Addr())
	b = net.AppendUint16(b, s.DstPort)
	b = net.AppendUint16(b, s.DstMask)
	b = net.AppendUint16(b, s.SrcPort)
	b = net.AppendUint16(b, s.SrcMask)
	b = native.AppendUint16(b, s.Family)
	b = append(b, bits(s.Dst), bits(s.Src), s.Proto, 0, 0, 0)
	b = native.AppendUint32(b, uint32(s.IfIndex))
	return native.AppendUint32(b, s.User)
}

// parseSelector reads selSize bytes. A prefix that is longer than its address
// comes out invalid.
func parseSelector(b []byte) Selector {
	family := native.Uint16(b[40:])
	return Selector{
		Dst: parsePrefix(b, family, b[42]), Src: parsePrefix(b[16:], family, b[43]),
		DstPort: net.Uint16(b[32:]), DstMask: net.Uint16(b[34:]), SrcPort: net.Uint16(b[36:]), SrcMask: net.Uint16(b[38:]),
		Family: family, Proto: b[44], IfIndex: int32(native.Uint32(b[48:])), User: native.Uint32(b[52:]),
	}
}
