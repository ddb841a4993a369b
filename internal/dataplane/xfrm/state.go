package xfrm

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// state is an SA and what the kernel says it has done. Bytes are those that the
// kernel counts: with the header of the tunnel, and coming in with ESP's.
func (p *Plane) state(e *saEntry, w *wire.SA, keys bool) ipsec.SAState {
	s := ipsec.SAState{
		SA: withoutKeys(&e.sa), Added: e.added, LastUse: wire.Time(w.LastUsed),
		Bytes: w.Usage.Bytes, Packets: w.Usage.Packets, Seq: sequence(w, e.sa.ID.Dir),
	}
	s.Drops[ipsec.DropReplay] = uint64(w.Stats.Replay) + uint64(w.Stats.ReplayWindow)
	s.Drops[ipsec.DropAuth] = uint64(w.Stats.Integrity)
	if keys {
		keysOf(w, &s.SA)
	}
	return s
}

// sequence is the last number that was sent, or the highest that came.
func sequence(w *wire.SA, d ipsec.Direction) uint64 {
	switch {
	case w.ESN != nil && d == ipsec.Out:
		return w.ESN.Sent
	case w.ESN != nil:
		return w.ESN.Seen
	case w.Replay != nil && d == ipsec.Out:
		return uint64(w.Replay.Sent)
	case w.Replay != nil:
		return uint64(w.Replay.Seen)
	}
	return 0
}

// GetSA asks the kernel what an SA has done.
func (p *Plane) GetSA(ctx context.Context, id ipsec.SAID) (ipsec.SAState, error) {
	if err := p.lock(ctx); err != nil {
		return ipsec.SAState{}, err
	}
	defer p.mu.Unlock()
	e := p.book.sas[id]
	if e == nil {
		return ipsec.SAState{}, fmt.Errorf("SA %s: %w", id, dataplane.ErrNoSA)
	}
	w, err := p.fetch(e)
	if err != nil {
		return ipsec.SAState{}, err
	}
	return p.state(e, w, false), nil
}

// present lists what the kernel has, ours alone.
func (p *Plane) present() (map[kernelKey]*wire.SA, error) {
	all := map[kernelKey]*wire.SA{}
	err := p.kernel.dump(wire.GetSA, nil, func(b []byte) error {
		w, err := wire.ParseSA(b)
		if err != nil {
			return err
		}
		if p.reqids.ours(w.ReqID) {
			all[keyOf(w)] = w
		}
		return nil
	})
	if err != nil {
		return nil, explain("listing the kernel's SAs", err)
	}
	return all, nil
}

// Dump lists SAs, the oldest first, and flows in the order in which they are
// looked at. What the kernel dropped is counted for the whole host: other
// programs' policies are in it.
func (p *Plane) Dump(ctx context.Context, q dataplane.Query) (dataplane.State, error) {
	if err := p.lock(ctx); err != nil {
		return dataplane.State{}, err
	}
	defer p.mu.Unlock()
	s := dataplane.State{Drops: p.stat.since(), Off: p.offList()}
	if q.Has(dataplane.SAs) {
		there, err := p.present()
		if err != nil {
			return dataplane.State{}, err
		}
		for _, e := range p.book.byAge() {
			if w := there[e.key()]; w != nil && owned(e.sa.Owner, q.Owner) {
				s.SAs = append(s.SAs, p.state(e, w, q.Keys))
			}
		}
	}
	if q.Has(dataplane.Flows) {
		s.Flows = p.book.flowsOf(q.Owner)
	}
	return s, nil
}

// flowsOf lists an owner's flows, outgoing ones first, in the order in which they
// are looked at.
func (b *book) flowsOf(o ipsec.Owner) []ipsec.Flow {
	var all []ipsec.Flow
	for _, f := range b.flows {
		if owned(f.Owner, o) {
			all = append(all, f.Flow)
		}
	}
	slices.SortFunc(all, func(a, b ipsec.Flow) int {
		return cmp.Or(cmp.Compare(a.Dir, b.Dir), a.Compare(&b))
	})
	return all
}

// totals sums up SAs by protocol.
type totals map[ipsec.Proto]*dataplane.ProtoTotals

func (t *totals) add(e *saEntry, w *wire.SA) {
	if *t == nil {
		*t = totals{}
	}
	s := (*t)[e.sa.ID.Proto]
	if s == nil {
		s = &dataplane.ProtoTotals{Proto: e.sa.ID.Proto}
		(*t)[e.sa.ID.Proto] = s
	}
	traffic, drops := &s.Out, &s.DropsOut
	if e.sa.ID.Dir == ipsec.In {
		traffic, drops = &s.In, &s.DropsIn
	}
	traffic.Packets += w.Usage.Packets
	traffic.Bytes += w.Usage.Bytes
	drops[ipsec.DropReplay] += uint64(w.Stats.Replay) + uint64(w.Stats.ReplayWindow)
	drops[ipsec.DropAuth] += uint64(w.Stats.Integrity)
}

// count adds an SA that is about to go to what the past has done.
func (p *Plane) count(e *saEntry) {
	if w, err := p.fetch(e); err == nil {
		p.past.add(e, w)
	}
}

// Totals sums up all SAs that there are and were since this process began.
func (p *Plane) Totals(ctx context.Context) (dataplane.Totals, error) {
	if err := p.lock(ctx); err != nil {
		return dataplane.Totals{}, err
	}
	defer p.mu.Unlock()
	there, err := p.present()
	if err != nil {
		return dataplane.Totals{}, err
	}
	sum, living := totals{}, map[ipsec.Proto]int{}
	for proto, past := range p.past {
		s := *past
		sum[proto] = &s
	}
	for _, e := range p.book.sas {
		if w := there[e.key()]; w != nil {
			sum.add(e, w)
			living[e.sa.ID.Proto]++
		}
	}
	all := dataplane.Totals{Since: p.began, Drops: p.stat.since()}
	for _, proto := range p.can.Protos {
		s := dataplane.ProtoTotals{Proto: proto}
		if n := sum[proto]; n != nil {
			s = *n
		}
		s.SAs = living[proto]
		all.Protos = append(all.Protos, s)
	}
	return all, nil
}
