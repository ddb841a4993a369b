// Package userspace is the data plane that needs nothing of the kernel but a TUN
// device and sockets: packets that a flow's route leads into the device are
// sealed here and sent as ESP, raw or in UDP; what comes back is opened, checked
// and given to the device.
//
// It does ESP, AH, IPComp and IP in IP, in tunnel and transport mode, singly and
// in bundles, IPv4 and IPv6 inside and outside. ESP in tunnel mode that stands
// alone, which is nearly all there is, goes a way of its own (out.go, in.go) that
// never moves a packet; everything else is a step over a whole IP packet for each
// SA (wrap.go, unwrap.go). One process in a network namespace can run it.
package userspace

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/ah"
	"oakley/internal/dataplane"
	"oakley/internal/esp"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/tun"
)

// Defaults of Options.
const (
	DefaultTUN       = "oakley0"
	DefaultMTU       = DefaultOuterMTU - leastOverhead
	DefaultOuterMTU  = 1500
	DefaultEncapPort = 4500
	DefaultMark      = 0x0a71
	DefaultTable     = 0x0a71
	DefaultPriority  = 5200
	DefaultGrace     = 30 * time.Second
)

// maxEvents is how many events wait for a slow reader.
const maxEvents = 4096

// Options says how the plane is made. The zero value is good for a gateway that
// listens on all its addresses.
type Options struct {
	TUN string // name of the device
	// MTU of the device, in bytes. It is for what fits the SA with the least
	// overhead; where more is added, hosts are told, and TCP's segments are clamped.
	// IPv6 needs 1280.
	MTU int
	// OuterMTU is the longest packet, in bytes, that the networks between us and
	// the peers carry, where the first link does not take less. Packets that an SA
	// would make longer are not sent: hosts are told, or their packets sent in
	// pieces. 0: 1500, or MTU and 54 when that is more.
	OuterMTU  int
	DF        DF           // of the outer IPv4 headers of tunnels
	EncapPort uint16       // UDP port for ESP in UDP
	Local     []netip.Addr // outer addresses; none: all
	NoIPv4    bool         // no outer IPv4 (-6)
	NoIPv6    bool         // no outer IPv6 (-4)

	Mark     uint32 // of our sockets (SO_MARK); packets with it never enter the tunnel
	Table    int    // the first of the flows' routing tables; up to 1024 numbers are used
	Priority int    // of the first of our routing rules; up to 9600 numbers are used
	// Grace is how long rules, routes and filters of a predecessor that crashed
	// stay for flows that have not come back yet. Negative: none.
	Grace time.Duration

	NoTUNOffload bool // Linux 6.6.44 and its neighbours break it
	NoUDPOffload bool // Linux 7.0 to 7.1.4 break it
	NoFilters    bool // no packet-filter rules
	NoClampMSS   bool // TCP segment sizes stay as hosts offer them
	// Spread lets the workers seal and open for fast ciphers too: more than one
	// processor for one flow, for a quarter more work in all.
	Spread bool

	Log  *slog.Logger // nil: silent
	Rand io.Reader    // for SPIs; nil: crypto/rand

	// What a test puts in place of the kernel; nil: the kernel, in the network
	// namespace of the thread that calls New.
	Device  tun.Device
	Network netio.Network
	System  System
}

