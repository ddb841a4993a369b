package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// Policies of ours have indices from this range, so that those without a
// template, which have no reqid, are found again too. The kernel counts its own
// from 8 on.
const (
	firstIndex = 0x0a000000
	lastIndex  = 0x0affffff
	indexStep  = 8 // the lowest three bits are the direction
)

func ourIndex(n uint32) bool { return n >= firstIndex && n <= lastIndex }

// desired is what the kernel should have for a group, by direction.
func (p *Plane) desired(g *group) (want [3]*wire.Policy) {
	f := g.first()
	if f == nil {
		return want
	}
	w := wire.Policy{
		Sel: selectorOf(&f.Selector), Limits: wire.NoLimits(), Priority: p.book.orders.priority(&f.Flow),
		Mark: p.opt.Mark, IfID: f.Interface,
	}
	if f.fragments {
		ofFragments(&w)
	}
	if f.Dir == ipsec.Out {
		p.outgoing(f, &w)
		w.Dir = wire.DirOut
		want[wire.DirOut] = &w
		return want
	}
	p.incoming(f, &w)
	in, fwd := w, w
	in.Dir, fwd.Dir = wire.DirIn, wire.DirFwd
	want[wire.DirFwd] = &fwd
	if !f.fragments { // what is for this host was made whole before
		want[wire.DirIn] = &in
	}
	return want
}

// protected tells whether a flow's packets go through SAs, and drops that they
// are dropped whatever SAs there are.
func (p *Plane) protected(f *flowEntry, chain []*saEntry) (is, drops bool) {
	switch f.Type {
	case ipsec.FlowBypass:
		return false, false
	case ipsec.FlowDeny:
		return false, true
	}
	drops = len(chain) == 0 && p.isOff(f.Proto)
	for _, e := range chain {
		drops = drops || p.isOff(e.sa.ID.Proto)
	}
	return !drops, drops
}

// isOff: that nobody has needed AH yet is no reason to drop.
func (p *Plane) isOff(proto ipsec.Proto) bool {
	return p.off[proto] && (proto != ipsec.ProtoAH || p.ahByHand)
}

// outgoing decides what happens to packets that leave. The kernel refuses
// optional templates of tunnels: whether there is an SA decides instead.
func (p *Plane) outgoing(f *flowEntry, w *wire.Policy) {
	chain, pinned := p.book.serving(f)
	is, drops := p.protected(f, chain)
	clear := f.Type == ipsec.FlowUse || f.Type == ipsec.FlowAcquire
	switch {
	case drops:
		w.Action = wire.Block
	case !is:
	case len(chain) > 0:
		for _, e := range chain {
			w.Templates = append(w.Templates, templateOf(e, pinned))
		}
	case f.Type == ipsec.FlowUse, f.resting != nil && clear:
	case f.Type == ipsec.FlowDontAcq, f.resting != nil:
		w.Action = wire.Block
	case clear || f.Mode == ipsec.Tunnel && !f.Remote.IsValid():
		// Without an SA that is wanted, only a template that makes no tunnel may be
		// optional, and only it asks when nobody knows the other end.
		w.Templates = []wire.Template{{
			Proto: uint8(ipsec.ProtoESP), Family: w.Sel.Family, ReqID: f.reqid, Mode: wire.ModeTransport, Optional: clear,
		}}
	default:
		w.Templates = []wire.Template{blank(f, w.Sel.Family)}
	}
}

// blank is the template of a flow for which there is no SA yet.
func blank(f *flowEntry, family uint16) wire.Template {
	t := wire.Template{Proto: uint8(f.Proto), Family: family, ReqID: f.reqid, Mode: wire.ModeTransport}
	if f.Mode == ipsec.Tunnel {
		t.Mode = wire.ModeTunnel
		t.Src, t.Dst = f.Local, f.Remote
		if f.Dir == ipsec.In {
			t.Src, t.Dst = f.Remote, f.Local
		}
		if outer := max(wire.FamilyOf(f.Remote), wire.FamilyOf(f.Local)); outer != wire.FamilyNone {
			t.Family = outer
		}
	}
	return t
}

func templateOf(e *saEntry, pinned bool) wire.Template {
	t := wire.Template{Proto: uint8(e.sa.ID.Proto), Family: wire.FamilyOf(e.dst), ReqID: e.reqid, Mode: wire.ModeTransport}
	if e.sa.Mode == ipsec.Tunnel && !e.shares {
		t.Mode, t.Src, t.Dst = wire.ModeTunnel, e.src, e.dst
	}
	if pinned {
		t.SPI = uint32(e.sa.ID.SPI)
	}
	return t
}

