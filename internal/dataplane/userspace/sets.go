package userspace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// Flows among which order does not matter, since all of them forbid clear text,
// are elements of sets: one set and one rule for each shape of selector, so that
// a flow that comes or goes is one element, and a packet is looked up in as many
// sets as there are shapes, however many flows there are.

// element is a selector in a set. Several flows may share it.
type element struct {
	chain    string
	sel      ipsec.Selector
	fragment bool // of fragments without ports
}

// elementBatch is what fits a netlink attribute of 64 KiB.
const elementBatch = 500

// elements are those of a flow that forbids clear text.
func elements(f *ipsec.Flow) []element {
	e := element{chain: chainOut, sel: f.Selector}
	if f.Dir == ipsec.In {
		e.chain = chainIn
	}
	e.sel.Src, e.sel.Dst = e.sel.Src.Masked(), e.sel.Dst.Masked()
	if e.sel.SrcPort|e.sel.DstPort == 0 {
		return []element{e}
	}
	later := e
	later.fragment, later.sel.SrcPort, later.sel.DstPort = true, 0, 0
	return []element{e, later}
}

// shapeName names the set of e; gen keeps it apart from a predecessor's.
func (e *element) shapeName(gen int) string {
	family := 4
	if e.sel.Dst.Addr().Is6() {
		family = 6
	}
	name := fmt.Sprintf("g%d_%s_%d_%d_%d", gen, strings.TrimPrefix(e.chain, "clear_"), family, e.sel.Src.Bits(), e.sel.Dst.Bits())
	for _, has := range []struct {
		is   bool
		what string
	}{{e.sel.Proto != 0, "_proto"}, {e.sel.SrcPort != 0, "_sport"}, {e.sel.DstPort != 0, "_dport"}, {e.fragment, "_frag"}} {
		if has.is {
			name += has.what
		}
	}
	return name
}

// key is e's in its set: every part takes whole registers of four bytes.
func (e *element) key() []byte {
	k := append(e.sel.Src.Addr().AsSlice(), e.sel.Dst.Addr().AsSlice()...)
	if e.sel.Proto != 0 {
		k = append(k, e.sel.Proto, 0, 0, 0)
	}
	for _, p := range []uint16{e.sel.SrcPort, e.sel.DstPort} {
		if p != 0 {
			k = append(k, byte(p>>8), byte(p), 0, 0)
		}
	}
	return k
}

func (e *element) keyType() (nftables.SetDatatype, error) {
	address := nftables.TypeIPAddr
	if e.sel.Dst.Addr().Is6() {
		address = nftables.TypeIP6Addr
	}
	parts := []nftables.SetDatatype{address, address}
	if e.sel.Proto != 0 {
		parts = append(parts, nftables.TypeInetProto)
	}
	for _, p := range []uint16{e.sel.SrcPort, e.sel.DstPort} {
		if p != 0 {
			parts = append(parts, nftables.TypeInetService)
		}
	}
	return nftables.ConcatSetType(parts...)
}

// firstRegister is the first of 16 registers of four bytes.
const firstRegister = 8 // NFT_REG32_00

// match loads what e's set has keys of, and looks it up there.
func (e *element) match(set *nftables.Set) []expr.Any {
	size, src, family := uint32(4), uint32(12), byte(unix.NFPROTO_IPV4)
	if e.sel.Dst.Addr().Is6() {
		size, src, family = 16, 8, unix.NFPROTO_IPV6
	}
	all := is(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, family)
	if e.fragment {
		all = append(all, laterFragment(size == 16)...)
	}
	reg := uint32(firstRegister)
	for i, p := range []netip.Prefix{e.sel.Src, e.sel.Dst} {
		all = append(
			all,
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: src + uint32(i)*size, Len: size},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: size, Mask: maskOf(p.Bits(), int(size)), Xor: make([]byte, size)},
		)
		reg += size / 4
	}
	if e.sel.Proto != 0 {
		all = append(all, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
		reg++
	}
	for i, p := range []uint16{e.sel.SrcPort, e.sel.DstPort} {
		if p != 0 {
			all = append(all, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: uint32(2 * i), Len: 2})
			reg++
		}
	}
	return append(all, &expr.Lookup{SourceRegister: firstRegister, SetName: set.Name, SetID: set.ID})
}

func maskOf(bits, size int) []byte {
	mask := make([]byte, size)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// change puts elements in and takes them out, in one transaction, after which
// the flows in add are there and those in remove are not.
func (f *filter) change(remove, add []ipsec.Flow) error {
	next, err := f.queue(remove, add)
	if err != nil {
		return err
	}
	if err := f.nft.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	next()
	return nil
}

// queue queues messages. What it returns is to be called when the kernel took them.
func (f *filter) queue(remove, add []ipsec.Flow) (func(), error) {
	count := map[element]int{} // of the elements that are touched
	touch := func(flows []ipsec.Flow, by int) {
		for i := range flows {
			for _, e := range elements(&flows[i]) {
				if _, ok := count[e]; !ok {
					count[e] = f.count[e]
				}
				count[e] += by
			}
		}
	}
	touch(remove, -1)
	touch(add, 1)
	sets := map[string]*nftables.Set{} // new ones
	come, leave := map[*nftables.Set][]nftables.SetElement{}, map[*nftables.Set][]nftables.SetElement{}
	for e, n := range count {
		if (n > 0) == (f.count[e] > 0) {
			continue
		}
		name := e.shapeName(f.gen)
		set := cmp.Or(f.sets[name], sets[name])
		if set == nil {
			t, err := e.keyType()
			if err != nil {
				return nil, fmt.Errorf("nftables: set %s: %w", name, err)
			}
			set = &nftables.Set{Table: f.table, Name: name, KeyType: t}
			if err := f.nft.AddSet(set, nil); err != nil {
				return nil, fmt.Errorf("nftables: set %s: %w", name, err)
			}
			f.rule(&nftables.Chain{Name: e.chain, Table: f.table}, "", e.match(set), drop())
			sets[name] = set
		}
		if n > 0 {
			come[set] = append(come[set], nftables.SetElement{Key: e.key()})
		} else {
			leave[set] = append(leave[set], nftables.SetElement{Key: e.key()})
		}
	}
	for set, list := range come {
		for part := range slices.Chunk(list, elementBatch) {
			if err := f.nft.SetAddElements(set, part); err != nil {
				return nil, err
			}
		}
	}
	for set, list := range leave {
		for part := range slices.Chunk(list, elementBatch) {
			if err := f.nft.SetDeleteElements(set, part); err != nil {
				return nil, err
			}
		}
	}
	return func() {
		for name, set := range sets {
			f.sets[name] = set
		}
		for e, n := range count {
			if n > 0 {
				f.count[e] = n
			} else {
				delete(f.count, e)
			}
		}
	}, nil
}
