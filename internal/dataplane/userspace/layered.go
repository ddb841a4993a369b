package userspace

import (
	"net/netip"
	"time"

	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// What goes through more than ESP in tunnel mode, and has a slow cipher or
// compression among it, is dressed and undressed by the workers too. Sequence
// numbers are taken before and windows are changed after that, in the order of the
// packets: a worker that is ahead of others makes no packet look late.

// layered is what a packet of a job needs for that.
type layered struct {
	w     wrapping
	inner []byte // a copy of the plain packet, if it is longer than fits
	sa    *outSA // who refused it

	proto  ipsec.Proto
	head   int // bytes of IP header before what follows it; 0: there is none
	local  netip.AddrPort
	ttl    uint8
	first  uint8
	exts   []byte // extension headers; owned by the job
	marks  [maxLayers]mark
	nmarks int
}

// dressLater puts an outgoing packet, which has its sequence numbers, into the job
// at hand.
func (s *sender) dressLater(head *outSA, chain []*outSA, l *line, pkt []byte, w *wrapping) {
	if s.job != nil && (s.job.out != head || s.job.n == jobSize || len(s.job.chain) == 0 || &s.job.chain[0] != &chain[0]) {
		s.submit()
	}
	if s.job == nil {
		s.job = s.p.work.get(l)
		s.job.out, s.job.chain = head, chain
	}
	k := s.job.next(layersHead, len(pkt), layersTail)
	copy(k.data, pkt)
	k.w = *w
	k.w.packet = packet{buf: k.room, off: layersHead, n: len(pkt)}
	k.inner = k.inner[:0]
	if len(pkt) > int(head.most.Load())-optionsLen {
		k.inner = append(k.inner, pkt...)
	}
}

// optionsLen is what options and alignment may make of a packet that was found to
// fit.
const optionsLen = 64

func (j *job) dress(p *Plane, squeeze *[]byte) {
	now := time.Now().UnixNano()
	for i := range j.n {
		k := &j.all[i]
		k.sa, k.drop = p.dress(&k.w, j.chain, squeeze, now)
	}
}

// sendDressed sends what of a job was not refused.
func (w *pool) sendDressed(j *job) {
	s := w.senders.Get().(*sender)
	now := time.Now().UnixNano()
	for i := range j.n {
		k := &j.all[i]
		if k.drop != ipsec.DropNone {
			k.sa.drops.add(k.drop)
			continue
		}
		if s.room.left() < wrapRoom(k.w.n) {
			s.flush()
		}
		if d := w.p.sendWrapped(s, j.out, j.chain[len(j.chain)-1], &k.w, k.inner, now); d != ipsec.DropNone {
			j.out.drops.add(d)
		}
	}
	s.flush()
	w.senders.Put(s)
}

// undressLater puts an incoming packet into the job at hand.
func (w *inWork) undressLater(sa *inSA, l *line, proto ipsec.Proto, data []byte, m *netio.Received) {
	if w.job != nil && (w.job.in != sa || w.job.from == nil || w.job.n == jobSize) {
		w.submit()
	}
	if w.job == nil {
		w.job = w.p.work.get(l)
		w.job.in, w.job.from = sa, w.l
	}
	pkt := data
	if m.Packet != nil {
		pkt = m.Packet
	}
	k := w.job.next(0, len(pkt), 0)
	copy(k.data, pkt)
	k.proto, k.head = proto, len(pkt)-len(data)
	k.remote, k.local, k.tos, k.ttl = m.Remote, m.Local, m.TOS, m.TTL
	k.exts, k.first = append(k.exts[:0], m.Headers...), m.First
}

// undress opens the packets of a job; what comes out replaces them.
func (j *job) undress(w *inWork) {
	w.l = j.from
	now := time.Now().UnixNano()
	for i := range j.n {
		k := &j.all[i]
		m := netio.Received{Remote: k.remote, Local: k.local, TOS: k.tos, TTL: k.ttl, Headers: k.exts, First: k.first}
		data := k.data[k.head:]
		if k.head > 0 {
			m.Packet = k.data
		}
		sa, drop := w.unwrap(j.in, k.proto, data, &m, now)
		k.nmarks = copy(k.marks[:], w.marks[:w.nmarks])
		if drop != ipsec.DropNone {
			sa.drops.add(drop)
			w.notice(drop, sa, data, k.remote, k.local, now)
		}
		k.drop, k.data = drop, k.data[:0]
		for _, pkt := range w.pkts { // one at most
			k.data = append(k.room[:0], pkt...)
			k.room = k.data[:cap(k.data)]
		}
		w.pkts = w.pkts[:0]
		w.room.reset()
	}
}

// giveUndressed enters the packets of a job into their windows and gives the host
// what came out of them.
func (j *job) giveUndressed(p *Plane) {
	now := time.Now().UnixNano()
	for i := range j.n {
		k := &j.all[i]
		fresh := true
		for n, mk := range k.marks[:k.nmarks] {
			if fresh = p.arrived(mk, k.remote, n == 0, now); !fresh {
				mk.sa.drops.add(ipsec.DropReplay)
				break
			}
		}
		if fresh && k.drop == ipsec.DropNone && len(k.data) > 0 {
			j.pkts = append(j.pkts, k.data)
		}
	}
	p.toDevice(j.pkts)
	j.pkts = j.pkts[:0]
}
