package ipsec

import (
	"cmp"
	"errors"
	"hash/maphash"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// Errors of the two databases.
var (
	ErrSAExists   = errors.New("an SA with that destination, protocol and SPI is there already")
	ErrFlowExists = errors.New("a flow with that name is there already")
	ErrNoSuchFlow = errors.New("no flow with that name")
	ErrSelector   = errors.New("selector without two valid prefixes of one address family")
)

// SAD is the database of SAs that packets are looked up in (RFC 4301 section
// 4.4.2), for any payload T. Its key is SPI, then protocol and destination.
//
// Lookup takes no lock and never waits: the table is an array of atomic
// pointers to entries that are never changed, probed from a place that the SPI
// says. Writers take a mutex and put a pointer into a free slot; an array that is
// three quarters full is followed by one twice as large, and readers that still
// hold the old one see it as it was. A deleted entry leaves a marker behind, so that what was put
// further on because of it is still found; the next insertion that passes takes
// the slot.
//
// The zero value is empty and ready.
type SAD[T any] struct {
	table atomic.Pointer[sadTable[T]]

	mu     sync.Mutex
	live   int // entries
	filled int // entries and markers
	gone   *sadEntry[T]
}

type sadKey struct {
	dst   netip.Addr
	spi   SPI
	proto Proto
}

type sadEntry[T any] struct {
	key   sadKey
	value *T
}

// sadTable has a power of two of slots, at least one of them always nil, so
// that every probe ends.
type sadTable[T any] struct {
	shift uint // 64 minus the logarithm of len(slots)
	seed  uint64
	slots []atomic.Pointer[sadEntry[T]]
}

// start is where a key's probe begins. A peer chooses the SPIs of the SAs
// towards it; the seed keeps it from choosing ours into one place.
func (t *sadTable[T]) start(spi SPI) int {
	x := (uint64(spi) ^ t.seed) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	return int(x * 0xd6e8feb86659fd93 >> t.shift)
}

func newSADTable[T any](bits uint) *sadTable[T] {
	return &sadTable[T]{
		shift: 64 - bits,
		seed:  maphash.Bytes(maphash.MakeSeed(), nil),
		slots: make([]atomic.Pointer[sadEntry[T]], 1<<bits),
	}
}

// Lookup finds the SA of a packet; nil when there is none. It is safe at any
// time and does not allocate.
func (s *SAD[T]) Lookup(dst netip.Addr, proto Proto, spi SPI) *T {
	t := s.table.Load()
	if t == nil {
		return nil
	}
	mask := len(t.slots) - 1
	for i := t.start(spi); ; i++ {
		e := t.slots[i&mask].Load()
		if e == nil {
			return nil
		}
		if e.key.spi == spi && e.key.proto == proto && e.key.dst == dst {
			return e.value
		}
	}
}

// Insert adds an SA; from its return on every Lookup finds it. ErrSAExists, and
// nothing changed, when the key is taken. value must not be nil.
func (s *SAD[T]) Insert(dst netip.Addr, proto Proto, spi SPI, value *T) error {
	key := sadKey{dst: dst, spi: spi, proto: proto}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.roomy()
	mask := len(t.slots) - 1
	free := -1
	i := t.start(spi)
	for ; ; i++ {
		e := t.slots[i&mask].Load()
		if e == nil {
			break
		}
		if e == s.gone {
			if free < 0 {
				free = i & mask
			}
			continue
		}
		if e.key == key {
			return ErrSAExists
		}
	}
	if free < 0 {
		free = i & mask
		s.filled++
	}
	s.live++
	t.slots[free].Store(&sadEntry[T]{key: key, value: value})
	return nil
}

// Delete removes an SA and returns what it held; nil when it was not there. A
// Lookup that began earlier may still return it.
func (s *SAD[T]) Delete(dst netip.Addr, proto Proto, spi SPI) *T {
	key := sadKey{dst: dst, spi: spi, proto: proto}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.Load()
	if t == nil {
		return nil
	}
	mask := len(t.slots) - 1
	for i := t.start(spi); ; i++ {
		e := t.slots[i&mask].Load()
		if e == nil {
			return nil
		}
		if e == s.gone || e.key != key {
			continue
		}
		s.live--
		s.remove(t, i&mask)
		return e.value
	}
}

// remove empties a slot. The marker is needed only when something follows; when
// nothing does, the markers before it are not needed any more either.
func (s *SAD[T]) remove(t *sadTable[T], i int) {
	mask := len(t.slots) - 1
	if t.slots[(i+1)&mask].Load() != nil {
		t.slots[i].Store(s.gone)
		return
	}
	for {
		t.slots[i].Store(nil)
		s.filled--
		i = (i - 1) & mask
		if t.slots[i].Load() != s.gone {
			return
		}
	}
}

// roomy returns a table with room for one more. A full one is written anew
// without its markers, in the size that its entries ask for: twice as large when
// it grew, smaller when most went away.
func (s *SAD[T]) roomy() *sadTable[T] {
	old := s.table.Load()
	if old == nil {
		// The marker's key is nobody's: no address is as invalid as this with
		// SPI 0, and it is compared by pointer anyhow.
		s.gone = &sadEntry[T]{key: sadKey{proto: 255}}
		t := newSADTable[T](4)
		s.table.Store(t)
		return t
	}
	if s.filled < len(old.slots)/4*3 {
		return old
	}
	bits := uint(4)
	for s.live >= 3<<bits/8 {
		bits++
	}
	t := newSADTable[T](bits)
	mask := len(t.slots) - 1
	for i := range old.slots {
		e := old.slots[i].Load()
		if e == nil || e == s.gone {
			continue
		}
		j := t.start(e.key.spi)
		for t.slots[j&mask].Load() != nil {
			j++
		}
		t.slots[j&mask].Store(e)
	}
	s.filled = s.live
	s.table.Store(t)
	return t
}

// Len is the number of SAs.
func (s *SAD[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live
}

// All yields the SAs as they are when it is called, by SPI, protocol and
// destination. The database may be changed meanwhile.
func (s *SAD[T]) All() iter.Seq[*T] {
	s.mu.Lock()
	var all []*sadEntry[T]
	if t := s.table.Load(); t != nil {
		all = make([]*sadEntry[T], 0, s.live)
		for i := range t.slots {
			if e := t.slots[i].Load(); e != nil && e != s.gone {
				all = append(all, e)
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *sadEntry[T]) int {
		return cmp.Or(cmp.Compare(a.key.spi, b.key.spi), cmp.Compare(a.key.proto, b.key.proto), a.key.dst.Compare(b.key.dst))
	})
	return func(yield func(*T) bool) {
		for _, e := range all {
			if !yield(e.value) {
				return
			}
		}
	}
}
