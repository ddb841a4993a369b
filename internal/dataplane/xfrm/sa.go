package xfrm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// AddSA gives an SA to the kernel, and its flows their policies.
func (p *Plane) AddSA(ctx context.Context, sa *ipsec.SA) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	err := p.addSA(sa)
	c := withoutKeys(sa)
	p.watch.tell(dataplane.Message{Action: dataplane.ActionAdd, PID: os.Getpid(), ID: sa.ID, SA: &c}, err)
	return err
}

func (p *Plane) addSA(sa *ipsec.SA) error {
	if err := p.check(sa); err != nil {
		return err
	}
	if p.book.sas[sa.ID] != nil {
		return fmt.Errorf("SA %s: %w", sa.ID, dataplane.ErrExists)
	}
	e := &saEntry{
		sa: withoutKeys(sa), src: sa.Src, dst: sa.ID.Dst, scope: scopeOf(sa), added: time.Now(),
	}
	if o := p.book.keys[e.key()]; o != nil {
		return fmt.Errorf("SA %s: the kernel keeps one SA for each destination, protocol and SPI, and that is %s: %w", sa.ID, o.sa.ID, dataplane.ErrExists)
	}
	if sa.Flow != "" && sa.ID.Dir == ipsec.Out {
		if f := p.book.flows[sa.Flow]; f == nil || f.Dir != ipsec.Out {
			return fmt.Errorf("SA %s serves flow %q, which is no outgoing one that is there: %w", sa.ID, sa.Flow, dataplane.ErrNoFlow)
		}
	}
	if f := p.book.flows[sa.Flow]; f != nil && f.Interface != sa.Interface {
		return fmt.Errorf("SA %s is for the xfrm interface with if_id %d, and flow %q, which it serves, for that with if_id %d (0 is none)", sa.ID, sa.Interface, sa.Flow, f.Interface)
	}
	if err := p.placeFree(e, sa.Bundle); err != nil {
		return err
	}
	e.shares = p.sharesHeader(e)
	var err error
	if e.reqid, err = p.reqids.take(e.scope); err != nil {
		return fmt.Errorf("SA %s: %w", sa.ID, err)
	}
	if err := p.install(sa, e); err != nil {
		p.reqids.drop(e.scope)
		return err
	}
	return nil
}

// install makes e live, with the keys of sa.
func (p *Plane) install(sa *ipsec.SA, e *saEntry) error {
	p.deferring(e)
	p.book.enter(e)
	// A policy that is to go on with another SA is told so before this one comes.
	if e.waits != nil {
		if err := p.refreshFlows(p.book.affected(e)); err != nil {
			p.book.leave(e)
			return errors.Join(err, p.refreshFlows(p.book.served(&e.sa)))
		}
	}
	w := encode(sa, p.encoding(e))
	r, reserved := p.book.reserved[e.key()]
	var failed error = unix.ESRCH
	if reserved && r.kernel {
		failed = p.kernel.do(wire.UpdSA, w.Append(nil))
	}
	if errors.Is(failed, unix.ESRCH) { // no reservation, or one that is over
		failed = p.kernel.do(wire.NewSA, w.Append(nil))
	}
	if failed != nil {
		p.book.leave(e)
		return errors.Join(p.refused(sa, failed), p.refreshFlows(p.book.served(&e.sa)))
	}
	delete(p.book.reserved, e.key())
	if sa.ID.Proto == ipsec.ProtoAH && !p.ahByHand && p.off[ipsec.ProtoAH] {
		delete(p.off, ipsec.ProtoAH)
		p.journal.write(record{Off: p.offList()})
	}
	if err := p.completed(e); err != nil {
		p.remove(e)
		return err
	}
	p.journal.write(record{SA: p.recordOf(e)})
	return nil
}

// completed does what the coming of e changes for others: the rest of its
// bundle, and the policies of its flows.
func (p *Plane) completed(e *saEntry) error {
	if bundled(e.sa.Bundle) {
		for _, o := range p.book.chain(e) {
			if shares := p.sharesHeader(o); shares != o.shares {
				if err := p.remake(o, func() { o.shares = shares }); err != nil {
					return err
				}
			}
		}
	}
	return p.refreshFlows(p.book.affected(e))
}

// refused explains why the kernel does not take an SA.
func (p *Plane) refused(sa *ipsec.SA, err error) error {
	what := fmt.Sprintf("SA %s (%s, %s)", sa.ID, sa.Cipher, sa.Auth)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOSYS) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w; the modules are %s", explain(what, err), p.modules(sa))
	}
	return explain(what, err)
}

