package userspace

import (
	"encoding/binary"
	"net/netip"

	"oakley/internal/ah"
	"oakley/internal/inet"
	"oakley/internal/ipcomp"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// unwrap opens a packet that came for an SA that is not ESP in tunnel mode alone:
// a copy of it, whole with its IP header, loses one SA after the other. data is
// what follows the IP or UDP header and proto says what it is.
func (w *inWork) unwrap(first *inSA, proto ipsec.Proto, data []byte, m *netio.Received, now int64) (*inSA, ipsec.Drop) {
	if l := first.order.Load(); l != nil && !w.deferred {
		w.undressLater(first, l, proto, data, m)
		return first, ipsec.DropNone
	}
	u := &w.unwrapping
	*u = unwrapping{proto: proto}
	if !w.whole(u, uint8(proto), data, m) {
		return first, ipsec.DropTooBig
	}
	sa := first
	for {
		if d := w.peel(u, sa, m, now); d != ipsec.DropNone {
			return sa, d
		}
		if !sa.count(u.c.n, now) {
			return sa, ipsec.DropExpired
		}
		u.done[u.n] = sa
		u.n++
		if u.dummy {
			return sa, ipsec.DropNone
		}
		next, d := w.following(u, sa, now)
		if d != ipsec.DropNone || u.waits {
			return sa, d
		}
		if next == nil {
			return sa, w.arrive(u, sa, now)
		}
		sa = next
	}
}

// unwrapping is a packet on its way through the SAs.
type unwrapping struct {
	c      packet
	proto  ipsec.Proto
	done   [maxLayers]*inSA
	n      int
	marks  [maxLayers]mark // sequence numbers to be entered in their order
	nmarks int
	tunnel bool // an SA in tunnel mode was taken off, and its header not yet
	dummy  bool
	waits  bool // it was a fragment of what the next SA is to be taken off
}

// whole puts the packet with its IP header into a buffer of its own. Sockets but
// those of raw IPv4 do not show the header: one is made of what they tell, which
// is all that AH authenticates (RFC 4302 appendix A), with the extension headers.
func (w *inWork) whole(u *unwrapping, proto uint8, data []byte, m *netio.Received) bool {
	size := len(m.Packet)
	v6 := m.Local.Addr().Is6()
	if m.Packet == nil {
		size = inet.HeaderLen(v6) + len(m.Headers) + len(data)
	}
	if size > 65535 || !w.take(u, size) {
		return false
	}
	if m.Packet != nil {
		copy(u.c.bytes(), m.Packet)
		return true
	}
	ttl := m.TTL
	if ttl == 0 {
		ttl = outerTTL
	}
	rest := u.c.bytes()[inet.HeaderLen(v6):]
	copy(rest[copy(rest, m.Headers):], data)
	if len(m.Headers) > 0 {
		proto = m.First
	}
	outer := inet.Header{Src: m.Remote.Addr().WithZone(""), Dst: m.Local.Addr().WithZone(""), Proto: proto, TOS: m.TOS, TTL: ttl}
	outer.Put(u.c.bytes())
	return true
}

// take gives u a buffer for a packet of n bytes.
func (w *inWork) take(u *unwrapping, n int) bool {
	buf := w.room.take(n)
	if buf == nil {
		w.p.toDevice(w.pkts)
		w.pkts = w.pkts[:0]
		w.room.reset()
		if buf = w.room.take(n); buf == nil {
			return false
		}
	}
	u.c = packet{buf: buf, n: n}
	return true
}

// peel takes one SA off. The packet is then whole again, with what the SA
// protected behind the IP header.
func (w *inWork) peel(u *unwrapping, sa *inSA, m *netio.Received, now int64) ipsec.Drop {
	switch {
	case w.p.off.is(sa.id.Proto):
		return ipsec.DropDisabled
	case sa.dead.Load():
		return ipsec.DropExpired
	}
	pkt := u.c.bytes()
	s, ok := inet.Last(pkt)
	if !ok {
		return ipsec.DropMalformed
	}
	u.tunnel = u.tunnel || sa.sa.Mode == ipsec.Tunnel || sa.id.Proto == ipsec.ProtoIPIP
	switch sa.id.Proto {
	case ipsec.ProtoESP:
		return w.peelESP(u, sa, s, m, now)
	case ipsec.ProtoAH:
		return w.peelAH(u, sa, m, now)
	case ipsec.ProtoIPComp:
		return w.peelIPComp(u, sa, s, m)
	}
	return ipsec.DropNone
}

// number infers a packet's sequence number and looks into the window.
func (sa *inSA) number(low uint32) (seq uint64, ok bool) {
	seq = uint64(low)
	if sa.sa.ESN {
		if seq, ok = sa.window.Extend(low); !ok {
			return 0, false
		}
	}
	return seq, sa.window.Check(seq)
}

// mark is a sequence number of an authentic packet.
type mark struct {
	sa  *inSA
	seq uint64
}

// arrived puts a sequence number into its window, or, for a worker, who may be ahead
// of others, among those to be put there when it is the packet's turn. It is false
// when another packet had the number.
func (w *inWork) arrived(u *unwrapping, sa *inSA, seq uint64, from netip.AddrPort, now int64) bool {
	if w.deferred {
		u.marks[u.nmarks] = mark{sa, seq}
		u.nmarks++
		return true
	}
	return w.p.arrived(mark{sa, seq}, from, u.n == 0, now)
}

// arrived puts a sequence number into its window. A peer may be elsewhere now; the
// outermost SA tells.
func (p *Plane) arrived(k mark, from netip.AddrPort, outermost bool, now int64) bool {
	if !k.sa.window.Update(k.seq) {
		return false
	}
	if r := k.sa.remote.Load(); r != nil && outermost && *r != from && k.seq == k.sa.window.Top() {
		p.mapping(k.sa, from, now)
	}
	return true
}

func (w *inWork) peelESP(u *unwrapping, sa *inSA, s inet.Spot, m *netio.Received, now int64) ipsec.Drop {
	pkt := u.c.bytes()
	_, low, ok := parseESP(pkt[s.At:])
	if !ok {
		return ipsec.DropShort
	}
	seq, ok := sa.number(low)
	if !ok {
		return ipsec.DropReplay
	}
	inner, next, d := sa.t.Open(pkt[s.At:], uint32(seq>>32))
	if d != ipsec.DropNone {
		return d
	}
	if !w.arrived(u, sa, seq, m.Remote, now) {
		return ipsec.DropReplay
	}
	if next == nextDummy {
		u.dummy = true
		return ipsec.DropNone
	}
	pkt[s.Next] = next
	h := sa.t.HeaderLen()
	copy(pkt[h:], pkt[:s.At])
	u.c.off += h
	u.c.n = s.At + len(inner)
	inet.Mend(u.c.bytes())
	if sa.sa.Encap != nil && sa.sa.Mode == ipsec.Transport {
		mendChecksum(u.c.bytes()[s.At:], next, sa, m)
	}
	return ipsec.DropNone
}

func (w *inWork) peelAH(u *unwrapping, sa *inSA, m *netio.Received, now int64) ipsec.Drop {
	pkt := u.c.bytes()
	_, low, ok := ah.ParseHeader(pkt)
	if !ok {
		return ipsec.DropShort
	}
	seq, ok := sa.number(low)
	if !ok {
		return ipsec.DropReplay
	}
	inner, d := sa.auth.Open(pkt, uint32(seq>>32))
	if d != ipsec.DropNone {
		return d
	}
	if !w.arrived(u, sa, seq, m.Remote, now) {
		return ipsec.DropReplay
	}
	u.c.off += u.c.n - len(inner)
	u.c.n = len(inner)
	return ipsec.DropNone
}

func (w *inWork) peelIPComp(u *unwrapping, sa *inSA, s inet.Spot, m *netio.Received) ipsec.Drop {
	if u.n == 0 && u.proto != ipsec.ProtoIPComp {
		return ipsec.DropNone // it did not shrink
	}
	if w.restored == nil {
		w.restored = make([]byte, maxRestored)
	}
	old := u.c.bytes()
	payload, next, d := ipcomp.Decompress(w.restored, old[s.At:])
	if d != ipsec.DropNone {
		return d
	}
	if s.At+len(payload) > 65535 {
		return ipsec.DropCompression
	}
	head := w.head[:copy(w.head[:], old[:s.At])]
	if len(head) < s.At || !w.take(u, s.At+len(payload)) {
		return ipsec.DropCompression
	}
	pkt := u.c.bytes()
	copy(pkt, head)
	copy(pkt[s.At:], payload)
	pkt[s.Next] = next
	inet.Mend(pkt)
	if sa.sa.Mode == ipsec.Transport { // ESP has not seen the checksum
		mendChecksum(pkt[s.At:], next, sa, m)
	}
	return ipsec.DropNone
}

// following strips an outer header whose SA is off, and finds the next SA of the
// bundle; nil: this was the last.
func (w *inWork) following(u *unwrapping, sa *inSA, now int64) (*inSA, ipsec.Drop) {
	var rest []*inSA // those nearer to the plain packet
	if chain := sa.chain.Load(); chain != nil {
		for i, other := range *chain {
			if other == sa {
				rest = (*chain)[:i]
			}
		}
	}
	for {
		s, ok := inet.Last(u.c.bytes())
		if !ok {
			if len(rest) == 0 && !u.tunnel {
				return nil, ipsec.DropNone // arrive looks at it
			}
			if u.waits, ok = w.gather(u, sa, now); !ok {
				return nil, ipsec.DropMalformed
			}
			if u.waits {
				return nil, ipsec.DropNone
			}
			continue
		}
		proto := u.c.bytes()[s.Next]
		// A packet that did not shrink comes without IPComp.
		for len(rest) > 0 && rest[len(rest)-1].id.Proto == ipsec.ProtoIPComp && proto != uint8(ipsec.ProtoIPComp) {
			skipped := rest[len(rest)-1]
			u.tunnel = u.tunnel || skipped.sa.Mode == ipsec.Tunnel
			rest = rest[:len(rest)-1]
			if skipped.dead.Load() || !skipped.count(u.c.n, now) {
				return nil, ipsec.DropExpired
			}
			u.done[u.n] = skipped
			u.n++
		}
		isIP := proto == nextIPv4 || proto == nextIPv6
		if len(rest) > 0 && rest[len(rest)-1].id.Proto == ipsec.ProtoIPIP && isIP && !u.tunnel {
			return rest[len(rest)-1], ipsec.DropNone
		}
		if u.tunnel && isIP {
			if d := u.strip(s, proto); d != ipsec.DropNone {
				return nil, d
			}
			if len(rest) == 0 {
				return nil, ipsec.DropNone
			}
			continue
		}
		if len(rest) == 0 {
			return nil, ipsec.DropNone
		}
		next := rest[len(rest)-1]
		if proto != uint8(next.id.Proto) || !sameSPI(u.c.bytes(), s, next) {
			return nil, ipsec.DropWrongSA
		}
		return next, ipsec.DropNone
	}
}

// gather keeps a fragment that a tunnel carried and that is to lose another SA,
// which whole packets have alone. It is false for what is no fragment; waits:
// others are missing.
func (w *inWork) gather(u *unwrapping, sa *inSA, now int64) (waits, ok bool) {
	pkt := u.c.bytes()
	if d := ipsec.ParsePacket(pkt, &w.info); d != ipsec.DropNone || !w.info.Fragment || w.info.TotalLen != len(pkt) {
		return false, false
	}
	whole, n := w.p.gather[ipsec.In].add(pkt, &w.info, sa, &sa.drops, now)
	if whole == nil {
		return true, true
	}
	if !w.take(u, n) {
		return false, false
	}
	copy(u.c.bytes(), whole)
	return false, true
}

// sameSPI tells whether an IPsec header names this SA.
func sameSPI(pkt []byte, s inet.Spot, sa *inSA) bool {
	b := pkt[s.At:]
	switch sa.id.Proto {
	case ipsec.ProtoESP:
		return len(b) >= 4 && ipsec.SPI(binary.BigEndian.Uint32(b)) == sa.id.SPI
	case ipsec.ProtoAH:
		return len(b) >= 8 && ipsec.SPI(binary.BigEndian.Uint32(b[4:])) == sa.id.SPI
	case ipsec.ProtoIPComp:
		return len(b) >= 4 && ipsec.SPI(binary.BigEndian.Uint16(b[2:])) == sa.id.SPI
	}
	return false
}

// strip takes the outer header off.
func (u *unwrapping) strip(s inet.Spot, proto uint8) ipsec.Drop {
	pkt := u.c.bytes()
	outer := inet.TOS(pkt)
	inner := pkt[s.At:]
	if d := checkInner(inner, proto); d != ipsec.DropNone {
		return d
	}
	u.c.off += s.At
	u.c.n = total(inner)
	u.tunnel = false
	if !inet.Inward(u.c.bytes(), outer) {
		return ipsec.DropCongestion
	}
	return ipsec.DropNone
}

// checkInner tells whether b begins with a whole IP header of the version that
// proto says, and with the packet that it promises.
func checkInner(b []byte, proto uint8) ipsec.Drop {
	switch {
	case len(b) == 0:
		return ipsec.DropMalformed
	case versionNext(b) != proto || proto == nextIPv4 && b[0]>>4 != 4:
		return ipsec.DropNextHeader
	case proto == nextIPv4 && (len(b) < 20 || b[0]&15 < 5 || total(b) < int(b[0]&15)*4), proto == nextIPv6 && len(b) < 40, total(b) > len(b):
		return ipsec.DropMalformed
	}
	return ipsec.DropNone
}

// total is how long a packet says it is.
func total(b []byte) int {
	if b[0]>>4 == 6 {
		return 40 + int(binary.BigEndian.Uint16(b[4:]))
	}
	return int(binary.BigEndian.Uint16(b[2:]))
}

// arrive judges a packet from which every SA was taken off: it must have come
// through exactly one SA that stands alone, or one whole bundle; its addresses
// and ports must be those of the innermost SA; and the flow that it belongs to
// must be that SA's.
func (w *inWork) arrive(u *unwrapping, sa *inSA, now int64) ipsec.Drop {
	head := u.done[u.n-1]
	if u.tunnel {
		return ipsec.DropNextHeader // tunnel mode, and no IP packet inside
	}
	if !w.wholeChain(u) {
		return ipsec.DropWrongSA
	}
	pkt := u.c.bytes()
	if d := ipsec.ParsePacket(pkt, &w.info); d != ipsec.DropNone {
		return d
	}
	pkt = pkt[:w.info.TotalLen]
	if w.info.Fragment {
		if pkt = w.fragment(w.p, head, pkt, now); pkt == nil {
			return ipsec.DropNone
		}
	}
	if w.info.SourceRoute || !head.sa.Selector.Match(&w.info) {
		return ipsec.DropSelector
	}
	if !w.belongs(w.p, head) {
		return ipsec.DropWrongSA
	}
	if head.sa.Mode == ipsec.Tunnel && !w.p.opt.NoClampMSS {
		w.p.clampIn(pkt, &w.info)
	}
	w.pkts = append(w.pkts, pkt)
	return ipsec.DropNone
}

// wholeChain tells whether what was taken off is one SA that stands alone, or
// all of a bundle from the outermost to the innermost.
func (w *inWork) wholeChain(u *unwrapping) bool {
	chain := u.done[0].chain.Load()
	if chain == nil {
		return u.n == 1 && !bundled(u.done[0].sa.Bundle)
	}
	if len(*chain) != u.n {
		return false
	}
	for i, sa := range *chain {
		if u.done[u.n-1-i] != sa {
			return false
		}
	}
	return true
}

// mendChecksum corrects a TCP or UDP checksum that was made with the addresses
// from before a NAT (RFC 3948 section 3.1.2).
func mendChecksum(b []byte, proto uint8, sa *inSA, m *netio.Received) {
	n := sa.sa.NATOA
	if !n.Peer.IsValid() || !n.Ours.IsValid() || n.Peer.Is4() != n.Ours.Is4() {
		return
	}
	at := 0
	switch proto {
	case 6:
		at = 16
	case 17:
		at = 6
	default:
		return
	}
	if len(b) < at+2 {
		return
	}
	was := binary.BigEndian.Uint16(b[at:])
	if proto == 17 && was == 0 {
		return // there is none
	}
	s := uint32(^was)
	for _, a := range [...]struct{ was, is []byte }{{n.Peer.AsSlice(), m.Remote.Addr().AsSlice()}, {n.Ours.AsSlice(), m.Local.Addr().AsSlice()}} {
		s = uint32(inet.Fold(s + uint32(^inet.Fold(inet.Sum(a.was, 0)))))
		s = uint32(inet.Fold(inet.Sum(a.is, s)))
	}
	is := ^inet.Fold(s)
	if proto == 17 && is == 0 {
		is = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], is)
}
