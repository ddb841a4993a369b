package userspace

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/esp"
	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// noticeEvery is how often a log line of one cause may come.
const noticeEvery = time.Second

// recvSlots is how many messages a call may bring where each may be a row of
// datagrams, with receive offload, and of protocols that are rare: a slot is 64 KiB,
// which the system gives as far as packets reach, and takes back hardly ever.
const recvSlots = 32

// inLoop carries packets from a socket to the device.
func (p *Plane) inLoop(l *link) {
	w := newInWork(p, l)
	for {
		err := l.conn.Recv(w.batch)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if p.trouble("a socket of the data plane cannot be read", err) {
				return
			}
			continue
		}
		w.messages(w.batch.Msgs)
		if l.encap { // UDP comes many at a time as it is
			continue
		}
		if w.pace.after(len(w.batch.Msgs), time.Now().UnixNano()) {
			doze()
			w.pace.rested(time.Now().UnixNano())
		}
	}
}

// inWork is what one goroutine needs to carry packets in.
type inWork struct {
	p     *Plane
	l     *link
	batch *netio.RecvBatch
	opened
	job      *job
	deferred bool // of a worker
	pace     pace

	// For packets that go through several steps.
	room arena
	unwrapping
	restored []byte
	head     [256]byte
}

// opened is a row of packets for the device.
type opened struct {
	pkts [][]byte
	info ipsec.PacketInfo
	last lookedUp
}

// lookedUp is the last packet whose flow was looked up: those of a stream are
// alike.
type lookedUp struct {
	sa               *inSA
	version          uint64
	src, dst         netip.Addr
	proto            uint8
	hasPorts         bool
	srcPort, dstPort uint16
	ok               bool
}

// belongs tells whether the packet in info may come from sa: the flow that the
// packet matches is that SA's (RFC 4301 section 5.2). A packet that matches no
// flow is the SA's selectors' business alone.
func (o *opened) belongs(p *Plane, sa *inSA) bool {
	i, l := &o.info, &o.last
	version := p.version.Load()
	if l.sa == sa && l.version == version && l.src == i.Src && l.dst == i.Dst && l.proto == i.Proto &&
		l.hasPorts == i.HasPorts && l.srcPort == i.SrcPort && l.dstPort == i.DstPort {
		return l.ok
	}
	i.Dir = ipsec.In
	f := p.spd.Lookup(i)
	*l = lookedUp{sa, version, i.Src, i.Dst, i.Proto, i.HasPorts, i.SrcPort, i.DstPort, f == nil || f.takes(&sa.sa)}
	return l.ok
}

// takes tells whether an incoming flow's packets may come from an SA: one that
// names the flow, or, of SAs that name none, one of the same owner, protocol and
// far end.
func (f *flow) takes(sa *ipsec.SA) bool {
	switch {
	case f.Type == ipsec.FlowDeny:
		return false
	case f.Type == ipsec.FlowBypass:
		return true
	case sa.Flow != "":
		return sa.Flow == f.ID
	}
	return sa.Owner == f.Owner && sa.ID.Proto == f.Proto && (!f.Remote.IsValid() || f.Remote == sa.Src)
}

func newInWork(p *Plane, l *link) *inWork {
	slots := batchSize
	if _, gro := l.conn.Offload(); gro || l.proto != uint8(ipsec.ProtoESP) {
		slots = recvSlots
	}
	return &inWork{p: p, l: l, batch: netio.NewRecvBatch(slots), opened: opened{pkts: make([][]byte, 0, 8*batchSize)}}
}

// messages takes rows of datagrams apart before it looks at any: an IKE
// datagram can be the last of a row of ESP packets.
func (w *inWork) messages(msgs []netio.Received) {
	now := time.Now().UnixNano()
	for i := range msgs {
		m := &msgs[i]
		for {
			data, ok := m.Next()
			if !ok {
				break
			}
			w.datagram(data, m, now)
			if len(w.pkts) == cap(w.pkts) {
				w.p.toDevice(w.pkts)
				w.pkts = w.pkts[:0]
			}
		}
	}
	w.submit()
	w.p.toDevice(w.pkts)
	w.pkts = w.pkts[:0]
	w.room.reset()
}