func (p *Plane) modules(sa *ipsec.SA) string {
	all := protoModules[sa.ID.Proto]
	if c := cipherOf(sa.Cipher); c != nil {
		all += ", " + c.modules
	}
	if a := authOf(sa.Auth); a != nil {
		all += ", " + a.modules
	}
	return all
}

// deferring lets an outgoing SA wait while its flows have another one.
func (p *Plane) deferring(e *saEntry) {
	rest := e.sa.Defer - time.Since(e.added) // less than all of it after a restart
	if e.sa.ID.Dir != ipsec.Out || rest <= 0 || bundled(e.sa.Bundle) && e.sa.Bundle.Index > 0 {
		return
	}
	if p.book.pick(p.book.heads[dirDuty{ipsec.Out, dutyOf(&e.sa)}]) == nil {
		return
	}
	e.waits = time.AfterFunc(rest, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed || p.book.sas[e.sa.ID] != e {
			return
		}
		e.waits = nil
		p.complain("an SA takes over", p.refreshFlows(p.book.affected(e)))
	})
}

// complain logs what nobody waits for.
func (p *Plane) complain(what string, err error) {
	if err != nil && !p.closed {
		p.log.Error("the kernel's IPsec: "+what, "err", err)
	}
}

// sharesHeader tells whether an SA nearer to the plain packet makes the header
// of e's tunnel. While that one is not there it is taken to: SAs of a bundle come
// one after the other, and mostly are all between the same ends.
func (p *Plane) sharesHeader(e *saEntry) bool {
	at := e.sa.Bundle
	if !bundled(at) || at.Index == 0 || e.sa.Mode != ipsec.Tunnel {
		return false
	}
	u := p.book.bundles[bundleOf(&e.sa)]
	if u == nil {
		return true
	}
	for _, o := range slices.Backward(u.all[:at.Index]) {
		switch {
		case o == nil:
			return true
		case o.sa.Mode == ipsec.Tunnel:
			return o.src == e.src && o.dst == e.dst
		}
	}
	return false
}

func (p *Plane) placeFree(e *saEntry, at ipsec.Place) error {
	if at.Of > wire.MaxTemplates || bundled(at) && (at.Index >= at.Of || at.ID == 0) {
		return fmt.Errorf("SA %s: place %d of %d in bundle %d: a bundle has a number, at most %d SAs, and places from 0",
			e.sa.ID, at.Index, at.Of, at.ID, wire.MaxTemplates)
	}
	if !bundled(at) {
		return nil
	}
	sa := e.sa
	sa.Bundle = at
	u := p.book.bundles[bundleOf(&sa)]
	if u != nil && (u.of != at.Of || u.all[at.Index] != nil && u.all[at.Index] != e) {
		return fmt.Errorf("SA %s: place %d of %d in bundle %d is not free: %w", e.sa.ID, at.Index, at.Of, at.ID, dataplane.ErrExists)
	}
	return nil
}

// check says whether the kernel can carry sa.
func (p *Plane) check(sa *ipsec.SA) error {
	what := fmt.Sprintf("SA %s", sa.ID)
	unsupported := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s: %w", what, fmt.Sprintf(format, args...), dataplane.ErrUnsupported)
	}
	if err := p.hasProto(what, sa.ID.Proto); err != nil {
		return err
	}
	s := &sa.Selector
	switch {
	case sa.ID.Dir > ipsec.In:
		return fmt.Errorf("%s: direction %d is neither out nor in", what, sa.ID.Dir)
	case sa.Mode > ipsec.Transport:
		return unsupported("mode %d is neither tunnel nor transport", sa.Mode)
	case !sa.Src.IsValid() || !sa.ID.Dst.IsValid() || sa.Src.Is4() != sa.ID.Dst.Is4() || sa.Src.Is4In6() || sa.ID.Dst.Is4In6():
		return fmt.Errorf("%s: outer source %s and destination %s must be two addresses of one family", what, sa.Src, sa.ID.Dst)
	case sa.ID.Dir == ipsec.Out && (sa.Encap == nil) != (sa.ID.Port == 0), sa.ID.Dir == ipsec.In && sa.ID.Port != 0:
		return fmt.Errorf("%s: a port belongs to the name of an outgoing SA in UDP, and to no other's", what)
	case sa.Encap != nil && sa.ID.Proto != ipsec.ProtoESP:
		return unsupported("%s in UDP: RFC 3948 has ESP alone there", sa.ID.Proto)
	case sa.Encap != nil && sa.Encap.Local.Port() != p.opt.EncapPort:
		return unsupported("ESP in UDP leaves from port %d here, not %d", p.opt.EncapPort, sa.Encap.Local.Port())
	case sa.Encap != nil && !sa.Encap.Remote.IsValid():
		return fmt.Errorf("%s: ESP in UDP to nowhere", what)
	case bundled(sa.Bundle) && sa.Mode == ipsec.Tunnel && sa.Bundle.Index > 0 && s.Dst.IsValid() && s.Dst.Addr().Is4() != sa.ID.Dst.Is4():
		return unsupported("a bundle whose tunnel is of another address family than what it carries: the kernel cannot apply its second SA")
	}
	if err := p.checkTransform(sa, what); err != nil {
		return err
	}
	return p.ownAddress(sa, what)
}

