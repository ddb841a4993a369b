package xfrm

import (
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// maxEvents is how many events wait for a slow reader.
const maxEvents = 16384

// listen reads events until the plane is closed.
func (p *Plane) listen(l listener) {
	for {
		msgs, err := l.receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			p.overrun()
			continue
		case err != nil:
			p.deaf(err)
			return
		}
		p.mu.Lock()
		for i := range msgs {
			if p.closed {
				break
			}
			p.handle(&msgs[i])
		}
		p.mu.Unlock()
	}
}

// deaf: the kernel can tell us nothing more.
func (p *Plane) deaf(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.log.Error("the kernel's IPsec tells nothing any more: no acquire, no expiry", "err", err)
	}
}

// overrun: more happened than there was room for. What was lost is found by
// looking at the tables.
func (p *Plane) overrun() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.log.Warn("more events came from the kernel's IPsec than there was room for: its tables are read anew")
	p.complain("reading the kernel's tables", p.resync())
	p.events.Post(dataplane.Lost{})
}

// handle takes one event. Called with mu held.
func (p *Plane) handle(m *message) {
	var err error
	switch m.typ {
	case wire.MsgAcquire:
		var a *wire.Acquire
		if a, err = wire.ParseAcquire(m.data); err == nil {
			p.acquired(a)
		}
	case wire.MsgExpire:
		var e *wire.Expire
		if e, err = wire.ParseExpire(m.data); err == nil {
			p.expired(e)
		}
	case wire.MsgMapping:
		var x *wire.Mapping
		if x, err = wire.ParseMapping(m.data); err == nil {
			p.mapped(x)
		}
	case wire.DelSA, wire.FlushSA, wire.DelPolicy, wire.FlushPolicy, wire.NewPolicy, wire.UpdPolicy:
		if m.pid != p.kernel.pid() {
			err = p.elsewhere(m)
		}
	}
	if err != nil {
		p.log.Warn("an event of the kernel's IPsec makes no sense and is left out", "event", m.typ, "err", err)
	}
}

func (p *Plane) expired(x *wire.Expire) {
	e := p.book.keys[keyOf(&x.SA)]
	if e == nil || e.reqid != x.SA.ReqID {
		if x.Hard {
			delete(p.book.reserved, keyOf(&x.SA))
		}
		return
	}
	if x.Hard {
		p.past.add(e, &x.SA)
		p.ended(e)
		return
	}
	p.wears(e)
}

// wears tells once that a soft limit was reached.
func (p *Plane) wears(e *saEntry) {
	if e.told {
		return
	}
	e.told = true
	p.journal.write(record{SA: p.recordOf(e)})
	p.events.Post(dataplane.Expire{SA: e.sa.ID})
	p.watch.tell(dataplane.Message{Action: dataplane.ActionExpire, ID: e.sa.ID}, nil)
}

// worn tells whether an SA is beyond a soft limit, of which the kernel tells only
// once.
func worn(w *wire.SA, now time.Time) bool {
	l, u := &w.Limits, &w.Usage
	age := now.Unix() - int64(u.Added)
	return u.Bytes >= l.SoftBytes || u.Packets >= l.SoftPackets || l.SoftAddSeconds > 0 && age >= int64(min(l.SoftAddSeconds, math.MaxInt64))
}

// mappingEvery is how often a peer's new address is told while nobody takes it.
const mappingEvery = time.Second

func (p *Plane) mapped(m *wire.Mapping) {
	e := p.book.keys[kernelKey{m.SA.Dst, m.SA.SPI, m.SA.Proto}]
	if e == nil || e.sa.ID.Dir != ipsec.In || e.sa.Encap == nil || e.sa.Encap.Remote == m.New {
		return
	}
	now := time.Now()
	if now.Sub(e.seen) < mappingEvery {
		return
	}
	e.seen = now
	p.events.Post(dataplane.Mapping{SA: e.sa.ID, Remote: m.New})
	p.watch.tell(dataplane.Message{Action: dataplane.ActionMapping, ID: e.sa.ID, Remote: m.New}, nil)
}

// elsewhere: another program changed the tables. An SA of ours that it deleted
// has ended; a policy of ours that it deleted is put back, or packets would go
// in clear. The error is that m makes no sense.
func (p *Plane) elsewhere(m *message) error {
	switch m.typ {
	case wire.DelSA:
		id, _, err := wire.ParseDelSA(m.data)
		if err != nil {
			return err
		}
		if e := p.book.keys[kernelKey{id.Dst, id.SPI, id.Proto}]; e != nil && !p.there(e) {
			p.log.Warn("another program deleted an SA of ours", "sa", e.sa.ID, "connection", e.sa.Conn)
			p.ended(e)
		}
		return nil
	case wire.FlushSA, wire.FlushPolicy:
		if len(p.book.sas)+len(p.book.flows) == 0 {
			return nil
		}
		p.log.Warn("another program flushed the kernel's tables: policies of ours are put back, SAs of ours have ended", "what", m.typ)
		p.complain("putting back what another program flushed", p.resync())
		p.events.Post(dataplane.Lost{})
		return nil
	case wire.DelPolicy:
		id, gone, err := wire.ParseDelPolicy(m.data)
		if err != nil {
			return err
		}
		index := id.Index
		if gone != nil {
			index = gone.Index
		}
		if g := p.book.policies[index]; g != nil {
			p.log.Warn("another program deleted a policy of ours: it is put back", "policy", id.Dir, "selector", g.key.sel)
			p.complain("putting back a policy", p.putBack(g, id.Dir))
		} else if gone != nil { // it may have been in the place of ours
			p.complain("putting back a policy", p.refreshGroup(p.book.groups[p.groupOf(gone)]))
		}
		return nil
	}
	w, err := wire.ParsePolicy(m.data)
	if err != nil {
		return err
	}
	if g := p.book.policies[w.Index]; g != nil && w.Dir <= wire.DirFwd && g.has[w.Dir] != nil && !samePolicy(w, g.has[w.Dir]) {
		p.log.Warn("another program changed a policy of ours, and it stays so until an SA of its flow comes or goes: two programs have the same flow",
			"policy", w.Dir, "selector", g.key.sel)
		g.has[w.Dir] = w
	}
	return nil
}

// there asks whether the kernel has an SA: what was told about it may be old.
func (p *Plane) there(e *saEntry) bool {
	_, err := p.fetch(e)
	return !errors.Is(err, unix.ESRCH)
}

// putBack adds a policy that was taken away.
func (p *Plane) putBack(g *group, dir wire.Dir) error {
	if int(dir) >= len(g.has) || g.has[dir] == nil {
		return nil
	}
	delete(p.book.policies, g.has[dir].Index)
	g.has[dir] = nil
	return p.refreshGroup(g)
}
