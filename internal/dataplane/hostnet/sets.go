package hostnet

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// Flows of one level are elements of sets: one set and one rule for each shape of
// selector, so that a flow that comes or goes is one element, and a packet is
// looked up in as many sets as there are levels and shapes, however many flows
// there are. A level is a chain.

// element is a selector in a set. Several flows may share it.
type element struct {
	realm    realm
	level    int
	sel      ipsec.Selector
	fragment bool // of fragments without ports
}

// elementBatch is what fits a netlink attribute of 64 KiB.
const elementBatch = 500

// elements are those of an entry. A fragment without ports may belong to a flow
// that protects some.
func elements(from *entry, sel ipsec.Selector) []element {
	e := element{realm: from.realm, level: int(from.level), sel: sel}
	e.sel.Src, e.sel.Dst = e.sel.Src.Masked(), e.sel.Dst.Masked()
	if from.exempt || e.sel.SrcPort|e.sel.DstPort == 0 {
		return []element{e}
	}
	later := e
	later.fragment, later.sel.SrcPort, later.sel.DstPort = true, 0, 0
	return []element{e, later}
}

// shape names what the elements of a set have in common.
func (e *element) shape() string {
	family := 4
	if e.sel.Dst.Addr().Is6() {
		family = 6
	}
	name := fmt.Sprintf("%d_%d_%d_%d", e.level, family, e.sel.Src.Bits(), e.sel.Dst.Bits())
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
	size, family := uint32(4), byte(unix.NFPROTO_IPV4)
	if e.sel.Dst.Addr().Is6() {
		size, family = 16, unix.NFPROTO_IPV6
	}
	all := is(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, family)
	if e.fragment {
		all = append(all, laterFragment(size == 16)...)
	}
	reg := uint32(firstRegister)
	for i, p := range []netip.Prefix{e.sel.Src, e.sel.Dst} {
		all = append(all, masked(p, i == 0, reg)...)
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

// large are the lengths of prefixes that contain networks which this host may be
// in, and parts that no flow of theirs is about.
const large = 16

// spare leaves those parts out. It is asked of packets that are in the set.
func (f *filter) spare(e *element) (all []expr.Any) {
	for _, p := range leftAlone {
		for _, side := range []struct {
			src bool
			of  netip.Prefix
		}{{true, e.sel.Src}, {false, e.sel.Dst}} {
			switch {
			case p.Addr().Is6() != side.of.Addr().Is6() || side.of.Bits() >= p.Bits() || side.of.Bits() > large:
				continue
			case side.src && p.Addr().IsMulticast():
				continue
			}
			all = append(all, masked(p, side.src, 1)...)
			all = append(all, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: p.Addr().AsSlice()})
		}
	}
	if f.fib && e.sel.Src.Addr().Is4() && max(e.sel.Src.Bits(), e.sel.Dst.Bits()) <= large {
		all = append(all, broadcast(e.realm == filterIn, expr.CmpOpNeq)...)
	}
	return all
}

// broadcast asks whether everybody in the network of the interface that a packet
// comes by or leaves by is meant.
func broadcast(in bool, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true, FlagIIF: in, FlagOIF: !in},
		&expr.Cmp{Op: op, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_BROADCAST)},
	}
}

// masked loads source or destination without its host bits.
func masked(p netip.Prefix, src bool, reg uint32) []expr.Any {
	size, offset := uint32(4), uint32(16)
	if p.Addr().Is6() {
		size, offset = 16, 24
	}
	if src {
		offset -= size
	}
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: size, Mask: maskOf(p.Bits(), int(size)), Xor: make([]byte, size)},
	}
}