// checkTransform looks at algorithms, keys and the SPI.
func (p *Plane) checkTransform(sa *ipsec.SA, what string) error {
	lacks := func(name, modules string) error {
		return fmt.Errorf("%s: this kernel lacks %s (modules %s): %w", what, name, modules, dataplane.ErrUnsupported)
	}
	if sa.ID.Proto == ipsec.ProtoIPComp {
		if sa.Comp != ipsec.CompDeflate || sa.ID.SPI > math.MaxUint16 {
			return fmt.Errorf("%s: compression with %s under CPI %d: deflate and two bytes are known: %w", what, sa.Comp, sa.ID.SPI, dataplane.ErrUnsupported)
		}
		return nil
	}
	if sa.ID.SPI < 256 {
		return fmt.Errorf("%s: SPIs below 256 are reserved (RFC 4303 section 2.1)", what)
	}
	if sa.ESN && !p.can.ESN {
		return lacks("extended sequence numbers", "authencesn")
	}
	i := sa.Cipher.Info()
	if sa.ID.Proto == ipsec.ProtoESP {
		c := cipherOf(sa.Cipher)
		switch {
		case c == nil:
			return fmt.Errorf("%s: the kernel has no %s, in no module; ipsecd has: %w", what, sa.Cipher, dataplane.ErrUnsupported)
		case !slices.Contains(p.can.Ciphers, sa.Cipher):
			return lacks(sa.Cipher.String(), c.modules)
		case !sa.Cipher.KeyLenOK(len(sa.Key)):
			return fmt.Errorf("%s: a key of %d bytes for %s, which takes %d to %d", what, len(sa.Key), sa.Cipher, i.MinKey, i.MaxKey)
		case len(sa.Salt) != i.Salt:
			return fmt.Errorf("%s: a salt of %d bytes for %s, which takes %d", what, len(sa.Salt), sa.Cipher, i.Salt)
		case i.ICV != 0 && sa.Auth != ipsec.AuthNone:
			return fmt.Errorf("%s: %s authenticates by itself, and takes no %s", what, sa.Cipher, sa.Auth)
		case i.ICV != 0:
			return nil
		case sa.Auth == ipsec.AuthNone && sa.Cipher != ipsec.CipherNull:
			return nil // encryption alone: the kernel does it, and people may ask for it by hand
		}
	}
	a := authOf(sa.Auth)
	switch {
	case a == nil:
		return fmt.Errorf("%s: %s is nothing that authenticates in the kernel: %w", what, sa.Auth, dataplane.ErrUnsupported)
	case !slices.Contains(p.can.Auths, sa.Auth):
		return lacks(sa.Auth.String(), a.modules)
	case len(sa.AuthKey) != sa.Auth.Info().Key:
		return fmt.Errorf("%s: a key of %d bytes for %s, which takes %d", what, len(sa.AuthKey), sa.Auth, sa.Auth.Info().Key)
	}
	return nil
}

// ownAddress: an SA from or to an address that is not ours never carries
// anything; the kernel takes it, and nobody would know why.
func (p *Plane) ownAddress(sa *ipsec.SA, what string) error {
	own := sa.Src
	if sa.ID.Dir == ipsec.In {
		own = sa.ID.Dst
	}
	if p.opt.AnySource || p.addrs == nil {
		return nil
	}
	is, err := p.addrs.own(own)
	if err != nil {
		return fmt.Errorf("%s: whether %s is ours: %w", what, own, err)
	}
	if !is {
		return fmt.Errorf("%s: this host has no address %s", what, own)
	}
	return nil
}

