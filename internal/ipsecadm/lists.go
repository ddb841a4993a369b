package ipsecadm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/show"
)

func (r *Runner) flush(ctx context.Context, c Flush) error {
	st, err := r.Backend.Dump(ctx, dataplane.Query{})
	if err != nil {
		return err
	}
	if c.Protos == nil {
		err = r.Backend.Flush(ctx, ipsec.OwnerAny)
	} else {
		err = r.flushSome(ctx, &st, c.Protos)
	}
	if err != nil {
		return err
	}
	if ofIKE(&st, c.Protos) {
		r.notice("some of that was isakmpd's: if it runs it puts its flows back and negotiates anew; to take a connection down, change isakmpd.conf and send SIGHUP, or stop isakmpd")
	}
	return nil
}

// ofIKE tells whether SAs or flows of these protocols, nil being all, are isakmpd's.
func ofIKE(st *dataplane.State, protos []ipsec.Proto) bool {
	among := func(o ipsec.Owner, p ipsec.Proto) bool {
		return o == ipsec.OwnerIKE && (protos == nil || slices.Contains(protos, p))
	}
	return slices.ContainsFunc(st.SAs, func(s ipsec.SAState) bool { return among(s.SA.Owner, s.SA.ID.Proto) }) ||
		slices.ContainsFunc(st.Flows, func(f ipsec.Flow) bool { return among(f.Owner, f.Proto) })
}

// flushSome removes the flows that want some protocols, then the SAs: a packet
// between the two finds no flow rather than a flow without an SA, as after a
// flush of everything.
func (r *Runner) flushSome(ctx context.Context, st *dataplane.State, some []ipsec.Proto) error {
	var changes []ipsec.FlowChange
	for i := range st.Flows {
		if f := &st.Flows[i]; slices.Contains(some, f.Proto) && f.Type != ipsec.FlowDeny && f.Type != ipsec.FlowBypass {
			changes = append(changes, ipsec.FlowChange{Remove: true, Flow: *f})
		}
	}
	if len(changes) > 0 {
		if err := r.Backend.ApplyFlows(ctx, changes); err != nil {
			return fmt.Errorf("removing %d flows: %w", len(changes), err)
		}
	}
	for i := range st.SAs {
		sa := &st.SAs[i].SA
		if !slices.Contains(some, sa.ID.Proto) {
			continue
		}
		// One may have ended meanwhile.
		if err := r.Backend.DeleteSA(ctx, sa.ID); err != nil && !errors.Is(err, dataplane.ErrNoSA) {
			return fmt.Errorf("the flows are gone, but deleting the SA %s: %w", sa.ID, err)
		}
	}
	return nil
}

func (r *Runner) show(ctx context.Context, c Show) error {
	st, err := r.Backend.Dump(ctx, dataplane.Query{})
	if err != nil {
		return err
	}
	for _, p := range st.Off {
		if p != ipsec.ProtoAH || slices.ContainsFunc(st.SAs, func(s ipsec.SAState) bool { return s.SA.ID.Proto == p }) {
			r.sayOff(p)
		}
	}
	kernel := r.Backend.Info().Kernel
	show.SortSAs(st.SAs)
	for i := range st.SAs {
		if s := &st.SAs[i]; c.Protos == nil || slices.Contains(c.Protos, s.SA.ID.Proto) {
			show.SA(r.Out, s, show.Options{Verbose: 1, Kernel: kernel})
		}
	}
	return nil
}

// monitor prints what happens until ctx ends.
func (r *Runner) monitor(ctx context.Context) error {
	m, ok := r.Backend.(dataplane.Monitor)
	if !ok {
		return fmt.Errorf("the data plane %s cannot be watched: %w", r.Backend.Info().Name, dataplane.ErrUnsupported)
	}
	all, err := m.Monitor(ctx)
	if err != nil {
		return err
	}
	for msg := range all {
		show.Message(r.Out, msg)
	}
	if ctx.Err() == nil {
		return errors.New("ipsecd went away")
	}
	return nil
}
