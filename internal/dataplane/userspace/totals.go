package userspace

import (
	"context"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// totals sums up SAs by protocol and direction.
type totals map[ipsec.Proto]*dataplane.ProtoTotals

// add counts an SA in. What its last packets, which are on their way just now,
// count afterwards is lost.
func (t *totals) add(u *usage) {
	if *t == nil {
		*t = totals{}
	}
	s := (*t)[u.id.Proto]
	if s == nil {
		s = &dataplane.ProtoTotals{Proto: u.id.Proto}
		(*t)[u.id.Proto] = s
	}
	traffic, drops := &s.Out, &s.DropsOut
	if u.id.Dir == ipsec.In {
		traffic, drops = &s.In, &s.DropsIn
	}
	traffic.Packets += u.packets.Load()
	traffic.Bytes += u.bytes.Load()
	for i, n := range u.drops.read() {
		drops[i] += n
	}
}

// Totals sums up all SAs that there are and were.
func (p *Plane) Totals(ctx context.Context) (dataplane.Totals, error) {
	if err := ctx.Err(); err != nil {
		return dataplane.Totals{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return dataplane.Totals{}, dataplane.ErrClosed
	}
	p.expireFragments()
	sum, living := totals{}, map[ipsec.Proto]int{}
	for _, past := range p.past {
		s := *past
		sum[s.Proto] = &s
	}
	for _, sa := range p.in {
		sum.add(&sa.usage)
		living[sa.id.Proto]++
	}
	for _, sa := range p.out {
		sum.add(&sa.usage)
		living[sa.id.Proto]++
	}
	all := dataplane.Totals{Since: p.began, Drops: p.unowned()}
	for _, proto := range protos {
		s := dataplane.ProtoTotals{Proto: proto}
		if n := sum[proto]; n != nil {
			s = *n
		}
		s.SAs = living[proto]
		all.Protos = append(all.Protos, s)
	}
	return all, nil
}

// unowned are the drops of packets that belong to no SA, those of the host's
// packet filter among them.
func (p *Plane) unowned() ipsec.Drops {
	d := p.drops.read()
	d[ipsec.DropClear] += p.sys.Refused()
	return d
}
