package ipsec

import (
	"math/bits"
	"slices"
)

// The SPD's tree. A bucket holds flows that agree in the fields looked at so
// far. Up to bucketMax of them are a short list, tried one after the other; more
// are spread over a trie by the next field, whose nodes hold buckets again.
//
// What a reader may see is never changed. A writer copies the path from the root
// to where it changes something; what it copied or made in the same transaction
// bears the transaction's number and is changed in place.

const (
	bucketMax = 8 // a longer list becomes a trie
	bucketMin = 4 // a trie of no more becomes a list again
)

type bucket[T any] struct {
	tx    uint64
	best  uint64 // lowest rank inside
	count int
	list  []*spdEntry[T] // by rank and name; nil when deep is there
	deep  *node[T]       // by the next field
}

// node is one of a path-compressed binary trie. Every node has flows of its own
// or two children.
type node[T any] struct {
	tx    uint64
	best  uint64 // lowest rank here and below
	at    prefix
	own   *bucket[T] // flows whose field is at exactly
	child [2]*node[T]
}

func commonBits(a, b *bits128) int {
	if x := a.hi ^ b.hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(a.lo^b.lo)
}

// find returns the best flow for p that is better than found.
func (b *bucket[T]) find(p *PacketInfo, f field, found *spdEntry[T]) *spdEntry[T] {
	if found != nil && b.best > found.rank {
		return found
	}
	if b.deep != nil {
		key := f.packetBits(p)
		return b.deep.find(p, &key, f, found)
	}
	for _, e := range b.list {
		if found != nil && e.rank > found.rank {
			break
		}
		if e.flow.Selector.match(p) {
			return e
		}
	}
	return found
}

// find goes to the longest prefix first: among equal orders that is the better
// flow, and its rank then spares looking at the shorter ones.
func (n *node[T]) find(p *PacketInfo, key *prefix, f field, found *spdEntry[T]) *spdEntry[T] {
	if (found != nil && n.best > found.rank) || !n.at.starts(key) {
		return found
	}
	if n.at.n < key.n {
		if c := n.child[key.key.bit(n.at.n)]; c != nil {
			found = c.find(p, key, f, found)
		}
	}
	if n.own != nil {
		found = n.own.find(p, f+1, found)
	}
	return found
}

// insert returns b with e added; b may be nil.
func (b *bucket[T]) insert(tx uint64, f field, e *spdEntry[T]) *bucket[T] {
	if b == nil {
		return &bucket[T]{tx: tx, best: e.rank, count: 1, list: []*spdEntry[T]{e}}
	}
	b = b.writable(tx)
	b.count++
	b.best = min(b.best, e.rank)
	switch {
	case b.deep != nil:
		b.deep = b.deep.insert(tx, f, f.prefix(&e.flow.Selector), e)
	case b.count <= bucketMax || f == fieldEnd:
		i, _ := slices.BinarySearchFunc(b.list, e, (*spdEntry[T]).compare)
		list := make([]*spdEntry[T], 0, len(b.list)+1) // the old one may be a reader's
		b.list = append(append(append(list, b.list[:i]...), e), b.list[i:]...)
	default:
		for _, old := range b.list {
			b.deep = b.deep.insert(tx, f, f.prefix(&old.flow.Selector), old)
		}
		b.deep = b.deep.insert(tx, f, f.prefix(&e.flow.Selector), e)
		b.list = nil
	}
	return b
}

// remove returns b without e, which is in it; nil when nothing is left.
func (b *bucket[T]) remove(tx uint64, f field, e *spdEntry[T]) *bucket[T] {
	if b.count == 1 {
		return nil
	}
	b = b.writable(tx)
	b.count--
	if b.deep == nil {
		i, _ := slices.BinarySearchFunc(b.list, e, (*spdEntry[T]).compare)
		list := make([]*spdEntry[T], 0, len(b.list)-1)
		b.list = append(append(list, b.list[:i]...), b.list[i+1:]...)
		b.best = b.list[0].rank
		return b
	}
	b.deep = b.deep.remove(tx, f, f.prefix(&e.flow.Selector), e)
	b.best = b.deep.best
	if b.count <= bucketMin {
		b.list = b.deep.collect(make([]*spdEntry[T], 0, b.count))
		slices.SortFunc(b.list, (*spdEntry[T]).compare)
		b.deep = nil
	}
	return b
}

func (b *bucket[T]) writable(tx uint64) *bucket[T] {
	if b.tx == tx {
		return b
	}
	c := *b
	c.tx = tx
	return &c
}

func (b *bucket[T]) collect(all []*spdEntry[T]) []*spdEntry[T] {
	if b == nil {
		return all
	}
	if b.deep != nil {
		return b.deep.collect(all)
	}
	return append(all, b.list...)
}

// insert returns n with e added at the prefix at; n may be nil.
func (n *node[T]) insert(tx uint64, f field, at prefix, e *spdEntry[T]) *node[T] {
	if n == nil {
		var own *bucket[T]
		return &node[T]{tx: tx, best: e.rank, at: at, own: own.insert(tx, f+1, e)}
	}
	if !n.at.starts(&at) {
		return n.fork(tx, f, at, e)
	}
	n = n.writable(tx)
	n.best = min(n.best, e.rank)
	if n.at.n == at.n {
		n.own = n.own.insert(tx, f+1, e)
		return n
	}
	side := at.key.bit(n.at.n)
	n.child[side] = n.child[side].insert(tx, f, at, e)
	return n
}

// fork puts a node above n, where at and n's prefix part or at ends.
func (n *node[T]) fork(tx uint64, f field, at prefix, e *spdEntry[T]) *node[T] {
	size := uint8(min(commonBits(&n.at.key, &at.key), int(at.n), int(n.at.n)))
	up := &node[T]{tx: tx, best: min(n.best, e.rank), at: prefix{at.key.cut(size), size}}
	up.child[n.at.key.bit(size)] = n
	if size == at.n {
		up.own = up.own.insert(tx, f+1, e)
		return up
	}
	side := at.key.bit(size)
	up.child[side] = up.child[side].insert(tx, f, at, e)
	return up
}

// remove returns n without e, which is in it at the prefix at; nil when nothing
// is left, the one child when n has become a mere step on the way to it.
func (n *node[T]) remove(tx uint64, f field, at prefix, e *spdEntry[T]) *node[T] {
	n = n.writable(tx)
	if n.at.n == at.n {
		n.own = n.own.remove(tx, f+1, e)
	} else {
		side := at.key.bit(n.at.n)
		n.child[side] = n.child[side].remove(tx, f, at, e)
	}
	if n.own == nil {
		if n.child[0] == nil {
			return n.child[1]
		}
		if n.child[1] == nil {
			return n.child[0]
		}
	}
	n.best = worstRank
	if n.own != nil {
		n.best = n.own.best
	}
	for _, c := range n.child {
		if c != nil {
			n.best = min(n.best, c.best)
		}
	}
	return n
}

func (n *node[T]) writable(tx uint64) *node[T] {
	if n.tx == tx {
		return n
	}
	c := *n
	c.tx = tx
	return &c
}

func (n *node[T]) collect(all []*spdEntry[T]) []*spdEntry[T] {
	if n == nil {
		return all
	}
	all = n.own.collect(all)
	return n.child[1].collect(n.child[0].collect(all))
}
