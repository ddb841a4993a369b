package inet

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"oakley/internal/ipsec"
)

// Bounds of what waits to become whole. A datagram's cost is that of its bytes
// and of keeping them; nothing is reserved for a length that a packet claims.
const (
	FragmentTimeout = 30 * time.Second // from a datagram's first fragment on: between RFC 791's 15 and RFC 8200's 60
	MaxWaiting      = 4 << 20          // bytes, of all senders
	MaxOfOne        = 512 << 10        // bytes, of one sender
	MaxFragments    = 128              // of one datagram: 64 KiB of a network that carries 576 bytes
	datagramCost    = 384
	fragmentCost    = 64
)

// Reassembler makes whole packets of fragments (RFC 791 section 3.2, RFC 8200
// section 4.5). A datagram with fragments that overlap is dropped, with those of
// its fragments that are still to come (RFC 5722 section 4, which is kept for
// IPv4 too); a fragment that comes twice does no harm. When a bound is reached,
// the oldest go first: those of the same sender if it is his bound.
//
// The zero value is ready. One goroutine at a time may use it.
type Reassembler struct {
	Head, Tail int // room before and behind the packets that Add returns, in bytes

	all     map[datagramKey]*datagram
	senders map[sender]*waiting
	age     list.List // of *datagram, the oldest in front
	cost    int
}

// datagramKey tells whose a fragment is.
type datagramKey struct {
	owner    any
	src, dst netip.Addr
	id       uint32
	proto    uint8 // IPv4: part of the identification
}

// sender is who is held to MaxOfOne: the owner, where there is one, or an
// address.
type sender struct {
	owner any
	src   netip.Addr
}

type waiting struct {
	age  list.List // of *datagram
	cost int
}

type datagram struct {
	key    datagramKey
	born   int64
	parts  []part // sorted, no two overlap
	size   int    // bytes of parts
	end    int    // of the last one; -1: it has not come
	head   []byte // of the first fragment, up to what was divided; nil: it has not come
	next   Spot   // in head, of the byte that says what was divided
	kind   uint8  // what was divided
	marks  uint8  // a bit for each congestion mark that was seen
	dead   bool   // it can never be whole
	cost   int
	of     sender
	inAll  *list.Element
	inHost *list.Element
}

type part struct {
	at   int
	data []byte
}

// piece is a fragment taken apart.
type piece struct {
	key  datagramKey
	at   int
	more bool
	data []byte
	head []byte // of the first alone
	next Spot
	kind uint8
}

// Add takes a fragment, of which info is true and Fragment set, at a time in
// nanoseconds that never goes back. whole is the packet that it makes complete,
// with Head bytes before off and Tail bytes behind n; nil: it is not complete
// yet. lost is how many fragments were given up. Fragments of different owners
// are not mixed; owner is nil or something that can be compared. pkt is not kept.
func (r *Reassembler) Add(pkt []byte, info *ipsec.PacketInfo, owner any, now int64) (whole []byte, lost int) {
	lost = r.Expire(now)
	p, ok := take(pkt, info, owner)
	if !ok {
		return nil, lost + 1
	}
	d := r.all[p.key]
	if d == nil {
		d = r.begin(p.key, now)
	}
	if d.dead {
		return nil, lost + 1
	}
	switch fits, repeated := d.fits(&p); {
	case repeated:
		return nil, lost
	case !fits:
		lost += 1 + r.kill(d)
		return nil, lost
	}
	r.keep(d, &p, TOS(pkt))
	if d.size != d.end || d.head == nil {
		return nil, lost + r.bound(d)
	}
	n := len(d.parts)
	r.forget(d)
	if whole, ok = d.join(r.Head, r.Tail); !ok {
		return nil, lost + n
	}
	return whole, lost
}

// take takes a fragment apart.
func take(pkt []byte, info *ipsec.PacketInfo, owner any) (p piece, ok bool) {
	pkt = pkt[:info.TotalLen]
	p.key = datagramKey{owner: owner, src: info.Src, dst: info.Dst}
	if info.Version == 4 {
		head := int(pkt[0]&15) * 4
		where := binary.BigEndian.Uint16(pkt[6:])
		p.key.id, p.key.proto = uint32(binary.BigEndian.Uint16(pkt[4:])), pkt[9]
		p.at, p.more, p.data = int(where&offsetMask)*8, where&moreFragments != 0, pkt[head:]
		if p.at == 0 {
			p.head, p.next, p.kind = pkt[:head], Spot{Next: 9}, pkt[9]
		}
	} else {
		s, h, found := fragmentHeader(pkt)
		if !found {
			return p, false
		}
		where := binary.BigEndian.Uint16(h[2:])
		p.key.id = binary.BigEndian.Uint32(h[4:])
		p.at, p.more, p.data = int(where&^7), where&1 != 0, pkt[s.At+fragmentLen:]
		if p.at == 0 {
			p.head, p.next, p.kind = pkt[:s.At], Spot{Next: s.Next}, h[0]
		}
	}
	switch {
	case p.at == 0 && !p.more: // whole, of all pieces: another header says that it is none
		return p, false
	case len(p.data) == 0, p.more && len(p.data)%8 != 0, p.at+len(p.data) > 65535:
		return p, false
	}
	return p, true
}

