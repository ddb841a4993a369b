package userspace

import (
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"oakley/internal/ah"
	"oakley/internal/dataplane"
	"oakley/internal/esp"
	"oakley/internal/ipcomp"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/replay"
)

// link is one socket: of one local address, of a raw protocol or ESP in UDP.
type link struct {
	conn  netio.Conn
	encap bool
	proto uint8
	local netip.Addr
	index int
}

// Numbers about the end of the sequence space.
const (
	lastSeq32 = math.MaxUint32
	softSeq32 = lastSeq32 - 1<<20 // a rekey is asked for here: a second at a million packets a second
)

// usage is what every SA counts, and its limits. The limits in bytes are looked
// at by packets, those in time by a timer.
type usage struct {
	id        ipsec.SAID
	key       ipsec.SAID // in the maps of SAs: id, but see shared.go
	plane     *Plane
	added     time.Time
	lastUse   atomic.Int64 // nanoseconds since 1970
	packets   atomic.Uint64
	bytes     atomic.Uint64
	drops     counters
	softBytes atomic.Uint64
	hardBytes atomic.Uint64
	softDone  atomic.Bool
	plain     atomic.Bool // ESP in tunnel mode that stands alone: the fast way
	at        ipsec.Place // under Plane.mu
	dead      atomic.Bool // limit reached or deleted
	over      atomic.Bool // limit reached: carries nothing more

	mu         sync.Mutex // timer and the limits in time
	timer      *time.Timer
	soft, hard ipsec.Lifetime
}

type inSA struct {
	usage
	sa     ipsec.SA
	t      *esp.Transform // of ESP
	auth   *ah.Transform  // of AH
	chain  atomic.Pointer[[]*inSA]
	window *replay.Window
	remote atomic.Pointer[netip.AddrPort] // of a peer behind NAT; nil: raw
	moved  limiter                        // Mapping events
	line   *line                          // slow ciphers: the order of packets
	order  atomic.Pointer[line]           // the same of packets that lose more than this SA
}

type outSA struct {
	usage
	sa    ipsec.SA
	t     *esp.Transform // of ESP
	auth  *ah.Transform  // of AH
	comp  ipcomp.Compressor
	chain atomic.Pointer[[]*outSA] // of the first of a complete bundle
	most  atomic.Int32             // the longest packet that fits the path, of what a flow uses
	path  atomic.Int32             // the longest packet that it takes
	// shrinks: compression may make a longer one fit.
	shrinks  atomic.Bool
	measured atomic.Int64 // when the path was last asked for on the way of a packet
	esn      bool
	seq      atomic.Uint64 // last number given away
	link     *link
	local    netip.AddrPort
	remote   atomic.Pointer[netip.AddrPort]
	line     *line
	self     [1]*outSA
	order    atomic.Pointer[line] // of what is dressed by workers; nil: nobody but who brings it does
	later    *time.Timer          // of a deferred one; under Plane.mu
}

// slow tells whether a cipher is sealed by workers: all but the combined modes,
// and those too when that is asked for.
func (o *Options) slow(c ipsec.Cipher) bool {
	return c != ipsec.CipherNull && (o.Spread || c.Info().ICV == 0)
}

// laborious tells whether an SA is work for the workers.
func (o *Options) laborious(sa *ipsec.SA) bool {
	return sa.ID.Proto == ipsec.ProtoIPComp || sa.ID.Proto == ipsec.ProtoESP && o.slow(sa.Cipher)
}

func (u *usage) init(p *Plane, sa *ipsec.SA) {
	u.id, u.key, u.plane, u.added = sa.ID, sa.ID, p, time.Now()
	u.limit(sa.Soft, sa.Hard)
}

// limit sets the limits, also of an SA that lives.
func (u *usage) limit(soft, hard ipsec.Lifetime) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.soft, u.hard = soft, hard
	u.softBytes.Store(orMax(soft.Bytes))
	u.hardBytes.Store(orMax(hard.Bytes))
	u.arm()
}

