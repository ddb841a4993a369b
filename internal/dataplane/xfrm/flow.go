package xfrm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// flowEntry is a flow of ours.
type flowEntry struct {
	ipsec.Flow
	reqid uint32 // of SAs that name it and stand alone

	acquire dataplane.AcquireID // 0: none is outstanding
	asked   time.Time
	larvae  []larva
	holds   bool          // the kernel may hold packets for it
	wait    time.Duration // of the back-off; 0: none
	resting *time.Timer   // not nil: nothing is asked for
	refused time.Time     // when it began to rest

	spares    []*flowEntry // see there
	spare     bool         // it is one of those
	fragments bool         // it is the one for what has lost its ports
}

func (f *flowEntry) scope() scope { return scope{dir: f.Dir, duty: duty{flow: f.ID}} }

// groupKey is what the kernel knows only one policy of, in one direction.
type groupKey struct {
	dir       ipsec.Direction
	sel       ipsec.Selector
	fragments bool // of packets without ports alone, and not of any
	ifid      uint32
}

// group are the flows of one selector, and the policies of the first of them.
type group struct {
	key   groupKey
	flows []*flowEntry
	has   [3]*wire.Policy // by wire.Dir: what is in the kernel
}

// first is the flow that counts; nil: there is none.
func (g *group) first() *flowEntry {
	if len(g.flows) == 0 {
		return nil
	}
	return g.flows[0]
}

func (f *flowEntry) groupKey() groupKey {
	return groupKey{f.Dir, f.Selector, f.fragments, f.Interface}
}

// ApplyFlows changes the SPD, all or nothing: what the kernel took before it
// refused one is taken back. Policies come and change before any goes.
func (p *Plane) ApplyFlows(ctx context.Context, changes []ipsec.FlowChange) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	err := p.applyFlows(changes)
	for i := range changes {
		m := dataplane.Message{Action: dataplane.ActionAddFlow, PID: os.Getpid(), Flow: &changes[i].Flow}
		if changes[i].Remove {
			m.Action = dataplane.ActionDeleteFlow
		}
		p.watch.tell(m, err)
	}
	return err
}

func (p *Plane) applyFlows(changes []ipsec.FlowChange) error {
	if err := p.checkChanges(changes); err != nil {
		return err
	}
	t := turn{p: p, known: map[*group]bool{}}
	for i := range changes {
		if err := t.step(&changes[i]); err != nil {
			return t.back(err)
		}
	}
	if err := p.refresh(t.groups(), false); err != nil {
		return t.back(err)
	}
	t.settle()
	return nil
}

// checkChanges runs through changes without making them.
func (p *Plane) checkChanges(changes []ipsec.FlowChange) error {
	there := map[ipsec.FlowID]bool{}
	for i := range changes {
		f := &changes[i].Flow
		is, touched := there[f.ID]
		if !touched {
			is = p.book.flows[f.ID] != nil
		}
		switch {
		case changes[i].Remove && !is:
			return fmt.Errorf("removing flow %q: %w", f.ID, dataplane.ErrNoFlow)
		case changes[i].Remove:
			there[f.ID] = false
			continue
		case is:
			return fmt.Errorf("adding flow %q: %w", f.ID, dataplane.ErrExists)
		}
		if err := p.checkFlow(f); err != nil {
			return err
		}
		there[f.ID] = true
	}
	return nil
}

func (p *Plane) checkFlow(f *ipsec.Flow) error {
	src, dst := f.Selector.Src, f.Selector.Dst
	switch {
	case f.ID == "":
		return errors.New("a flow without a name")
	case f.Type > ipsec.FlowBypass:
		return fmt.Errorf("flow %q: %s is unknown", f.ID, f.Type)
	case f.Dir > ipsec.In:
		return fmt.Errorf("flow %q: direction %d is neither out nor in", f.ID, f.Dir)
	case !src.IsValid() || !dst.IsValid() || src.Addr().Is4() != dst.Addr().Is4() || src.Addr().Is4In6() || dst.Addr().Is4In6():
		return fmt.Errorf("flow %q: %s: %w", f.ID, f.Selector, ipsec.ErrSelector)
	case f.Type == ipsec.FlowDeny || f.Type == ipsec.FlowBypass:
		return nil
	case f.Mode > ipsec.Transport:
		return fmt.Errorf("flow %q: mode %d is neither tunnel nor transport: %w", f.ID, f.Mode, dataplane.ErrUnsupported)
	}
	return p.hasProto(fmt.Sprintf("flow %q", f.ID), f.Proto)
}

// hasProto says what to do when a protocol is missing.
func (p *Plane) hasProto(what string, proto ipsec.Proto) error {
	if slices.Contains(p.can.Protos, proto) {
		return nil
	}
	if m := protoModules[proto]; m != "" {
		return fmt.Errorf("%s: this kernel has no %s (modules %s): %w", what, proto, m, dataplane.ErrUnsupported)
	}
	return fmt.Errorf("%s: the kernel takes no SA of %s; ipsecd does: %w", what, proto, dataplane.ErrUnsupported)
}

// turn is a transaction over the SPD.
type turn struct {
	p       *Plane
	touched []*group
	known   map[*group]bool // those in touched
	gone    []*flowEntry
	come    []*flowEntry
	undo    []func()
}

