// Package xfrm is the data plane that the Linux kernel is: SAs and policies that
// it is told of through netlink, and the acquires, expiries and mappings that it
// tells.
//
// The kernel knows SAs and policies, not flows, connections or owners: those are
// kept here (book.go), and in a file (journal.go) from which the next process
// takes over what the last one left in the kernel. Ours are known by the range
// of their reqids and of their policies' indices; what others put into the
// kernel's tables is left alone.
//
// # From flows to policies
//
// A flow is one policy for packets that leave (out), and for packets that come
// one for those to this host (in) and one for those through it (fwd). Priorities
// follow the flows' order (priority.go). Two flows of the same direction and
// selector cannot both be there, for the kernel: the one that would be looked at
// second waits until the first is gone, and nobody sees a difference.
//
//	type     out, with an SA   without                      in, fwd
//	require  the SA            drops, asks                  the SA, nothing else
//	use      the SA            lets pass                    the SA, or in clear
//	acquire  the SA            lets pass, asks              the SA, or in clear
//	dontacq  the SA            drops                        the SA, nothing else
//	deny     drops             drops                        drops
//	bypass   lets pass         lets pass                    lets pass
//
// A flow that merely contains groups of hosts or the addresses of a link leaves
// them alone, and neighbours find each other whatever two hosts protect between
// them (spare.go): the kernel's policies see what no packet of a TUN device is.
// And where a flow with ports protects or drops, fragments are dropped, in which
// the kernel sees no ports.
//
// The SAs of a bundle are several templates of one policy, pinned by their SPIs,
// so that two bundles are never mixed; the kernel makes one outer header for a
// bundle of tunnels between the same ends.
//
// Flows and SAs with an Interface are found through that xfrm interface alone. Who
// administers routes makes it: ip link add ipsec7 type xfrm if_id 7.
//
// # What differs from a data plane of our own
//
// The kernel counts drops for the host and not for an SA, but for replays and
// wrong ICVs; it counts whole seconds; a packet that asks for an SA is lost
// unless Options.Hold. It keeps one SA for each destination, protocol and SPI,
// so that two peers behind one NAT address who choose the same SPI cannot both
// be served. It takes no SA of IP in IP.
package xfrm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// DefaultEncapPort is the UDP port of ESP in UDP (RFC 3948).
const DefaultEncapPort = 4500

// DefaultJournal is the journal of the host's IPsec. It is in a folder of root's:
// what is in it becomes policies of the kernel, so that whoever is the same
// unprivileged user must not write it.
const DefaultJournal = "/var/run/ipsecd.journal"

// Options says how the plane is made. The zero value is good for a gateway that
// listens on all its addresses and forgets, when it ends, what it left in the
// kernel.
type Options struct {
	Local     []netip.Addr // of the encapsulation port; none: all
	NoIPv4    bool         // no outer IPv4
	NoIPv6    bool         // no outer IPv6
	EncapPort uint16       // 0: DefaultEncapPort
	// Journal is the file in which it is kept what the kernel does not store, so
	// that the next process finds its own again. Empty: what is in the kernel under
	// our reqids is cleared at the start.
	Journal string
	// ReqIDs is the first of ReqIDCount reqids that are ours alone. 0: the default.
	ReqIDs, ReqIDCount uint32
	// Mark, if not nil, is what packets must bear for our policies to see them,
	// those that come and those that leave. The SAs bear it too.
	Mark *wire.Mark
	// OutMark, if not nil, is put on packets when they leave an SA, so that routes
	// can tell them from what they carry.
	OutMark *wire.Mark
	// Hold makes the kernel keep the packets that ask for an SA, up to 100 a flow,
	// and send them when it is there: net.core.xfrm_larval_drop is set to 0, for
	// this network namespace. Else it drops them, and hosts send again.
	Hold bool
	// Thresholds4 and Thresholds6, if not nil, say which policies the kernel finds by
	// a hash: those whose prefixes, of this side and of the other, are at least
	// that long. It looks through the others one by one, so that with thousands of
	// flows between networks of 24 bits 24 and 24 are worth having. They are the
	// whole SPD's, others' policies included.
	Thresholds4, Thresholds6 *wire.Thresholds
	// AnySource allows SAs whose address of ours this host does not have (yet).
	AnySource bool
	// Abilities are what Probe told; nil: New asks.
	Abilities *Abilities
	Log       *slog.Logger // nil: silent

	kernel kernel // what a test puts in its place
	noPort bool   // a test without the encapsulation port
}

