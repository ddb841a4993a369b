package ipsecd

import (
	"context"
	"slices"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// What one client takes away another may rely on. Those that take expiries are told
// of each SA as of one that has expired, and after a flush or a removal of flows
// that they had better compare: what they miss there they find by themselves.

// maxGone is how many SAs a flush tells one by one. Whoever has more compares.
const maxGone = maxEvents / 4

// flush empties the data plane and tells the others.
func (x *session) flush(ctx context.Context, o ipsec.Owner) error {
	var st dataplane.State
	if x.s.othersCare(x) {
		var err error
		if st, err = x.s.b.Dump(ctx, dataplane.Query{Owner: o, Only: dataplane.SAs}); err != nil {
			return err
		}
	}
	if err := x.s.b.Flush(ctx, o); err != nil {
		return err
	}
	var gone []*event
	if len(st.SAs) <= maxGone {
		for i := range st.SAs {
			gone = append(gone, expired(st.SAs[i].SA.ID))
		}
	}
	// Not all that went was listed: there are flows, and SAs of the last moment.
	x.s.tellOthers(x, append(gone, &event{Lost: true})...)
	return nil
}

func expired(id ipsec.SAID) *event { return &event{Expire: &dataplane.Expire{SA: id, Hard: true}} }

// deleteSA removes an SA and tells the others.
func (x *session) deleteSA(ctx context.Context, id ipsec.SAID) error {
	if err := x.s.b.DeleteSA(ctx, id); err != nil {
		return err
	}
	x.s.spis.forget(id)
	x.s.tellOthers(x, expired(id))
	return nil
}

// removesAny tells whether a transaction takes flows away for good.
func removesAny(changes []ipsec.FlowChange) bool {
	back := map[ipsec.FlowID]bool{}
	for i := range changes {
		if !changes[i].Remove {
			back[changes[i].Flow.ID] = true
		}
	}
	return slices.ContainsFunc(changes, func(c ipsec.FlowChange) bool { return c.Remove && !back[c.Flow.ID] })
}

// othersCare tells whether another client takes expiries.
func (s *Server) othersCare(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.clients {
		if o != x && o.wants&Expiries != 0 {
			return true
		}
	}
	return false
}

// tellOthers hands events to all other clients that take expiries.
func (s *Server) tellOthers(x *session, all ...*event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.clients {
		if o == x || o.wants&Expiries == 0 {
			continue
		}
		for _, e := range all {
			o.events.put(e)
		}
	}
}
