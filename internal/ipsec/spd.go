package ipsec

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

// SPD is the database of flows that packets are looked up in (RFC 4301 section
// 4.4.1), for any payload T: what a data plane keeps for a flow, the atomic
// pointer to its outgoing SA among it, so that a rekey changes nothing here.
//
// Lookup takes no lock and never waits: it reads a tree that is never changed.
// Apply makes the next tree, sharing with the last what did not change, and
// publishes it with one store, so a reader sees all of a transaction or nothing.
// A change costs copies along one path, logarithmic in the number of flows, but
// for flows with the very same selector, which are one list.
//
// The zero value is empty and ready.
type SPD[T any] struct {
	root atomic.Pointer[spdRoot[T]]

	mu    sync.Mutex
	tx    uint64
	flows map[FlowID]*spdEntry[T]
}

// spdRoot has a tree for each direction and address family.
type spdRoot[T any] [2][2]*bucket[T]

const (
	family4 = iota
	family6
)

// Change is one step of a transaction. To replace a flow, remove it and add it
// in the same transaction.
type Change[T any] struct {
	Remove bool
	Flow   Flow // for Remove the ID alone counts
	Value  *T   // not nil; for Remove it does not count
}

// Lookup finds the flow for a packet in p.Dir: of those that match, the one with
// the lowest Order; among equal orders the most specific (destination prefix
// length, then source prefix length, protocol, destination port, source port);
// among equal selectors the one whose ID comes first. nil when none matches. It
// is safe at any time and does not allocate.
func (s *SPD[T]) Lookup(p *PacketInfo) *T {
	root := s.root.Load()
	if root == nil || p.Dir > In {
		return nil
	}
	family := family4
	if p.Version == 6 {
		family = family6
	}
	b := root[p.Dir][family]
	if b == nil {
		return nil
	}
	if p.Dst.Is4() != (family == family4) || p.Src.Is4() != p.Dst.Is4() {
		return nil
	}
	key := packetKeyOf(p)
	e := b.find(&key, fieldDst, nil)
	if e == nil {
		return nil
	}
	return e.value
}

// Apply makes all changes, in their order, or none: an error names the flow that
// was in the way. ErrNoSuchFlow: to be removed, and not there. ErrFlowExists: to
// be added, and there. ErrSelector: see there. Prefixes are taken without their
// host bits.
func (s *SPD[T]) Apply(changes []Change[T]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(changes); err != nil {
		return err
	}
	if s.flows == nil {
		s.flows = make(map[FlowID]*spdEntry[T])
	}
	var next spdRoot[T]
	if root := s.root.Load(); root != nil {
		next = *root
	}
	s.tx++
	for i := range changes {
		c := &changes[i]
		if c.Remove {
			e := s.flows[c.Flow.ID]
			delete(s.flows, c.Flow.ID)
			t := next.tree(&e.flow)
			*t = (*t).remove(s.tx, fieldDst, e)
			continue
		}
		e := &spdEntry[T]{flow: c.Flow, value: c.Value}
		e.flow.Selector.Src = e.flow.Selector.Src.Masked()
		e.flow.Selector.Dst = e.flow.Selector.Dst.Masked()
		e.rank, e.key = rankOf(&e.flow), keyOf(&e.flow.Selector)
		s.flows[c.Flow.ID] = e
		t := next.tree(&e.flow)
		*t = (*t).insert(s.tx, fieldDst, e)
	}
	s.root.Store(&next)
	return nil
}

func (r *spdRoot[T]) tree(f *Flow) **bucket[T] {
	family := family4
	if f.Selector.Dst.Addr().Is6() {
		family = family6
	}
	return &r[f.Dir][family]
}

// check runs through the changes without making them.
func (s *SPD[T]) check(changes []Change[T]) error {
	there := make(map[FlowID]bool, len(changes))
	for i := range changes {
		c := &changes[i]
		id := c.Flow.ID
		is, touched := there[id]
		if !touched {
			_, is = s.flows[id]
		}
		if c.Remove {
			if !is {
				return fmt.Errorf("remove flow %q: %w", id, ErrNoSuchFlow)
			}
			there[id] = false
			continue
		}
		if is {
			return fmt.Errorf("add flow %q: %w", id, ErrFlowExists)
		}
		if err := checkFlow(&c.Flow); err != nil {
			return fmt.Errorf("add flow %q: %w", id, err)
		}
		if c.Value == nil {
			return fmt.Errorf("add flow %q: no value", id)
		}
		there[id] = true
	}
	return nil
}

func checkFlow(f *Flow) error {
	src, dst := f.Selector.Src, f.Selector.Dst
	if !src.IsValid() || !dst.IsValid() || src.Addr().Is4() != dst.Addr().Is4() {
		return fmt.Errorf("%s: %w", f.Selector, ErrSelector)
	}
	if f.Dir > In {
		return fmt.Errorf("direction %d is neither out nor in", f.Dir)
	}
	return nil
}

// Get returns what a flow holds; nil when it is not there.
func (s *SPD[T]) Get(id FlowID) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.flows[id]; e != nil {
		return e.value
	}
	return nil
}

// Len is the number of flows.
func (s *SPD[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.flows)
}

// All yields the flows as they are when it is called, outgoing ones first, in
// the order in which Lookup prefers them. The database may be changed meanwhile.
func (s *SPD[T]) All() iter.Seq2[Flow, *T] {
	s.mu.Lock()
	all := make([]*spdEntry[T], 0, len(s.flows))
	for _, e := range s.flows {
		all = append(all, e)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *spdEntry[T]) int {
		return cmp.Or(cmp.Compare(a.flow.Dir, b.flow.Dir), a.compare(b))
	})
	return func(yield func(Flow, *T) bool) {
		for _, e := range all {
			if !yield(e.flow, e.value) {
				return
			}
		}
	}
}
