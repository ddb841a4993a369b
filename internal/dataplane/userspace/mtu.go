package userspace

import (
	"encoding/binary"
	"net/netip"
	"time"

	"oakley/internal/ipsec"
)

// outerOverhead is what Options.MTU leaves for the path: see there.
const outerOverhead = 73

// pathMTU is the largest outer packet, in bytes, that is sent in one piece.
func (p *Plane) pathMTU() int { return p.dev.MTU() + outerOverhead }

// dontFrag tells whether a packet of the host must not be fragmented.
func dontFrag(pkt []byte) bool { return pkt[0]>>4 == 6 || pkt[6]&0x40 != 0 }

// sendFragments sends an IPv4 packet in pieces (RFC 791 section 3.2). It is for
// packets that an SA has made longer than the path.
func (p *Plane) sendFragments(s *sender, pkt []byte, to netip.AddrPort) ipsec.Drop {
	head := int(pkt[0]&15) * 4
	step := (p.pathMTU() - head) &^ 7
	if step < 8 {
		return ipsec.DropTooBig
	}
	for at := head; at < len(pkt); at += step {
		n := min(step, len(pkt)-at)
		buf := s.room.take(head + n)
		if buf == nil {
			return ipsec.DropTooBig
		}
		copy(buf, pkt[:head])
		copy(buf[head:], pkt[at:][:n])
		if at > head {
			onlyCopied(buf[20:head])
		}
		where := uint16((at - head) / 8)
		if at+n < len(pkt) {
			where |= 0x2000
		}
		binary.BigEndian.PutUint16(buf[6:], where)
		mend(buf)
		s.whole(0, buf, to)
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

// leastMTU is below what nobody is told to go.
const (
	leastMTU4 = 576
	leastMTU6 = 1280
)

// tooBig tells the host that a packet of its is too long for an SA, with what
// there is room for (RFC 1191 section 4, RFC 4443 section 3.2). False: that is
// less than a host may be told, and the packet is to be fragmented outside.
func (p *Plane) tooBig(pkt []byte, room int) bool {
	v6 := pkt[0]>>4 == 6
	if v6 && room < leastMTU6 || !v6 && room < leastMTU4 {
		return false
	}
	if _, ok := p.notices[ipsec.DropTooBig].allow(time.Now().UnixNano(), icmpEvery); !ok {
		return true // the next packet will tell
	}
	reply := make([]byte, 0, 1280)
	if v6 {
		reply = reply[:min(40+8+len(pkt), leastMTU6)]
		b := reply[40:]
		b[0] = 2
		binary.BigEndian.PutUint32(b[4:], uint32(room))
		copy(b[8:], pkt)
		putHeader(reply, destination(pkt), source(pkt), 58, 0, outerTTL, false, 0)
		pseudo := sum(reply[8:40], uint32(len(b))+58)
		binary.BigEndian.PutUint16(b[2:], ^fold(sum(b, pseudo)))
	} else {
		reply = reply[:min(20+8+len(pkt), leastMTU4)]
		b := reply[20:]
		b[0], b[1] = 3, 4
		binary.BigEndian.PutUint16(b[6:], uint16(room))
		copy(b[8:], pkt)
		putHeader(reply, destination(pkt), source(pkt), 1, 0, outerTTL, false, 1)
		binary.BigEndian.PutUint16(b[2:], ^fold(sum(b, 0)))
	}
	p.toDevice([][]byte{reply})
	return true
}

// icmpEvery bounds how often hosts are told.
const icmpEvery = 10 * time.Millisecond
