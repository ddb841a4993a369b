package tun

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// What a superpacket from the kernel may be found to be.
var errVnet = errors.New("the kernel sent a superpacket that makes no sense")

// splitter cuts one superpacket, a piece a call, as segmentation offload in
// hardware would.
type splitter struct {
	pkt       []byte // what is left begins at at
	hdr       vnetHdr
	v6        bool
	proto     uint8
	transport int // start of the TCP or UDP header
	payload   int // start of the payload
	at        int
	index     int
	seq       uint32
	id        uint16
}

func parseVnet(b []byte) vnetHdr {
	return vnetHdr{
		flags: b[0], gsoType: b[1],
		hdrLen:     binary.NativeEndian.Uint16(b[2:]),
		gsoSize:    binary.NativeEndian.Uint16(b[4:]),
		csumStart:  binary.NativeEndian.Uint16(b[6:]),
		csumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

func (h *vnetHdr) put(b []byte) {
	b[0], b[1] = h.flags, h.gsoType
	binary.NativeEndian.PutUint16(b[2:], h.hdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffset)
}

// finish computes the checksum that the kernel left to its device.
func (h *vnetHdr) finish(pkt []byte) error {
	if h.flags&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM == 0 {
		return nil
	}
	start, at := int(h.csumStart), int(h.csumStart)+int(h.csumOffset)
	if at+2 > len(pkt) {
		return fmt.Errorf("%w: checksum at byte %d of %d", errVnet, at, len(pkt))
	}
	// The field holds the pseudo-header's sum, so it is part of what is added.
	s := ^fold(sum(pkt[start:], 0))
	if s == 0 && h.csumOffset == 6 {
		s = 0xffff // UDP's 0 means "no checksum"
	}
	putSum(pkt[at:], s)
	return nil
}

// start looks at a superpacket before it is cut.
func (s *splitter) start(hdr vnetHdr, pkt []byte) error {
	*s = splitter{pkt: pkt, hdr: hdr, transport: int(hdr.csumStart)}
	if len(pkt) < 40 || hdr.gsoSize == 0 {
		return errVnet
	}
	s.v6 = pkt[0]>>4 == 6
	switch hdr.gsoType &^ unix.VIRTIO_NET_HDR_GSO_ECN {
	case unix.VIRTIO_NET_HDR_GSO_TCPV4, unix.VIRTIO_NET_HDR_GSO_TCPV6:
		s.proto = unix.IPPROTO_TCP
		if s.transport+20 > len(pkt) {
			return errVnet
		}
		// hdrLen cannot be relied on for forwarded packets; the header can.
		s.payload = s.transport + int(pkt[s.transport+12]>>4)*4
		s.seq = binary.BigEndian.Uint32(pkt[s.transport+4:])
	case unix.VIRTIO_NET_HDR_GSO_UDP_L4:
		s.proto = unix.IPPROTO_UDP
		s.payload = s.transport + 8
	default:
		return fmt.Errorf("%w: segmentation type %d", errVnet, hdr.gsoType)
	}
	least := s.transport + 8
	if s.proto == unix.IPPROTO_TCP {
		least = s.transport + 20
	}
	if s.transport < 20 || (s.v6 && s.transport < 40) || s.payload < least || s.payload >= len(pkt) {
		return errVnet
	}
	if !s.v6 && int(pkt[0]&15)*4 > s.transport {
		return errVnet
	}
	if !s.v6 {
		s.id = binary.BigEndian.Uint16(pkt[4:])
	}
	s.at = s.payload
	return nil
}

func (s *splitter) done() bool { return s.at >= len(s.pkt) }

// next writes the next packet to out and returns its size; 0: out is too small.
func (s *splitter) next(out []byte) int {
	end := min(s.at+int(s.hdr.gsoSize), len(s.pkt))
	size := s.payload + end - s.at
	if size > len(out) {
		s.at = len(s.pkt)
		return 0
	}
	out = out[:size]
	copy(out, s.pkt[:s.payload])
	copy(out[s.payload:], s.pkt[s.at:end])
	last := end == len(s.pkt)

	addrs := out[12:20]
	if s.v6 {
		addrs = out[8:40]
		binary.BigEndian.PutUint16(out[4:], uint16(size-40))
	} else {
		binary.BigEndian.PutUint16(out[2:], uint16(size))
		binary.BigEndian.PutUint16(out[4:], s.id+uint16(s.index))
		head := int(out[0]&15) * 4
		out[10], out[11] = 0, 0
		putSum(out[10:], ^fold(sum(out[:head], 0)))
	}
	th := out[s.transport:]
	if s.proto == unix.IPPROTO_TCP {
		s.nextTCP(th, last, addrs)
	} else {
		binary.BigEndian.PutUint16(th[4:], uint16(len(th)))
		th[6], th[7] = 0, 0
		c := ^fold(sum(th, pseudo(addrs, s.proto, len(th))))
		if c == 0 {
			c = 0xffff
		}
		putSum(th[6:], c)
	}
	s.at = end
	s.index++
	return size
}

func (s *splitter) nextTCP(th []byte, last bool, addrs []byte) {
	const fin, push, cwr = 0x01, 0x08, 0x80
	binary.BigEndian.PutUint32(th[4:], s.seq+uint32(s.at-s.payload))
	if !last {
		th[13] &^= fin | push
	}
	if s.index > 0 {
		th[13] &^= cwr // RFC 3168 section 6.1.2: the first alone
	}
	th[16], th[17] = 0, 0
	putSum(th[16:], ^fold(sum(th, pseudo(addrs, s.proto, len(th)))))
}
