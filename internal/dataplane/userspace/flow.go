package userspace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Bounds of packets that wait for an SA, and of asking for one.
const (
	heldPackets   = 16       // a flow
	heldBytes     = 64 << 10 // a flow
	heldTotal     = 8 << 20  // all flows, bytes
	acquireExpiry = 3 * time.Minute
	firstWait     = time.Second // after a refusal, doubled by each further one
	longestWait   = time.Minute
)

// flow is an entry of the SPD and what belongs to it.
type flow struct {
	ipsec.Flow
	current atomic.Pointer[outSA] // what outgoing packets use; nil: none

	mu      sync.Mutex // everything below, and changes of current
	held    []heldPacket
	size    int // bytes of held
	acquire dataplane.AcquireID
	asked   time.Time
	wait    time.Duration // of the back-off; 0: none
	retry   time.Time     // no Acquire before it
	gone    bool          // no longer in the SPD
}

// heldPacket has head and tail room for Seal.
type heldPacket struct {
	buf     []byte
	off, n  int
	version uint8
}

// asks tells whether a packet without an SA starts a negotiation.
func asks(t ipsec.FlowType) bool { return t == ipsec.FlowRequire || t == ipsec.FlowAcquire }

// hold keeps a copy of a packet that has no SA yet and asks for one. It returns
// an SA that came meanwhile, or the reason for which the packet is lost;
// DropNone and nil: it waits.
func (p *Plane) hold(f *flow, pkt []byte, info *ipsec.PacketInfo) (*outSA, ipsec.Drop) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if sa := f.current.Load(); sa != nil {
		return sa, ipsec.DropNone
	}
	now := time.Now()
	if f.gone || now.Before(f.retry) || !p.ask(f, info, now) {
		return nil, ipsec.DropNoSA
	}
	if f.Type != ipsec.FlowRequire {
		return nil, ipsec.DropNone // goes out in clear
	}
	if len(pkt) > heldBytes || p.held.Load()+int64(len(pkt)) > heldTotal {
		return nil, ipsec.DropQueueFull
	}
	// The newest are worth the most: who waits for an answer sends again.
	for len(f.held) >= heldPackets || f.size+len(pkt) > heldBytes {
		f.lose(p, 0, ipsec.DropQueueFull)
	}
	h := heldPacket{buf: make([]byte, headRoom+len(pkt)+tailRoom), off: headRoom, n: len(pkt), version: info.Version}
	copy(h.buf[headRoom:], pkt)
	f.held = append(f.held, h)
	f.size += h.n
	p.held.Add(int64(h.n))
	return nil, ipsec.DropNone
}

// ask posts an Acquire unless one is outstanding. It is false when nobody heard.
// Called with f.mu held, and never with p.mu: acquires are entered by id first.
func (p *Plane) ask(f *flow, info *ipsec.PacketInfo, now time.Time) bool {
	if f.acquire != 0 && now.Sub(f.asked) < acquireExpiry {
		return true
	}
	id := dataplane.AcquireID(p.lastAcq.Add(1))
	p.acquires.Store(id, f)
	if !p.events.Post(dataplane.Acquire{ID: id, Flow: f.ID, Packet: selectorOf(info)}) {
		p.acquires.Delete(id)
		return false
	}
	p.acquires.Delete(f.acquire)
	f.acquire, f.asked = id, now
	return true
}

// lose drops held packet i. Called with mu held.
func (f *flow) lose(p *Plane, i int, why ipsec.Drop) {
	f.size -= f.held[i].n
	p.held.Add(-int64(f.held[i].n))
	f.held = slices.Delete(f.held, i, i+1)
	p.drops.add(why)
}

// take returns what was held and ends the acquire. Called with mu held.
func (f *flow) take(p *Plane) []heldPacket {
	held := f.held
	p.held.Add(-int64(f.size))
	f.held, f.size = nil, 0
	if f.acquire != 0 {
		p.acquires.Delete(f.acquire)
		f.acquire = 0
	}
	return held
}

// dropHeld drops all that waits.
func (f *flow) dropHeld(p *Plane) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range f.take(p) {
		p.drops.add(ipsec.DropNoSA)
	}
}

// sendHeld sends what waited for sa.
func (p *Plane) sendHeld(sa *outSA, held []heldPacket) {
	if len(held) == 0 {
		return
	}
	s := newSender(p, len(held))
	now := time.Now().UnixNano()
	for i := range held {
		h := &held[i]
		p.protect(s, sa, h.buf, h.off, h.n, h.version, now)
	}
	s.flush()
}

// EndAcquire answers an Acquire. An answer to one that is settled is ignored.
func (p *Plane) EndAcquire(ctx context.Context, id dataplane.AcquireID, why error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.ErrClosed
	}
	v, ok := p.acquires.Load(id)
	if !ok {
		return nil // AddSA settled it
	}
	f := v.(*flow)
	f.mu.Lock()
	sa := f.current.Load()
	held := f.take(p)
	if sa == nil {
		f.backOff(time.Now())
	}
	f.mu.Unlock()
	if sa != nil {
		p.sendHeld(sa, held)
		return nil
	}
	for range held {
		p.drops.add(ipsec.DropNoSA)
	}
	if why == nil {
		return fmt.Errorf("acquire %d of flow %q is answered, but the flow has no SA: %w", id, f.ID, dataplane.ErrNoSA)
	}
	return nil
}

func (f *flow) backOff(now time.Time) {
	f.wait = min(max(2*f.wait, firstWait), longestWait)
	f.retry = now.Add(f.wait)
}

