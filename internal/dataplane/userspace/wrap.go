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
	p.remeasure(head, now)
	chain := head.layers()
	w := wrapping{}
	if sa := w.number(chain); sa != nil {
		sa.drops.add(ipsec.DropSequenceEnd)
		return
	}
	if l := head.order.Load(); l != nil {
		s.dressLater(head, chain, l, pkt, &w)
		return
	}
	if s.room.left() < wrapRoom(len(pkt)) {
		s.flush()
	}
	buf := s.room.take(layersHead + len(pkt) + layersTail)
	if buf == nil {
		head.drops.add(ipsec.DropTooBig)
		return
	}
	w.packet = packet{buf: buf, off: layersHead, n: len(pkt)}
	copy(w.bytes(), pkt)
	if sa, d := p.dress(&w, chain, &s.squeeze, now); d != ipsec.DropNone {
		sa.drops.add(d)
		return
	}
	if d := p.sendWrapped(s, head, chain[len(chain)-1], &w, pkt, now); d != ipsec.DropNone {
		head.drops.add(d)
	}
}

// layers are the SAs that a packet of sa's flow goes through.
func (sa *outSA) layers() []*outSA {
	if c := sa.chain.Load(); c != nil {
		return *c
	}
	return sa.self[:]
}

// wrapping is a packet on its way through the SAs.
type wrapping struct {
	packet
	seqs   [maxLayers]uint64
	tunnel bool // it has an outer header already
	tied   bool // which AH covers
	src    netip.Addr
	dst    netip.Addr // of that header
}

// number takes a sequence number of each SA that has them, in the order in which
// packets are to leave. It returns the SA that has none left; nil: all have.
func (w *wrapping) number(chain []*outSA) *outSA {
	for i, sa := range chain {
		if sa.t == nil && sa.auth == nil {
			continue
		}
		seq, ok := sa.next()
		if !ok {
			return sa
		}
		w.seqs[i] = seq
	}
	return nil
}

// dress applies all SAs; one that refused, with the reason.
func (p *Plane) dress(w *wrapping, chain []*outSA, squeeze *[]byte, now int64) (*outSA, ipsec.Drop) {
	if chain[0].sa.Mode == ipsec.Transport {
		whole := inet.Atomic(w.bytes())
		w.off, w.n = w.off+w.n-len(whole), len(whole)
	}
	for i, sa := range chain {
		if d := p.step(w, sa, w.seqs[i], squeeze, now); d != ipsec.DropNone {
			return sa, d
		}
	}
	return nil, ipsec.DropNone
}

// step applies one SA.
func (p *Plane) step(w *wrapping, sa *outSA, seq uint64, squeeze *[]byte, now int64) ipsec.Drop {
	proto := sa.sa.ID.Proto
	if p.off.is(proto) {
		return ipsec.DropDisabled
	}
	if sa.over.Load() || !sa.count(w.n, now) {
		return ipsec.DropExpired
	}
	if w.opens(sa) && !w.encapsulate(sa, p.opt.DF, p.fragments.Add(1)) {
		return ipsec.DropTooBig
	}
	switch proto {
	case ipsec.ProtoESP:
		return w.esp(sa, seq)
	case ipsec.ProtoAH:
		w.tied = true
		return w.ah(sa, seq)
	case ipsec.ProtoIPComp:
		return w.ipcomp(sa, squeeze)
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
func (w *wrapping) encapsulate(sa *outSA, df DF, number uint32) bool {
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
	id := uint16(number%65535) + 1
	outer := inet.Header{Src: sa.sa.Src, Dst: sa.remote.Load().Addr(), Proto: next, TOS: tos, TTL: outerTTL, DontFrag: whole, ID: id}
	outer.Put(w.bytes())
	w.opened(sa)
	return true
}

func (w *wrapping) esp(sa *outSA, seq uint64) ipsec.Drop {
	pkt := w.bytes()
	s, ok := inet.Payload(pkt)
	if !ok {
		return ipsec.DropReassembly
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

func (w *wrapping) ah(sa *outSA, seq uint64) ipsec.Drop {
	pkt := w.bytes()
	if _, ok := inet.Payload(pkt); !ok {
		return ipsec.DropReassembly
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
func (w *wrapping) ipcomp(sa *outSA, squeeze *[]byte) ipsec.Drop {
	pkt := w.bytes()
	at, ok := inet.Payload(pkt)
	if !ok {
		return ipsec.DropReassembly
	}
	if cap(*squeeze) < w.n {
		*squeeze = make([]byte, max(w.n, 2048))
	}
	out, ok := sa.comp.Compress((*squeeze)[:w.n], pkt[at.At:], pkt[at.Next], uint16(sa.id.SPI))
	if !ok {
		return ipsec.DropNone
	}
	pkt[at.Next] = uint8(ipsec.ProtoIPComp)
	w.n = at.At + copy(pkt[at.At:], out)
	inet.Mend(w.bytes())
	return ipsec.DropNone
}

// sendWrapped queues what the last SA made. inner is the packet that the host
// sent, or nothing, if it was no longer than fits.
func (p *Plane) sendWrapped(s *sender, head, sa *outSA, w *wrapping, inner []byte, now int64) ipsec.Drop {
	path := int(head.path.Load())
	// What was found to fit before does, but for headers with options, and what
	// compression was to make shorter.
	if over := w.n - path; over > 0 && len(inner) > 0 && dontFrag(inner) && !p.joined(inner) {
		room := int(head.most.Load())
		if len(inner) <= room {
			room = len(inner) - over
		}
		if p.tooBig(s, head, inner, room, now) {
			return ipsec.DropTooBig
		}
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