func (o *Options) defaults() error {
	if o.TUN == "" {
		o.TUN = DefaultTUN
	}
	if o.MTU == 0 {
		o.MTU = DefaultMTU
	}
	if o.MTU < 576 || o.MTU > 65535 {
		return fmt.Errorf("MTU %d of the TUN device: expected 576 to 65535", o.MTU)
	}
	if o.OuterMTU == 0 {
		o.OuterMTU = max(DefaultOuterMTU, o.MTU+leastOverhead)
	}
	if o.OuterMTU < 576 || o.OuterMTU > 65535 {
		return fmt.Errorf("outer MTU %d: expected 576 to 65535", o.OuterMTU)
	}
	if o.DF > DFSet {
		return fmt.Errorf("DF %d is neither copy, set nor clear", o.DF)
	}
	if o.EncapPort == 0 {
		o.EncapPort = DefaultEncapPort
	}
	if o.Mark == 0 {
		o.Mark = DefaultMark
	}
	if o.Table == 0 {
		o.Table = DefaultTable
	}
	if o.Priority == 0 {
		o.Priority = DefaultPriority
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	var err error
	o.Local, err = dataplane.Locals(o.Local, o.NoIPv4, o.NoIPv6)
	return err
}

// Plane is a running data plane.
type Plane struct {
	opt Options
	log *slog.Logger
	dev tun.Device
	sys System

	links     []*link // sockets
	plain     [2]netio.Conn
	probe     netio.Probe // nil: Options.OuterMTU is all we know
	news      netio.Conn  // of IPv6 paths; nil: there is none
	paths     learnt
	newsLimit limiter

	sad ipsec.SAD[inSA]
	spd ipsec.SPD[flow]

	drops     counters
	notices   [ipsec.DropEnd]limiter
	icmp      limiter         // messages that a packet is too long
	tooWide   atomic.Int64    // when the system last refused a packet for its length
	gather    [2]gatherer     // of fragments, by direction
	ported    [2]atomic.Int32 // flows with ports, by direction
	fragments atomic.Uint32   // identification of the last IPv6 packet that was fragmented here
	began     time.Time
	past      totals // of SAs that are gone; under mu
	ike       dataplane.EncapTable
	tunMu     sync.Mutex // whoever writes to dev, a batch at a time
	work      *pool
	held      atomic.Int64 // bytes of held packets, all flows
	off       switches     // protocols that are switched off as a whole
	ends      *endTable
	version   atomic.Uint64 // of the SPD: what was looked up before a change is looked up again

	mu         sync.Mutex // everything below, and changes of sad and spd
	in         map[ipsec.SAID]*inSA
	out        map[ipsec.SAID]*outSA
	byDuty     map[duty][]*outSA // in the order of AddSA
	bundlesIn  map[bundleKey]*bundle[inSA]
	bundlesOut map[bundleKey]*bundle[outSA]
	alike      map[duty]map[ipsec.FlowID]*flow
	reserved   map[ipsec.SPI]time.Time
	queueSPI   []ipsec.SPI // reserved ones, the oldest first; some may be taken
	spis       map[ipsec.SPI]int
	same       map[ipsec.SAID][]ipsec.SAID // keys of SAs by a name that several may have, the oldest first
	owed       map[ipsec.SAID]int          // how many of them are to be deleted
	closed     bool

	acquires sync.Map // AcquireID -> *flow
	lastAcq  atomic.Uint64

	events dataplane.EventQueue
	wg     sync.WaitGroup
}

var _ dataplane.Backend = (*Plane)(nil)

// New makes the device, opens the sockets and starts. On an error nothing is left.
func New(o Options) (*Plane, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	p := &Plane{
		began: time.Now(), ends: newEndTable(),
		opt: o, log: o.Log, dev: o.Device, sys: o.System,
		in: map[ipsec.SAID]*inSA{}, out: map[ipsec.SAID]*outSA{}, byDuty: map[duty][]*outSA{}, alike: map[duty]map[ipsec.FlowID]*flow{},
		bundlesIn: map[bundleKey]*bundle[inSA]{}, bundlesOut: map[bundleKey]*bundle[outSA]{},
		reserved: map[ipsec.SPI]time.Time{}, spis: map[ipsec.SPI]int{},
		same: map[ipsec.SAID][]ipsec.SAID{}, owed: map[ipsec.SAID]int{},
	}
	var seed [4]byte
	if _, err := io.ReadFull(o.Rand, seed[:]); err != nil {
		return nil, fmt.Errorf("no randomness: %w", err)
	}
	p.fragments.Store(binary.BigEndian.Uint32(seed[:]))
	p.gather[ipsec.Out].r.Head, p.gather[ipsec.Out].r.Tail = headRoom, tailRoom
	if err := p.open(); err != nil {
		p.release()
		return nil, err
	}
	p.events.Start(maxEvents, &p.wg)
	p.work = newPool(p)
	p.wg.Go(p.outLoop)
	for _, l := range p.links {
		p.wg.Go(func() { p.inLoop(l) })
	}
	if p.news != nil {
		p.wg.Go(p.newsLoop)
	}
	return p, nil
}

func (p *Plane) open() (err error) {
	if p.opt.Network == nil {
		p.opt.Network = netio.Host{}
	}
	for _, a := range p.opt.Local {
		err := p.openLinks(a)
		if err != nil && a.IsUnspecified() && len(p.opt.Local) > 1 && errors.Is(err, unix.EAFNOSUPPORT) {
			p.log.Info("no outer addresses of a family that this kernel does not have", "address", a)
			continue
		}
		if err != nil {
			return err
		}
	}
	if len(p.links) == 0 {
		return errors.New("no socket could be opened: the kernel has neither IPv4 nor IPv6")
	}
	p.openPlain()
	p.openProbe()
	p.openNews()
	if p.dev == nil {
		p.dev, err = tun.Open(tun.Options{Name: p.opt.TUN, MTU: p.opt.MTU, Offload: !p.opt.NoTUNOffload})
		if err != nil {
			return err
		}
	}
	if p.sys == nil {
		p.sys, err = newKernel(&p.opt, p.dev.Name())
	}
	return err
}

// openLinks opens the sockets of one local address.
func (p *Plane) openLinks(a netip.Addr) error {
	n, o := p.opt.Network, &p.opt
	udp, err := n.OpenUDP(netio.UDPOptions{Local: netip.AddrPortFrom(a, o.EncapPort), Mark: o.Mark, Offload: !o.NoUDPOffload})
	if err != nil {
		return err
	}
	p.links = append(p.links, &link{conn: udp, encap: true, local: a, index: len(p.links)})
	raw, err := n.OpenRaw(netio.RawOptions{Local: a, Proto: uint8(ipsec.ProtoESP), Mark: o.Mark})
	if err != nil {
		return err
	}
	p.links = append(p.links, &link{conn: raw, proto: uint8(ipsec.ProtoESP), local: a, index: len(p.links)})
	for _, proto := range rawProtos {
		raw, err := n.OpenRaw(netio.RawOptions{Local: a, Proto: proto, Mark: o.Mark})
		if err != nil {
			return err
		}
		p.links = append(p.links, &link{conn: raw, proto: proto, local: a, index: len(p.links)})
	}
	return nil
}

// openPlain opens the sockets for packets that leave in clear on purpose (flows
// of type bypass, use and acquire), now, in the namespace of this thread. Inner
// packets may be of either family. Without one, such flows are refused.
func (p *Plane) openPlain() {
	for i, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		c, err := p.opt.Network.OpenRaw(netio.RawOptions{Local: a, Mark: p.opt.Mark, Whole: true})
		if err != nil {
			p.log.Info("no flows that let packets out in clear", "family", a, "err", err)
			continue
		}
		p.plain[i] = c
	}
}

