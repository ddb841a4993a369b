package userspace

import (
	"encoding/binary"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// udpLen is the header of ESP in UDP.
const udpLen = 8

// fit is the longest packet of a host, in bytes, that SAs applied in this order,
// the first nearest to the packet, make no longer than the path. Compression is
// taken for none, since nobody can know. 0: there is none.
func fit(chain []*outSA, path int) int {
	added := [maxLayers]int{}
	w := wrapping{}
	for i, sa := range chain {
		if w.opens(sa) {
			added[i] = inet.HeaderLen(sa.sa.Src.Is6())
			w.tunnel, w.src, w.dst = true, sa.sa.Src, sa.sa.ID.Dst
		}
	}
	room := path
	for i := len(chain) - 1; i >= 0; i-- {
		sa := chain[i]
		v6 := sa.sa.Src.Is6()
		switch head := inet.HeaderLen(v6); {
		case sa.t != nil:
			if sa.sa.Encap != nil {
				room -= udpLen
			}
			room = head + sa.t.MaxPlain(room-head)
		case sa.auth != nil:
			room -= sa.auth.HeaderLen(v6)
		}
		room -= added[i]
	}
	return max(room, 0)
}

// measure notes what fits through a bundle, or an SA that stands alone.
func (p *Plane) measure(chain ...*outSA) {
	head := chain[0]
	head.most.Store(int32(fit(chain, p.pathMTU())))
	shrinks := false
	for _, sa := range chain {
		shrinks = shrinks || sa.sa.ID.Proto == ipsec.ProtoIPComp
	}
	head.shrinks.Store(shrinks)
}

// tooLong does what is to be done with a packet that is longer than fits: it
// tells the host, which then sends shorter ones, or sends it in pieces (RFC 4301
// section 8.2). It is false when the packet is to go whole, for what the SA makes
// of it to be fragmented: in transport mode, which protects whole datagrams (RFC
// 4303 section 3.3.4); when the host has fragmented it before; when the SA is for
// certain ports, which pieces do not have; when compression may make it fit; and
// when less would have to be told than a host may be told.
func (p *Plane) tooLong(s *sender, sa *outSA, pkt []byte, now int64) (done bool) {
	most := int(sa.most.Load())
	if p.joined(s, pkt) || sa.shrinks.Load() {
		return false
	}
	if dontFrag(pkt) {
		if !p.tooBig(s, sa, pkt, most, now) {
			return false
		}
		sa.drops.add(ipsec.DropTooBig)
		return true
	}
	sel := &sa.sa.Selector
	if sa.sa.Mode == ipsec.Transport && sa.sa.ID.Proto != ipsec.ProtoIPIP || sel.SrcPort|sel.DstPort != 0 || most < leastMTU4 {
		return false
	}
	for at := 0; at >= 0; {
		n := min(most, len(pkt))
		need := headRoom + n + tailRoom
		if !sa.plain.Load() {
			need += layersHead + n + layersTail // for wrap
		}
		if s.room.left() < need {
			s.flush()
		}
		buf := s.room.take(headRoom + n + tailRoom)
		n, at = piece(buf[headRoom:][:n], pkt, at)
		p.protect(s, sa, buf, headRoom, n, 4, now)
	}
	return true
}

// joined tells whether a packet was put together of fragments: the device gives
// none that is longer than its MTU.
func (p *Plane) joined(s *sender, pkt []byte) bool { return s.joined || len(pkt) > p.dev.MTU() }

// piece writes a fragment of an IPv4 packet, which may be one itself, to dst (RFC
// 791 section 3.2): as much of the payload from at on as goes there. It returns
// its length and where the next begins; -1: this was the last. dst has room for
// the header and 8 bytes.
func piece(dst, pkt []byte, at int) (n, next int) {
	head := int(pkt[0]&15) * 4
	data := pkt[head+at:]
	where := binary.BigEndian.Uint16(pkt[6:])
	next = -1
	if head+len(data) > len(dst) {
		data = data[:(len(dst)-head)&^7]
		next = at + len(data)
		where |= moreFragments
	}
	copy(dst, pkt[:head])
	if at > 0 {
		onlyCopied(dst[20:head])
	}
	n = head + copy(dst[head:], data)
	binary.BigEndian.PutUint16(dst[6:], where&^dontFragment+uint16(at/8))
	inet.Mend(dst[:n])
	return n, next
}

// Flags of IPv4's fragment field.
const (
	dontFragment  = 0x4000
	moreFragments = 0x2000
)
