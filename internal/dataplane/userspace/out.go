package userspace

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/tun"
)

// Sizes of the data path.
const (
	batchSize = 128
	headRoom  = 64  // before a packet: an ESP header and the longest IV need 24
	tailRoom  = 128 // behind it: the longest padding and ICV need 15+2+32
)

// Protocol numbers of what is inside a tunnel (RFC 4303 section 2.6).
const (
	nextIPv4  = 4
	nextIPv6  = 41
	nextDummy = 59
)

// sender collects outgoing packets by socket. One goroutine owns it.
type sender struct {
	p       *Plane
	batches []*netio.SendBatch // by link
	plain   [2]*netio.SendBatch
	size    int
	job     *job // of a slow SA, not yet handed over
	room    arena
	squeeze []byte
}

func newSender(p *Plane, size int) *sender {
	return &sender{p: p, size: size, batches: make([]*netio.SendBatch, len(p.links))}
}

// add queues a sealed packet.
func (s *sender) add(sa *outSA, pkt []byte, tos uint8) {
	b := s.batch(sa.link)
	b.AddTOS(pkt, sa.local, *sa.remote.Load(), tos)
}

// addPlain queues a packet that leaves in clear on purpose.
func (s *sender) addPlain(pkt []byte) ipsec.Drop {
	path := s.p.dev.MTU()
	if len(pkt) > path && s.room.left() < len(pkt)+fragmentHeads { // put together of fragments, which it becomes again
		s.flush()
	}
	return s.p.sendOwn(s, pkt, path)
}

// flush sends all that was queued.
func (s *sender) flush() {
	s.submit()
	for i, b := range s.batches {
		if b != nil && b.Len() > 0 {
			s.p.send(s.p.links[i].conn, b)
		}
	}
	for i, b := range s.plain {
		if b != nil && b.Len() > 0 {
			s.p.send(s.p.plain[i], b)
		}
	}
	s.room.reset()
}

func (p *Plane) send(c netio.Conn, b *netio.SendBatch) {
	failed, err := c.Send(b)
	if failed == 0 {
		return
	}
	p.drops[ipsec.DropSend].Add(uint64(failed))
	if errors.Is(err, net.ErrClosed) {
		return
	}
	if errors.Is(err, unix.EMSGSIZE) {
		p.tooWide.Store(time.Now().UnixNano())
	}
	if n, ok := p.notices[ipsec.DropSend].allow(time.Now().UnixNano(), noticeEvery); ok {
		p.log.Warn("the system refused to send packets", "socket", c.LocalAddr(), "packets", failed, "err", err, "like_it", n)
	}
}

// outLoop carries packets from the device to the peers.
func (p *Plane) outLoop() {
	w := newOutWork(p)
	for {
		n, err := p.dev.Read(w.bufs, w.sizes, headRoom)
		if errors.Is(err, tun.ErrClosed) {
			return
		}
		if err != nil {
			if p.trouble("the TUN device cannot be read: nothing is protected until it can", err) {
				return
			}
			continue
		}
		w.batch(n)
	}
}

