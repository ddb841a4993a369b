package userspace

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// syn is a SYN with these options and a right checksum.
func syn(v6 bool, flags uint8, options []byte) []byte {
	h := inet.HeaderLen(v6)
	pkt := make([]byte, h+20+len(options))
	tcp := pkt[h:]
	tcp[12], tcp[13] = uint8(5+len(options)/4)<<4, flags
	copy(tcp[20:], options)
	src, dst := benchUs, benchPeer
	if v6 {
		src, dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	}
	(&inet.Header{Src: src, Dst: dst, Proto: 6, TTL: 64, DontFrag: true, ID: 1}).Put(pkt)
	binary.BigEndian.PutUint16(tcp[16:], ^tcpSum(pkt, h))
	return pkt
}

// tcpSum is the sum over pseudo-header and segment: 0xffff when it is right.
func tcpSum(pkt []byte, h int) uint16 {
	at := 12
	if h == 40 {
		at = 8
	}
	return inet.Fold(inet.Sum(pkt[at:h], inet.Sum(pkt[h:], uint32(len(pkt)-h)+6)))
}

func TestSegmentSizesFitTheDevice(t *testing.T) {
	for _, c := range []struct {
		name    string
		v6      bool
		flags   uint8
		options []byte
		want    []byte
	}{
		{"too large", false, 2, []byte{2, 4, 5, 180}, []byte{2, 4, 5, 60}},
		{"too large, of an answer", true, 0x12, []byte{2, 4, 5, 180}, []byte{2, 4, 5, 40}},
		{"at an odd place", false, 2, []byte{1, 2, 4, 5, 180, 1, 0, 0}, []byte{1, 2, 4, 5, 60, 1, 0, 0}},
		{"behind another", false, 2, []byte{3, 3, 7, 1, 2, 4, 35, 0}, []byte{3, 3, 7, 1, 2, 4, 5, 60}},
		{"small enough", false, 2, []byte{2, 4, 4, 0}, []byte{2, 4, 4, 0}},
		{"no SYN", false, 0x10, []byte{2, 4, 5, 180}, []byte{2, 4, 5, 180}},
		{"behind the end", false, 2, []byte{0, 0, 0, 0, 2, 4, 5, 180}, []byte{0, 0, 0, 0, 2, 4, 5, 180}},
		{"a length that lies", false, 2, []byte{1, 1, 2, 4}, []byte{1, 1, 2, 4}},
		{"a length of nothing", false, 2, []byte{8, 0, 2, 4}, []byte{8, 0, 2, 4}},
	} {
		pkt := syn(c.v6, c.flags, c.options)
		h := inet.HeaderLen(c.v6)
		var info ipsec.PacketInfo
		if d := ipsec.ParsePacket(pkt, &info); d != ipsec.DropNone {
			t.Fatal(c.name, d)
		}
		clampMSS(pkt, &info, 1380)
		if got := pkt[h+20:]; string(got) != string(c.want) {
			t.Errorf("%s: options %v, want %v", c.name, got, c.want)
		}
		if s := tcpSum(pkt, h); s != 0xffff {
			t.Errorf("%s: the checksum is wrong (%04x)", c.name, s)
		}
	}
}
