package xfrm

import (
	"errors"
	"net/netip"
	"reflect"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// adopt makes ours what a predecessor left in the kernel and told its journal,
// and clears what it left and nobody knows about: half of a transaction, or the
// tables of one that kept no journal.
func (p *Plane) adopt() error {
	k := &kept{}
	if p.opt.Journal != "" {
		j, read, err := openJournal(p.opt.Journal, era(), p.log)
		if err != nil {
			return err
		}
		p.journal, k = j, read
	}
	if k.isOff {
		p.ahByHand = k.byHand
		clear(p.off)
		for _, proto := range k.off {
			p.off[proto] = true
		}
	}
	there, err := p.present()
	if err != nil {
		return err
	}
	kept, lost := p.adoptSAs(k, there)
	cleared, err := p.clearSAs(there)
	if err != nil {
		return err
	}
	p.adoptFlows(k)
	if err := p.adoptPolicies(); err != nil {
		return err
	}
	// What was asked of the last process the next packet asks of us: whoever was to
	// answer may be gone too.
	if err := p.questions(func(l larva, _ wire.Selector) {
		if p.reqids.ours(l.ReqID) {
			p.killLarva(&l)
		}
	}); err != nil {
		return err
	}
	if p.journal != nil {
		p.journal.live = p.records
		p.journal.rewrite(p.records())
	}
	for _, e := range p.book.byAge() { // what nobody heard
		if worn(there[e.key()], time.Now()) {
			p.wears(e)
		}
	}
	if kept+lost+cleared+len(k.flows) > 0 {
		p.log.Info("taken over from the last process", "SAs", kept, "SAs that ended meanwhile", lost, "SAs nobody knows, cleared", cleared, "flows", len(k.flows))
	}
	return nil
}

// adoptSAs enters those that are in the journal and in the kernel.
func (p *Plane) adoptSAs(k *kept, there map[kernelKey]*wire.SA) (found, lost int) {
	for _, id := range k.order {
		r := k.sas[id]
		if r == nil {
			continue // deleted
		}
		delete(k.sas, id) // it may be in the order twice
		e := &saEntry{
			sa: r.SA, src: r.Src, dst: r.Dst, shares: r.Shares, reqid: r.ReqID, added: r.Added, told: r.Told,
			scope: scopeOf(&r.SA),
		}
		w := there[e.key()]
		if w == nil || w.ReqID != e.reqid || larval(w) || !sameMark(w.Mark, p.opt.Mark) || p.book.keys[e.key()] != nil || p.placeFree(e, e.sa.Bundle) != nil {
			lost++
			continue
		}
		p.reqids.restore(e.scope, e.reqid)
		if n, err := p.reqids.take(e.scope); err != nil || n != e.reqid {
			lost++ // two scopes with one number: of no journal of ours
			if err == nil {
				p.reqids.drop(e.scope)
			}
			continue
		}
		p.deferring(e)
		p.book.enter(e)
		found++
	}
	return found, lost
}

// larval tells whether the kernel made an SA itself, to ask for one or for a
// reserved SPI.
func larval(w *wire.SA) bool {
	return w.Crypt == nil && w.Auth == nil && w.AEAD == nil && w.Comp == nil
}

// clearSAs deletes those of our reqids that are not in the book. Larvae of
// acquires have no SPI; see questions.
func (p *Plane) clearSAs(there map[kernelKey]*wire.SA) (cleared int, err error) {
	for key, w := range there {
		if p.book.keys[key] != nil || w.SPI == 0 {
			continue
		}
		id := wire.ID{Dst: w.Dst, SPI: w.SPI, Family: w.Family, Proto: w.Proto, Mark: w.Mark}
		if err := p.kernel.do(wire.DelSA, id.Append(nil)); err != nil && !errors.Is(err, unix.ESRCH) {
			return cleared, explain("clearing what a crash left", err)
		}
		cleared++
	}
	return cleared, nil
}

func (p *Plane) adoptFlows(k *kept) {
	for _, r := range k.flows {
		f := &flowEntry{Flow: r.Flow}
		p.reqids.restore(f.scope(), r.ReqID)
		var err error
		if f.reqid, err = p.reqids.take(f.scope()); err == nil {
			err = p.checkFlow(&f.Flow)
		}
		if err == nil {
			_, err = p.book.orders.take(f.Order)
		}
		if err != nil {
			p.log.Warn("a flow of the last process is left out", "flow", f.ID, "err", err)
			continue
		}
		p.link(f)
	}
}

// adoptPolicies makes the kernel's policies those of the flows in the book: what
// is there and right stays, what is there and nobody's is deleted.
func (p *Plane) adoptPolicies() error {
	var stray []*wire.Policy
	err := p.kernel.dump(wire.GetPolicy, nil, func(b []byte) error {
		w, err := wire.ParsePolicy(b)
		if err != nil {
			return err
		}
		if !p.ours(w) {
			return nil
		}
		g := p.book.groups[p.groupOf(w)]
		if g == nil || g.has[w.Dir] != nil || !sameMark(w.Mark, p.opt.Mark) || !ourIndex(w.Index) {
			stray = append(stray, w)
			return nil
		}
		g.has[w.Dir] = p.known(g, w)
		p.book.policies[w.Index] = g
		return nil
	})
	if err != nil {
		return explain("listing the kernel's policies", err)
	}
	// First what protects, then what nobody has any more.
	if err := p.refreshAll(); err != nil {
		return err
	}
	for _, w := range stray {
		if err := p.deleteStray(w); err != nil {
			return err
		}
	}
	return nil
}

// known is what p takes for the kernel's version of a policy: its own, if it
// says the same.
func (p *Plane) known(g *group, w *wire.Policy) *wire.Policy {
	if want := p.desired(g)[w.Dir]; want != nil {
		want.Index = w.Index
		if samePolicy(w, want) {
			return want
		}
	}
	return w
}

func (p *Plane) ours(w *wire.Policy) bool {
	if w.Dir > wire.DirFwd {
		return false // of a socket
	}
	if ourIndex(w.Index) {
		return true
	}
	for i := range w.Templates {
		if p.reqids.ours(w.Templates[i].ReqID) {
			return true
		}
	}
	return false
}

func (p *Plane) groupOf(w *wire.Policy) groupKey {
	k := groupKey{dir: ipsec.In, sel: selectorFrom(&w.Sel), fragments: onlyFragments(&w.Sel), ifid: w.IfID}
	if w.Dir == wire.DirOut {
		k.dir = ipsec.Out
	}
	return k
}

func sameMark(a, b *wire.Mark) bool {
	none := wire.Mark{}
	if a == nil {
		a = &none
	}
	if b == nil {
		b = &none
	}
	return *a == *b
}

// samePolicy compares what we say in a policy with what the kernel tells.
func samePolicy(kernel, ours *wire.Policy) bool {
	if kernel.Priority != ours.Priority || kernel.Action != ours.Action || kernel.IfID != ours.IfID || kernel.Dir != ours.Dir ||
		selectorFrom(&kernel.Sel) != selectorFrom(&ours.Sel) || !sameMark(kernel.Mark, ours.Mark) || len(kernel.Templates) != len(ours.Templates) {
		return false
	}
	for i := range kernel.Templates {
		a, b := kernel.Templates[i], ours.Templates[i]
		a.Src, a.Dst, b.Src, b.Dst = anyAddr(a.Src), anyAddr(a.Dst), anyAddr(b.Src), anyAddr(b.Dst)
		if !reflect.DeepEqual(a, b) {
			return false
		}
	}
	return true
}

func anyAddr(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// records are the lines of a journal that has what is in the book.
func (p *Plane) records() []record {
	var all []record
	for _, e := range p.book.byAge() {
		all = append(all, record{SA: p.recordOf(e)})
	}
	for _, f := range p.book.flows {
		all = append(all, record{Flow: &flowRecord{Flow: f.Flow, ReqID: f.reqid}})
	}
	return append(all, record{Off: p.offList(), ByHand: p.ahByHand})
}

// resync compares book and kernel after events were lost or others meddled: SAs
// that are gone have ended, policies that are gone are put back, and acquires
// that nobody heard are heard now. Called with mu held.
func (p *Plane) resync() error {
	there, err := p.present()
	if err != nil {
		return err
	}
	for _, e := range p.book.byAge() {
		w := there[e.key()]
		switch {
		case p.book.sas[e.sa.ID] != e:
		case w == nil:
			p.ended(e)
		case worn(w, time.Now()):
			p.wears(e)
		}
	}
	if err := p.resyncPolicies(); err != nil {
		return err
	}
	return p.resyncAcquires()
}

func (p *Plane) resyncPolicies() error {
	present := map[uint32]bool{}
	err := p.kernel.dump(wire.GetPolicy, nil, func(b []byte) error {
		w, err := wire.ParsePolicy(b)
		if err == nil {
			present[w.Index] = true
		}
		return err
	})
	if err != nil {
		return explain("listing the kernel's policies", err)
	}
	var errs []error
	for _, g := range p.book.groups {
		for dir, has := range g.has {
			if has != nil && !present[has.Index] {
				delete(p.book.policies, has.Index)
				g.has[dir] = nil
			}
		}
		errs = append(errs, p.refreshGroup(g))
	}
	return errors.Join(errs...)
}

// resyncAcquires hears the questions that were not heard.
func (p *Plane) resyncAcquires() error {
	asking := map[uint32]*flowEntry{}
	for _, f := range p.book.flows {
		if f.Dir == ipsec.Out && asks(f.Type) {
			asking[f.reqid] = f
		}
	}
	return p.questions(func(l larva, sel wire.Selector) {
		if f := asking[l.ReqID]; f != nil && f.acquire == 0 {
			p.wanted(f, l, sel)
		}
	})
}
