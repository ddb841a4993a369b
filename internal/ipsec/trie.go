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
	best  uint64 // no rank inside is lower; what left a trie leaves it as it was
	count int
	first *spdEntry[T]   // by rank and name; nil when deep is there
	rest  []*spdEntry[T] // in that order
	deep  *node[T]       // by the next field
}

// node is one of a path-compressed binary trie. Every node has flows of its own
// or something on both sides. It is a line of the processor's cache, since a
// lookup among many flows waits for memory most of the time.
type node[T any] struct {
	key  bits128
	mark uint64     // the transaction, and in the last byte the prefix's length
	own  *bucket[T] // flows whose field is exactly the node's prefix
	kids [2]kid[T]
}

// kid is what is below a node on one side: a node, a flow that is alone there, or
// nothing.
type kid[T any] struct {
	node *node[T]
	leaf *spdEntry[T]
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
	if found != nil && b.best > found.rank {
		return found
	}
	if b.deep != nil {
		key := f.packetBits(p)
		return b.deep.find(p, &key, f, found)
	}
	if b.first.match(p, found) {
		return b.first
	}
	for _, e := range b.rest {
		if e.match(p, found) {
			return e
		}
	}
	return found
}

// match tells whether e is the flow for p rather than found.
func (e *spdEntry[T]) match(p *packetKey, found *spdEntry[T]) bool {
	return (found == nil || e.rank < found.rank) && e.key.match(p)
}

// find goes to the longest prefix first: among equal orders that is the better
// flow, and its rank then spares looking at the shorter ones.
func (n *node[T]) find(p *packetKey, key *prefix, f field, found *spdEntry[T]) *spdEntry[T] {
	size := n.size()
	if size > key.n || !same(&n.key, &key.key, size) {
		return found
	}
	if size < key.n {
		switch k := &n.kids[key.key.bit(size)]; {
		case k.node != nil:
			found = k.node.find(p, key, f, found)
		case k.leaf != nil && k.leaf.match(p, found):
			found = k.leaf
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
		return &bucket[T]{tx: tx, best: e.rank, count: 1, first: e}
	}
	b = b.writable(tx)
	b.count++
	b.best = min(b.best, e.rank)
	switch {
	case b.deep != nil:
		b.deep = b.deep.insert(tx, f, e)
	case b.count <= bucketMax || f == fieldEnd:
		list := b.collect(make([]*spdEntry[T], 0, b.count))
		i, _ := slices.BinarySearchFunc(list, e, (*spdEntry[T]).compare)
		b.setList(slices.Insert(list, i, e))
	default:
		list := b.collect(make([]*spdEntry[T], 0, b.count))
		b.setList(nil)
		b.deep = newNode(tx, f, e)
		for _, old := range list {
			b.deep = b.deep.insert(tx, f, old)
		}
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
	var list []*spdEntry[T]
	switch {
	case b.deep == nil:
		list = b.collect(make([]*spdEntry[T], 0, b.count+1))
		i, _ := slices.BinarySearchFunc(list, e, (*spdEntry[T]).compare)
		list = slices.Delete(list, i, i+1)
	case b.count <= bucketMin:
		list = b.deep.collect(make([]*spdEntry[T], 0, b.count+1))
		list = slices.DeleteFunc(list, func(o *spdEntry[T]) bool { return o == e })
		slices.SortFunc(list, (*spdEntry[T]).compare)
		b.deep = nil
	default:
		b.deep = b.deep.remove(tx, f, e).grown(tx, f)
		return b
	}
	b.setList(list)
	b.best = b.first.rank
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

// newNode is one with a flow of its own.
func newNode[T any](tx uint64, f field, e *spdEntry[T]) *node[T] {
	n := emptyNode[T](tx, f.prefix(&e.flow.Selector))
	n.own = n.own.insert(tx, f+1, e)
	return n
}

func emptyNode[T any](tx uint64, at prefix) *node[T] {
	return &node[T]{key: at.key, mark: tx<<8 | uint64(at.n)}
}

// insert returns n with e added.
func (n *node[T]) insert(tx uint64, f field, e *spdEntry[T]) *node[T] {
	at, size := f.prefix(&e.flow.Selector), n.size()
	if size > at.n || !same(&n.key, &at.key, size) {
		return fork(tx, f, n.key, size, kid[T]{node: n}, at, e)
	}
	n = n.writable(tx)
	if size == at.n {
		n.own = n.own.insert(tx, f+1, e)
		return n
	}
	k := &n.kids[at.key.bit(size)]
	switch {
	case k.node != nil:
		k.node = k.node.insert(tx, f, e)
	case k.leaf == nil:
		k.leaf = e
	default:
		*k = kid[T]{node: k.leaf.beside(tx, f, at, e)}
	}
	return n
}

// beside is a node with o, which was alone, and e.
func (o *spdEntry[T]) beside(tx uint64, f field, at prefix, e *spdEntry[T]) *node[T] {
	other := f.prefix(&o.flow.Selector)
	if other.n < at.n && same(&other.key, &at.key, other.n) || other == at {
		return newNode(tx, f, o).insert(tx, f, e)
	}
	return fork(tx, f, other.key, other.n, kid[T]{leaf: o}, at, e)
}

// fork is a node above k, whose prefix is given, where that and at part, or at
// ends.
func fork[T any](tx uint64, f field, key bits128, n uint8, k kid[T], at prefix, e *spdEntry[T]) *node[T] {
	size := uint8(min(commonBits(&key, &at.key), int(at.n), int(n)))
	up := emptyNode[T](tx, prefix{at.key.cut(size), size})
	up.kids[key.bit(size)] = k
	if size == at.n {
		up.own = up.own.insert(tx, f+1, e)
	} else {
		up.kids[at.key.bit(size)].leaf = e
	}
	return up
}

// remove returns what is left of n without e, which is in it.
func (n *node[T]) remove(tx uint64, f field, e *spdEntry[T]) kid[T] {
	n = n.writable(tx)
	at := f.prefix(&e.flow.Selector)
	if size := n.size(); size == at.n {
		n.own = n.own.remove(tx, f+1, e)
	} else if k := &n.kids[at.key.bit(size)]; k.leaf != nil {
		k.leaf = nil
	} else {
		*k = k.node.remove(tx, f, e)
	}
	none := kid[T]{}
	switch {
	case n.own == nil && n.kids[0] == none: // a mere step on the way
		return n.kids[1]
	case n.own == nil && n.kids[1] == none:
		return n.kids[0]
	case n.own != nil && n.own.count == 1 && n.kids[0] == none && n.kids[1] == none:
		return kid[T]{leaf: n.own.collect(nil)[0]}
	}
	return kid[T]{node: n}
}

// grown is k as a node.
func (k kid[T]) grown(tx uint64, f field) *node[T] {
	if k.leaf != nil {
		return newNode(tx, f, k.leaf)
	}
	return k.node
}

func (n *node[T]) writable(tx uint64) *node[T] {
	if n.mark>>8 == tx {
		return n
	}
	c := *n
	c.mark = tx<<8 | uint64(n.size())
	return &c
}

// collect adds the flows from n on to a list.
func (n *node[T]) collect(all []*spdEntry[T]) []*spdEntry[T] {
	all = n.own.collect(all)
	for _, k := range n.kids {
		switch {
		case k.node != nil:
			all = k.node.collect(all)
		case k.leaf != nil:
			all = append(all, k.leaf)
		}
	}
	return all
}