// toDevice gives opened packets to the host.
func (p *Plane) toDevice(pkts [][]byte) {
	if len(pkts) == 0 {
		return
	}
	p.tunMu.Lock()
	failed, err := p.dev.Write(pkts)
	p.tunMu.Unlock()
	if failed == 0 {
		return
	}
	p.drops[ipsec.DropSend].Add(uint64(failed))
	if n, ok := p.notices[ipsec.DropNoFlow].allow(time.Now().UnixNano(), noticeEvery); ok {
		p.log.Warn("the host refused packets that came out of the tunnel", "device", p.dev.Name(), "packets", failed, "err", err, "like_it", n)
	}
}

func (w *inWork) datagram(b []byte, m *netio.Received, now int64) {
	remote, local := m.Remote, m.Local
	if w.l.encap {
		if isIKE(b) {
			if !w.p.ike.Deliver(b[dataplane.MarkerLen:], remote, local) {
				w.p.drops.add(ipsec.DropQueueFull)
			}
			return
		}
		if len(b) == 1 && b[0] == dataplane.Keepalive {
			return
		}
	}
	sa, drop := w.packet(b, m, now)
	if drop == ipsec.DropNone {
		return
	}
	if sa != nil {
		sa.drops.add(drop)
	} else {
		w.p.drops.add(drop)
	}
	w.notice(drop, sa, b, remote, local, now)
}

func (w *inWork) notice(drop ipsec.Drop, sa *inSA, b []byte, remote, local netip.AddrPort, now int64) {
	if drop == ipsec.DropReplay || drop == ipsec.DropCongestion {
		return // ordinary things on a network that repeats, reorders or is busy
	}
	if n, ok := w.p.notices[drop].allow(now, noticeEvery); ok {
		if sa != nil {
			w.p.log.Info("an incoming packet was dropped", "reason", drop, "from", remote, "to", local, "sa", sa.id, "like_it", n)
			return
		}
		spi, seq, _ := esp.ParseHeader(b)
		proto := ipsec.Proto(w.l.proto)
		if w.l.encap {
			proto = ipsec.ProtoESP
		}
		if proto == ipsec.ProtoAH && len(b) >= 12 {
			spi, seq, _ = esp.ParseHeader(b[4:])
		}
		w.p.log.Info("an incoming packet was dropped", "reason", drop, "from", remote, "to", local, "protocol", proto, "spi", spi, "seq", seq, "like_it", n)
	}
}

func parseESP(b []byte) (spi ipsec.SPI, seq uint32, ok bool) { return esp.ParseHeader(b) }

// other finds the SA of a packet that is not ESP.
func (w *inWork) other(b []byte, m *netio.Received, now int64) (*inSA, ipsec.Drop) {
	proto, spi := ipsec.Proto(w.l.proto), ipsec.SPI(0)
	switch w.l.proto {
	case nextIPv4, nextIPv6:
		sa := w.p.ends.find(ipEnds{src: m.Remote.Addr(), dst: m.Local.Addr()})
		if sa == nil {
			return nil, ipsec.DropNone // somebody else's tunnel
		}
		return w.unwrap(sa, proto, b, m, now)
	case uint8(ipsec.ProtoAH):
		if len(b) < 12 {
			return nil, ipsec.DropShort
		}
		spi = ipsec.SPI(binary.BigEndian.Uint32(b[4:]))
	default:
		if len(b) < 4 {
			return nil, ipsec.DropShort
		}
		spi = ipsec.SPI(binary.BigEndian.Uint16(b[2:]))
	}
	sa := w.p.sad.Lookup(m.Local.Addr(), proto, spi)
	if sa != nil && isShared(sa.id) {
		sa = w.p.ends.find(ipEnds{m.Remote.Addr(), m.Local.Addr(), spi})
	}
	if sa == nil {
		return nil, ipsec.DropUnknownSPI
	}
	return w.unwrap(sa, proto, b, m, now)
}

