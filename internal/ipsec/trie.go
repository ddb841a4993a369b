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
	first *spdEntry[T]   // by rank and name; nil when deep is there
	rest  []*spdEntry[T] // in that order
	deep  *node[T]       // by the next field
}

// node is one of a path-compressed binary trie. Every node has flows of its own
// or two children. It is a line of the processor's cache, since a lookup among
// many flows waits for memory most of the time.
type node[T any] struct {
	key     bits128
	best    uint64     // lowest rank here and below
	ownBest uint64     // lowest rank here
	own     *bucket[T] // flows whose field is exactly the node's prefix
	child   [2]*node[T]
	mark    uint64 // the transaction, and in the last byte the prefix's length
}

func newNode[T any](tx uint64, at prefix) *node[T] {
	return &node[T]{key: at.key, best: worstRank, ownBest: worstRank, mark: tx<<8 | uint64(at.n)}
}

// size is the length of the node's prefix.
func (n *node[T]) size() uint8 { return uint8(n.mark) }

func commonBits(a, b *bits128) int {
	if x := a.hi ^ b.hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(a.lo^b.lo)
}

// find returns the best flow for p that is better than found.
func (b *bucket[T]) find(p *packetKey, f field, found *spdEntry[T]) *spdEntry[T] {
	if b.deep != nil {
		key := f.packetBits(p)
		return b.deep.find(p, &key, f, found)
	}
	if found != nil && b.first.rank > found.rank {
		return found
	}
	if b.first.key.match(p) {
		return b.first
	}
	for _, e := range b.rest {
		if found != nil && e.rank > found.rank {
			break
		}
		if e.key.match(p) {
			return e
		}
	}
	return found
}

// find goes to the longest prefix first: among equal orders that is the better
// flow, and its rank then spares looking at the shorter ones.
func (n *node[T]) find(p *packetKey, key *prefix, f field, found *spdEntry[T]) *spdEntry[T] {
	size := n.size()
	if found != nil && n.best > found.rank || size > key.n || !same(&n.key, &key.key, size) {
		return found
	}
	if size < key.n {
		if c := n.child[key.key.bit(size)]; c != nil {
			found = c.find(p, key, f, found)
		}
	}
	if n.own != nil && (found == nil || n.ownBest <= found.rank) {
		found = n.own.find(p, f+1, found)
	}
	return found
}

// insert returns b with e added; b may be nil.
func (b *bucket[T]) insert(tx uint64, f field, e *spdEntry[T]) *bucket[T] {
	if b == nil {
		return &bucket[T]{tx: tx, best: e.rank, count: 1, first: e}
	}
	b = b.writable(tx)
	b.count++
	b.best = min(b.best, e.rank)
	switch {
	case b.deep != nil:
		b.deep = b.deep.insert(tx, f, f.prefix(&e.flow.Selector), e)
	case b.count <= bucketMax || f == fieldEnd:
		list := b.collect(make([]*spdEntry[T], 0, b.count))
		i, _ := slices.BinarySearchFunc(list, e, (*spdEntry[T]).compare)
		b.setList(slices.Insert(list, i, e))
	default:
		for _, old := range b.collect(make([]*spdEntry[T], 0, b.count)) {
			b.deep = b.deep.insert(tx, f, f.prefix(&old.flow.Selector), old)
		}
		b.deep = b.deep.insert(tx, f, f.prefix(&e.flow.Selector), e)
		b.setList(nil)
	}
	return b
}

// setList takes a list over that no reader has.
func (b *bucket[T]) setList(list []*spdEntry[T]) {
	b.first, b.rest = nil, nil
	if len(list) > 0 {
		b.first = list[0]
	}
	if len(list) > 1 {
		b.rest = list[1:]
	}
}

// remove returns b without e, which is in it; nil when nothing is left.
func (b *bucket[T]) remove(tx uint64, f field, e *spdEntry[T]) *bucket[T] {
	if b.count == 1 {
		return nil
	}
	b = b.writable(tx)
	b.count--
	if b.deep == nil {
		list := b.collect(make([]*spdEntry[T], 0, b.count+1))
		i, _ := slices.BinarySearchFunc(list, e, (*spdEntry[T]).compare)
		b.setList(slices.Delete(list, i, i+1))
		b.best = b.first.rank
		return b
	}
	b.deep = b.deep.remove(tx, f, f.prefix(&e.flow.Selector), e)
	b.best = b.deep.best
	if b.count <= bucketMin {
		list := b.deep.collect(make([]*spdEntry[T], 0, b.count))
		slices.SortFunc(list, (*spdEntry[T]).compare)
		b.setList(list)
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

// collect adds b's flows to a list, those of a short one in order.
func (b *bucket[T]) collect(all []*spdEntry[T]) []*spdEntry[T] {
	if b == nil {
		return all
	}
	if b.deep != nil {
		return b.deep.collect(all)
	}
	return append(append(all, b.first), b.rest...)
}

// insert returns n with e added at the prefix at; n may be nil.
func (n *node[T]) insert(tx uint64, f field, at prefix, e *spdEntry[T]) *node[T] {
	if n == nil {
		n = newNode[T](tx, at)
		n.setOwn(n.own.insert(tx, f+1, e))
		n.best = n.ownBest
		return n
	}
	size := n.size()
	if size > at.n || !same(&n.key, &at.key, size) {
		return n.fork(tx, f, at, e)
	}
	n = n.writable(tx)
	n.best = min(n.best, e.rank)
	if size == at.n {
		n.setOwn(n.own.insert(tx, f+1, e))
		return n
	}
	side := at.key.bit(size)
	n.child[side] = n.child[side].insert(tx, f, at, e)
	return n
}

func (n *node[T]) setOwn(b *bucket[T]) {
	n.own, n.ownBest = b, worstRank
	if b != nil {
		n.ownBest = b.best
	}
}

// fork puts a node above n, where at and n's prefix part or at ends.
func (n *node[T]) fork(tx uint64, f field, at prefix, e *spdEntry[T]) *node[T] {
	size := uint8(min(commonBits(&n.key, &at.key), int(at.n), int(n.size())))
	up := newNode[T](tx, prefix{at.key.cut(size), size})
	up.best = min(n.best, e.rank)
	up.child[n.key.bit(size)] = n
	if size == at.n {
		up.setOwn(up.own.insert(tx, f+1, e))
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
	if size := n.size(); size == at.n {
		n.setOwn(n.own.remove(tx, f+1, e))
	} else {
		side := at.key.bit(size)
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
	n.best = n.ownBest
	for _, c := range n.child {
		if c != nil {
			n.best = min(n.best, c.best)
		}
	}
	return n
}

func (n *node[T]) writable(tx uint64) *node[T] {
	if n.mark>>8 == tx {
		return n
	}
	c := *n
	c.mark = tx<<8 | uint64(n.size())
	return &c
}

func (n *node[T]) collect(all []*spdEntry[T]) []*spdEntry[T] {
	if n == nil {
		return all
	}
	all = n.own.collect(all)
	return n.child[1].collect(n.child[0].collect(all))
}
