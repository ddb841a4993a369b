package iketest

import (
	"time"

	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// Reborn is kill -9 and a new start over a data plane that outlives the engine:
// the new engine is given the SAs that are there. Start is not given.
func (n *Node) Reborn() {
	n.life++
	n.Plane.reserved, n.Plane.pending, n.Plane.free = map[ipsec.SAID]bool{}, map[ipsec.SAID]time.Time{}, time.Time{}
	n.Engine = ike.New(n.Config, n.random)
	n.Handle(ike.Adopt{SAs: n.Plane.States()})
}

// States are the live SAs as a data plane lists them.
func (p *Plane) States() []ipsec.SAState {
	var all []ipsec.SAState
	for _, d := range []ipsec.Direction{ipsec.Out, ipsec.In} {
		for _, sa := range p.Live(d) {
			l := p.live[sa.ID]
			s := ipsec.SAState{SA: *sa, Added: l.from.Add(-sa.Defer)}
			s.SA.Key, s.SA.Salt, s.SA.AuthKey = nil, nil, nil
			if sa.Encap != nil {
				s.SA.Encap = &ipsec.Encap{Local: sa.Encap.Local, Remote: l.remote}
			}
			all = append(all, s)
		}
	}
	return all
}
