package userspace

import (
	"errors"
	"net/netip"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/esp"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// noticeEvery is how often a log line of one cause may come.
const noticeEvery = time.Second

// recvSlots is how many messages a call may bring: with receive offload each
// may be a row of datagrams.
const recvSlots = 32

// inLoop carries packets from a socket to the device.
func (p *Plane) inLoop(l *link) {
	w := newInWork(p, l)
	for {
		err := l.conn.Recv(w.batch)
		if errors.Is(err, netio.ErrClosed) {
			return
		}
		if err != nil {
			if p.trouble("a socket of the data plane cannot be read", err) {
				return
			}
			continue
		}
		w.messages(w.batch.Msgs)
	}
}

// inWork is what one goroutine needs to carry packets in.
type inWork struct {
	p     *Plane
	l     *link
	batch *netio.RecvBatch
	opened
	job *job
}

// opened is a row of packets for the device.
type opened struct {
	pkts [][]byte
	info ipsec.PacketInfo
}

func newInWork(p *Plane, l *link) *inWork {
	slots := batchSize
	if _, gro := l.conn.Offload(); gro {
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
			w.datagram(data, m.Remote, m.Local, now)
			if len(w.pkts) == cap(w.pkts) {
				w.p.toDevice(w.pkts)
				w.pkts = w.pkts[:0]
			}
		}
	}
	w.submit()
	w.p.toDevice(w.pkts)
	w.pkts = w.pkts[:0]
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

func (w *inWork) datagram(b []byte, remote, local netip.AddrPort, now int64) {
	if w.l.encap {
		if isIKE(b) {
			w.p.ike.deliver(b[markerLen:], remote, local)
			return
		}
		if len(b) == 1 && b[0] == keepalive {
			return
		}
	}
	sa, drop := w.packet(b, remote, local, now)
	if drop == ipsec.DropNone {
		return
	}
	if sa != nil {
		sa.drops.add(drop)
	} else {
		w.p.drops.add(drop)
	}
	w.notice(drop, b, remote, local, now)
}

func (w *inWork) notice(drop ipsec.Drop, b []byte, remote, local netip.AddrPort, now int64) {
	if drop == ipsec.DropReplay {
		return // an ordinary thing on a network that repeats or reorders
	}
	if n, ok := w.p.notices[drop].allow(now, noticeEvery); ok {
		spi, seq, _ := esp.ParseHeader(b)
		w.p.log.Info("an ESP packet was dropped", "reason", drop, "from", remote, "to", local, "spi", spi, "seq", seq, "like_it", n)
	}
}

// packet finds the SA of an ESP packet and opens it, or leaves that to the
// workers.
func (w *inWork) packet(b []byte, remote, local netip.AddrPort, now int64) (*inSA, ipsec.Drop) {
	spi, low, ok := esp.ParseHeader(b)
	if !ok {
		return nil, ipsec.DropShort
	}
	sa := w.p.sad.Lookup(local.Addr(), ipsec.ProtoESP, spi)
	// An SA in UDP is not reached by raw ESP, nor the other way round.
	if sa == nil || (sa.sa.Encap != nil) != w.l.encap {
		return nil, ipsec.DropUnknownSPI
	}
	if w.p.espOff.Load() {
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
		w.later(sa, b, remote, seq)
		return sa, ipsec.DropNone
	}
	inner, next, drop := sa.t.Open(b, uint32(seq>>32))
	if drop != ipsec.DropNone {
		return sa, drop
	}
	return sa, w.accept(w.p, sa, inner, next, seq, remote, now)
}

// accept judges an authentic packet: the window, then what is inside.
func (o *opened) accept(p *Plane, sa *inSA, inner []byte, next uint8, seq uint64, remote netip.AddrPort, now int64) ipsec.Drop {
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
	if o.info.SourceRoute || !sa.sa.Selector.Match(&o.info) {
		return ipsec.DropSelector
	}
	if !sa.count(o.info.TotalLen, now) {
		return ipsec.DropExpired
	}
	o.pkts = append(o.pkts, inner[:o.info.TotalLen])
	return ipsec.DropNone
}

// mapping tells that a peer behind NAT has another address now. The packet that
// says so is authentic and newer than all others, so neither a forger nor who
// repeats old packets from elsewhere can move a peer (RFC 3947 section 6).
func (p *Plane) mapping(sa *inSA, remote netip.AddrPort, now int64) {
	if _, ok := sa.moved.allow(now, noticeEvery); ok {
		p.events.post(dataplane.Mapping{SA: sa.id, Remote: remote})
	}
}