// ApplyFlows changes SPD, routes and filters, all or nothing. A flow that is
// removed and added in one transaction keeps its SAs.
func (p *Plane) ApplyFlows(ctx context.Context, changes []ipsec.FlowChange) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.ErrClosed
	}
	return p.applyFlows(changes)
}

// errInterface refuses what belongs to an xfrm interface.
func errInterface(id uint32) error {
	return fmt.Errorf("the xfrm interface with if_id %d needs the kernel's IPsec, and this is ipsecd's own: %w", id, dataplane.ErrUnsupported)
}

func checkFlow(f *ipsec.Flow) error {
	unsupported := func(what string) error {
		return fmt.Errorf("flow %q: the user-space data plane has no %s: %w", f.ID, what, dataplane.ErrUnsupported)
	}
	switch {
	case f.ID == "":
		return errors.New("a flow without a name")
	case f.Type > ipsec.FlowBypass:
		return fmt.Errorf("flow %q: %s is unknown", f.ID, f.Type)
	case f.Interface != 0:
		return fmt.Errorf("flow %q: %w", f.ID, errInterface(f.Interface))
	case f.Type == ipsec.FlowDeny || f.Type == ipsec.FlowBypass:
		return nil
	case f.Mode > ipsec.Transport:
		return unsupported(f.Mode.String() + " mode")
	case !slices.Contains(protos, f.Proto):
		return unsupported(f.Proto.String())
	}
	return nil
}

func (p *Plane) applyFlows(changes []ipsec.FlowChange) error {
	do, undo, err := p.translate(changes)
	if err != nil {
		return err
	}
	if err := p.spd.Apply(do); err != nil {
		switch {
		case errors.Is(err, ipsec.ErrNoSuchFlow):
			return fmt.Errorf("%w: %w", dataplane.ErrNoFlow, err)
		case errors.Is(err, ipsec.ErrFlowExists):
			return fmt.Errorf("%w: %w", dataplane.ErrExists, err)
		}
		return err
	}
	gone, come := p.moved(do, undo)
	// The SPD is first: a packet that meets a route finds its flow, and one whose
	// flow went before its route is dropped. Neither leaks.
	if err := p.sys.Change(gone, come); err != nil {
		if e := p.spd.Apply(undo); e != nil {
			return errors.Join(err, fmt.Errorf("going back: %w", e))
		}
		return err
	}
	p.countPorts(gone, come)
	p.version.Add(1)
	p.settle(undo)
	for i := range do {
		if f := do[i].Value; f != nil && p.spd.Get(f.ID) == f {
			p.enlist(f)
		}
	}
	return nil
}

// moved says which flows left the SPD and which came, when it has do behind it.
func (p *Plane) moved(do, undo []ipsec.Change[flow]) (gone, come []ipsec.Flow) {
	made := map[*flow]bool{}
	for i := range do {
		f := do[i].Value
		if f == nil {
			continue
		}
		made[f] = true
		if p.spd.Get(f.ID) == f {
			come = append(come, f.Flow)
		}
	}
	for i := range undo {
		if f := undo[i].Value; f != nil && !made[f] {
			gone = append(gone, f.Flow)
		}
	}
	return gone, come
}

// translate makes the SPD's changes, and those that take them back.
func (p *Plane) translate(changes []ipsec.FlowChange) (do, undo []ipsec.Change[flow], err error) {
	there := map[ipsec.FlowID]*flow{} // as of the step at hand; nil: removed
	for i := range changes {
		c := &changes[i]
		id := c.Flow.ID
		old, touched := there[id]
		if !touched {
			old = p.spd.Get(id)
		}
		if c.Remove {
			do = append(do, ipsec.Change[flow]{Remove: true, Flow: ipsec.Flow{ID: id}})
			if old != nil {
				undo = append(undo, ipsec.Change[flow]{Flow: old.Flow, Value: old})
			}
			there[id] = nil
			continue
		}
		if err := checkFlow(&c.Flow); err != nil {
			return nil, nil, err
		}
		if c.Flow.Dir == ipsec.Out && c.Flow.Type.MayClear() {
			if v6 := c.Flow.Selector.Dst.Addr().Is6(); v6 && p.plain[1] == nil || !v6 && p.plain[0] == nil {
				return nil, nil, fmt.Errorf("flow %q of type %s: no socket of its family to send in clear: %w", id, c.Flow.Type, dataplane.ErrUnsupported)
			}
		}
		f := &flow{Flow: c.Flow}
		f.Selector.Src, f.Selector.Dst = f.Selector.Src.Masked(), f.Selector.Dst.Masked()
		if f.Dir == ipsec.Out {
			f.current.Store(p.serving(&f.Flow))
		}
		there[id] = f
		do = append(do, ipsec.Change[flow]{Flow: f.Flow, Value: f})
		undo = append(undo, ipsec.Change[flow]{Remove: true, Flow: ipsec.Flow{ID: id}})
	}
	slices.Reverse(undo)
	return do, undo, nil
}

// settle ends what flows that are gone still held. undo has them with their values.
func (p *Plane) settle(undo []ipsec.Change[flow]) {
	for i := range undo {
		f := undo[i].Value
		if f == nil || p.spd.Get(f.ID) == f {
			continue
		}
		f.mu.Lock()
		f.gone = true
		f.mu.Unlock()
		p.dismiss(f)
		f.dropHeld(p)
	}
}
