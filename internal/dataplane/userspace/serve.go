package userspace

import (
	"net/netip"
	"slices"

	"oakley/internal/ipsec"
)

// duty is whom an outgoing SA serves: one flow by its name, or, for an SA that
// names none, every outgoing flow of its owner with its protocol and its
// destination as the far end.
type duty struct {
	flow   ipsec.FlowID
	owner  ipsec.Owner
	proto  ipsec.Proto
	remote netip.Addr
}

func dutyOf(sa *ipsec.SA) duty {
	if sa.Flow != "" {
		return duty{flow: sa.Flow}
	}
	return duty{owner: sa.Owner, proto: sa.ID.Proto, remote: sa.ID.Dst}
}

// general is the duty of SAs without a name that may serve f.
func general(f *ipsec.Flow) duty { return duty{owner: f.Owner, proto: f.Proto, remote: f.Remote} }

// serving is what flow f uses: the newest SA that names it, else the newest that
// serves all flows like it. Called with mu held.
func (p *Plane) serving(f *ipsec.Flow) *outSA {
	if sa := newest(p.byDuty[duty{flow: f.ID}]); sa != nil {
		return sa
	}
	return newest(p.byDuty[general(f)])
}

// served calls visit for the flows that an SA with this duty may serve. Called
// with mu held.
func (p *Plane) served(d duty, visit func(f *flow)) {
	if d.flow != "" {
		if f := p.spd.Get(d.flow); f != nil {
			visit(f)
		}
		return
	}
	for _, f := range p.alike[d] {
		visit(f)
	}
}

// enlist and dismiss keep the table of flows that SAs without a name may serve.
func (p *Plane) enlist(f *flow) {
	if f.Dir != ipsec.Out || !f.Remote.IsValid() {
		return
	}
	d := general(&f.Flow)
	if p.alike[d] == nil {
		p.alike[d] = map[ipsec.FlowID]*flow{}
	}
	p.alike[d][f.ID] = f
}

func (p *Plane) dismiss(f *flow) {
	d := general(&f.Flow)
	if p.alike[d][f.ID] != f {
		return
	}
	delete(p.alike[d], f.ID)
	if len(p.alike[d]) == 0 {
		delete(p.alike, d)
	}
}

// newest is the SA that was added last and can be used; nil: none.
func newest(all []*outSA) *outSA {
	for _, sa := range slices.Backward(all) {
		if sa.usable() {
			return sa
		}
	}
	return nil
}
