package userspace

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// spiHold is how long a reserved SPI waits for its SA: longer than the two
// minutes that a negotiation may take.
const spiHold = 3 * time.Minute

// CPIs that are negotiated (RFC 3173 section 3.3).
const (
	firstCPI = 256
	lastCPI  = 61439
)

// spiTries bounds the search for a free SPI.
const spiTries = 64

// AllocSPI reserves an incoming SPI, unique among all of this plane whatever
// their destination.
func (p *Plane) AllocSPI(ctx context.Context, r dataplane.SPIRequest) (ipsec.SPI, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if !slices.Contains(protos, r.Proto) {
		return 0, fmt.Errorf("an SPI for %s: the user-space data plane has no such protocol: %w", r.Proto, dataplane.ErrUnsupported)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, dataplane.ErrClosed
	}
	p.forgetSPIs(time.Now())
	for range spiTries {
		var b [4]byte
		if _, err := io.ReadFull(p.opt.Rand, b[:]); err != nil {
			return 0, fmt.Errorf("no random SPI: %w", err)
		}
		spi := ipsec.SPI(binary.BigEndian.Uint32(b[:]))
		if r.Proto == ipsec.ProtoIPComp {
			spi = firstCPI + spi%(lastCPI-firstCPI+1)
		}
		_, taken := p.reserved[spi]
		if spi < 256 || taken || p.spis[spi] > 0 {
			continue
		}
		p.reserved[spi] = time.Now().Add(spiHold)
		p.queueSPI = append(p.queueSPI, spi)
		return spi, nil
	}
	return 0, fmt.Errorf("no free SPI after %d tries with %d SAs: is the source of randomness stuck?", spiTries, len(p.in))
}

// forgetSPIs gives back reservations that nobody took. All are held equally
// long, so the oldest are in front.
func (p *Plane) forgetSPIs(now time.Time) {
	n := 0
	for _, spi := range p.queueSPI {
		until, still := p.reserved[spi]
		if still && until.After(now) {
			break
		}
		delete(p.reserved, spi)
		n++
	}
	p.queueSPI = slices.Delete(p.queueSPI, 0, n)
}

// AddSA makes an SA live.
func (p *Plane) AddSA(ctx context.Context, sa *ipsec.SA) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.check(sa); err != nil {
		return err
	}
	if sa.ID.Dir == ipsec.In {
		return p.addIn(sa)
	}
	return p.addOut(sa)
}

func (p *Plane) addIn(sa *ipsec.SA) error {
	n, err := p.newIn(sa)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.ErrClosed
	}
	if !isShared(sa.ID) && p.in[sa.ID] != nil || p.again(sa) {
		return fmt.Errorf("SA %s: %w", sa.ID, dataplane.ErrExists)
	}
	var b *bundle[inSA]
	if bundled(n.at) {
		if b, err = joinBundle(p.bundlesIn, &n.sa, n.at, n); err != nil {
			return err
		}
	}
	n.init(p, sa)
	if len(p.same[sa.ID]) > 0 { // another with its name is there; the ends tell them apart
	} else if err := p.sad.Insert(sa.ID.Dst, sa.ID.Proto, sa.ID.SPI, n); err != nil {
		n.stop()
		if b != nil {
			leaveBundle(p.bundlesIn, &n.sa, n.at)
		}
		return fmt.Errorf("SA %s: %w", sa.ID, err)
	}
	p.linkIn(b)
	p.ends.enter(n)
	p.firstAH(sa.ID.Proto)
	n.key = p.keep(sa.ID)
	p.in[n.key] = n
	p.spis[sa.ID.SPI]++
	delete(p.reserved, sa.ID.SPI)
	return nil
}

func (p *Plane) addOut(sa *ipsec.SA) error {
	n, err := p.newOut(sa)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.ErrClosed
	}
	if !isShared(sa.ID) && p.out[sa.ID] != nil || p.again(sa) {
		return fmt.Errorf("SA %s: %w", sa.ID, dataplane.ErrExists)
	}
	if sa.Flow != "" {
		f := p.spd.Get(sa.Flow)
		if f == nil {
			return fmt.Errorf("SA %s serves flow %q: %w", sa.ID, sa.Flow, dataplane.ErrNoFlow)
		}
		if f.Dir != ipsec.Out {
			return fmt.Errorf("SA %s serves flow %q, which is no outgoing one: %w", sa.ID, sa.Flow, dataplane.ErrNoFlow)
		}
	}
	n.init(p, sa)
	p.firstAH(sa.ID.Proto) // before what waited goes out
	if err := p.enlistOut(n); err != nil {
		n.stop()
		return err
	}
	n.key = p.keep(sa.ID)
	p.out[n.key] = n
	return nil
}

// enter and leave keep the list of who can do a duty. Called with mu held.
func (p *Plane) enter(sa *outSA) {
	d := dutyOf(&sa.sa)
	p.byDuty[d] = append(p.byDuty[d], sa)
}

func (p *Plane) leave(sa *outSA) {
	if sa.later != nil {
		sa.later.Stop()
		sa.later = nil
	}
	d := dutyOf(&sa.sa)
	p.byDuty[d] = slices.DeleteFunc(p.byDuty[d], func(o *outSA) bool { return o == sa })
	if len(p.byDuty[d]) == 0 {
		delete(p.byDuty, d)
	}
	p.fallBack(d)
}

// begin makes a usable SA take over its duty, now or when its time comes. Called
// with mu held.
func (p *Plane) begin(sa *outSA) {
	waits := false
	p.served(dutyOf(&sa.sa), func(f *flow) {
		now := f.current.Load()
		waits = waits || now != nil && now != sa
	})
	if waits && sa.sa.Defer > 0 {
		sa.later = time.AfterFunc(sa.sa.Defer, func() { p.takeOver(sa) })
		return
	}
	p.takeDuty(sa)
}