// incoming decides what packets that come must have come through. A tunnel's
// ends are not looked at, the reqid says enough and peers move.
func (p *Plane) incoming(f *flowEntry, w *wire.Policy) {
	chain, _ := p.book.serving(f)
	is, drops := p.protected(f, chain)
	switch {
	case drops:
		w.Action = wire.Block
		return
	case !is:
		return
	case len(chain) == 0:
		w.Templates = []wire.Template{blank(f, w.Sel.Family)}
	}
	for _, e := range chain {
		w.Templates = append(w.Templates, templateOf(e, false))
	}
	clear := f.Type == ipsec.FlowUse || f.Type == ipsec.FlowAcquire
	for i := range w.Templates {
		t := &w.Templates[i]
		t.Src, t.Dst = netip.Addr{}, netip.Addr{}
		// What does not shrink comes without IPComp (RFC 3173 section 2.2).
		t.Optional = clear || t.Proto == uint8(ipsec.ProtoIPComp)
	}
	if len(chain) == 1 && p.mixed(f) {
		w.Templates[0].ReqID = 0
		w.Templates[0].Src = f.Remote
	}
}

// mixed tells whether SAs that name a flow and others that do not may both
// bring its packets, with two reqids: then any of that protocol between those
// ends may.
func (p *Plane) mixed(f *flowEntry) bool {
	return p.book.pick(p.book.heads[dirDuty{f.Dir, duty{flow: f.ID}}]) != nil &&
		p.book.pick(p.book.heads[dirDuty{f.Dir, generalDuty(&f.Flow)}]) != nil
}

// refresh makes the kernel's policies of groups what they should be. again: also
// those that are, which makes the kernel look again at the packets it holds.
// After an error some are changed and some not; what is in the kernel is known.
func (p *Plane) refresh(groups []*group, again bool) error {
	for _, g := range groups {
		want := p.desired(g)
		for dir := range want {
			if err := p.put(g, wire.Dir(dir), want[dir], again); err != nil {
				return err
			}
		}
	}
	return nil
}

// refreshFlows is refresh for what certain flows look at.
func (p *Plane) refreshFlows(flows []*flowEntry) error {
	var errs []error
	for _, f := range flows {
		g := p.book.groups[f.groupKey()]
		if g == nil {
			continue
		}
		p.purge(f)
		again := f.holds && g.first() == f
		if again {
			f.holds = false
		}
		errs = append(errs, p.refresh([]*group{g}, again))
	}
	return errors.Join(errs...)
}

// refreshGroup is refresh for one; nil: there is none.
func (p *Plane) refreshGroup(g *group) error {
	if g == nil {
		return nil
	}
	return p.refresh([]*group{g}, false)
}

// refreshAll is refresh for all that there is. That another program has the place
// of one is no reason to leave the others: it is logged.
func (p *Plane) refreshAll() error {
	for _, g := range p.book.groups {
		err := p.refreshGroup(g)
		if errors.Is(err, unix.EEXIST) {
			p.complain("a policy has no place", err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// put makes one policy what it should be; nil: it should not be.
func (p *Plane) put(g *group, dir wire.Dir, want *wire.Policy, again bool) error {
	has := g.has[dir]
	switch {
	case want == nil && has == nil:
		return nil
	case want == nil:
		return p.deletePolicy(g, dir)
	case has == nil:
		want.Index = p.index(dir)
		if err := p.kernel.do(wire.NewPolicy, want.Append(nil)); err != nil {
			return explain(fmt.Sprintf("policy %s %s of flow %q", dir, g.key.sel, g.first().ID), err)
		}
		p.book.policies[want.Index] = g
		g.has[dir] = want
		return nil
	}
	want.Index = has.Index
	if !again && reflect.DeepEqual(want, has) {
		return nil
	}
	if err := p.kernel.do(wire.UpdPolicy, want.Append(nil)); err != nil {
		return explain(fmt.Sprintf("changing policy %s %s of flow %q", dir, g.key.sel, g.first().ID), err)
	}
	g.has[dir] = want
	return nil
}

// deletePolicy removes by index: if somebody else put one of the same selector
// in its place, that is not ours.
func (p *Plane) deletePolicy(g *group, dir wire.Dir) error {
	has := g.has[dir]
	id := wire.PolicyID{Sel: wire.Selector{Family: has.Sel.Family}, Index: has.Index, Dir: dir, Mark: has.Mark, IfID: has.IfID}
	err := p.kernel.do(wire.DelPolicy, id.Append(nil))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return explain(fmt.Sprintf("removing policy %s %s", dir, g.key.sel), err)
	}
	delete(p.book.policies, has.Index)
	g.has[dir] = nil
	return nil
}

// index is one that no policy of ours has.
func (p *Plane) index(dir wire.Dir) uint32 {
	b := &p.book
	for {
		if b.next += indexStep; b.next > lastIndex-firstIndex {
			b.next = 0
		}
		n := firstIndex + b.next | uint32(dir)
		if b.policies[n] == nil {
			return n
		}
	}
}