// Info says what this plane can do.
func (p *Plane) Info() dataplane.Info {
	gso, gro := false, false
	for _, l := range p.links {
		if l.encap {
			gso, gro = l.conn.Offload()
		}
	}
	return dataplane.Info{
		Name: "userspace",
		Detail: fmt.Sprintf("TUN %s MTU %d (offload %s), UDP %d (GSO %s, GRO %s), %s",
			p.dev.Name(), p.dev.MTU(), onOff(p.dev.Offload()), p.opt.EncapPort, onOff(gso), onOff(gro), p.sys.Detail()),
		Ciphers: esp.Ciphers(), Auths: ah.Auths(), Protos: protos, Comps: []ipsec.Comp{ipsec.CompDeflate},
		Transport: true, ESN: true, UDPEncap: true, ByteExpiry: true, CarriesData: true,
	}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// Events tells acquires, expiries and mappings; it is closed by Close.
func (p *Plane) Events() <-chan dataplane.Event { return p.events.Events() }

// Close stops and takes away all that this plane made in the host: device,
// routes, rules and filters.
func (p *Plane) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	for _, sa := range p.in {
		sa.stop()
	}
	for _, sa := range p.out {
		sa.stop()
	}
	for _, f := range p.spd.All() {
		f.dropHeld(p)
	}
	p.mu.Unlock()
	err := p.release()
	p.ike.Close()
	p.work.close()
	p.events.Stop()
	p.wg.Wait()
	return err
}