func orMax(n uint64) uint64 {
	if n == 0 {
		return math.MaxUint64
	}
	return n
}

// arm sets the timer for the next limit in time. Called with mu held.
func (u *usage) arm() {
	if u.timer != nil {
		u.timer.Stop()
		u.timer = nil
	}
	if u.dead.Load() {
		return
	}
	age := time.Since(u.added)
	wait := time.Duration(math.MaxInt64)
	if u.soft.Time > 0 && !u.softDone.Load() {
		wait = u.soft.Time - age
	}
	if u.hard.Time > 0 {
		wait = min(wait, u.hard.Time-age)
	}
	if wait < math.MaxInt64 {
		u.timer = time.AfterFunc(max(wait, 0), u.timeOut)
	}
}

// timeOut is called by the timer.
func (u *usage) timeOut() {
	u.mu.Lock()
	age := time.Since(u.added)
	isHard := u.hard.Time > 0 && age >= u.hard.Time
	isSoft := u.soft.Time > 0 && age >= u.soft.Time
	u.mu.Unlock()
	switch {
	case isHard:
		u.expire()
		return
	case isSoft:
		u.wear()
	}
	u.mu.Lock()
	u.arm()
	u.mu.Unlock()
}

// wear tells once that a soft limit was reached.
func (u *usage) wear() {
	if !u.softDone.Swap(true) {
		u.plane.events.Post(dataplane.Expire{SA: u.id})
	}
}

// expire ends the SA for its hard limit. It may be called by a packet: the
// removal, which takes locks, is left to another goroutine.
func (u *usage) expire() {
	u.over.Store(true)
	if u.dead.Swap(true) {
		return
	}
	go u.plane.expired(u)
}

// stop ends the SA without an event.
func (u *usage) stop() {
	u.dead.Store(true)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.arm()
}

// count adds a packet of n bytes and looks at the limits. It is false when the
// packet is beyond the hard one.
func (u *usage) count(n int, now int64) bool {
	u.packets.Add(1)
	b := u.bytes.Add(uint64(n))
	u.lastUse.Store(now)
	if b < u.softBytes.Load() && b <= u.hardBytes.Load() {
		return true
	}
	if b > u.hardBytes.Load() {
		u.expire()
		return false
	}
	u.wear()
	return true
}

func (u *usage) state(sa *ipsec.SA, seq uint64, keys bool) ipsec.SAState {
	s := ipsec.SAState{SA: copyOf(sa, keys), Added: u.added, Bytes: u.bytes.Load(), Packets: u.packets.Load(), Seq: seq, Drops: u.drops.read()}
	if at := u.lastUse.Load(); at != 0 {
		s.LastUse = time.Unix(0, at)
	}
	u.mu.Lock()
	s.SA.Soft, s.SA.Hard = u.soft, u.hard
	s.SA.Bundle = u.at
	u.mu.Unlock()
	return s
}

func (sa *inSA) state(keys bool) ipsec.SAState {
	s := sa.usage.state(&sa.sa, sa.window.Top(), keys)
	follow(&s.SA, sa.remote.Load())
	return s
}

func (sa *outSA) state(keys bool) ipsec.SAState {
	s := sa.usage.state(&sa.sa, sa.sent(), keys)
	follow(&s.SA, sa.remote.Load())
	return s
}

// follow puts the peer's present address into a copy of an SA in UDP.
func follow(sa *ipsec.SA, remote *netip.AddrPort) {
	if sa.Encap != nil && remote != nil {
		sa.Encap = &ipsec.Encap{Local: sa.Encap.Local, Remote: *remote}
	}
}

// sent is the last sequence number that was used.
func (sa *outSA) sent() uint64 {
	if n := sa.seq.Load(); sa.esn || n < lastSeq32 {
		return n
	}
	return lastSeq32
}

