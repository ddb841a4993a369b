package userspace

import (
	"net/netip"
	"time"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// leastOverhead is what the leanest encryption adds: IPv4's header, that of ESP,
// an IV of 8 bytes, a trailer of 2 and an ICV of 16, for AES-GCM in tunnel mode.
const leastOverhead = 54

// narrowest is the least that a path is taken for, whatever the system says: less
// has no room for the headers of a bundle.
const narrowest = 296

// pathAge is for how long the length of a path is not asked for again.
const pathAge = time.Second

// openProbe opens what tells how long outer packets may be. Without it the option
// alone counts.
func (p *Plane) openProbe() {
	n, ok := p.opt.Network.(netio.Prober)
	if !ok {
		return
	}
	probe, err := n.OpenProbe(p.opt.Mark)
	if err != nil {
		p.log.Info("the length of paths is not known beside what was configured", "bytes", p.opt.OuterMTU, "err", err)
		return
	}
	p.probe = probe
}

// pathTo is the longest packet, in bytes, that is sent to an address in one
// piece: Options.OuterMTU, or what the first link takes when that is less, or what a
// router has said.
func (p *Plane) pathTo(to netip.Addr) int {
	path := p.paths.get(to, p.opt.OuterMTU, time.Now().UnixNano())
	if p.probe == nil {
		return path
	}
	if n := p.probe.MTU(to); n > 0 {
		path = min(path, n)
	}
	return max(path, narrowest)
}

// measure notes the path of a bundle, or of an SA that stands alone, and what
// fits through.
func (p *Plane) measure(chain ...*outSA) {
	head := chain[0]
	path := p.pathTo(chain[len(chain)-1].remote.Load().Addr())
	shrinks, work := false, false
	for _, sa := range chain {
		shrinks = shrinks || sa.sa.ID.Proto == ipsec.ProtoIPComp
		work = work || p.opt.laborious(&sa.sa)
	}
	head.shrinks.Store(shrinks)
	if work {
		head.order.CompareAndSwap(nil, newLine())
	}
	head.path.Store(int32(path))
	head.most.Store(int32(fit(chain, path)))
}

// remeasure does it again when that is due: after a while, since routes change,
// and when the system has refused packets for their length since.
func (p *Plane) remeasure(head *outSA, now int64) {
	at := head.measured.Load()
	if now-at < int64(pathAge) && at >= p.tooWide.Load() || !head.measured.CompareAndSwap(at, now) {
		return
	}
	if c := head.chain.Load(); c != nil {
		p.measure(*c...)
		return
	}
	p.measure(head)
}

// measureAgain does it for an SA that has moved. Called with mu held.
func (p *Plane) measureAgain(sa *outSA) {
	if !bundled(sa.at) {
		p.measure(sa)
		return
	}
	if b := p.bundlesOut[bundleOf(&sa.sa, sa.at)]; b != nil {
		if c := b.complete(); c != nil {
			p.measure(c...)
		}
	}
}

// DF says how the outer IPv4 headers of tunnels are marked not to be fragmented
// (RFC 4301 section 8.1). Transport mode keeps the host's own header, but in UDP,
// where the header is the kernel's and has no mark. A packet that is longer than
// the path as we know it is fragmented whatever is said here.
type DF uint8

// What the mark is. With DFCopy and DFSet, what a narrower link further on drops
// is lost: the ICMP messages about it, which anybody can forge, are not believed.
// Who chooses them says with Options.OuterMTU how wide the path is. They cost
// speed: the headers are made here, and not by the kernel for many packets at
// once.
const (
	DFClear DF = iota // never there
	DFCopy            // of an inner IPv4 header; IPv6 has none: clear
	DFSet             // always there
)

// of is the mark for an inner packet.
func (d DF) of(inner []byte) bool {
	return d == DFSet || d == DFCopy && inner[0]>>4 == 4 && dontFrag(inner)
}

// dontFrag tells whether a packet of the host must not be fragmented.
func dontFrag(pkt []byte) bool { return pkt[0]>>4 == 6 || pkt[6]&0x40 != 0 }

// sendOwn queues a packet that has its own header, in pieces when it is longer
// than the path.
func (p *Plane) sendOwn(s *sender, pkt []byte, path int) ipsec.Drop {
	family := 0
	if pkt[0]>>4 == 6 {
		family = 1
	}
	if p.plain[family] == nil {
		return ipsec.DropSend
	}
	to := netip.AddrPortFrom(inet.Destination(pkt), 0)
	if len(pkt) <= path {
		s.whole(family, pkt, to)
		return ipsec.DropNone
	}
	if s.room.left() < len(pkt)+fragmentHeads {
		return ipsec.DropTooBig // who calls sees to it that there is room
	}
	id := p.fragments.Add(1)
	for at := 0; at >= 0; {
		buf := s.room.take(min(path, len(pkt)))
		var n int
		if n, at = inet.Fragment(buf, pkt, at, id); n == 0 {
			return ipsec.DropTooBig
		}
		s.whole(family, buf[:n], to)
	}
	return ipsec.DropNone
}

// fragmentHeads is room for the headers that the fragments of one packet have.
const fragmentHeads = 16 << 10

// wrapRoom is what wrapping a packet of n bytes takes of an arena, fragments
// included.
func wrapRoom(n int) int { return 2*(layersHead+n+layersTail) + fragmentHeads }
