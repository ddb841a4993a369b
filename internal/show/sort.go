package show

import (
	"cmp"
	"slices"

	"oakley/internal/ipsec"
)

// SortSAs puts SAs in the order in which they are printed: the oldest first, and
// of those that came together by destination, protocol and SPI.
func SortSAs(sas []ipsec.SAState) {
	slices.SortFunc(sas, func(a, b ipsec.SAState) int { return compareSAs(&a, &b) })
}

// compareSAs is the order of age; among equals any, but always the same.
func compareSAs(a, b *ipsec.SAState) int {
	x, y := &a.SA.ID, &b.SA.ID
	return cmp.Or(
		a.Added.Compare(b.Added), x.Dst.Compare(y.Dst), cmp.Compare(x.Proto, y.Proto), cmp.Compare(x.SPI, y.SPI),
		cmp.Compare(x.Port, y.Port), cmp.Compare(x.Dir, y.Dir),
	)
}

// SortFlows puts flows in the order in which they are printed: by their order
// number, and of those with the same one the two directions of a pair of networks
// together, the incoming one first.
func SortFlows(flows []ipsec.Flow) {
	slices.SortFunc(flows, func(a, b ipsec.Flow) int { return compareFlows(&a, &b) })
}

func compareFlows(a, b *ipsec.Flow) int {
	x, y := outward(a), outward(b)
	return cmp.Or(
		cmp.Compare(a.Order, b.Order),
		x.Src.Compare(y.Src), x.Dst.Compare(y.Dst), cmp.Compare(x.Proto, y.Proto),
		cmp.Compare(x.SrcPort, y.SrcPort), cmp.Compare(x.DstPort, y.DstPort),
		-cmp.Compare(a.Dir, b.Dir), cmp.Compare(a.ID, b.ID),
	)
}

// outward is a flow's selector as packets that leave would have it.
func outward(f *ipsec.Flow) ipsec.Selector {
	if f.Dir == ipsec.In {
		return f.Selector.Reverse()
	}
	return f.Selector
}
