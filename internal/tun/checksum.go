package tun

import (
	"encoding/binary"
	"math/bits"
)

// sum adds the bytes of b, as 16-bit words in native order, to the Internet
// checksum acc (RFC 1071). An odd last byte is padded, so only the last part of
// a message may be odd. The carry goes round in 64 bits and is folded at the end.
func sum(b []byte, acc uint64) uint64 {
	var c uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[0:]), 0)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[8:]), c)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[16:]), c)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[24:]), c)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[32:]), c)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[40:]), c)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[48:]), c)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(p[56:]), c)
		acc += c
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(b), 0)
		acc += c
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		acc, c = bits.Add64(acc, binary.NativeEndian.Uint64(last[:]), 0)
		acc += c
	}
	return acc
}

// fold makes the 16-bit sum, in native order, of acc.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// pseudo is the sum of the pseudo-header: addrs are source and destination,
// next to each other as they are in both IP headers.
func pseudo(addrs []byte, proto uint8, size int) uint64 {
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], uint32(size))
	b[7] = proto
	return sum(b[:], sum(addrs, 0))
}

// putSum writes a checksum's field; s is in native order already.
func putSum(b []byte, s uint16) { binary.NativeEndian.PutUint16(b, s) }