func (r *Reassembler) begin(k datagramKey, now int64) *datagram {
	if r.all == nil {
		r.all, r.senders = map[datagramKey]*datagram{}, map[sender]*waiting{}
	}
	d := &datagram{key: k, born: now, end: -1, cost: datagramCost, of: sender{owner: k.owner}}
	if k.owner == nil {
		d.of.src = k.src
	}
	h := r.senders[d.of]
	if h == nil {
		h = &waiting{}
		r.senders[d.of] = h
	}
	r.all[k] = d
	d.inAll, d.inHost = r.age.PushBack(d), h.age.PushBack(d)
	r.charge(d, datagramCost)
	return d
}

func (r *Reassembler) charge(d *datagram, n int) {
	r.cost += n
	r.senders[d.of].cost += n
}

// fits tells whether a fragment is new and in keeping with those that came, or
// the same again.
func (d *datagram) fits(p *piece) (fits, repeated bool) {
	end := p.at + len(p.data)
	if d.end >= 0 && (end > d.end || !p.more && end != d.end) {
		return false, false
	}
	i, found := slices.BinarySearchFunc(d.parts, p.at, func(have part, at int) int { return have.at - at })
	switch {
	case found:
		return false, bytes.Equal(d.parts[i].data, p.data) && p.more == (end != d.end)
	case i > 0 && d.parts[i-1].at+len(d.parts[i-1].data) > p.at,
		i < len(d.parts) && d.parts[i].at < end,
		!p.more && i < len(d.parts),
		len(d.parts) == MaxFragments:
		return false, false
	}
	return true, false
}

// keep puts a copy of a fragment where it belongs.
func (r *Reassembler) keep(d *datagram, p *piece, tos uint8) {
	i, _ := slices.BinarySearchFunc(d.parts, p.at, func(have part, at int) int { return have.at - at })
	d.parts = slices.Insert(d.parts, i, part{p.at, bytes.Clone(p.data)})
	d.size += len(p.data)
	d.marks |= 1 << (tos & MarkMask)
	if !p.more {
		d.end = p.at + len(p.data)
	}
	n := fragmentCost + len(p.data)
	if p.head != nil {
		d.head, d.next, d.kind = bytes.Clone(p.head), p.next, p.kind
		n += len(p.head)
	}
	d.cost += n
	r.charge(d, n)
}

// bound drops what is too much, d last; it returns how many fragments that were.
func (r *Reassembler) bound(d *datagram) (lost int) {
	h := r.senders[d.of]
	for h.cost > MaxOfOne {
		old := h.age.Front().Value.(*datagram)
		lost += len(old.parts)
		r.forget(old)
	}
	for r.cost > MaxWaiting {
		old := r.age.Front().Value.(*datagram)
		lost += len(old.parts)
		r.forget(old)
	}
	return lost
}

// kill drops a datagram's fragments and remembers that it is to stay so; it
// returns how many there were.
func (r *Reassembler) kill(d *datagram) (lost int) {
	lost = len(d.parts)
	r.charge(d, datagramCost-d.cost)
	d.dead, d.parts, d.head, d.cost = true, nil, nil, datagramCost
	return lost
}

func (r *Reassembler) forget(d *datagram) {
	delete(r.all, d.key)
	r.charge(d, -d.cost)
	r.age.Remove(d.inAll)
	h := r.senders[d.of]
	h.age.Remove(d.inHost)
	if h.age.Len() == 0 {
		delete(r.senders, d.of)
	}
}

// Expire drops what has waited too long; it returns how many fragments that
// were.
func (r *Reassembler) Expire(now int64) (lost int) {
	for e := r.age.Front(); e != nil; e = r.age.Front() {
		d := e.Value.(*datagram)
		if now-d.born < int64(FragmentTimeout) {
			break
		}
		lost += len(d.parts)
		r.forget(d)
	}
	return lost
}

// Waiting is how many bytes of memory fragments hold.
func (r *Reassembler) Waiting() int { return r.cost }

// join makes the packet. False: it would be longer than a packet can be, or met
// congestion while one of its fragments says that its ends know no marks (RFC
// 3168 section 5.3).
func (d *datagram) join(head, tail int) (whole []byte, ok bool) {
	v6 := d.head[0]>>4 == 6
	n := len(d.head) + d.end
	congested := d.marks&(1<<markCE) != 0
	if n > 65535 && !v6 || n-40 > 65535 || congested && d.marks&(1<<markNot) != 0 {
		return nil, false
	}
	whole = make([]byte, head+n+tail)
	pkt := whole[head:][:n]
	at := copy(pkt, d.head)
	for _, p := range d.parts {
		at += copy(pkt[at:], p.data)
	}
	pkt[d.next.Next] = d.kind
	if !v6 {
		pkt[6], pkt[7] = pkt[6]&0x40, 0
	}
	if congested {
		SetTOS(pkt, TOS(pkt)|markCE)
	}
	Mend(pkt)
	return whole, true
}