// trouble reports an error of the device or a socket that should not be, and
// keeps a loop from spinning on it. It is true when the plane is closed.
func (p *Plane) trouble(what string, err error) (closed bool) {
	if n, ok := p.notices[ipsec.DropNone].allow(time.Now().UnixNano(), noticeEvery); ok {
		p.log.Error(what, "err", err, "like_it", n)
	}
	select {
	case <-p.events.Done():
		return true
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

// outWork is what one goroutine needs to carry packets out.
type outWork struct {
	p     *Plane
	bufs  [][]byte
	sizes []int
	info  ipsec.PacketInfo
	sender
}

func newOutWork(p *Plane) *outWork {
	slot := (headRoom + p.dev.MTU() + tailRoom + 63) &^ 63
	slab := make([]byte, batchSize*slot)
	w := &outWork{p: p, sizes: make([]int, batchSize), sender: *newSender(p, batchSize)}
	for i := range batchSize {
		w.bufs = append(w.bufs, slab[i*slot:][:slot:slot])
	}
	return w
}

// batch carries the first n packets of bufs.
func (w *outWork) batch(n int) {
	now := time.Now().UnixNano()
	for i := range n {
		if d := w.packet(w.bufs[i], w.sizes[i], now); d != ipsec.DropNone {
			w.p.drops.add(d)
		}
	}
	w.flush()
}

// packet finds what is to be done with one packet, and does it.
func (w *outWork) packet(buf []byte, n int, now int64) ipsec.Drop {
	pkt := buf[headRoom:][:n]
	w.info.Dir = ipsec.Out
	if d := ipsec.ParsePacket(pkt, &w.info); d != ipsec.DropNone {
		return d
	}
	if w.info.Fragment {
		return w.fragment(buf, w.info.TotalLen, now)
	}
	return w.route(buf, w.info.TotalLen, now)
}

// route does what its flow says with the packet at buf[headRoom:][:n], which is
// that of w.info.
func (w *outWork) route(buf []byte, n int, now int64) ipsec.Drop {
	pkt := buf[headRoom:][:n]
	f := w.p.spd.Lookup(&w.info)
	if f == nil {
		return ipsec.DropNoFlow
	}
	switch f.Type {
	case ipsec.FlowDeny:
		return ipsec.DropDeny
	case ipsec.FlowBypass:
		return w.addPlain(pkt)
	}
	sa := f.current.Load()
	if sa == nil && asks(f.Type) {
		var d ipsec.Drop
		if sa, d = w.p.hold(f, pkt, &w.info); f.Type == ipsec.FlowRequire && sa == nil {
			return d
		}
	}
	switch {
	case sa != nil:
		if f.Mode == ipsec.Tunnel && !w.p.opt.NoClampMSS {
			clampMSS(pkt, &w.info, min(w.p.dev.MTU(), int(sa.most.Load())))
		}
		w.p.protect(&w.sender, sa, buf, headRoom, n, w.info.Version, now)
	case f.Type.MayClear():
		return w.addPlain(pkt)
	default:
		return ipsec.DropNoSA
	}
	return ipsec.DropNone
}

// protect seals the packet at buf[off:][:n] and queues it, or leaves it to the
// workers.
func (p *Plane) protect(s *sender, sa *outSA, buf []byte, off, n int, version uint8, now int64) {
	long := n > int(sa.most.Load())
	if long && p.tooLong(s, sa, buf[off:][:n], now) {
		return
	}
	if !sa.plain.Load() || long && sa.divided() {
		p.wrap(s, sa, buf[off:][:n], now)
		return
	}
	if p.off.is(ipsec.ProtoESP) {
		sa.drops.add(ipsec.DropDisabled)
		return
	}
	// One that was deleted since the packet chose it carries the packet still: the
	// peer has it yet, and nothing is lost when SAs succeed each other.
	if sa.over.Load() || !sa.count(n, now) {
		sa.drops.add(ipsec.DropExpired)
		return
	}
	seq, ok := sa.next()
	if !ok {
		sa.drops.add(ipsec.DropSequenceEnd)
		return
	}
	next := uint8(nextIPv4)
	if version == 6 {
		next = nextIPv6
	}
	if sa.line != nil {
		s.later(sa, buf[off:][:n], next, seq)
		return
	}
	tos := outward(inet.TOS(buf[off:]))
	pkt, err := sa.t.Seal(buf, off, n, next, seq)
	if err != nil {
		sa.drops.add(ipsec.DropTooBig)
		return
	}
	s.add(sa, pkt, tos)
}

// selectorOf is the packet itself as a selector, for an Acquire event.
func selectorOf(info *ipsec.PacketInfo) ipsec.Selector {
	s := ipsec.Selector{
		Src: netip.PrefixFrom(info.Src, info.Src.BitLen()), Dst: netip.PrefixFrom(info.Dst, info.Dst.BitLen()),
		Proto: info.Proto,
	}
	if info.HasPorts {
		s.SrcPort, s.DstPort = info.SrcPort, info.DstPort
	}
	return s
}

// workers is how many goroutines seal and open slow ciphers.
func workers() int { return runtime.GOMAXPROCS(0) }

// isIKE tells whether a datagram on the encapsulation port is IKE's: its SPI is
// the non-ESP marker (RFC 3948 section 2.2).
func isIKE(b []byte) bool { return len(b) >= dataplane.MarkerLen && binary.BigEndian.Uint32(b) == 0 }