// packet finds the SA of a packet and opens it, or leaves that to the workers.
func (w *inWork) packet(b []byte, m *netio.Received, now int64) (*inSA, ipsec.Drop) {
	if !w.l.encap && w.l.proto != uint8(ipsec.ProtoESP) {
		return w.other(b, m, now)
	}
	remote, local := m.Remote, m.Local
	spi, low, ok := esp.ParseHeader(b)
	if !ok {
		return nil, ipsec.DropShort
	}
	sa := w.p.sad.Lookup(local.Addr(), ipsec.ProtoESP, spi)
	// An SA in UDP is not reached by raw ESP, nor the other way round.
	if sa == nil || (sa.sa.Encap != nil) != w.l.encap {
		return nil, ipsec.DropUnknownSPI
	}
	if !sa.plain.Load() {
		return w.unwrap(sa, ipsec.ProtoESP, b, m, now)
	}
	if w.p.off.is(ipsec.ProtoESP) {
		return sa, ipsec.DropDisabled
	}
	if sa.dead.Load() {
		return sa, ipsec.DropExpired
	}
	seq := uint64(low)
	if sa.sa.ESN {
		if seq, ok = sa.window.Extend(low); !ok {
			return sa, ipsec.DropReplay
		}
	}
	if !sa.window.Check(seq) {
		return sa, ipsec.DropReplay
	}
	if sa.line != nil {
		w.later(sa, b, remote, m.TOS, seq)
		return sa, ipsec.DropNone
	}
	inner, next, drop := sa.t.Open(b, uint32(seq>>32))
	if drop != ipsec.DropNone {
		return sa, drop
	}
	return sa, w.accept(w.p, sa, inner, next, m.TOS, seq, remote, now)
}

// accept judges an authentic packet: the window, then what is inside.
func (o *opened) accept(p *Plane, sa *inSA, inner []byte, next, tos uint8, seq uint64, remote netip.AddrPort, now int64) ipsec.Drop {
	if !sa.window.Update(seq) {
		return ipsec.DropReplay
	}
	if r := sa.remote.Load(); r != nil && *r != remote && seq == sa.window.Top() {
		p.mapping(sa, remote, now)
	}
	if next == nextDummy {
		return ipsec.DropNone
	}
	if d := ipsec.ParsePacket(inner, &o.info); d != ipsec.DropNone {
		if next != nextIPv4 && next != nextIPv6 {
			d = ipsec.DropNextHeader
		}
		return d
	}
	if next != nextIPv4 && next != nextIPv6 || (next == nextIPv4) != (o.info.Version == 4) {
		return ipsec.DropNextHeader
	}
	size := o.info.TotalLen
	inner = inner[:size]
	if tos&inet.MarkMask != 0 && !inet.Inward(inner, tos) {
		return ipsec.DropCongestion
	}
	if o.info.Fragment {
		if inner = o.fragment(p, sa, inner, now); inner == nil {
			sa.count(size, now)
			return ipsec.DropNone
		}
	}
	if o.info.SourceRoute || !sa.sa.Selector.Match(&o.info) {
		return ipsec.DropSelector
	}
	if !o.belongs(p, sa) {
		return ipsec.DropWrongSA
	}
	if !p.opt.NoClampMSS {
		p.clampIn(inner, &o.info)
	}
	if !sa.count(size, now) {
		return ipsec.DropExpired
	}
	o.pkts = append(o.pkts, inner)
	return ipsec.DropNone
}

// mapping tells that a peer behind NAT has another address now. The packet that
// says so is authentic and newer than all others, so neither a forger nor who
// repeats old packets from elsewhere can move a peer (RFC 3947 section 6).
func (p *Plane) mapping(sa *inSA, remote netip.AddrPort, now int64) {
	if _, ok := sa.moved.allow(now, noticeEvery); ok {
		p.events.Post(dataplane.Mapping{SA: sa.id, Remote: remote})
	}
}
