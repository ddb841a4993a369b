package userspace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// Packet-filter rules, in a table of our own. Chain clear_in drops what a flow
// protects and did not come out of our device; it is asked for packets to this
// host and for forwarded ones. Chain clear_out drops what a flow protects and
// would leave by another device without our mark: routes see to it that there is
// no such packet; if somebody breaks the routes, there is silence instead of a
// leak. The table stays when the process dies.

const filterTable = "oakley"

// socketBuffer is for transactions with many flows, in bytes.
const socketBuffer = 32 << 20

type filter struct {
	nft   *nftables.Conn
	table *nftables.Table
	dev   string
	mark  uint32
	ports []uint16 // of IKE and ESP in UDP, which come in clear by nature
	made  bool
	old   map[string][]*nftables.Rule // by chain, a predecessor's
	held  []heldSet                   // the sets of its rules
	gen   int                         // number in the names of our sets
	sets  map[string]*nftables.Set
	count map[element]int // flows of an element
}

func newFilter(dev string, mark uint32, encapPort uint16) (*filter, error) {
	nft, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		_ = c.SetWriteBuffer(socketBuffer) // with the default, fewer flows fit a transaction
		_ = c.SetReadBuffer(socketBuffer)
		return nil
	}))
	if err != nil {
		return nil, err
	}
	f := &filter{
		nft: nft, dev: dev, mark: mark, ports: []uint16{500, encapPort},
		table: &nftables.Table{Name: filterTable, Family: nftables.TableFamilyINet},
	}
	if err := f.findOld(); err != nil {
		_ = nft.CloseLasting()
		return nil, err
	}
	return f, nil
}

// heldSet is a predecessor's.
type heldSet struct {
	set  *nftables.Set
	list []nftables.SetElement
}

const (
	chainIn  = "clear_in"
	chainOut = "clear_out"
)

// findOld reads the rules of a predecessor that died.
func (f *filter) findOld() error {
	tables, err := f.nft.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Name != filterTable {
			continue
		}
		f.made = true
		f.old = map[string][]*nftables.Rule{}
		for _, name := range []string{chainIn, chainOut} {
			rules, err := f.nft.GetRules(f.table, &nftables.Chain{Name: name, Table: f.table})
			if err != nil {
				continue // the table is a stranger's, or half made: nothing to keep
			}
			f.old[name] = rules
		}
		sets, err := f.nft.GetSets(f.table)
		if err != nil {
			return err
		}
		for _, s := range sets {
			list, err := f.nft.GetSetElements(s)
			if err != nil {
				return err
			}
			s.Table, s.ID = f.table, 0
			f.held = append(f.held, heldSet{s, list})
			var gen int
			if _, err := fmt.Sscanf(s.Name, "g%d_", &gen); err == nil {
				f.gen = max(f.gen, gen+1)
			}
		}
	}
	return nil
}

func (f *filter) hasOld() bool { return f.old != nil }

func (f *filter) forget() { f.old, f.held = nil, nil }

// set replaces the whole table in one transaction. ordered: the flows' order, in
// which they come, matters.
func (f *filter) set(flows []ipsec.Flow, ordered bool) error {
	sets, count := f.sets, f.count
	f.sets, f.count = map[string]*nftables.Set{}, map[element]int{}
	err := f.replace(flows, ordered)
	if err != nil {
		f.sets, f.count = sets, count
	}
	return err
}

func (f *filter) replace(flows []ipsec.Flow, ordered bool) error {
	if f.made {
		f.nft.DelTable(f.table)
	}
	if len(flows) == 0 && !f.hasOld() {
		if err := f.nft.Flush(); err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
		f.made = false
		return nil
	}
	f.nft.AddTable(f.table)
	in, out := f.chain(chainIn, nil, 0), f.chain(chainOut, nil, 0)
	for i := range f.held {
		h := &f.held[i]
		h.set.ID = 0 // a new one
		if err := f.nft.AddSet(h.set, nil); err != nil {
			return fmt.Errorf("nftables: set %s of a predecessor: %w", h.set.Name, err)
		}
		for part := range slices.Chunk(h.list, elementBatch) {
			if err := f.nft.SetAddElements(h.set, part); err != nil {
				return fmt.Errorf("nftables: set %s of a predecessor: %w", h.set.Name, err)
			}
		}
	}
	var inOrder, inSets []ipsec.Flow
	if ordered {
		inOrder = flows
	} else {
		inSets = flows
	}
	f.fill(in, withLocal(inOrder, ipsec.In))
	f.fill(out, withLocal(inOrder, ipsec.Out))
	done, err := f.queue(nil, inSets)
	if err != nil {
		return err
	}

	input := f.chain("input", nftables.ChainHookInput, -10)
	forward := f.chain("forward", nftables.ChainHookForward, -10)
	post := f.chain("postrouting", nftables.ChainHookPostrouting, -150) // before addresses are translated
	// What came out of the tunnel, or is on its way into it or out as ESP, is most
	// of the traffic: it meets no other rule.
	f.rule(input, "", iface(expr.MetaKeyIIFNAME, expr.CmpOpEq, f.dev), accept())
	f.rule(forward, "", iface(expr.MetaKeyIIFNAME, expr.CmpOpEq, f.dev), accept())
	f.rule(post, "", markIs(f.mark), accept())
	f.rule(post, "", iface(expr.MetaKeyOIFNAME, expr.CmpOpEq, f.dev), accept())
	f.rule(input, "", iface(expr.MetaKeyIIFNAME, expr.CmpOpEq, "lo"), accept())
	for _, p := range sealed(flows) {
		f.rule(input, "", l4proto(p), accept())
	}
	for _, p := range f.ports {
		f.rule(input, "", l4proto(unix.IPPROTO_UDP), port(2, p), accept())
	}
	f.rule(input, "", jump(chainIn))
	f.rule(forward, "", jump(chainIn))
	f.rule(post, "", iface(expr.MetaKeyOIFNAME, expr.CmpOpEq, "lo"), accept())
	f.rule(post, "", jump(chainOut))
	if err := f.nft.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	done()
	f.made = true
	return nil
}