// withoutKeys copies sa; nothing secret is in the copy.
func withoutKeys(sa *ipsec.SA) ipsec.SA {
	c := sa.Public()
	if sa.Encap != nil {
		e := *sa.Encap
		c.Encap = &e
	}
	return c
}

func (p *Plane) recordOf(e *saEntry) *saRecord {
	return &saRecord{SA: e.sa, Src: e.src, Dst: e.dst, Shares: e.shares, ReqID: e.reqid, Added: e.added, Told: e.told}
}

// DeleteSA removes an SA or gives back a reserved SPI.
func (p *Plane) DeleteSA(ctx context.Context, id ipsec.SAID) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	err := p.deleteSA(id)
	p.watch.tell(dataplane.Message{Action: dataplane.ActionDelete, PID: os.Getpid(), ID: id}, err)
	return err
}

func (p *Plane) deleteSA(id ipsec.SAID) error {
	if e := p.book.sas[id]; e != nil {
		return p.remove(e)
	}
	k := kernelKey{id.Dst, uint32(id.SPI), uint8(id.Proto)}
	if r, ok := p.book.reserved[k]; ok && id.Dir == ipsec.In {
		delete(p.book.reserved, k)
		if r.kernel {
			err := p.kernel.do(wire.DelSA, (&wire.ID{Dst: k.dst, SPI: k.spi, Proto: k.proto, Family: wire.FamilyOf(k.dst), Mark: p.opt.Mark}).Append(nil))
			if !errors.Is(err, unix.ESRCH) { // it may have waited too long
				return explain(fmt.Sprintf("giving back SPI %s", id), err)
			}
		}
		return nil
	}
	return fmt.Errorf("SA %s: %w", id, dataplane.ErrNoSA)
}

// remove takes an SA out of book and kernel. Its flows go on without it before
// it is gone.
func (p *Plane) remove(e *saEntry) error {
	flows := p.book.affected(e)
	p.count(e)
	p.forgetSA(e)
	err := p.refreshFlows(flows)
	return errors.Join(err, explain(fmt.Sprintf("removing SA %s", e.sa.ID), p.kernel.do(wire.DelSA, p.id(e).Append(nil))))
}

// forgetSA takes an SA out of the book.
func (p *Plane) forgetSA(e *saEntry) {
	p.book.leave(e)
	p.reqids.drop(e.scope)
	id := e.sa.ID
	p.journal.write(record{DelSA: &id})
}

// ended: the kernel has an SA no more, by itself or because of another program.
func (p *Plane) ended(e *saEntry) {
	flows := p.book.affected(e)
	p.forgetSA(e)
	p.complain("an SA ended", p.refreshFlows(flows))
	p.events.Post(dataplane.Expire{SA: e.sa.ID, Hard: true})
	p.watch.tell(dataplane.Message{Action: dataplane.ActionExpire, ID: e.sa.ID, Hard: true}, nil)
}

// Flush removes an owner's flows and SAs.
func (p *Plane) Flush(ctx context.Context, o ipsec.Owner) error {
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	err := p.flush(o)
	p.watch.tell(dataplane.Message{Action: dataplane.ActionFlush, PID: os.Getpid(), Owner: o}, err)
	return err
}

func (p *Plane) flush(o ipsec.Owner) error {
	var changes []ipsec.FlowChange
	for _, f := range p.book.flows {
		if owned(f.Owner, o) {
			changes = append(changes, ipsec.FlowChange{Remove: true, Flow: f.Flow})
		}
	}
	if len(changes) > 0 {
		if err := p.applyFlows(changes); err != nil {
			return err
		}
	}
	var errs []error
	for _, e := range p.book.byAge() {
		if !owned(e.sa.Owner, o) {
			continue
		}
		if err := p.remove(e); err != nil && !errors.Is(err, dataplane.ErrNoSA) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func owned(is, asked ipsec.Owner) bool { return asked == ipsec.OwnerAny || is == asked }

// byAge are all SAs, the oldest first.
func (b *book) byAge() []*saEntry {
	all := make([]*saEntry, 0, len(b.sas))
	for _, e := range b.sas {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *saEntry) int {
		if c := a.added.Compare(b.added); c != 0 {
			return c
		}
		return int(int64(a.sa.ID.SPI) - int64(b.sa.ID.SPI))
	})
	return all
}
