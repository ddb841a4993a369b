package xfrm

import (
	"fmt"
	"net/netip"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// A reqid ties SAs to the policies that may use them, and tells ours from other
// programs'. The first of our range belongs to SPIs that are reserved.
const (
	// DefaultReqIDs is where ours begin, and DefaultReqIDCount how many there are:
	// far from those that people type (below 16384), from libreswan's, which begin
	// there, and from strongSwan's, which count from 1.
	DefaultReqIDs     = 0x0a700000
	DefaultReqIDCount = 1 << 20
)

// scope is what SAs with one reqid have in common.
type scope struct {
	dir ipsec.Direction
	duty
	index, of uint8 // the place in a bundle; of 0: alone
}

// duty is what SAs are for: a flow that they name, or all flows of an owner with
// that protocol and far end.
type duty struct {
	flow   ipsec.FlowID
	owner  ipsec.Owner
	proto  ipsec.Proto
	remote netip.Addr
	iface  uint32 // if_id
}

func dutyOf(sa *ipsec.SA) duty {
	if sa.Flow != "" {
		return duty{flow: sa.Flow}
	}
	remote := sa.ID.Dst
	if sa.ID.Dir == ipsec.In {
		remote = sa.Src
	}
	return duty{owner: sa.Owner, proto: sa.ID.Proto, remote: remote, iface: sa.Interface}
}

// generalDuty is that of SAs without a flow's name that may serve f.
func generalDuty(f *ipsec.Flow) duty {
	return duty{owner: f.Owner, proto: f.Proto, remote: f.Remote, iface: f.Interface}
}

func scopeOf(sa *ipsec.SA) scope {
	s := scope{dir: sa.ID.Dir, duty: dutyOf(sa)}
	if bundled(sa.Bundle) {
		s.index, s.of = sa.Bundle.Index, sa.Bundle.Of
		if sa.Flow == "" { // its proto is its own, not that of the bundle
			s.proto = 0
		}
	}
	return s
}

func bundled(at ipsec.Place) bool { return at.Of > 1 }

// reqids gives scopes their numbers.
type reqids struct {
	first, count uint32
	next         uint32 // offset of the last one given
	of           map[scope]*reqid
	taken        map[uint32]bool
}

type reqid struct {
	number uint32
	users  int
}

func newReqids(first, count uint32) *reqids {
	return &reqids{first: first, count: count, of: map[scope]*reqid{}, taken: map[uint32]bool{first: true}}
}

// ours tells whether a number is in our range.
func (r *reqids) ours(n uint32) bool { return n-r.first < r.count }

// take gives the number of a scope to one more user.
func (r *reqids) take(s scope) (uint32, error) {
	if q := r.of[s]; q != nil {
		q.users++
		return q.number, nil
	}
	if len(r.taken) >= int(r.count) {
		return 0, fmt.Errorf("all %d reqids from %d on are in use: %w", r.count, r.first, dataplane.ErrUnsupported)
	}
	for {
		r.next = (r.next + 1) % r.count
		if n := r.first + r.next; !r.taken[n] {
			r.taken[n] = true
			r.of[s] = &reqid{n, 1}
			return n, nil
		}
	}
}

// restore gives a scope the number that it had before a restart.
func (r *reqids) restore(s scope, n uint32) {
	if r.of[s] == nil && !r.taken[n] && r.ours(n) {
		r.taken[n] = true
		r.of[s] = &reqid{n, 0}
	}
}

// drop ends one use.
func (r *reqids) drop(s scope) {
	q := r.of[s]
	if q == nil {
		return
	}
	if q.users--; q.users <= 0 {
		delete(r.of, s)
		delete(r.taken, q.number)
	}
}
