package replay

import "math"

// Extend infers the 64-bit sequence number of a packet that carries its low
// half (RFC 4303 appendix A2.2): the one that lies in the window or, failing
// that, the next one above it. The ICV, which covers the high half, then proves
// the guess right or wrong. It is false when the number would lie beyond 2^64.
//
// Before the first 2^32 numbers are used up there is no earlier half to infer,
// and a low half left of the start is taken as a number far ahead. Without
// replay protection the number nearest to the highest one is inferred.
func (w *Window) Extend(low uint32) (seq uint64, ok bool) {
	top := w.top.Load()
	high, topLow := top>>32, uint32(top)
	reach := uint32(1 << 31)
	if !w.off {
		reach = uint32(w.width())
	}
	bottom := topLow - reach + 1 // modulo 2^32, as the appendix has it
	switch {
	case topLow >= reach-1: // case A: the window lies in one half
		if low < bottom {
			if high == math.MaxUint32 {
				return 0, false
			}
			high++
		}
	case low >= bottom && high > 0: // case B: low is in the earlier part
		high--
	}
	return high<<32 | uint64(low), true
}
