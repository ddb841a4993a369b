package userspace

import (
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
			w.opened(sa)
		}
		w.tied = w.tied || sa.auth != nil
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

// tooLong does what is to be done with a packet that is longer than fits: it
// tells the host, which then sends shorter ones, or sends it in pieces (RFC 4301
// section 8.2). It is false when the packet is to go whole, for what the SA makes
// of it to be fragmented: in transport mode, which protects whole datagrams (RFC
// 4303 section 3.3.4); when the SA is for certain ports, which pieces do not have;
// when compression may make it fit; and when the host would be told something that
// it could do nothing about: to send less than it may be asked to, or of a packet
// that it has fragmented and that was put together here.
func (p *Plane) tooLong(s *sender, sa *outSA, pkt []byte, now int64) (done bool) {
	p.remeasure(sa, now)
	most := int(sa.most.Load())
	if len(pkt) <= most || sa.shrinks.Load() {
		return false
	}
	if dontFrag(pkt) {
		if p.joined(pkt) || !p.tooBig(s, sa, pkt, most, now) {
			return false
		}
		sa.drops.add(ipsec.DropTooBig)
		return true
	}
	if sa.sa.Mode == ipsec.Transport && sa.sa.ID.Proto != ipsec.ProtoIPIP || hasPorts(&sa.sa.Selector) || most < leastMTU4 {
		return false
	}
	for at := 0; at >= 0; {
		n := min(most, len(pkt))
		need := headRoom + n + tailRoom
		if !sa.plain.Load() {
			need += wrapRoom(n) // or wrap would end the batch, and this piece with it
		}
		if s.room.left() < need {
			s.flush()
		}
		buf := s.room.take(headRoom + n + tailRoom)
		n, at = inet.Fragment(buf[headRoom:][:n], pkt, at, 0)
		if n == 0 {
			sa.drops.add(ipsec.DropTooBig)
			return true
		}
		p.protect(s, sa, buf, headRoom, n, 4, now)
	}
	return true
}

// joined tells whether a packet was put together of fragments: the device gives
// none that is longer than its MTU.
func (p *Plane) joined(pkt []byte) bool { return len(pkt) > p.dev.MTU() }
