package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Packet-filter rules, in a table of our own. Chain input drops what a flow
// protects and did not come out of our device, for packets to this host, and
// forward for the others. Chain postrouting drops what a flow protects and would
// leave by another device without our mark: routes see to it that there is no such
// packet; if somebody breaks the routes, there is silence instead of a leak. The
// table stays when the process dies, and so does what its successor finds there,
// beside its own, until the grace is over.

// socketBuffer is for transactions with many flows, in bytes.
const socketBuffer = 32 << 20

type filter struct {
	nft   *nftables.Conn
	table *nftables.Table
	dev   string
	mark  uint32
	ports []uint16 // of IKE and ESP in UDP, which come in clear by nature
	fib   bool     // the kernel's filter can look up an address
	count bool     // ... and has counters that rules share
	made  bool     // the table and our chains are there
	ipip  bool     // IP in IP comes in
	gen   int      // number in the names of our chains and sets
	kits  map[kitKey]*kit
	tops  [realms]int // levels that have chains
	live  int         // elements
	old   *leftover   // nil: none
	// What the counter said when its table was found, and what counters of tables
	// that are gone have counted.
	seen, before uint64
}

// leftover is a predecessor's part of the table.
type leftover struct {
	chains, sets []string
}

func newFilter(dev string, mark uint32, encapPort uint16, name string) (*filter, error) {
	nft, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		_ = c.SetWriteBuffer(socketBuffer) // with the default, fewer flows fit a transaction
		_ = c.SetReadBuffer(socketBuffer)
		return nil
	}))
	if err != nil {
		return nil, err
	}
	f := &filter{
		nft: nft, dev: dev, mark: mark, ports: []uint16{500, encapPort}, kits: map[kitKey]*kit{},
		table: &nftables.Table{Name: name, Family: nftables.TableFamilyINet},
	}
	if err := f.findOld(); err != nil {
		_ = nft.CloseLasting()
		return nil, err
	}
	f.fib = f.can(nil, broadcast(true, expr.CmpOpNeq))
	f.count = f.can(f.counter(), refuse())
	return f, nil
}

// can tries a rule, in a table that goes in the same transaction: small kernels
// lack parts of the filter.
func (f *filter) can(o *nftables.CounterObj, rule []expr.Any) bool {
	try := f.nft.AddTable(&nftables.Table{Name: f.table.Name + "_try", Family: f.table.Family})
	c := f.nft.AddChain(&nftables.Chain{Name: "try", Table: try})
	if o != nil {
		o.Table = try
		f.nft.AddObj(o)
	}
	f.nft.AddRule(&nftables.Rule{Table: try, Chain: c, Exprs: rule})
	f.nft.DelTable(try)
	return f.nft.Flush() == nil
}

// findOld reads the names of what a predecessor that died has left.
func (f *filter) findOld() error {
	all, err := f.nft.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(t *nftables.Table) bool { return t.Name == f.table.Name }) {
		return nil
	}
	chains, err := f.nft.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	sets, err := f.nft.GetSets(f.table)
	if err != nil {
		return err
	}
	f.seen, _ = f.counted() // what cannot be read has counted nothing of ours
	f.old = &leftover{}
	keep := func(list *[]string, name string) {
		var gen int
		if _, err := fmt.Sscanf(name, "g%d_", &gen); err == nil {
			f.gen = max(f.gen, gen+1)
			*list = append(*list, name)
		}
	}
	for _, c := range chains {
		if c.Table.Name == f.table.Name {
			keep(&f.old.chains, c.Name)
		}
	}
	for _, s := range sets {
		keep(&f.old.sets, s.Name)
	}
	return nil
}

func (f *filter) hasOld() bool { return f.old != nil }