// next takes a sequence number; false: there are none left.
func (sa *outSA) next() (uint64, bool) {
	seq := sa.seq.Add(1)
	if sa.esn || seq < softSeq32 {
		return seq, true
	}
	sa.wear()
	if seq > lastSeq32 {
		sa.seq.Add(^uint64(0)) // stays near the end, whatever is tried
		return 0, false
	}
	return seq, true
}

// check says whether this plane can carry sa.
func (p *Plane) check(sa *ipsec.SA) error {
	unsupported := func(format string, args ...any) error {
		return fmt.Errorf("SA %s: %s: %w", sa.ID, fmt.Sprintf(format, args...), dataplane.ErrUnsupported)
	}
	switch {
	case sa.Interface != 0:
		return fmt.Errorf("SA %s: %w", sa.ID, errInterface(sa.Interface))
	case !slices.Contains(protos, sa.ID.Proto):
		return unsupported("the user-space data plane does not do %s", sa.ID.Proto)
	case sa.Mode > ipsec.Transport:
		return unsupported("mode %d is neither tunnel nor transport", sa.Mode)
	case sa.Encap != nil && sa.ID.Proto != ipsec.ProtoESP:
		return unsupported("%s in UDP: RFC 3948 has ESP alone there", sa.ID.Proto)
	case sa.ID.Proto == ipsec.ProtoIPComp && (sa.Comp != ipsec.CompDeflate || sa.ID.SPI > math.MaxUint16):
		return unsupported("compression with %s under CPI %d: deflate and two bytes are known", sa.Comp, sa.ID.SPI)
	case sa.ID.SPI < 256 && (sa.ID.Proto == ipsec.ProtoESP || sa.ID.Proto == ipsec.ProtoAH):
		return fmt.Errorf("SA %s: SPIs below 256 are reserved (RFC 4303 section 2.1)", sa.ID)
	case !sa.Src.IsValid() || !sa.ID.Dst.IsValid() || sa.Src.Is4() != sa.ID.Dst.Is4():
		return fmt.Errorf("SA %s: outer source %s and destination %s must be two addresses of one family", sa.ID, sa.Src, sa.ID.Dst)
	case sa.ID.Dir > ipsec.In:
		return fmt.Errorf("SA %s: direction %d is neither out nor in", sa.ID, sa.ID.Dir)
	case sa.ID.Dir == ipsec.Out && (sa.Encap == nil) != (sa.ID.Port == 0), sa.ID.Dir == ipsec.In && sa.ID.Port != 0:
		return fmt.Errorf("SA %s: a port belongs to the name of an outgoing SA in UDP, and to no other's", sa.ID)
	case sa.Encap != nil && sa.Encap.Local.Port() != p.opt.EncapPort:
		return unsupported("ESP in UDP leaves from port %d here, not %d", p.opt.EncapPort, sa.Encap.Local.Port())
	case sa.Encap != nil && !sa.Encap.Remote.IsValid():
		return fmt.Errorf("SA %s: ESP in UDP to nowhere", sa.ID)
	}
	return checkPlace(sa.ID, sa.Bundle)
}

// linkFor finds the socket that sends from src.
func (p *Plane) linkFor(src netip.Addr, encap bool, proto uint8) (*link, error) {
	var any *link
	for _, l := range p.links {
		if l.encap != encap || !encap && l.proto != proto || l.local.Is4() != src.Is4() {
			continue
		}
		if l.local == src {
			return l, nil
		}
		if l.local.IsUnspecified() {
			any = l
		}
	}
	if any == nil {
		return nil, fmt.Errorf("the data plane does not listen on %s for %s", src, ipsec.Proto(proto))
	}
	return any, nil
}

func (sa *inSA) setPlain() { sa.plain.Store(isPlain(&sa.sa, sa.at)) }

