package show

import (
	"fmt"
	"io"
	"net/netip"

	"oakley/internal/ipsec"
)

// Encap prints the Encap table: the flows, in their order, and the SA that each
// uses now, the newest of those that serve it. A flow that has none shows an SPI
// of zero.
func Encap(w io.Writer, flows []ipsec.Flow, sas []ipsec.SAState) {
	flows = append([]ipsec.Flow(nil), flows...)
	SortFlows(flows)
	uses := whoServes(sas)
	rows := make([][6]string, 0, len(flows)+1)
	rows = append(rows, [6]string{"Source", "Port", "Destination", "Port", "Proto", "SA(Address/SPI/Proto/Type/Direction)"})
	for i := range flows {
		f, s := &flows[i], &flows[i].Selector
		none := "any" // a peer that may be anywhere
		if !protects(f.Type) {
			none = "none"
		}
		rows = append(rows, [6]string{
			s.Src.String(), fmt.Sprint(s.SrcPort), s.Dst.String(), fmt.Sprint(s.DstPort), fmt.Sprint(s.Proto),
			fmt.Sprintf("%s/%s/%d/%s/%s", addr(f.Remote, none), uses.spi(f), uint8(f.Proto), f.Type, f.Dir),
		})
	}
	width := [5]int{18, 5, 18, 5, 5}
	for _, r := range rows {
		for i := range width {
			width[i] = max(width[i], len(r[i]))
		}
	}
	_, _ = io.WriteString(w, "Routing tables\n\nEncap:\n")
	for _, r := range rows {
		var p page
		for i, n := range width {
			p.printf("%-*s ", n, r[i])
		}
		p.printf("%s\n", r[5])
		p.to(w)
	}
}

// duty is what SAs that name no flow are chosen by.
type duty struct {
	dir   ipsec.Direction
	proto ipsec.Proto
	owner ipsec.Owner
	peer  netip.Addr
}

// bundle names SAs that belong together.
type bundle struct {
	dir   ipsec.Direction
	id    uint64
	owner ipsec.Owner
	conn  string
}

func bundleOf(sa *ipsec.SA) bundle {
	return bundle{sa.ID.Dir, sa.Bundle.ID, sa.Owner, sa.Conn}
}

// serving is the newest SA of each flow and of each duty.
type serving struct {
	byFlow map[ipsec.FlowID]*ipsec.SAState
	byDuty map[duty]*ipsec.SAState
}

func whoServes(sas []ipsec.SAState) serving {
	s := serving{map[ipsec.FlowID]*ipsec.SAState{}, map[duty]*ipsec.SAState{}}
	there := map[bundle]int{}
	for i := range sas {
		there[bundleOf(&sas[i].SA)]++
	}
	for i := range sas {
		st := &sas[i]
		sa := &st.SA
		// A flow asks the innermost of a bundle, and not before all are there.
		if sa.Bundle.Of > 1 && (sa.Bundle.Index != 0 || there[bundleOf(sa)] < int(sa.Bundle.Of)) {
			continue
		}
		if sa.Flow != "" {
			newest(s.byFlow, sa.Flow, st)
			continue
		}
		d := duty{sa.ID.Dir, sa.ID.Proto, sa.Owner, sa.ID.Dst}
		if sa.ID.Dir == ipsec.In {
			d.peer = sa.Src
		}
		newest(s.byDuty, d, st)
		if sa.ID.Dir == ipsec.In { // a flow from a peer that may be anywhere takes it too
			d.peer = netip.Addr{}
			newest(s.byDuty, d, st)
		}
	}
	return s
}

func newest[K comparable](m map[K]*ipsec.SAState, k K, st *ipsec.SAState) {
	if was := m[k]; was == nil || compareSAs(was, st) < 0 {
		m[k] = st
	}
}

// spi is that of the SA that a flow uses; zeros: there is none.
func (s serving) spi(f *ipsec.Flow) ipsec.SPI {
	if !protects(f.Type) {
		return 0
	}
	st := s.byFlow[f.ID]
	if st == nil {
		st = s.byDuty[duty{f.Dir, f.Proto, f.Owner, f.Remote}]
	}
	if st == nil {
		return 0
	}
	return st.SA.ID.SPI
}