func (p *Plane) release() error {
	var errs []error
	if p.sys != nil {
		errs = append(errs, p.sys.Close())
	}
	if p.dev != nil {
		errs = append(errs, p.dev.Close())
	}
	for _, l := range p.links {
		errs = append(errs, l.conn.Close())
	}
	if p.probe != nil {
		errs = append(errs, p.probe.Close())
	}
	if p.news != nil {
		errs = append(errs, p.news.Close())
	}
	for _, c := range p.plain {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Dump lists SAs, without keys, and flows.
func (p *Plane) Dump(ctx context.Context, q dataplane.Query) (dataplane.State, error) {
	if err := ctx.Err(); err != nil {
		return dataplane.State{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.State{}, dataplane.ErrClosed
	}
	p.expireFragments()
	s := dataplane.State{Drops: p.unowned()}
	s.Off = p.off.list()
	if q.Has(dataplane.SAs) {
		s.SAs = p.dumpSAs(q)
	}
	if !q.Has(dataplane.Flows) {
		return s, nil
	}
	for f := range p.spd.All() {
		if owned(f.Owner, q.Owner) {
			s.Flows = append(s.Flows, f)
		}
	}
	return s, nil
}

// dumpSAs lists them, the oldest first. Called with mu held.
func (p *Plane) dumpSAs(q dataplane.Query) (all []ipsec.SAState) {
	for _, sa := range p.in {
		if owned(sa.sa.Owner, q.Owner) {
			all = append(all, sa.state(q.Keys))
		}
	}
	for _, sa := range p.out {
		if owned(sa.sa.Owner, q.Owner) {
			all = append(all, sa.state(q.Keys))
		}
	}
	slices.SortFunc(all, func(a, b ipsec.SAState) int {
		if c := a.Added.Compare(b.Added); c != 0 {
			return c
		}
		return int(int64(a.SA.ID.SPI) - int64(b.SA.ID.SPI))
	})
	return all
}

// Enable switches a protocol on or off as a whole.
func (p *Plane) Enable(ctx context.Context, proto ipsec.Proto, on bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !slices.Contains(protos, proto) {
		return fmt.Errorf("switching %s: the user-space data plane has no such protocol: %w", proto, dataplane.ErrUnsupported)
	}
	if p.off.set(proto, on) {
		p.log.Info("a protocol was switched as a whole", "protocol", proto, "on", on)
	}
	return nil
}

// Flush removes the owner's SAs and flows.
func (p *Plane) Flush(ctx context.Context, o ipsec.Owner) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.ErrClosed
	}
	var changes []ipsec.FlowChange
	for f := range p.spd.All() {
		if owned(f.Owner, o) {
			changes = append(changes, ipsec.FlowChange{Remove: true, Flow: f})
		}
	}
	if len(changes) > 0 {
		if err := p.applyFlows(changes); err != nil {
			return err
		}
	}
	for _, id := range slices.Collect(maps.Keys(p.in)) {
		if sa := p.in[id]; sa != nil && owned(sa.sa.Owner, o) {
			p.removeIn(sa)
		}
	}
	for _, id := range slices.Collect(maps.Keys(p.out)) {
		if sa := p.out[id]; sa != nil && owned(sa.sa.Owner, o) {
			p.removeOut(sa)
		}
	}
	return nil
}

func owned(is, asked ipsec.Owner) bool { return asked == ipsec.OwnerAny || is == asked }
