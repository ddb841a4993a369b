package userspace

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// What routers say about IPv6 paths. No router fragments IPv6, so a sender that
// does not listen to them sends into a hole. The kernel listens for UDP; for raw
// protocols it does not, and we do. Anybody can say so (RFC 4301 section 8.2.1): who
// says it must know an SPI of ours that only the peers and who is on the path know,
// and can make no path narrower than what every IPv6 network carries.

const (
	packetIsTooBig = 2                     // of ICMPv6
	newsEvery      = 10 * time.Millisecond // what comes more often is said again
	newsAge        = 10 * time.Minute      // RFC 8201 section 4 asks for a guess that it has changed, after so long
	maxPaths       = 1024
)

// openNews opens the socket for what routers say.
func (p *Plane) openNews() {
	if p.opt.NoIPv6 {
		return
	}
	c, err := p.opt.Network.OpenRaw(netio.RawOptions{Local: netip.IPv6Unspecified(), Proto: protoICMP6, Only: packetIsTooBig, Mark: p.opt.Mark})
	if err != nil {
		p.log.Info("narrow IPv6 paths are not noticed", "err", err)
		return
	}
	p.news = c
}

func (p *Plane) newsLoop() {
	b := netio.NewRecvBatch(4)
	for {
		err := p.news.Recv(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if p.trouble("the socket for what routers say of IPv6 paths cannot be read", err) {
				return
			}
			continue
		}
		now := time.Now().UnixNano()
		for i := range b.Msgs {
			p.heard(b.Msgs[i].Data, now)
		}
	}
}

// heard takes a message that a packet was too big (RFC 4443 section 3.2).
func (p *Plane) heard(msg []byte, now int64) {
	if len(msg) < 8 || msg[0] != packetIsTooBig {
		return
	}
	mtu := max(int(binary.BigEndian.Uint32(msg[4:])&0x7fffffff), leastMTU6)
	proto, spi, ok := inet.Quoted(msg[8:])
	if !ok || mtu >= p.opt.OuterMTU {
		return
	}
	if _, ok := p.newsLimit.allow(now, newsEvery); !ok {
		return
	}
	to := inet.Destination(msg[8:])
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || !p.sends(to, ipsec.Proto(proto), ipsec.SPI(spi)) || !p.paths.put(to, mtu, now) {
		return
	}
	for _, sa := range p.out {
		if sa.remote.Load().Addr() == to {
			p.measureAgain(sa)
		}
	}
}

// sends tells whether such a packet may be ours. Called with mu held.
func (p *Plane) sends(to netip.Addr, proto ipsec.Proto, spi ipsec.SPI) bool {
	if proto != nextIPv4 && proto != nextIPv6 {
		sa := p.out[ipsec.SAID{Dir: ipsec.Out, Proto: proto, SPI: spi, Dst: to}]
		return sa != nil
	}
	for id, sa := range p.out {
		if id.Dst == to && (id.Proto == ipsec.ProtoIPIP || id.Proto == ipsec.ProtoIPComp && sa.sa.Mode == ipsec.Tunnel) {
			return true
		}
	}
	return false
}

// learnt is what routers said, by destination.
type learnt struct {
	mu  sync.Mutex
	all map[netip.Addr]learntPath
}

type learntPath struct {
	mtu int
	at  int64
}

// get is the smaller of mtu and what was said.
func (l *learnt) get(to netip.Addr, mtu int, now int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	was, ok := l.all[to]
	if ok && now-was.at > int64(newsAge) {
		delete(l.all, to)
		return mtu
	}
	if !ok {
		return mtu
	}
	return min(mtu, was.mtu)
}

// put is true when that is less than was known.
func (l *learnt) put(to netip.Addr, mtu int, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, ok := l.all[to]; ok && was.mtu <= mtu && now-was.at <= int64(newsAge) {
		return false
	}
	if l.all == nil {
		l.all = map[netip.Addr]learntPath{}
	}
	for other := range l.all {
		if len(l.all) < maxPaths {
			break
		}
		delete(l.all, other)
	}
	l.all[to] = learntPath{mtu, now}
	return true
}
