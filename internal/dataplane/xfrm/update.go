package xfrm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// UpdateSA changes a peer's address, limits, or the place in a bundle.
func (p *Plane) UpdateSA(ctx context.Context, id ipsec.SAID, u ipsec.SAUpdate) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	err := p.updateSA(id, u)
	p.watch.tell(dataplane.Message{Action: dataplane.ActionUpdate, PID: os.Getpid(), ID: id}, err)
	return err
}

func (p *Plane) updateSA(id ipsec.SAID, u ipsec.SAUpdate) error {
	e := p.book.sas[id]
	if e == nil {
		return fmt.Errorf("SA %s: %w", id, dataplane.ErrNoSA)
	}
	if u.Remote != nil && (!u.Remote.IsValid() || u.Remote.Addr().Is4() != id.Dst.Is4()) {
		return fmt.Errorf("SA %s: its peer cannot move to %s, another address family", id, u.Remote)
	}
	err := p.alter(e, u)
	p.journal.write(record{SA: p.recordOf(e)}) // after an error some of it may have happened
	return err
}

func (p *Plane) alter(e *saEntry, u ipsec.SAUpdate) error {
	if u.Bundle != nil {
		if err := p.placeFree(e, *u.Bundle); err != nil {
			return err
		}
		if err := p.regroup(e, *u.Bundle); err != nil {
			return err
		}
	}
	if u.Remote != nil {
		if err := p.move(e, *u.Remote); err != nil {
			return err
		}
	}
	if u.Soft != nil || u.Hard != nil {
		return p.limit(e, u)
	}
	return nil
}

// fetch asks the kernel for all of an SA, keys included.
func (p *Plane) fetch(e *saEntry) (*wire.SA, error) {
	b, err := p.kernel.ask(wire.GetSA, p.id(e).Append(nil))
	if err != nil {
		return nil, explain(fmt.Sprintf("SA %s", e.sa.ID), err)
	}
	return wire.ParseSA(b)
}

// limit changes the lifetimes.
func (p *Plane) limit(e *saEntry, u ipsec.SAUpdate) error {
	w, err := p.fetch(e)
	if err != nil {
		return err
	}
	next := e.sa
	if u.Soft != nil {
		next.Soft = *u.Soft
	}
	if u.Hard != nil {
		next.Hard = *u.Hard
	}
	w.Limits = limits(&next)
	if err := p.change(e, w); err != nil {
		return err
	}
	e.sa.Soft, e.sa.Hard = next.Soft, next.Hard
	e.told = e.told && u.Soft == nil
	return nil
}

// change tells the kernel new limits and ports of an SA that lives: it takes
// nothing else from what w says.
func (p *Plane) change(e *saEntry, w *wire.SA) error {
	w.Life, w.LastUsed = nil, 0
	return explain(fmt.Sprintf("changing SA %s", e.sa.ID), p.kernel.do(wire.UpdSA, w.Append(nil)))
}

// seqSkip is how many sequence numbers are left out when an outgoing SA goes on
// at another address: what is sent while it moves has numbers that were not
// known yet, and no number may come twice.
const seqSkip = 1024

// move follows a peer. The kernel can change a port; an address is part of an
// SA's name there, and it is made anew under the other one, with its numbers.
// Incoming SAs need nothing: the kernel lets packets of a moved peer in, and what
// it tells about it is compared with what we know.
func (p *Plane) move(e *saEntry, to netip.AddrPort) error {
	was := e.dst
	if e.sa.ID.Dir == ipsec.In {
		was = e.src
	}
	encap := e.sa.Encap
	follow := func() {
		if encap != nil {
			e.sa.Encap = &ipsec.Encap{Local: encap.Local, Remote: to}
		}
	}
	switch {
	case was == to.Addr() && (encap == nil || encap.Remote.Port() == to.Port()):
		follow()
		return nil
	case was == to.Addr():
		w, err := p.fetch(e)
		if err != nil {
			return err
		}
		follow()
		w.Encap = encapOf(&e.sa)
		if err := p.change(e, w); err != nil {
			e.sa.Encap = encap
			return err
		}
		return nil
	case e.sa.ID.Dir == ipsec.In:
		follow()
		return nil
	}
	if o := p.book.keys[kernelKey{to.Addr(), uint32(e.sa.ID.SPI), uint8(e.sa.ID.Proto)}]; o != nil {
		return fmt.Errorf("SA %s cannot move to %s: the kernel keeps one SA for each destination, protocol and SPI, and that is %s: %w",
			e.sa.ID, to, o.sa.ID, dataplane.ErrExists)
	}
	return p.remake(e, func() { e.dst = to.Addr(); follow() })
}