func maskOf(bits, size int) []byte {
	mask := make([]byte, size)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// roomForEmpty is how many sets without elements a chain may have, besides as
// many as have some.
const roomForEmpty = 8

// chainOf is the chain of e's level.
func (f *filter) chainOf(r realm, level int) *nftables.Chain {
	return &nftables.Chain{Name: fmt.Sprintf("%s_%d", f.root(r), level), Table: f.table}
}

// root is the name of the chain that asks the levels' one after the other; f.gen
// keeps it apart from a predecessor's.
func (f *filter) root(r realm) string {
	return fmt.Sprintf("g%d_%s", f.gen, r)
}

// kit is a set with its rule.
type kit struct {
	set   *nftables.Set
	first element // any of its shape
	n     int     // elements
}

// kitKey names one.
type kitKey struct {
	realm realm
	shape string
}

// delta is what a change does to a kit.
type delta struct {
	come, leave []nftables.SetElement
}

// change puts elements in and takes others out, in one transaction. ipip: IP in
// IP comes in from now on.
func (f *filter) change(come, leave []element, ipip bool) error {
	live := f.live + len(come) - len(leave)
	switch {
	case len(come)+len(leave) == 0 && ipip == f.ipip:
		return nil
	case live == 0 && f.old == nil:
		return f.drop()
	}
	fresh, touched := map[kitKey]*kit{}, map[kitKey]*delta{}
	tops := f.tops
	for i := range come {
		e := &come[i]
		key := kitKey{e.realm, e.shape()}
		if touched[key] == nil {
			touched[key] = &delta{}
		}
		touched[key].come = append(touched[key].come, nftables.SetElement{Key: e.key()})
		if f.kits[key] != nil || fresh[key] != nil {
			continue
		}
		t, err := e.keyType()
		if err != nil {
			return fmt.Errorf("nftables: set %s: %w", key.shape, err)
		}
		fresh[key] = &kit{set: &nftables.Set{Table: f.table, Name: f.root(e.realm) + "_" + key.shape, KeyType: t}, first: *e}
		tops[e.realm] = max(tops[e.realm], e.level)
	}
	for i := range leave {
		e := &leave[i]
		key := kitKey{e.realm, e.shape()}
		if touched[key] == nil {
			touched[key] = &delta{}
		}
		touched[key].leave = append(touched[key].leave, nftables.SetElement{Key: e.key()})
	}
	if !f.made || ipip != f.ipip {
		f.base(ipip)
	}
	for _, r := range []realm{filterIn, filterOut} {
		root := &nftables.Chain{Name: f.root(r), Table: f.table}
		for level := f.tops[r] + 1; level <= tops[r]; level++ {
			f.rule(root, jump(f.nft.AddChain(f.chainOf(r, level)).Name))
		}
	}
	for key, t := range fresh {
		if err := f.nft.AddSet(t.set, nil); err != nil {
			return fmt.Errorf("nftables: set %s: %w", key.shape, err)
		}
		f.ask(t)
	}
	counts := map[kitKey]int{}
	for key, d := range touched {
		t := cmp.Or(f.kits[key], fresh[key])
		counts[key] = t.n + len(d.come) - len(d.leave)
		for part := range slices.Chunk(d.come, elementBatch) {
			if err := f.nft.SetAddElements(t.set, part); err != nil {
				return fmt.Errorf("nftables: set %s: %w", key.shape, err)
			}
		}
		for part := range slices.Chunk(d.leave, elementBatch) {
			if err := f.nft.SetDeleteElements(t.set, part); err != nil {
				return fmt.Errorf("nftables: set %s: %w", key.shape, err)
			}
		}
	}
	if err := f.nft.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	maps.Copy(f.kits, fresh)
	for key, n := range counts {
		f.kits[key].n = n
	}
	f.made, f.ipip, f.live, f.tops = true, ipip, live, tops
	f.tidy()
	return nil
}

// ask puts the rule of a set into its level's chain.
func (f *filter) ask(t *kit) {
	c, match := f.chainOf(t.first.realm, t.first.level), t.first.match(t.set)
	if exempting(t.first.level) {
		f.rule(c, match, accept())
		return
	}
	f.rule(c, match, f.spare(&t.first), f.drops())
}

// tidy removes sets that nobody needs any more, when they are so many that packets
// would mind. If that cannot be, they do no harm.
func (f *filter) tidy() {
	empty := 0
	for _, t := range f.kits {
		if t.n == 0 {
			empty++
		}
	}
	if empty <= roomForEmpty || 2*empty <= len(f.kits) {
		return
	}
	type chain struct {
		realm realm
		level int
	}
	done := map[chain]bool{}
	for _, t := range f.kits {
		if c := (chain{t.first.realm, t.first.level}); t.n == 0 && !done[c] {
			done[c] = true
			f.nft.FlushChain(f.chainOf(c.realm, c.level))
		}
	}
	for _, t := range f.kits {
		switch {
		case t.n == 0:
			f.nft.DelSet(t.set)
		case done[chain{t.first.realm, t.first.level}]:
			f.ask(t)
		}
	}
	if f.nft.Flush() == nil {
		maps.DeleteFunc(f.kits, func(_ kitKey, t *kit) bool { return t.n == 0 })
	}
}

// isRoot tells whether a chain is some generation's root of a realm.
func isRoot(name string, r realm) bool {
	var gen int
	var rest string
	n, err := fmt.Sscanf(name, "g%d_%s", &gen, &rest)
	return err == nil && n == 2 && rest == r.String()
}
