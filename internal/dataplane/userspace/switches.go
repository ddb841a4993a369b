package userspace

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"oakley/internal/ipsec"
)

// protos are the protocols that this plane does, and rawProtos the numbers of
// raw sockets besides ESP's: IP in IP has a number for each inner family.
var (
	protos    = []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp, ipsec.ProtoIPIP}
	rawProtos = []uint8{uint8(ipsec.ProtoAH), uint8(ipsec.ProtoIPComp), nextIPv4, nextIPv6}
)

// switches tells which protocols are off as a whole.
type switches struct {
	state [256]atomic.Uint32
}

const (
	untouched = iota
	switchedOn
	switchedOff
)

// is tells whether a protocol is off: AH is until somebody wants it, as the
// systems have it that this suite comes from.
func (s *switches) is(p ipsec.Proto) bool {
	v := s.state[p].Load()
	return v == switchedOff || v == untouched && p == ipsec.ProtoAH
}

// set is true when that changed something.
func (s *switches) set(p ipsec.Proto, on bool) bool {
	was := s.is(p)
	v := uint32(switchedOff)
	if on {
		v = switchedOn
	}
	s.state[p].Store(v)
	return was == on
}

func (s *switches) list() (off []ipsec.Proto) {
	for _, p := range protos {
		if s.is(p) {
			off = append(off, p)
		}
	}
	slices.Sort(off)
	return off
}

// firstAH switches AH on with the first SA, unless a person switched it off.
func (p *Plane) firstAH(proto ipsec.Proto) {
	if proto == ipsec.ProtoAH {
		p.off.state[proto].CompareAndSwap(untouched, switchedOn)
	}
}

// ipEnds finds SAs of which packets bear no SPI, or one that says too little: IP in
// IP, IPComp in tunnel mode, whose packets are just that when they do not shrink
// (cpi 0), and IPComp with a well-known CPI.
type ipEnds struct {
	src, dst netip.Addr
	cpi      ipsec.SPI
}

// endsOf are the entries of an SA.
func endsOf(sa *ipsec.SA) (all []ipEnds) {
	k := ipEnds{src: sa.Src, dst: sa.ID.Dst}
	if sa.ID.Proto == ipsec.ProtoIPIP || sa.ID.Proto == ipsec.ProtoIPComp && sa.Mode == ipsec.Tunnel && !bundled(sa.Bundle) {
		all = append(all, k)
	}
	if isShared(sa.ID) {
		k.cpi = sa.ID.SPI
		all = append(all, k)
	}
	return all
}

// enterEnds and leaveEnds change the table of those; IP in IP itself comes before
// IPComp, what stands alone before what is of a bundle, and the newer before the
// older. Called with mu held.
func (p *Plane) enterEnds(sa *inSA) {
	for _, k := range endsOf(&sa.sa) {
		next := map[ipEnds]*inSA{}
		if old := p.ipip.Load(); old != nil {
			next = maps.Clone(*old)
		}
		if now := next[k]; now == nil || rankOfEnds(sa) >= rankOfEnds(now) {
			next[k] = sa
		}
		p.ipip.Store(&next)
	}
}

func rankOfEnds(sa *inSA) (n int) {
	if sa.id.Proto == ipsec.ProtoIPIP {
		n += 2
	}
	if !bundled(sa.at) {
		n++
	}
	return n
}

func (p *Plane) leaveEnds(sa *inSA) {
	for _, k := range endsOf(&sa.sa) {
		old := p.ipip.Load()
		if old == nil || (*old)[k] != sa {
			continue
		}
		next := maps.Clone(*old)
		delete(next, k)
		for _, other := range p.in {
			if other == sa || !slices.Contains(endsOf(&other.sa), k) {
				continue
			}
			if now := next[k]; now == nil || rankOfEnds(other) > rankOfEnds(now) {
				next[k] = other
			}
		}
		p.ipip.Store(&next)
	}
}

// arena is room for packets that live until a batch is done with.
type arena struct {
	slab []byte
	used int
}

const arenaSize = 512 << 10

// take gives n bytes; nil: the batch must be ended and the arena reset first.
func (a *arena) take(n int) []byte {
	if a.slab == nil {
		a.slab = make([]byte, arenaSize)
	}
	if a.used+n > len(a.slab) {
		return nil
	}
	b := a.slab[a.used:][:n:n]
	a.used += n
	return b
}

// left is what take would give at most.
func (a *arena) left() int { return arenaSize - a.used }

func (a *arena) reset() { a.used = 0 }
