// Package replay is the anti-replay window of ESP and AH for 32-bit and for
// extended sequence numbers (RFC 4303 section 3.4.3 and appendix A), after the
// ring of words of RFC 6479, safe for several receivers at once without a lock.
package replay

import (
	"math/bits"
	"sync/atomic"
)

// Sizes of a window, in packets.
const (
	DefaultSize = 64      // RFC 4303 section 3.4.3 asks for 32 and likes 64
	MaxSize     = 1 << 15 // larger ones are cut to this
)

// One word of the ring covers wordBits consecutive sequence numbers, its block.
// The low wordBits bits say which of them were seen, the bits above say which
// turn of the ring the word is in, so one compare-and-swap both marks a number
// and, when the window moved on, empties the word for its new block.
const (
	wordShift = 4
	wordBits  = 1 << wordShift
	wordMask  = wordBits - 1
	turnBits  = 64 - wordBits
	turnMask  = 1<<turnBits - 1
)

// smallRing is what DefaultSize needs; it lies in the Window, one cache line.
const smallRing = 8

// Window remembers which sequence numbers were received. The zero value is a
// window of DefaultSize; it must not be copied after its first use.
//
// Check and Update may be called by any number of goroutines. What they promise
// together: Update returns true at most once for a number, whatever runs at the
// same time, because a number is accepted by nothing but a successful
// compare-and-swap that sets its bit, and a word only ever gets more bits or
// goes to a later turn. The upper edge is raised after the bit is set, so a
// receiver may for a moment see an older edge: it then judges by the window as
// it was a moment ago, never by a wider one than some receiver was entitled to.
//
// A number more than 2^54 above every number seen before may be refused; the
// inference of the high half (Extend) never goes further than 2^32.
type Window struct {
	top   atomic.Uint64 // highest number received
	size  uint64        // 0: DefaultSize
	off   bool
	ring  []atomic.Uint64 // a power of two of words; nil: small
	small [smallRing]atomic.Uint64
}

// New makes a window of size packets: 1 to MaxSize, of which any number is kept
// exactly; larger ones are cut to MaxSize. Size 0 or less is no replay
// protection: every number but 0 is taken, and only the highest is remembered.
func New(size int) *Window {
	w := new(Window)
	if size <= 0 {
		w.off = true
		return w
	}
	w.size = uint64(min(size, MaxSize))
	if n := ringWords(w.size); n > smallRing {
		w.ring = make([]atomic.Uint64, n)
	}
	return w
}

// ringWords is the number of words for a window of size: one more than its
// numbers can lie in, so that no two blocks of the window share a word, and a
// power of two.
func ringWords(size uint64) int {
	need := int(size+wordBits-1)>>wordShift + 1
	n := smallRing
	for n < need {
		n <<= 1
	}
	return n
}

// Size is the number of packets the window covers; 0: no replay protection.
func (w *Window) Size() int {
	if w.off {
		return 0
	}
	return int(w.width())
}

// Top is the highest number that was taken; 0 before the first.
func (w *Window) Top() uint64 { return w.top.Load() }

// Check tells whether seq may be new: it is right of the window, or inside and
// not seen. It is asked before the ICV is verified and changes nothing.
func (w *Window) Check(seq uint64) bool {
	if w.off || seq == 0 {
		return seq != 0
	}
	if w.left(seq) {
		return false
	}
	word, turn := w.place(seq)
	have := word.Load()
	switch ahead(have>>wordBits, turn) {
	case 0:
		return have&bit(seq) == 0
	case 1:
		return false // the word already serves a later block
	}
	return true
}

// Update takes seq after its packet was authenticated. It returns false when
// another packet with that number was faster or the window moved past it in the
// meantime; the packet must then be dropped as a replay.
func (w *Window) Update(seq uint64) bool {
	if seq == 0 {
		return false
	}
	if !w.off && (w.left(seq) || !w.mark(seq)) {
		return false
	}
	for {
		top := w.top.Load()
		if seq <= top || w.top.CompareAndSwap(top, seq) {
			return true
		}
	}
}

// mark sets seq's bit, and says whether it was this call that did.
func (w *Window) mark(seq uint64) bool {
	word, turn := w.place(seq)
	for {
		have := word.Load()
		next := turn<<wordBits | bit(seq)
		switch ahead(have>>wordBits, turn) {
		case 0:
			if have&bit(seq) != 0 {
				return false
			}
			next = have | bit(seq)
		case 1:
			return false
		}
		if word.CompareAndSwap(have, next) {
			return true
		}
	}
}

func (w *Window) width() uint64 {
	if w.size == 0 {
		return DefaultSize
	}
	return w.size
}

// left tells whether seq lies left of the window [top-size+1, top].
func (w *Window) left(seq uint64) bool {
	top := w.top.Load()
	return seq < top && top-seq >= w.width()
}

// place finds seq's word and the turn of the ring that seq's block is in.
func (w *Window) place(seq uint64) (word *atomic.Uint64, turn uint64) {
	block := seq >> wordShift
	if w.ring == nil {
		return &w.small[block%smallRing], block / smallRing & turnMask
	}
	n := uint64(len(w.ring))
	return &w.ring[block&(n-1)], block >> (bits.Len64(n) - 1) & turnMask
}

func bit(seq uint64) uint64 { return 1 << (seq & wordMask) }

// ahead compares turns as serial numbers: 1 when a is later than b, 0 when they
// are equal, -1 when a is earlier.
func ahead(a, b uint64) int {
	if a == b {
		return 0
	}
	if (a-b)&turnMask < 1<<(turnBits-1) {
		return 1
	}
	return -1
}