// remake makes an SA anew in the kernel, after change, with the keys and numbers
// of the old one, and lets its flows follow.
func (p *Plane) remake(e *saEntry, change func()) error {
	old, err := p.fetch(e)
	if err != nil {
		return err
	}
	if hidden(old) {
		return fmt.Errorf("SA %s cannot be changed: this kernel hides keys (lockdown), and the change needs them", e.sa.ID)
	}
	was, wasID := *e, p.id(e)
	delete(p.book.keys, e.key())
	change()
	p.book.keys[e.key()] = e
	w := p.successor(e, old)
	same := was.key() == e.key()
	back := func(err error) error {
		delete(p.book.keys, e.key())
		e.src, e.dst, e.shares, e.reqid, e.scope, e.sa = was.src, was.dst, was.shares, was.reqid, was.scope, was.sa
		p.book.keys[e.key()] = e
		return explain(fmt.Sprintf("changing SA %s", e.sa.ID), err)
	}
	if same {
		if err := p.kernel.do(wire.DelSA, wasID.Append(nil)); err != nil {
			return back(err)
		}
	}
	if err := p.kernel.do(wire.NewSA, w.Append(nil)); err != nil {
		err = back(err)
		if same {
			old.Life = &old.Usage
			err = errors.Join(err, explain("putting it back", p.kernel.do(wire.NewSA, old.Append(nil))))
		}
		return err
	}
	if same {
		return nil
	}
	err = p.refreshFlows(p.book.affected(e))
	return errors.Join(err, explain(fmt.Sprintf("SA %s at its old address", e.sa.ID), p.kernel.do(wire.DelSA, wasID.Append(nil))))
}

// successor is e as it is now, with what the kernel knew of it before.
func (p *Plane) successor(e *saEntry, old *wire.SA) *wire.SA {
	w := encode(&e.sa, p.encoding(e))
	w.Crypt, w.Auth, w.AEAD, w.Comp = old.Crypt, old.Auth, old.AEAD, old.Comp
	w.Window, w.Replay, w.ESN = old.Window, old.Replay, old.ESN
	w.Life = &old.Usage
	if e.sa.ID.Dir == ipsec.Out {
		switch {
		case w.ESN != nil:
			w.ESN.Sent += seqSkip
		case w.Replay != nil && w.Replay.Sent < math.MaxUint32-seqSkip:
			w.Replay.Sent += seqSkip
		}
	}
	return w
}

// hidden: a kernel that is locked down gives zeros for keys.
func hidden(w *wire.SA) bool {
	for _, key := range [][]byte{keyBytes(w.Crypt), authKey(w.Auth), aeadKey(w.AEAD)} {
		zero := len(key) > 0
		for _, b := range key {
			zero = zero && b == 0
		}
		if zero {
			return true
		}
	}
	return false
}

func keyBytes(a *wire.Alg) []byte {
	if a == nil {
		return nil
	}
	return a.Key
}

func authKey(a *wire.AuthAlg) []byte {
	if a == nil {
		return nil
	}
	return a.Key
}

func aeadKey(a *wire.AEAD) []byte {
	if a == nil {
		return nil
	}
	return a.Key
}

// regroup moves a living SA to another place. Its reqid, and perhaps its mode,
// are others then.
func (p *Plane) regroup(e *saEntry, at ipsec.Place) error {
	was := e.sa.Bundle
	if was == at {
		return nil
	}
	flows := p.book.affected(e)
	oldScope := e.scope
	next := e.sa
	next.Bundle = at
	reqid, err := p.reqids.take(scopeOf(&next))
	if err != nil {
		return fmt.Errorf("SA %s: %w", e.sa.ID, err)
	}
	p.book.part(e)
	err = p.remake(e, func() {
		e.sa.Bundle, e.scope, e.reqid = at, scopeOf(&next), reqid
		e.shares = p.sharesHeader(e)
	})
	p.book.join(e)
	if err != nil {
		p.reqids.drop(scopeOf(&next))
		return err
	}
	p.reqids.drop(oldScope)
	return errors.Join(p.refreshFlows(flows), p.completed(e))
}