// sealed are the protocols of outer packets, which a flow between two hosts
// matches as well. IP in IP protects nothing: it comes in where a flow has it.
func sealed(flows []ipsec.Flow) []uint8 {
	all := []uint8{unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_COMP}
	if slices.ContainsFunc(flows, func(f ipsec.Flow) bool { return f.Proto == ipsec.ProtoIPIP && f.Type != ipsec.FlowBypass }) {
		all = append(all, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6)
	}
	return all
}

func (f *filter) close() error {
	err := f.set(nil, false)
	_ = f.nft.CloseLasting()
	return err
}

func (f *filter) chain(name string, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	c := &nftables.Chain{Name: name, Table: f.table}
	if hook != nil {
		policy := nftables.ChainPolicyAccept
		c.Type, c.Hooknum, c.Priority, c.Policy = nftables.ChainTypeFilter, hook, &priority, &policy
	}
	return f.nft.AddChain(c)
}

// fill writes the flows' rules, and behind them a predecessor's.
func (f *filter) fill(c *nftables.Chain, flows []ipsec.Flow) {
	for _, t := range []uint8{133, 134, 135, 136, 137} { // neighbours and routers of a link, never forwarded
		f.rule(c, "", l4proto(unix.IPPROTO_ICMPV6), is(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1}, t), back())
	}
	for _, p := range linkScope {
		f.rule(c, "", addr(p, false), back())
	}
	for i := range flows {
		fl := &flows[i]
		if mayClear(fl.Type) {
			f.rule(c, string(fl.ID), selector(fl.Selector, false), back())
			continue
		}
		f.rule(c, string(fl.ID), selector(fl.Selector, false), drop())
		if s := fl.Selector; s.SrcPort|s.DstPort != 0 {
			// A fragment without ports may belong to such a flow.
			f.rule(c, string(fl.ID)+" (fragments)", selector(s, true), drop())
		}
	}
	for _, r := range f.old[c.Name] {
		f.nft.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: r.Exprs, UserData: r.UserData})
	}
}

// linkScope are destinations that never leave a link and that no tunnel carries.
var linkScope = []netip.Prefix{
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("224.0.0.0/24"), netip.MustParsePrefix("ff02::/16"),
}

func (f *filter) rule(c *nftables.Chain, comment string, parts ...[]expr.Any) {
	r := &nftables.Rule{Table: f.table, Chain: c, Exprs: concat(parts...)}
	if comment != "" {
		r.UserData = userdata.AppendString(nil, userdata.TypeComment, comment[:min(len(comment), 120)])
	}
	f.nft.AddRule(r)
}

func concat(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// is loads something and compares it with a value.
func is(load expr.Any, value ...byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

func iface(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: b}}
}

func markIs(mark uint32) []expr.Any {
	return is(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, binaryutil.NativeEndian.PutUint32(mark)...)
}

func l4proto(p uint8) []expr.Any { return is(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, p) }

// port compares the port at an offset of the transport header.
func port(offset uint32, p uint16) []expr.Any {
	return is(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}, byte(p>>8), byte(p))
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
func accept() []expr.Any                       { return verdict(expr.VerdictAccept) }
func back() []expr.Any                         { return verdict(expr.VerdictReturn) }
func drop() []expr.Any                         { return concat([]expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop)) }

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// addr compares source or destination with a prefix, and the family with it.
func addr(p netip.Prefix, src bool) []expr.Any {
	size, offset, family := uint32(4), uint32(16), byte(unix.NFPROTO_IPV4)
	if src {
		offset = 12
	}
	if p.Addr().Is6() {
		size, offset, family = 16, 24, unix.NFPROTO_IPV6
		if src {
			offset = 8
		}
	}
	all := is(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, family)
	if p.Bits() == 0 {
		return all
	}
	mask := maskOf(p.Bits(), int(size))
	return append(all,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// selector matches a flow's packets; fragments: instead of ports, fragments that
// are not the first.
func selector(s ipsec.Selector, fragments bool) []expr.Any {
	all := concat(addr(s.Src, true), addr(s.Dst, false))
	if s.Proto != 0 {
		all = append(all, l4proto(s.Proto)...)
	}
	if fragments {
		return append(all, laterFragment(s.Dst.Addr().Is6())...)
	}
	if s.SrcPort != 0 {
		all = append(all, port(0, s.SrcPort)...)
	}
	if s.DstPort != 0 {
		all = append(all, port(2, s.DstPort)...)
	}
	return all
}

func laterFragment(v6 bool) []expr.Any {
	var load expr.Any = &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2}
	mask := binary.BigEndian.AppendUint16(nil, 0x1fff)
	if v6 {
		load = &expr.Exthdr{DestRegister: 1, Type: 44, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}
		mask = binary.BigEndian.AppendUint16(nil, 0xfff8)
	}
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: mask, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	}
}