// setPlain: a mark on the outer header asks for a header of our own.
func (sa *outSA) setPlain(df DF) {
	sa.plain.Store(isPlain(&sa.sa, sa.at) && (df == DFClear || sa.sa.Src.Is6()))
}

// divided tells whether packets that are too long for the path are fragmented here
// and not by the kernel, which hears of narrow IPv6 paths for UDP alone.
func (sa *outSA) divided() bool { return sa.sa.Src.Is6() && sa.sa.Encap == nil }

func isPlain(sa *ipsec.SA, at ipsec.Place) bool {
	return sa.ID.Proto == ipsec.ProtoESP && sa.Mode == ipsec.Tunnel && !bundled(at)
}

// copyOf copies sa; without keys nothing secret is in the copy.
func copyOf(sa *ipsec.SA, keys bool) ipsec.SA {
	c := sa.Public()
	if keys {
		c.Key, c.Salt, c.AuthKey = slices.Clone(sa.Key), slices.Clone(sa.Salt), slices.Clone(sa.AuthKey)
	}
	if sa.Encap != nil {
		e := *sa.Encap
		c.Encap = &e
	}
	return c
}

func (p *Plane) newIn(sa *ipsec.SA) (*inSA, error) {
	if _, err := p.linkFor(sa.ID.Dst, sa.Encap != nil, uint8(sa.ID.Proto)); err != nil {
		return nil, fmt.Errorf("SA %s: %w", sa.ID, err)
	}
	if !sa.Selector.Src.IsValid() || !sa.Selector.Dst.IsValid() {
		return nil, fmt.Errorf("SA %s: %w", sa.ID, ipsec.ErrSelector)
	}
	n := &inSA{sa: copyOf(sa, true), window: replay.New(sa.Replay)}
	var err error
	switch sa.ID.Proto {
	case ipsec.ProtoESP:
		n.t, err = esp.New(sa)
	case ipsec.ProtoAH:
		n.auth, err = ah.New(sa)
	}
	if err != nil {
		return nil, err
	}
	n.at = sa.Bundle
	n.setPlain()
	if !n.plain.Load() && p.opt.laborious(sa) {
		n.order.Store(newLine())
	}
	if sa.Encap != nil {
		r := sa.Encap.Remote
		n.remote.Store(&r)
	}
	if p.opt.slow(sa.Cipher) {
		n.line = newLine()
	}
	return n, nil
}

func (p *Plane) newOut(sa *ipsec.SA) (*outSA, error) {
	l, err := p.linkFor(sa.Src, sa.Encap != nil, uint8(sa.ID.Proto))
	if err != nil {
		return nil, fmt.Errorf("SA %s: %w", sa.ID, err)
	}
	// A key that a person typed comes back with the same sequence numbers after a
	// restart: its IVs must not.
	var random io.Reader
	if sa.Owner == ipsec.OwnerManual {
		random = p.opt.Rand
	}
	n := &outSA{sa: copyOf(sa, true), esn: sa.ESN, link: l, local: netip.AddrPortFrom(sa.Src, 0)}
	switch sa.ID.Proto {
	case ipsec.ProtoESP:
		n.t, err = esp.NewRandom(sa, random)
	case ipsec.ProtoAH:
		n.auth, err = ah.New(sa)
	}
	if err != nil {
		return nil, err
	}
	n.at = sa.Bundle
	n.self[0] = n
	n.setPlain(p.opt.DF)
	remote := netip.AddrPortFrom(sa.ID.Dst, 0)
	if sa.Encap != nil {
		remote = sa.Encap.Remote
	}
	n.remote.Store(&remote)
	if p.opt.slow(sa.Cipher) {
		n.line = newLine()
	}
	return n, nil
}

// move sends to another address from now on; the SA's name stays.
func (sa *outSA) move(remote netip.AddrPort) {
	if sa.sa.Encap == nil {
		remote = netip.AddrPortFrom(remote.Addr(), 0)
	}
	sa.remote.Store(&remote)
}