func (t *turn) step(c *ipsec.FlowChange) error {
	b := &t.p.book
	if c.Remove {
		f := b.flows[c.Flow.ID]
		t.touch(t.p.unlink(f))
		t.gone = append(t.gone, f)
		t.undo = append(t.undo, func() { t.touch(t.p.link(f)); b.orders.take(f.Order) })
		b.orders.drop(f.Order)
		return nil
	}
	f := &flowEntry{Flow: c.Flow}
	f.Selector.Src, f.Selector.Dst = f.Selector.Src.Masked(), f.Selector.Dst.Masked()
	moved, err := b.orders.take(f.Order)
	if err != nil {
		return fmt.Errorf("adding flow %q: %w", f.ID, err)
	}
	if moved { // others have other priorities now
		t.touch(slices.Collect(maps.Values(b.groups)))
	}
	if f.reqid, err = t.p.reqids.take(f.scope()); err != nil {
		b.orders.drop(f.Order)
		return fmt.Errorf("adding flow %q: %w", f.ID, err)
	}
	t.touch(t.p.link(f))
	t.come = append(t.come, f)
	t.undo = append(t.undo, func() {
		t.touch(t.p.unlink(f))
		b.orders.drop(f.Order)
		t.p.reqids.drop(f.scope())
	})
	return nil
}

func (t *turn) touch(groups []*group) {
	for _, g := range groups {
		if !t.known[g] {
			t.known[g] = true
			t.touched = append(t.touched, g)
		}
	}
}

// link puts a flow into the book, unlink takes it out; both tell the groups that
// changed.
func (p *Plane) link(f *flowEntry) (changed []*group) {
	b := &p.book
	b.flows[f.ID] = f
	d := dirDuty{f.Dir, generalDuty(&f.Flow)}
	b.alike[d] = append(b.alike[d], f)
	f.spares = spares(f)
	for _, f := range slices.Concat(f.spares, []*flowEntry{f}) {
		k := f.groupKey()
		g := b.groups[k]
		if g == nil {
			g = &group{key: k}
			b.groups[k] = g
		}
		i, _ := slices.BinarySearchFunc(g.flows, f, compareFlows)
		g.flows = slices.Insert(g.flows, i, f)
		changed = append(changed, g)
	}
	return changed
}

func (p *Plane) unlink(f *flowEntry) (changed []*group) {
	b := &p.book
	delete(b.flows, f.ID)
	d := dirDuty{f.Dir, generalDuty(&f.Flow)}
	if b.alike[d] = slices.DeleteFunc(b.alike[d], func(o *flowEntry) bool { return o == f }); len(b.alike[d]) == 0 {
		delete(b.alike, d)
	}
	for _, f := range slices.Concat(f.spares, []*flowEntry{f}) {
		g := b.groups[f.groupKey()]
		g.flows = slices.DeleteFunc(g.flows, func(o *flowEntry) bool { return o == f })
		changed = append(changed, g)
	}
	return changed
}

// compareFlows is negative when a is looked at before b. What flows spare comes
// after what somebody says.
func compareFlows(a, b *flowEntry) int {
	if a.Order == b.Order && a.spare != b.spare {
		if b.spare {
			return -1
		}
		return 1
	}
	return a.Compare(&b.Flow)
}

// groups are those that were touched, in the order of the changes, the ones that
// end up empty last: what protects comes before what goes.
func (t *turn) groups() []*group {
	all := slices.Clone(t.touched)
	slices.SortStableFunc(all, func(a, b *group) int { return min(len(b.flows), 1) - min(len(a.flows), 1) })
	return all
}

// back undoes what was done, because of err.
func (t *turn) back(err error) error {
	for _, f := range slices.Backward(t.undo) {
		f()
	}
	again := t.p.refresh(t.groups(), false)
	t.sweep()
	if again != nil {
		return errors.Join(err, fmt.Errorf("and going back: %w", again))
	}
	return err
}

// sweep forgets groups of which nothing is left.
func (t *turn) sweep() {
	for _, g := range t.touched {
		if len(g.flows) == 0 && g.has == ([3]*wire.Policy{}) {
			delete(t.p.book.groups, g.key)
		}
	}
}

// settle is the end of a transaction that went well.
func (t *turn) settle() {
	p := t.p
	for _, f := range t.gone {
		p.reqids.drop(f.scope())
		p.forget(f)
		if p.book.flows[f.ID] == nil {
			p.journal.write(record{DelFlow: f.ID})
		}
	}
	for _, f := range t.come {
		if p.book.flows[f.ID] == f {
			p.journal.write(record{Flow: &flowRecord{Flow: f.Flow, ReqID: f.reqid}})
		}
	}
	t.sweep()
	p.warnInterfaces(t.come)
}

// warnInterfaces tells of flows through an interface that nobody has made. It may
// still come.
func (p *Plane) warnInterfaces(flows []*flowEntry) {
	var there map[uint32]bool
	for _, f := range flows {
		if f.Interface == 0 || p.addrs == nil {
			continue
		}
		if there == nil {
			var err error
			if there, err = p.addrs.interfaces(); err != nil {
				p.log.Warn("which xfrm interfaces there are cannot be told", "err", err)
				return
			}
		}
		if !there[f.Interface] {
			p.log.Warn("a flow is for an xfrm interface that is not there: it protects nothing until there is one (ip link add NAME type xfrm if_id NUMBER)",
				"flow", f.ID, "if_id", f.Interface)
		}
	}
}

// forget ends what a flow that is gone still asked for.
func (p *Plane) forget(f *flowEntry) {
	if f.resting != nil {
		f.resting.Stop()
		f.resting = nil
	}
	p.endAsking(f)
	p.killLarvae(f)
}
