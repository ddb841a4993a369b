package userspace

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"oakley/internal/ipsec"
)

// ipEnds finds SAs of which packets bear no SPI, or one that says too little: IP in
// IP, IPComp in tunnel mode, whose packets are just that when they do not shrink
// (cpi 0), and IPComp with a well-known CPI.
type ipEnds struct {
	src, dst netip.Addr
	cpi      ipsec.SPI
}

// endsOf are the entries of an SA.
func endsOf(sa *ipsec.SA) (all []ipEnds) {
	k := ipEnds{src: sa.Src, dst: sa.ID.Dst}
	if sa.ID.Proto == ipsec.ProtoIPIP || sa.ID.Proto == ipsec.ProtoIPComp && sa.Mode == ipsec.Tunnel && !bundled(sa.Bundle) {
		all = append(all, k)
	}
	if isShared(sa.ID) {
		k.cpi = sa.ID.SPI
		all = append(all, k)
	}
	return all
}

// endParts is how many parts a table of ends has.
const endParts = 4096

// endTable has the SA for each pair of ends. Lookups take no lock. It is in parts
// that are replaced as a whole, so that a change copies a few entries of many.
type endTable struct {
	seed  maphash.Seed
	parts [endParts]atomic.Pointer[map[ipEnds]*inSA]
	all   map[ipEnds][]*inSA // the older first; under the plane's lock, as all changes
}

func newEndTable() *endTable {
	return &endTable{seed: maphash.MakeSeed(), all: map[ipEnds][]*inSA{}}
}

// part is chosen with a seed, since peers choose addresses.
func (t *endTable) part(k ipEnds) *atomic.Pointer[map[ipEnds]*inSA] {
	return &t.parts[maphash.Comparable(t.seed, k)%endParts]
}

// find is nil when there is none.
func (t *endTable) find(k ipEnds) *inSA {
	part := t.part(k).Load()
	if part == nil {
		return nil
	}
	return (*part)[k]
}

func (t *endTable) enter(sa *inSA) {
	for _, k := range endsOf(&sa.sa) {
		t.all[k] = append(t.all[k], sa)
		t.choose(k)
	}
}

func (t *endTable) leave(sa *inSA) {
	for _, k := range endsOf(&sa.sa) {
		list := slices.DeleteFunc(t.all[k], func(o *inSA) bool { return o == sa })
		if t.all[k] = list; len(list) == 0 {
			delete(t.all, k)
		}
		t.choose(k)
	}
}

// choose enters the SA that packets of some ends meet: IP in IP itself comes before
// IPComp, what stands alone before what is of a bundle, and the newer before the
// older.
func (t *endTable) choose(k ipEnds) {
	var best *inSA
	for _, sa := range t.all[k] {
		if best == nil || rankOfEnds(sa) >= rankOfEnds(best) {
			best = sa
		}
	}
	at := t.part(k)
	next := map[ipEnds]*inSA{}
	if old := at.Load(); old != nil {
		if (*old)[k] == best {
			return
		}
		next = maps.Clone(*old)
	}
	if best == nil {
		delete(next, k)
	} else {
		next[k] = best
	}
	at.Store(&next)
}

func rankOfEnds(sa *inSA) (n int) {
	if sa.id.Proto == ipsec.ProtoIPIP {
		n += 2
	}
	if !bundled(sa.at) {
		n++
	}
	return n
}
