package userspace

import (
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
