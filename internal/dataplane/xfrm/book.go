package xfrm

import (
	"net/netip"
	"slices"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// book is what we know of what is in the kernel and is ours.
type book struct {
	sas     map[ipsec.SAID]*saEntry
	keys    map[kernelKey]*saEntry
	heads   map[dirDuty][]*saEntry // those that flows may use, in the order of AddSA
	bundles map[bundleKey]*bundle

	flows  map[ipsec.FlowID]*flowEntry
	alike  map[dirDuty][]*flowEntry // by the duty of SAs without a flow's name
	groups map[groupKey]*group
	orders orders

	policies map[uint32]*group // by index
	next     uint32            // the last index given
	reserved map[kernelKey]reservation

	acquires map[dataplane.AcquireID]*flowEntry
	last     dataplane.AcquireID
}

func (b *book) init() {
	b.sas, b.keys, b.heads = map[ipsec.SAID]*saEntry{}, map[kernelKey]*saEntry{}, map[dirDuty][]*saEntry{}
	b.bundles, b.flows, b.alike = map[bundleKey]*bundle{}, map[ipsec.FlowID]*flowEntry{}, map[dirDuty][]*flowEntry{}
	b.groups, b.policies, b.reserved = map[groupKey]*group{}, map[uint32]*group{}, map[kernelKey]reservation{}
	b.acquires = map[dataplane.AcquireID]*flowEntry{}
}

// kernelKey is what the kernel looks an SA up by.
type kernelKey struct {
	dst   netip.Addr
	spi   uint32
	proto uint8
}

func keyOf(w *wire.SA) kernelKey { return kernelKey{w.Dst, w.SPI, w.Proto} }

type dirDuty struct {
	dir ipsec.Direction
	duty
}

// saEntry is an SA of ours.
type saEntry struct {
	sa       ipsec.SA   // without keys
	src, dst netip.Addr // in the kernel: those of a peer that moved are not its name's
	shares   bool       // its tunnel's header is another's: see encoding
	scope    scope
	reqid    uint32
	added    time.Time
	told     bool        // that its soft limit was reached
	waits    *time.Timer // until then another one is used
	seen     time.Time   // of the last Mapping
}

func (e *saEntry) key() kernelKey {
	return kernelKey{e.dst, uint32(e.sa.ID.SPI), uint8(e.sa.ID.Proto)}
}

// id is its name for the kernel.
func (p *Plane) id(e *saEntry) *wire.ID {
	return &wire.ID{Dst: e.dst, SPI: uint32(e.sa.ID.SPI), Family: wire.FamilyOf(e.dst), Proto: uint8(e.sa.ID.Proto), Mark: p.opt.Mark}
}

func (p *Plane) encoding(e *saEntry) encoding {
	return encoding{src: e.src, dst: e.dst, reqid: e.reqid, mark: p.opt.Mark, outMark: p.opt.OutMark, shares: e.shares}
}

type bundleKey struct {
	dir   ipsec.Direction
	id    uint64
	owner ipsec.Owner
	conn  string
}

// bundle is what is there of one, in one direction.
type bundle struct {
	of  uint8
	all [wire.MaxTemplates]*saEntry // by Index
}

// complete lists the SAs, the one nearest to the plain packet first; nil: some
// are missing.
func (b *bundle) complete() []*saEntry {
	if slices.Contains(b.all[:b.of], nil) {
		return nil
	}
	return b.all[:b.of]
}

func bundleOf(sa *ipsec.SA) bundleKey {
	return bundleKey{sa.ID.Dir, sa.Bundle.ID, sa.Owner, sa.Conn}
}

// chain is e with those that are applied with it; nil: they are not all there.
func (b *book) chain(e *saEntry) []*saEntry {
	if !bundled(e.sa.Bundle) {
		return []*saEntry{e}
	}
	if u := b.bundles[bundleOf(&e.sa)]; u != nil {
		return u.complete()
	}
	return nil
}

// enter puts an SA into the book.
func (b *book) enter(e *saEntry) {
	b.sas[e.sa.ID] = e
	b.keys[e.key()] = e
	b.join(e)
}

// leave takes it out.
func (b *book) leave(e *saEntry) {
	if e.waits != nil {
		e.waits.Stop()
		e.waits = nil
	}
	delete(b.sas, e.sa.ID)
	if b.keys[e.key()] == e {
		delete(b.keys, e.key())
	}
	b.part(e)
}

// join and part are the half of that which a change of the bundle repeats.
func (b *book) join(e *saEntry) {
	if bundled(e.sa.Bundle) {
		k := bundleOf(&e.sa)
		if b.bundles[k] == nil {
			b.bundles[k] = &bundle{of: e.sa.Bundle.Of}
		}
		b.bundles[k].all[e.sa.Bundle.Index] = e
		if e.sa.Bundle.Index > 0 {
			return
		}
	}
	d := dirDuty{e.sa.ID.Dir, dutyOf(&e.sa)}
	b.heads[d] = append(b.heads[d], e)
}

func (b *book) part(e *saEntry) {
	if bundled(e.sa.Bundle) {
		k := bundleOf(&e.sa)
		if u := b.bundles[k]; u != nil && u.all[e.sa.Bundle.Index] == e {
			u.all[e.sa.Bundle.Index] = nil
			if u.all == ([wire.MaxTemplates]*saEntry{}) {
				delete(b.bundles, k)
			}
		}
	}
	d := dirDuty{e.sa.ID.Dir, dutyOf(&e.sa)}
	b.heads[d] = slices.DeleteFunc(b.heads[d], func(o *saEntry) bool { return o == e })
	if len(b.heads[d]) == 0 {
		delete(b.heads, d)
	}
}

// pick is the newest of those that can be used now.
func (b *book) pick(all []*saEntry) *saEntry {
	var waiting *saEntry
	for _, e := range slices.Backward(all) {
		switch {
		case b.chain(e) == nil:
		case e.waits == nil:
			return e
		case waiting == nil:
			waiting = e
		}
	}
	return waiting
}

// serving is what flow f uses: the newest SA that names it, else the newest that
// serves all flows like it. pinned: the kernel by itself would take another.
func (b *book) serving(f *flowEntry) (chain []*saEntry, pinned bool) {
	for _, d := range []duty{{flow: f.ID}, generalDuty(&f.Flow)} {
		all := b.heads[dirDuty{f.Dir, d}]
		e := b.pick(all)
		if e == nil {
			continue
		}
		if bundled(e.sa.Bundle) {
			return b.chain(e), true
		}
		for _, o := range all {
			if o != e && !bundled(o.sa.Bundle) && o.added.Add(sameTime).After(e.added) {
				pinned = true
			}
		}
		return []*saEntry{e}, pinned
	}
	return nil, false
}

// sameTime is how much older one SA must be than another of the same reqid for the
// kernel to see it: it counts whole seconds, and among those of one second it
// takes any.
const sameTime = 2 * time.Second

// served are the flows that an SA may serve.
func (b *book) served(sa *ipsec.SA) []*flowEntry {
	if sa.Flow != "" {
		if f := b.flows[sa.Flow]; f != nil {
			return []*flowEntry{f}
		}
		return nil
	}
	d := dutyOf(sa)
	all := b.alike[dirDuty{sa.ID.Dir, d}]
	if sa.ID.Dir == ipsec.In && d.remote.IsValid() { // and those whose far end may be anywhere
		d.remote = netip.Addr{}
		all = append(slices.Clone(all), b.alike[dirDuty{sa.ID.Dir, d}]...)
	}
	return all
}

// affected are the flows that look at e or, when it is not a head, at the head
// of its bundle.
func (b *book) affected(e *saEntry) []*flowEntry {
	if !bundled(e.sa.Bundle) || e.sa.Bundle.Index == 0 {
		return b.served(&e.sa)
	}
	if u := b.bundles[bundleOf(&e.sa)]; u != nil && u.all[0] != nil {
		return b.served(&u.all[0].sa)
	}
	return nil
}

// stopTimers ends all that would happen later.
func (b *book) stopTimers() {
	for _, e := range b.sas {
		if e.waits != nil {
			e.waits.Stop()
		}
	}
	for _, f := range b.flows {
		if f.resting != nil {
			f.resting.Stop()
		}
	}
}

// reservation is an SPI that was given to somebody and that no SA has taken yet.
type reservation struct {
	until  time.Time
	kernel bool // the kernel has a larva of it
}
