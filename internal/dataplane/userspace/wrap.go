package userspace

import (
	"encoding/binary"
	"net/netip"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// outerTTL is the hop limit of the headers that tunnels make (RFC 4301 section
// 5.1.2.1 leaves it to us).
const outerTTL = 64

// wrap sends a packet through an SA, or a bundle, that is not ESP in tunnel mode
// alone: a copy of it, whole with its IP header, goes through the SAs in their
// order. It leaves through a socket that takes whole packets, so that the header
// is the one that AH has seen and, in transport mode, the host's own with its
// options, class and hop limit; ESP in UDP leaves through the UDP socket.
func (p *Plane) wrap(s *sender, head *outSA, pkt []byte, now int64) {
	one := [1]*outSA{head}
	chain := one[:]
	if c := head.chain.Load(); c != nil {
		chain = *c
	}
	p.remeasure(head, now)
	room := layersHead + len(pkt) + layersTail
	if s.room.left() < wrapRoom(len(pkt)) {
		s.flush()
	}
	buf := s.room.take(room)
	if buf == nil {
		head.drops.add(ipsec.DropTooBig)
		return
	}
	c := packet{buf: buf, off: layersHead, n: len(pkt)}
	copy(c.bytes(), pkt)
	if chain[0].sa.Mode == ipsec.Transport {
		whole := inet.Atomic(c.bytes())
		c.off, c.n = c.off+c.n-len(whole), len(whole)
	}
	w := wrapping{packet: c}
	for _, sa := range chain {
		if d := p.step(s, sa, &w, now); d != ipsec.DropNone {
			sa.drops.add(d)
			return
		}
	}
	if d := p.sendWrapped(s, head, chain[len(chain)-1], &w, pkt, now); d != ipsec.DropNone {
		head.drops.add(d)
	}
}

// wrapping is a packet on its way through the SAs.
type wrapping struct {
	packet
	tunnel bool // it has an outer header already
	tied   bool // which AH covers
	src    netip.Addr
	dst    netip.Addr // of that header
}

// step applies one SA.
func (p *Plane) step(s *sender, sa *outSA, w *wrapping, now int64) ipsec.Drop {
	proto := sa.sa.ID.Proto
	if p.off.is(proto) {
		return ipsec.DropDisabled
	}
	if sa.dead.Load() || !sa.count(w.n, now) {
		return ipsec.DropExpired
	}
	if w.opens(sa) && !w.encapsulate(sa, p.opt.DF) {
		return ipsec.DropTooBig
	}
	switch proto {
	case ipsec.ProtoESP:
		return w.esp(sa)
	case ipsec.ProtoAH:
		w.tied = true
		return w.ah(sa)
	case ipsec.ProtoIPComp:
		return w.ipcomp(s, sa)
	}
	return ipsec.DropNone
}

// opens tells whether an SA puts a header of its own before the packet. SAs in
// tunnel mode that follow each other between the same ends share one: a second
// would say nothing new. AH and ESP in UDP do not: the header is the kernel's there,
// and AH would have to know its identification.
func (w *wrapping) opens(sa *outSA) bool {
	if sa.sa.ID.Proto == ipsec.ProtoIPIP {
		return true
	}
	return sa.sa.Mode == ipsec.Tunnel && (!w.tunnel || w.tied && sa.sa.Encap != nil || w.src != sa.sa.Src || w.dst != sa.sa.ID.Dst)
}

// opened notes that an SA did.
func (w *wrapping) opened(sa *outSA) {
	w.tunnel, w.tied, w.src, w.dst = true, false, sa.sa.Src, sa.sa.ID.Dst
}

// encapsulate puts an outer header before the packet.
func (w *wrapping) encapsulate(sa *outSA, df DF) bool {
	inner := w.bytes()
	h := inet.HeaderLen(sa.sa.Src.Is6())
	if w.n+h > 65535 || w.off < h {
		return false
	}
	next, tos, whole := versionNext(inner), outward(inet.TOS(inner)), df.of(inner)
	w.off -= h
	w.n += h
	// The identification is never 0, which would make the kernel fill in one that
	// AH has not seen.
	id := uint16(sa.packets.Load()%65535) + 1
	outer := inet.Header{Src: sa.sa.Src, Dst: sa.remote.Load().Addr(), Proto: next, TOS: tos, TTL: outerTTL, DontFrag: whole, ID: id}
	outer.Put(w.bytes())
	w.opened(sa)
	return true
}

func (w *wrapping) esp(sa *outSA) ipsec.Drop {
	pkt := w.bytes()
	s, ok := inet.Payload(pkt)
	if !ok {
		return ipsec.DropReassembly
	}
	seq, ok := sa.next()
	if !ok {
		return ipsec.DropSequenceEnd
	}
	h := sa.t.HeaderLen()
	if w.off < h || w.n+sa.t.Overhead() > 65535 {
		return ipsec.DropTooBig
	}
	next := pkt[s.Next]
	copy(w.buf[w.off-h:], pkt[:s.At])
	sealed, err := sa.t.Seal(w.buf, w.off+s.At, w.n-s.At, next, seq)
	if err != nil {
		return ipsec.DropTooBig
	}
	w.off -= h
	w.n = s.At + len(sealed)
	pkt = w.bytes()
	pkt[s.Next] = uint8(ipsec.ProtoESP)
	inet.Mend(pkt)
	return ipsec.DropNone
}

func (w *wrapping) ah(sa *outSA) ipsec.Drop {
	pkt := w.bytes()
	if _, ok := inet.Payload(pkt); !ok {
		return ipsec.DropReassembly
	}
	seq, ok := sa.next()
	if !ok {
		return ipsec.DropSequenceEnd
	}
	if pkt[0]>>4 == 4 && binary.BigEndian.Uint16(pkt[4:]) == 0 {
		binary.BigEndian.PutUint16(pkt[4:], uint16(seq)|1) // see encapsulate
	}
	sealed, err := sa.auth.Seal(w.buf, w.off, w.n, seq)
	if err != nil {
		return ipsec.DropTooBig
	}
	w.off -= len(sealed) - w.n
	w.n = len(sealed)
	return ipsec.DropNone
}

// ipcomp compresses the payload; one that would not shrink goes as it is (RFC
// 3173 section 2.2).
func (w *wrapping) ipcomp(s *sender, sa *outSA) ipsec.Drop {
	pkt := w.bytes()
	at, ok := inet.Payload(pkt)
	if !ok {
		return ipsec.DropReassembly
	}
	dst := s.squeezed(w.n)
	out, ok := sa.comp.Compress(dst, pkt[at.At:], pkt[at.Next], uint16(sa.id.SPI))
	if !ok {
		return ipsec.DropNone
	}
	pkt[at.Next] = uint8(ipsec.ProtoIPComp)
	w.n = at.At + copy(pkt[at.At:], out)
	inet.Mend(w.bytes())
	return ipsec.DropNone
}

// squeezed is room for one compressed payload.
func (s *sender) squeezed(n int) []byte {
	if cap(s.squeeze) < n {
		s.squeeze = make([]byte, max(n, 2048))
	}
	return s.squeeze[:n]
}

// sendWrapped queues what the last SA made. inner is the packet that the host
// sent.
func (p *Plane) sendWrapped(s *sender, head, sa *outSA, w *wrapping, inner []byte, now int64) ipsec.Drop {
	path := int(head.path.Load())
	// What was found to fit before does, but for headers with options, and what
	// compression was to make shorter.
	if over := w.n - path; over > 0 && dontFrag(inner) && !p.joined(inner) && p.tooBig(s, head, inner, min(len(inner)-over, int(head.most.Load())), now) {
		return ipsec.DropTooBig
	}
	if sa.sa.Encap == nil {
		return p.sendOwn(s, w.bytes(), path)
	}
	pkt := w.bytes()
	at, _ := inet.Payload(pkt)
	if w.tunnel && pkt[0]>>4 == 4 && dontFrag(pkt) && w.n+udpLen <= path && w.off >= udpLen {
		w.inUDP(sa, at)
		return p.sendOwn(s, w.bytes(), path)
	}
	s.add(sa, pkt[at.At:], inet.TOS(pkt))
	return ipsec.DropNone
}

// inUDP puts a UDP header without a checksum (RFC 3948 section 2.1) before the
// payload of an IPv4 packet.
func (w *wrapping) inUDP(sa *outSA, at inet.Spot) {
	copy(w.buf[w.off-udpLen:], w.bytes()[:at.At])
	w.off -= udpLen
	w.n += udpLen
	pkt, to := w.bytes(), *sa.remote.Load()
	h := pkt[at.At:][:udpLen]
	binary.BigEndian.PutUint16(h, sa.sa.Encap.Local.Port())
	binary.BigEndian.PutUint16(h[2:], to.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(w.n-at.At))
	h[6], h[7] = 0, 0
	pkt[at.Next] = protoUDP
	inet.Mend(pkt)
}

const protoUDP = 17

// whole queues a packet with its own header.
func (s *sender) whole(family int, pkt []byte, to netip.AddrPort) {
	b := s.plain[family]
	if b == nil {
		b = netio.NewSendBatch(s.size, false)
		s.plain[family] = b
	}
	if b.Full() {
		s.p.send(s.p.plain[family], b)
	}
	b.Add(pkt, netip.AddrPort{}, to)
}

// batch is that of a link, with room for a packet.
func (s *sender) batch(l *link) *netio.SendBatch {
	b := s.batches[l.index]
	if b == nil {
		b = netio.NewSendBatch(s.size, l.encap)
		s.batches[l.index] = b
	}
	if b.Full() {
		s.p.send(l.conn, b)
	}
	return b
}

// maxRestored is the longest payload that decompression may make.
const maxRestored = 65535 - 40
