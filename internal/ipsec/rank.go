package ipsec

import (
	"cmp"
	"encoding/binary"
	"net/netip"
)

// Which of the flows that match a packet is taken:
//
//  1. the one with the lowest Order;
//  2. among equal orders the more specific selector, which is the one with the
//     longer destination prefix; else the longer source prefix; else with a
//     protocol rather than without; else with a destination port; else with a
//     source port;
//  3. two flows that are still equal and match the same packet have the same
//     selector: the one whose FlowID comes first in byte order.
//
// 1 and 2 fit a number, the rank: lower is taken.

func rankOf(f *Flow) uint64 {
	unless := func(given bool) uint64 {
		if given {
			return 0
		}
		return 1
	}
	s := &f.Selector
	return uint64(f.Order)<<32 |
		uint64(128-s.Dst.Bits())<<16 | uint64(128-s.Src.Bits())<<8 |
		unless(s.Proto != 0)<<2 | unless(s.DstPort != 0)<<1 | unless(s.SrcPort != 0)
}

// spdEntry is a flow in the SPD, never changed once it is there. What a lookup
// reads is in front, within a line of the processor's cache.
type spdEntry[T any] struct {
	rank  uint64
	value *T
	key   selectorKey
	flow  Flow
}

// selectorKey is a selector as it is compared with packets.
type selectorKey struct {
	src, dst         bits128
	srcLen, dstLen   uint8
	proto            uint8
	srcPort, dstPort uint16
}

func keyOf(s *Selector) selectorKey {
	src, dst := addrPrefix(s.Src), addrPrefix(s.Dst)
	return selectorKey{src.key, dst.key, src.n, dst.n, s.Proto, s.SrcPort, s.DstPort}
}

// packetKey is what it is compared with.
type packetKey struct {
	src, dst         bits128
	proto            uint8
	hasPorts         bool
	srcPort, dstPort uint16
}

func packetKeyOf(p *PacketInfo) packetKey {
	return packetKey{addrBits(p.Src), addrBits(p.Dst), p.Proto, p.HasPorts, p.SrcPort, p.DstPort}
}

// match is Selector.Match for a packet of the selector's address family.
func (k *selectorKey) match(p *packetKey) bool {
	if !same(&k.dst, &p.dst, k.dstLen) || !same(&k.src, &p.src, k.srcLen) || k.proto != 0 && k.proto != p.proto {
		return false
	}
	return k.srcPort|k.dstPort == 0 ||
		p.hasPorts && (k.srcPort == 0 || k.srcPort == p.srcPort) && (k.dstPort == 0 || k.dstPort == p.dstPort)
}

func (e *spdEntry[T]) compare(o *spdEntry[T]) int {
	return cmp.Or(cmp.Compare(e.rank, o.rank), cmp.Compare(e.flow.ID, o.flow.ID))
}

// A field is one of the things a selector fixes. The SPD looks at one after the
// other; each is a prefix of up to 128 bits, a protocol or port one of full
// length or of none.
type field uint8

const (
	fieldDst field = iota
	fieldSrc
	fieldProto
	fieldDstPort
	fieldSrcPort
	fieldEnd
)

// bits128 are bits from the most significant down.
type bits128 struct{ hi, lo uint64 }

// prefix are the first n bits of key; the others are zero.
type prefix struct {
	key bits128
	n   uint8
}

func addrBits(a netip.Addr) bits128 {
	if a.Is4() {
		b := a.As4()
		return bits128{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return bits128{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func addrPrefix(p netip.Prefix) prefix {
	p = p.Masked()
	return prefix{addrBits(p.Addr()), uint8(p.Bits())}
}

func protoPrefix(v uint8) prefix {
	if v == 0 {
		return prefix{}
	}
	return prefix{bits128{hi: uint64(v) << 56}, 8}
}

func portPrefix(v uint16) prefix {
	if v == 0 {
		return prefix{}
	}
	return prefix{bits128{hi: uint64(v) << 48}, 16}
}

// prefix is what s says of a field.
func (f field) prefix(s *Selector) prefix {
	switch f {
	case fieldDst:
		return addrPrefix(s.Dst)
	case fieldSrc:
		return addrPrefix(s.Src)
	case fieldProto:
		return protoPrefix(s.Proto)
	case fieldDstPort:
		return portPrefix(s.DstPort)
	default:
		return portPrefix(s.SrcPort)
	}
}

// packetBits is what a packet has in a field, and how many bits that is: a
// packet without ports has none there and meets the flows that ask for none.
func (f field) packetBits(p *packetKey) prefix {
	switch f {
	case fieldDst:
		return prefix{p.dst, 128}
	case fieldSrc:
		return prefix{p.src, 128}
	case fieldProto:
		return protoPrefix(p.proto)
	}
	if !p.hasPorts {
		return prefix{}
	}
	if f == fieldDstPort {
		return portPrefix(p.dstPort)
	}
	return portPrefix(p.srcPort)
}

// same tells whether a and b have the same first n bits, of which there are at
// most 128.
func same(a, b *bits128, n uint8) bool {
	if n <= 64 {
		return (a.hi^b.hi)>>(64-n) == 0
	}
	return a.hi == b.hi && (a.lo^b.lo)>>(128-n) == 0
}

// bit is the i-th bit from the left.
func (b *bits128) bit(i uint8) int {
	if i < 64 {
		return int(b.hi >> (63 - i) & 1)
	}
	return int(b.lo >> (127 - i) & 1)
}

// cut keeps the first n bits.
func (b bits128) cut(n uint8) bits128 {
	switch {
	case n >= 128:
		return b
	case n > 64:
		return bits128{b.hi, b.lo &^ (1<<(128-n) - 1)}
	case n == 64:
		return bits128{hi: b.hi}
	}
	return bits128{hi: b.hi &^ (1<<(64-n) - 1)}
}

// Rank is lower for what Lookup prefers among flows of one direction. Two flows of
// one rank have the same selector, or match no packet both. The lower half of it
// is less than 1<<31.
func (f *Flow) Rank() uint64 { return rankOf(f) }

// Compare is negative when Lookup prefers f to o among flows of one direction.
func (f *Flow) Compare(o *Flow) int {
	return cmp.Or(cmp.Compare(rankOf(f), rankOf(o)), cmp.Compare(f.ID, o.ID))
}
