package xfrm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"oakley/internal/ipsec"
)

// A policy's priority in the kernel is a number of 32 bits, the lower one looked
// at first. Ours has the flow's order above and, below, how specific its selector
// is, in the order of RFC 4301 section 4.4.1's example and of ipsec.SPD: the
// longer destination prefix, the longer source prefix, a protocol rather than
// none, a destination port, a source port.
//
//	bits 31-18  slot of the order
//	bits 17-0   ((128-dst)*129 + 128-src)*8 + 4 without protocol + 2 without
//	            destination port + 1 without source port
//
// An order has 32 bits and a slot 14. Orders from 61440 to 69631, among which are
// those that connections get (65536 and a little more), have a slot each: order -
// 57344. Below and above, orders share what slots there are; two in use never
// have the same one, and are moved apart.
const (
	specBits  = 18
	slots     = 1 << (32 - specBits)
	exactFrom = 61440
	exactSlot = 4096
	exactTo   = exactFrom + 8192
)

// hint is the slot that an order would have if it were alone.
func hint(order uint32) int {
	switch {
	case order < exactFrom:
		return int(uint64(order) * exactSlot / exactFrom)
	case order < exactTo:
		return int(order-exactFrom) + exactSlot
	}
	first := uint64(exactSlot + exactTo - exactFrom)
	return int(first + (uint64(order)-exactTo)*(slots-first)/(1<<32-exactTo))
}

// The lowest bits of a priority.
const (
	noSrcPort uint32 = 1 << iota
	noDstPort
	noProto
)

func specificity(s *ipsec.Selector) uint32 {
	unless := func(given bool, n uint32) uint32 {
		if given {
			return 0
		}
		return n
	}
	return (uint32(128-s.Dst.Bits())*129+uint32(128-s.Src.Bits()))*8 +
		unless(s.Proto != 0, noProto) + unless(s.DstPort != 0, noDstPort) + unless(s.SrcPort != 0, noSrcPort)
}

// orders gives the orders in use their slots.
type orders struct {
	used []usedOrder // by order, and so by slot
}

type usedOrder struct {
	order uint32
	slot  int
	flows int
}

var errOrders = errors.New("too many orders")

func (o *orders) find(order uint32) (int, bool) {
	return slices.BinarySearchFunc(o.used, order, func(u usedOrder, order uint32) int { return cmp.Compare(u.order, order) })
}

// take counts a flow of an order. moved: other orders have other slots now, and
// their policies other priorities.
func (o *orders) take(order uint32) (moved bool, err error) {
	i, ok := o.find(order)
	if ok {
		o.used[i].flows++
		return false, nil
	}
	if len(o.used) == slots {
		return false, fmt.Errorf("flows with %d different orders: the kernel's priorities have room for %d: %w", slots+1, slots, errOrders)
	}
	low, high := -1, slots // taken by the neighbours
	if i > 0 {
		low = o.used[i-1].slot
	}
	if i < len(o.used) {
		high = o.used[i].slot
	}
	slot := hint(order)
	if slot <= low || slot >= high {
		slot = low + (high-low)/2
	}
	o.used = slices.Insert(o.used, i, usedOrder{order, slot, 1})
	if slot > low && slot < high {
		return false, nil
	}
	for i := range o.used {
		o.used[i].slot = (2*i + 1) * slots / (2 * len(o.used))
	}
	return true, nil
}

// drop counts one flow less.
func (o *orders) drop(order uint32) {
	i, ok := o.find(order)
	if !ok {
		return
	}
	if o.used[i].flows--; o.used[i].flows == 0 {
		o.used = slices.Delete(o.used, i, i+1)
	}
}

// priority of a flow whose order was taken.
func (o *orders) priority(f *ipsec.Flow) uint32 {
	slot := hint(f.Order)
	if i, ok := o.find(f.Order); ok {
		slot = o.used[i].slot
	}
	return uint32(slot)<<specBits | specificity(&f.Selector)
}
