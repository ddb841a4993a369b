package userspace

import (
	"fmt"
	"slices"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// bundleKey names SAs that are applied together.
type bundleKey struct {
	id    uint64
	owner ipsec.Owner
	conn  string
}

// bundle is what is there of one, in one direction. A bundle carries traffic
// while all its SAs are there: half of it would protect half.
type bundle[T any] struct {
	of   uint8
	all  [maxLayers]*T // by Index
	have uint8
}

// complete lists the SAs, the one nearest to the plain packet first; nil: some
// are missing.
func (b *bundle[T]) complete() []*T {
	if b.have < b.of {
		return nil
	}
	return b.all[:b.of]
}

func bundled(at ipsec.Place) bool { return at.Of > 1 }

func bundleOf(sa *ipsec.SA, at ipsec.Place) bundleKey {
	return bundleKey{id: at.ID, owner: sa.Owner, conn: sa.Conn}
}

func checkPlace(id ipsec.SAID, at ipsec.Place) error {
	if at.Of > maxLayers || bundled(at) && (at.Index >= at.Of || at.ID == 0) {
		return fmt.Errorf("SA %s: place %d of %d in bundle %d: a bundle has a number, at most %d SAs, and places from 0", id, at.Index, at.Of, at.ID, maxLayers)
	}
	return nil
}

// joinBundle puts an SA into its place and returns the bundle.
func joinBundle[T any](all map[bundleKey]*bundle[T], sa *ipsec.SA, at ipsec.Place, v *T) (*bundle[T], error) {
	k := bundleOf(sa, at)
	b := all[k]
	if b == nil {
		b = &bundle[T]{of: at.Of}
		all[k] = b
	}
	if b.of != at.Of || b.all[at.Index] != nil {
		return nil, fmt.Errorf("SA %s: bundle %d has %d SAs, and place %d of %d is not free in it: %w",
			sa.ID, at.ID, b.have, at.Index, b.of, dataplane.ErrExists)
	}
	b.all[at.Index] = v
	b.have++
	return b, nil
}

// leaveBundle takes an SA out of its place.
func leaveBundle[T any](all map[bundleKey]*bundle[T], sa *ipsec.SA, at ipsec.Place) *bundle[T] {
	k := bundleOf(sa, at)
	b := all[k]
	if b == nil {
		return nil
	}
	b.all[at.Index] = nil
	if b.have--; b.have == 0 {
		delete(all, k)
	}
	return b
}

// linkIn tells the SAs of a bundle what is to be with a packet.
func (p *Plane) linkIn(b *bundle[inSA]) {
	if b == nil {
		return
	}
	var chain *[]*inSA
	if c := b.complete(); c != nil {
		whole := append([]*inSA(nil), c...)
		chain = &whole
		if slices.ContainsFunc(c, func(sa *inSA) bool { return p.opt.laborious(&sa.sa) }) {
			for _, sa := range c {
				sa.order.CompareAndSwap(nil, newLine())
			}
		}
	}
	for _, sa := range b.all {
		if sa != nil {
			sa.chain.Store(chain)
		}
	}
}

// linkOut does the same for outgoing SAs, and makes their flows use the bundle,
// or no longer. Called with mu held.
func (p *Plane) linkOut(b *bundle[outSA]) {
	if b == nil || b.all[0] == nil {
		return
	}
	head := b.all[0]
	c := b.complete()
	if c == nil {
		head.chain.Store(nil)
		p.fallBack(dutyOf(&head.sa))
		return
	}
	whole := append([]*outSA(nil), c...)
	p.measure(whole...)
	head.chain.Store(&whole)
	p.begin(head)
}

// fallBack makes the flows of a duty use the newest SA that can be used.
func (p *Plane) fallBack(d duty) {
	p.served(d, func(f *flow) {
		f.mu.Lock()
		f.current.Store(p.serving(&f.Flow))
		f.mu.Unlock()
	})
}

// usable tells whether an outgoing SA can be what a flow uses: it stands alone,
// or it is the first of a bundle that is complete.
func (sa *outSA) usable() bool {
	return !sa.dead.Load() && (!bundled(sa.at) || sa.chain.Load() != nil)
}

// regroup moves a living SA to another place. Called with mu held.
func (p *Plane) regroup(in *inSA, out *outSA, at ipsec.Place) error {
	if in != nil {
		was := in.at
		if bundled(was) {
			p.linkIn(leaveBundle(p.bundlesIn, &in.sa, was))
		}
		in.chain.Store(nil)
		if bundled(at) {
			b, err := joinBundle(p.bundlesIn, &in.sa, at, in)
			if err != nil {
				if bundled(was) {
					back, _ := joinBundle(p.bundlesIn, &in.sa, was, in)
					p.linkIn(back)
				}
				return err
			}
			in.at = at
			in.setPlain()
			p.linkIn(b)
			return nil
		}
		in.at = at
		in.setPlain()
		return nil
	}
	was := out.at
	var err error
	if bundled(at) && (was.ID != at.ID || was.Index != at.Index) {
		if b := p.bundlesOut[bundleOf(&out.sa, at)]; b != nil && (b.of != at.Of || b.all[at.Index] != nil) {
			_, err = joinBundle(p.bundlesOut, &out.sa, at, out) // says why not
			return err
		}
	}
	p.unlistOut(out)
	out.chain.Store(nil)
	out.at = at
	out.setPlain(p.opt.DF)
	return p.enlistOut(out)
}

// enlistOut makes an outgoing SA serve: alone, or once its bundle is complete.
// Called with mu held.
func (p *Plane) enlistOut(sa *outSA) error {
	if !bundled(sa.at) {
		p.measure(sa)
		p.enter(sa)
		p.begin(sa)
		return nil
	}
	b, err := joinBundle(p.bundlesOut, &sa.sa, sa.at, sa)
	if err != nil {
		return err
	}
	if sa.at.Index == 0 {
		p.enter(sa)
	}
	p.linkOut(b)
	return nil
}

// unlistOut ends what enlistOut began. Called with mu held.
func (p *Plane) unlistOut(sa *outSA) {
	if bundled(sa.at) {
		b := leaveBundle(p.bundlesOut, &sa.sa, sa.at)
		if sa.at.Index != 0 {
			p.linkOut(b)
			return
		}
	}
	sa.chain.Store(nil)
	p.leave(sa)
}