func (o *Options) defaults() error {
	if o.EncapPort == 0 {
		o.EncapPort = DefaultEncapPort
	}
	if o.ReqIDs == 0 {
		o.ReqIDs = DefaultReqIDs
	}
	if o.ReqIDCount == 0 {
		o.ReqIDCount = DefaultReqIDCount
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	o.Local, err = dataplane.Locals(o.Local, o.NoIPv4, o.NoIPv6)
	return err
}

// Plane is the kernel's IPsec.
type Plane struct {
	opt    Options
	log    *slog.Logger
	can    *Abilities
	kernel kernel
	addrs  addresses
	stat   *stat
	began  time.Time
	holds  bool // the kernel keeps packets that ask for an SA
	ports  ports
	events dataplane.EventQueue
	watch  watchers
	ends   []listener
	wg     sync.WaitGroup

	mu       sync.Mutex // everything below, and the order of requests to the kernel
	journal  *journal
	reqids   *reqids
	book     book
	off      map[ipsec.Proto]bool
	ahByHand bool // AH was switched by hand
	past     totals
	closed   bool
}

var (
	_ dataplane.Backend = (*Plane)(nil)
	_ dataplane.Monitor = (*Plane)(nil)
)

// New takes the kernel of the network namespace of the calling thread. What the
// last process left there is taken over. On an error nothing was changed but
// that.
func New(o Options) (*Plane, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	p := &Plane{opt: o, log: o.Log, can: o.Abilities, began: time.Now(), off: map[ipsec.Proto]bool{ipsec.ProtoAH: true}}
	p.reqids = newReqids(o.ReqIDs, o.ReqIDCount)
	p.book.init()
	p.events.Start(maxEvents, &p.wg)
	if err := p.open(); err != nil {
		p.closed = true
		p.release()
		p.events.Stop()
		p.wg.Wait()
		return nil, err
	}
	return p, nil
}

func (p *Plane) open() (err error) {
	if p.can == nil {
		if p.can, err = Probe(); err != nil {
			return err
		}
	}
	if p.kernel = p.opt.kernel; p.kernel == nil {
		if err := p.can.Usable(); err != nil {
			return err
		}
		k, err := openKernel(p.opt.ReqIDs)
		if err != nil {
			return err
		}
		p.kernel = k
	}
	if p.addrs, err = openAddresses(); err != nil {
		return err
	}
	p.stat = openStat()
	if err := p.sysctls(); err != nil {
		return err
	}
	if p.opt.Thresholds4 != nil || p.opt.Thresholds6 != nil {
		info := wire.SPDInfo{Thresholds4: p.opt.Thresholds4, Thresholds6: p.opt.Thresholds6}
		if err := p.kernel.do(wire.NewSPDInfo, info.Append(nil)); err != nil {
			return explain("setting the thresholds of the kernel's SPD", err)
		}
	}
	if !p.opt.noPort {
		if err := p.ports.open(p); err != nil {
			return err
		}
	}
	// Events are listened to before the tables are read: nothing falls between.
	asks, err := p.kernel.listen(wire.GroupAcquire, wire.GroupExpire, wire.GroupMapping)
	if err != nil {
		return err
	}
	p.ends = append(p.ends, asks)
	tables, err := p.kernel.listen(wire.GroupSA, wire.GroupPolicy)
	if err != nil {
		return err
	}
	p.ends = append(p.ends, tables)
	if err := p.adopt(); err != nil {
		return err
	}
	p.wg.Go(func() { p.listen(asks) })
	p.wg.Go(func() { p.listen(tables) })
	p.ports.start(p)
	return nil
}

// release gives back what open took.
func (p *Plane) release() {
	p.ports.close()
	for _, l := range p.ends {
		l.close()
	}
	if p.kernel != nil {
		p.kernel.close()
	}
	if p.addrs != nil {
		p.addrs.close()
	}
	p.stat.close()
	if p.journal != nil {
		p.journal.close()
	}
}

// Close detaches: SAs and policies stay in the kernel and go on.
func (p *Plane) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.book.stopTimers()
	p.mu.Unlock()
	p.release()
	p.events.Stop()
	p.watch.close()
	p.wg.Wait()
	return nil
}

// lock begins a call.
func (p *Plane) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return dataplane.ErrClosed
	}
	return nil
}

// Info says what the kernel can do.
func (p *Plane) Info() dataplane.Info {
	detail := "Linux " + p.can.Kernel
	if p.opt.Journal == "" {
		detail += ", nothing is kept for a restart"
	}
	i := dataplane.Info{
		Name: "kernel", Detail: detail, Ciphers: p.can.Ciphers, Auths: p.can.Auths, Protos: p.can.Protos,
		Transport: true, ESN: p.can.ESN, UDPEncap: true, OutlivesUs: true, ByteExpiry: true, CarriesData: true, Kernel: true, Lacks: p.can.Lacks,
	}
	if slices.Contains(p.can.Protos, ipsec.ProtoIPComp) {
		i.Comps = []ipsec.Comp{ipsec.CompDeflate}
	}
	return i
}

// Events tells acquires, expiries and mappings; it is closed by Close.
func (p *Plane) Events() <-chan dataplane.Event { return p.events.Events() }

// Enable switches a protocol on or off as a whole: the policies that protect
// with it, and those that expect it, drop instead.
func (p *Plane) Enable(ctx context.Context, proto ipsec.Proto, on bool) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	err := p.enable(proto, on)
	p.watch.tell(dataplane.Message{Action: dataplane.ActionSwitch, PID: os.Getpid(), Proto: proto, On: on}, err)
	return err
}

func (p *Plane) enable(proto ipsec.Proto, on bool) error {
	if err := p.hasProto(fmt.Sprintf("switching %s as a whole", proto), proto); err != nil {
		return err
	}
	was := p.off[proto]
	p.switchTo(proto, on)
	if err := p.refreshAll(); err != nil {
		p.switchTo(proto, !was)
		return errors.Join(err, p.refreshAll())
	}
	if proto == ipsec.ProtoAH {
		p.ahByHand = true
	}
	p.journal.write(record{Off: p.offList(), ByHand: p.ahByHand})
	p.log.Info("a protocol was switched as a whole", "protocol", proto, "on", on)
	return nil
}

func (p *Plane) switchTo(proto ipsec.Proto, on bool) {
	if on {
		delete(p.off, proto)
		return
	}
	p.off[proto] = true
}

func (p *Plane) offList() []ipsec.Proto {
	var all []ipsec.Proto
	for _, proto := range p.can.Protos {
		if p.off[proto] {
			all = append(all, proto)
		}
	}
	return all
}
