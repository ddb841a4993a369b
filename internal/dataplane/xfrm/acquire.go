package xfrm

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// How long an answer is waited for, and how long nothing is asked after a
// refusal: the latter doubles with each further one.
const (
	acquireExpiry = 3 * time.Minute
	firstWait     = time.Second
	longestWait   = time.Minute
)

// hasPorts are the protocols whose packets have ports that selectors are about.
var hasPorts = map[uint8]bool{unix.IPPROTO_TCP: true, unix.IPPROTO_UDP: true, unix.IPPROTO_DCCP: true, unix.IPPROTO_SCTP: true, unix.IPPROTO_UDPLITE: true}

// asks tells whether a packet without an SA starts a negotiation.
func asks(t ipsec.FlowType) bool { return t == ipsec.FlowRequire || t == ipsec.FlowAcquire }

// acquired: the kernel asks for an SA. Called with mu held.
func (p *Plane) acquired(a *wire.Acquire) {
	g := p.book.policies[a.Policy.Index]
	if g == nil || g.first() == nil || g.key.dir != ipsec.Out {
		return // another program's
	}
	f := g.first()
	l := larva{wire.SA{
		Src: a.Src, Dst: a.Dst, Proto: a.Proto, Seq: a.Seq, Mark: a.Policy.Mark, IfID: a.Policy.IfID,
		ReqID: f.reqid, Family: wire.FamilyOf(a.Dst), Sel: wire.Selector{Family: a.Sel.Family},
	}}
	if len(a.Policy.Templates) > 0 {
		t := &a.Policy.Templates[0]
		l.ReqID, l.Mode, l.Family = t.ReqID, t.Mode, t.Family
	}
	p.wanted(f, l, a.Sel)
}

// wanted posts an Acquire unless one is outstanding.
func (p *Plane) wanted(f *flowEntry, l larva, packet wire.Selector) {
	if chain, _ := p.book.serving(f); chain != nil || !asks(f.Type) {
		return // it came meanwhile
	}
	if len(f.larvae) < maxLarvae {
		f.larvae = append(f.larvae, l)
	}
	f.holds = true
	now := time.Now()
	if f.resting != nil || f.acquire != 0 && now.Sub(f.asked) < acquireExpiry {
		return
	}
	p.endAsking(f)
	p.book.last++
	id := p.book.last
	sel := selectorFrom(&packet)
	if !hasPorts[sel.Proto] { // but a type and a code of ICMP, or a key of GRE
		sel.SrcPort, sel.DstPort = 0, 0
	}
	if !p.events.Post(dataplane.Acquire{ID: id, Flow: f.ID, Packet: sel}) {
		p.killLarvae(f) // nobody hears: the next packet asks again
		return
	}
	f.acquire, f.asked = id, now
	p.book.acquires[id] = f
	p.watch.tell(dataplane.Message{Action: dataplane.ActionAcquire, Flow: &f.Flow, Packet: sel}, nil)
}

// endAsking ends the outstanding Acquire of a flow.
func (p *Plane) endAsking(f *flowEntry) {
	delete(p.book.acquires, f.acquire)
	f.acquire = 0
}

// EndAcquire answers an Acquire. After a refusal the flow rests: what the kernel
// holds for it is dropped, and nothing is asked for a while. An answer to one
// that is settled is ignored.
func (p *Plane) EndAcquire(ctx context.Context, id dataplane.AcquireID, why error) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	f := p.book.acquires[id]
	if f == nil {
		return nil
	}
	p.endAsking(f)
	if chain, _ := p.book.serving(f); chain != nil {
		f.wait, f.larvae = 0, nil
		return p.refreshFlows([]*flowEntry{f})
	}
	f.wait = min(max(2*f.wait, firstWait), longestWait)
	f.resting = time.AfterFunc(f.wait, func() { p.rested(f) })
	f.holds = true // the policy that drops takes over what is held
	err := p.refreshFlows([]*flowEntry{f})
	f.refused = time.Now()
	p.killLarvae(f)
	if why == nil && err == nil {
		return fmt.Errorf("acquire %d of flow %q is answered, but the flow has no SA: %w", id, f.ID, dataplane.ErrNoSA)
	}
	return err
}

// purgeTime is how long a policy that drops has to be there until the kernel has
// dropped with it what another one held: it does so in a timer of its own, at
// the next tick, of which there are a hundred a second at least.
const purgeTime = 30 * time.Millisecond

// purge lets the kernel drop what it held for f when its question was refused,
// before another policy takes that over and sends it.
func (p *Plane) purge(f *flowEntry) {
	if wait := purgeTime - time.Since(f.refused); p.holds && wait > 0 {
		time.Sleep(wait)
	}
}

// rested lets a flow ask again.
func (p *Plane) rested(f *flowEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.book.flows[f.ID] != f || f.resting == nil {
		return
	}
	f.resting = nil
	p.killLarvae(f)
	p.complain("a flow may ask for SAs again", p.refreshFlows([]*flowEntry{f}))
}