// takeDuty makes sa what its flows use, those that another SA does not serve by
// name. Called with mu held.
func (p *Plane) takeDuty(sa *outSA) {
	p.served(dutyOf(&sa.sa), func(f *flow) {
		if p.serving(&f.Flow) == sa {
			p.serve(f, sa)
		}
	})
}

// takeOver makes a deferred SA what its flow uses, unless a newer one does it
// already.
func (p *Plane) takeOver(sa *outSA) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sa.later = nil
	if !p.closed && p.out[sa.key] == sa && sa.usable() {
		p.takeDuty(sa)
	}
}

// serve makes sa what flow f uses and sends what waited for it.
func (p *Plane) serve(f *flow, sa *outSA) {
	f.mu.Lock()
	f.current.Store(sa)
	held := f.take(p)
	f.wait, f.retry = 0, time.Time{}
	f.mu.Unlock()
	p.sendHeld(sa, held)
}

// UpdateSA changes a peer's address or the limits.
func (p *Plane) UpdateSA(ctx context.Context, id ipsec.SAID, u ipsec.SAUpdate) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.ErrClosed
	}
	in, out := p.find(id)
	if in == nil && out == nil {
		return fmt.Errorf("SA %s: %w", id, dataplane.ErrNoSA)
	}
	if u.Remote != nil && (!u.Remote.IsValid() || u.Remote.Addr().Is4() != id.Dst.Is4()) {
		return fmt.Errorf("SA %s: its peer cannot move to %s, another address family", id, u.Remote)
	}
	if u.Bundle != nil {
		if err := checkPlace(id, *u.Bundle); err != nil {
			return err
		}
		if err := p.regroup(in, out, *u.Bundle); err != nil {
			return err
		}
	}
	var use *usage
	if in != nil {
		use = &in.usage
		if u.Remote != nil && in.sa.Encap != nil {
			r := *u.Remote
			in.remote.Store(&r)
		}
	} else {
		use = &out.usage
		if u.Remote != nil {
			out.move(*u.Remote)
			p.measureAgain(out)
		}
	}
	use.mu.Lock()
	soft, hard := use.soft, use.hard
	use.mu.Unlock()
	if u.Soft != nil {
		soft = *u.Soft
		use.softDone.Store(false)
	}
	if u.Hard != nil {
		hard = *u.Hard
	}
	if u.Soft != nil || u.Hard != nil {
		use.limit(soft, hard)
	}
	return nil
}

// DeleteSA removes an SA or gives back a reserved SPI.
func (p *Plane) DeleteSA(ctx context.Context, id ipsec.SAID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.ErrClosed
	}
	in, out, later := p.doomed(id)
	switch {
	case later:
		p.owed[id]++
		return nil
	case in != nil:
		p.removeIn(in)
		return nil
	case out != nil:
		p.removeOut(out)
		return nil
	}
	if _, ok := p.reserved[id.SPI]; ok && id.Dir == ipsec.In {
		delete(p.reserved, id.SPI)
		return nil
	}
	return fmt.Errorf("SA %s: %w", id, dataplane.ErrNoSA)
}

func (p *Plane) removeIn(sa *inSA) {
	sa.stop()
	p.past.add(&sa.usage)
	delete(p.in, sa.key)
	p.unkeep(&sa.usage)
	if p.sad.Lookup(sa.id.Dst, sa.id.Proto, sa.id.SPI) == sa {
		p.sad.Delete(sa.id.Dst, sa.id.Proto, sa.id.SPI)
		if other, _ := p.find(sa.id); other != nil && isShared(sa.id) {
			_ = p.sad.Insert(sa.id.Dst, sa.id.Proto, sa.id.SPI, other) // there was room for sa
		}
	}
	p.ends.leave(sa)
	if p.spis[sa.id.SPI]--; p.spis[sa.id.SPI] <= 0 {
		delete(p.spis, sa.id.SPI)
	}
	if bundled(sa.at) {
		b := leaveBundle(p.bundlesIn, &sa.sa, sa.at)
		p.linkIn(b)
		p.settleIn(b)
	}
}

// removeOut takes sa away; its flow falls back to the newest that is left.
func (p *Plane) removeOut(sa *outSA) {
	delete(p.out, sa.key)
	p.unkeep(&sa.usage)
	p.unlistOut(sa)
	sa.stop()
	p.past.add(&sa.usage)
	if bundled(sa.at) {
		p.settleOut(p.bundlesOut[bundleOf(&sa.sa, sa.at)])
	}
}

// expired removes an SA that reached a hard limit, and tells.
func (p *Plane) expired(u *usage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	in, out := p.in[u.key], p.out[u.key]
	switch {
	case in != nil && &in.usage == u:
		p.removeIn(in)
	case out != nil && &out.usage == u:
		p.removeOut(out)
	default:
		return // deleted meanwhile, or replaced
	}
	p.events.Post(dataplane.Expire{SA: u.id, Hard: true})
}

// GetSA tells what an SA has done.
func (p *Plane) GetSA(ctx context.Context, id ipsec.SAID) (ipsec.SAState, error) {
	if err := ctx.Err(); err != nil {
		return ipsec.SAState{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ipsec.SAState{}, dataplane.ErrClosed
	}
	in, out := p.find(id)
	switch {
	case in != nil:
		return in.state(false), nil
	case out != nil:
		return out.state(false), nil
	}
	return ipsec.SAState{}, fmt.Errorf("SA %s: %w", id, dataplane.ErrNoSA)
}