// sweep removes what a predecessor left.
func (f *filter) sweep() error {
	if f.old == nil {
		return nil
	}
	old := f.old
	if f.live == 0 {
		return f.drop()
	}
	f.old = nil
	f.base(f.ipip)
	for _, name := range old.chains {
		f.nft.FlushChain(&nftables.Chain{Name: name, Table: f.table})
	}
	for _, name := range old.chains {
		f.nft.DelChain(&nftables.Chain{Name: name, Table: f.table})
	}
	for _, name := range old.sets {
		f.nft.DelSet(&nftables.Set{Name: name, Table: f.table})
	}
	if err := f.nft.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		f.old = old
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// drop removes the table.
func (f *filter) drop() error {
	f.settleCount()
	f.nft.DelTable(f.table)
	if err := f.nft.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables: %w", err)
	}
	f.lost()
	return nil
}

// lost says that the table is not there any more.
func (f *filter) lost() {
	f.seen = 0
	f.made, f.ipip, f.live, f.kits, f.tops, f.old = false, false, 0, map[kitKey]*kit{}, [realms]int{}, nil
}

// base writes what is the same for all packets: what came out of the tunnel, or
// is on its way into it or out as ESP, is most of the traffic, and meets no other
// rule.
func (f *filter) base(ipip bool) {
	f.nft.AddTable(f.table)
	if f.count {
		f.nft.AddObj(f.counter())
	}
	input := f.chain("input", nftables.ChainHookInput, -10)
	forward := f.chain("forward", nftables.ChainHookForward, -10)
	post := f.chain("postrouting", nftables.ChainHookPostrouting, -150) // before addresses are translated
	for _, c := range []*nftables.Chain{input, forward, post} {
		f.nft.FlushChain(c)
	}
	f.rule(input, iface(expr.MetaKeyIIFNAME, f.dev), accept())
	f.rule(forward, iface(expr.MetaKeyIIFNAME, f.dev), accept())
	f.rule(post, markIs(f.mark), accept())
	f.rule(post, iface(expr.MetaKeyOIFNAME, f.dev), accept())
	f.rule(input, iface(expr.MetaKeyIIFNAME, "lo"), accept())
	for _, p := range sealed(ipip) {
		f.rule(input, l4proto(p), accept())
	}
	for _, p := range f.ports {
		f.rule(input, l4proto(unix.IPPROTO_UDP), port(2, p), accept())
	}
	f.rule(input, neighbours(), accept())
	f.rule(post, iface(expr.MetaKeyOIFNAME, "lo"), accept())
	f.rule(post, neighbours(), accept())
	for _, at := range []struct {
		from  *nftables.Chain
		realm realm
	}{{input, filterIn}, {forward, filterIn}, {post, filterOut}} {
		root := f.chain(f.root(at.realm), nil, 0)
		f.rule(at.from, jump(root.Name))
		if f.old == nil {
			continue
		}
		for _, name := range f.old.chains {
			if isRoot(name, at.realm) {
				f.rule(at.from, jump(name))
			}
		}
	}
}

// sealed are the protocols of outer packets, which a flow between two hosts
// matches as well. IP in IP protects nothing: it comes in where a flow has it.
func sealed(ipip bool) []uint8 {
	all := []uint8{unix.IPPROTO_ESP, unix.IPPROTO_AH, unix.IPPROTO_COMP}
	if ipip {
		all = append(all, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6)
	}
	return all
}

// neighbours are the packets by which hosts and routers of a link find each
// other (RFC 4861 section 4).
func neighbours() []expr.Any {
	return append(
		l4proto(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{133}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{137}},
	)
}

func (f *filter) close() error {
	var err error
	if f.made {
		err = f.drop()
	}
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

func (f *filter) rule(c *nftables.Chain, parts ...[]expr.Any) {
	f.nft.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: slices.Concat(parts...)})
}

// is loads something and compares it with a value.
func is(load expr.Any, value ...byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

func iface(key expr.MetaKey, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return is(&expr.Meta{Key: key, Register: 1}, b...)
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

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
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
