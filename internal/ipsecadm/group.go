package ipsecadm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// mostGrouped is how many SAs one packet goes through at most.
const mostGrouped = 8

// group joins two SAs, or what they are grouped with already: the first has to be
// the last of its group and the second the first of its.
func (r *Runner) group(ctx context.Context, c Group) error {
	st, err := r.Backend.Dump(ctx, dataplane.Query{})
	if err != nil {
		return err
	}
	first, err := find(&st, c.First)
	if err != nil {
		return err
	}
	second, err := find(&st, c.Second)
	if err != nil {
		return err
	}
	for _, sa := range []*ipsec.SAState{first, second} {
		if sa.SA.Owner != ipsec.OwnerManual {
			return fmt.Errorf("the SA %s was not made by hand: isakmpd groups its own", sa.SA.ID)
		}
	}
	if first.SA.ID.Dir != second.SA.ID.Dir {
		return fmt.Errorf("the SA %s and the SA %s go in two directions: a group has one", first.SA.ID, second.SA.ID)
	}
	before, after := together(&st, first), together(&st, second)
	switch {
	case slices.ContainsFunc(before, func(sa *ipsec.SAState) bool { return sa.SA.ID == second.SA.ID }):
		return fmt.Errorf("the SA %s and the SA %s are in one group already", first.SA.ID, second.SA.ID)
	case before[len(before)-1] != first:
		return fmt.Errorf("the SA %s is followed by the SA %s already; the first SA of the command has to be the last of its group", first.SA.ID, before[len(before)-1].SA.ID)
	case after[0] != second:
		return fmt.Errorf("the SA %s comes after the SA %s already; the second SA of the command has to be the first of its group", second.SA.ID, after[0].SA.ID)
	case len(before)+len(after) > mostGrouped:
		return fmt.Errorf("%d SAs in a group: %d are the most", len(before)+len(after), mostGrouped)
	}
	return r.join(ctx, &st, append(slices.Clone(before), after...))
}

// together is the group that an SA is in, in its order; itself when it is alone.
func together(st *dataplane.State, sa *ipsec.SAState) []*ipsec.SAState {
	at := sa.SA.Bundle
	if at.Of < 2 {
		return []*ipsec.SAState{sa}
	}
	var all []*ipsec.SAState
	for i := range st.SAs {
		o := &st.SAs[i]
		b := o.SA.Bundle
		if o.SA.ID.Dir == sa.SA.ID.Dir && o.SA.Owner == sa.SA.Owner && o.SA.Conn == sa.SA.Conn && b.ID == at.ID && b.Of > 1 {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *ipsec.SAState) int { return cmp.Compare(a.SA.Bundle.Index, b.SA.Bundle.Index) })
	return all
}

// join gives the SAs a number of their own and their places. What was done is
// taken back when one refuses.
func (r *Runner) join(ctx context.Context, st *dataplane.State, all []*ipsec.SAState) error {
	ctx = context.WithoutCancel(ctx)
	var number uint64
	for i := range st.SAs {
		if sa := &st.SAs[i].SA; sa.Owner == ipsec.OwnerManual {
			number = max(number, sa.Bundle.ID)
		}
	}
	for i, sa := range all {
		at := ipsec.Place{ID: number + 1, Index: uint8(i), Of: uint8(len(all))}
		err := r.Backend.UpdateSA(ctx, sa.SA.ID, ipsec.SAUpdate{Bundle: &at})
		if err == nil {
			continue
		}
		err = fmt.Errorf("grouping the SA %s: %w", sa.SA.ID, r.beyond(err))
		for _, done := range slices.Backward(all[:i]) {
			err = errors.Join(err, r.Backend.UpdateSA(ctx, done.SA.ID, ipsec.SAUpdate{Bundle: &done.SA.Bundle}))
		}
		return err
	}
	return nil
}
