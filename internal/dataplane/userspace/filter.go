package userspace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"oakley/internal/ipsec"
)

// filter is our table of nftables. It drops what a require flow says is to be
// protected and is not: on its way in, before it is routed anywhere, and on its
// way out, should a route of somebody else's be faster than ours. It stays when
// we crash.
type filter struct {
	opt   *Options
	dev   string
	conn  *nftables.Conn
	table *nftables.Table
}

const filterTable = "oakley"

func newFilter(o *Options, dev string) (*filter, error) {
	if o.NoFilters {
		return nil, errors.New("switched off")
	}
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	f := &filter{opt: o, dev: dev, conn: conn, table: &nftables.Table{Name: filterTable, Family: nftables.TableFamilyINet}}
	if _, err := conn.ListTablesOfFamily(nftables.TableFamilyINet); err != nil {
		conn.CloseLasting()
		return nil, err
	}
	return f, nil
}

// set replaces the whole table in one transaction of the kernel's.
func (f *filter) set(flows []ipsec.Flow) error {
	f.conn.AddTable(f.table)
	f.conn.DelTable(f.table)
	f.conn.AddTable(f.table)
	accept := nftables.ChainPolicyAccept
	in := f.conn.AddChain(&nftables.Chain{
		Name: "in", Table: f.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityRaw, Policy: &accept,
	})
	out := f.conn.AddChain(&nftables.Chain{
		Name: "out", Table: f.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource - 10), Policy: &accept,
	})
	f.exempt(in, out)
	for i := range flows {
		fl := &flows[i]
		switch {
		case fl.Type == ipsec.FlowBypass:
			f.rule(chainOf(fl, in, out), append(match(fl.Selector), &expr.Verdict{Kind: expr.VerdictAccept})...)
		case fl.Type == ipsec.FlowRequire || fl.Type == ipsec.FlowDontAcq || fl.Type == ipsec.FlowDeny:
			local := fl.Selector.Src
			if fl.Dir == ipsec.In {
				local = fl.Selector.Dst
			}
			if fl.Selector.Src.Overlaps(fl.Selector.Dst) {
				// The remote network holds the local one: what stays there is no
				// business of the tunnel's.
				f.rule(chainOf(fl, in, out), append(match(ipsec.Selector{Src: local, Dst: local}), &expr.Verdict{Kind: expr.VerdictAccept})...)
			}
			f.rule(chainOf(fl, in, out), append(match(fl.Selector), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})...)
		}
	}
	return f.conn.Flush()
}

func chainOf(f *ipsec.Flow, in, out *nftables.Chain) *nftables.Chain {
	if f.Dir == ipsec.In {
		return in
	}
	return out
}

func (f *filter) rule(c *nftables.Chain, e ...expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: e})
}

// exempt lets through what is ours: our device, our sockets' packets, and, for
// flows between the tunnel's ends themselves, ESP and IKE.
func (f *filter) exempt(in, out *nftables.Chain) {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, f.dev)
	pass := &expr.Verdict{Kind: expr.VerdictAccept}
	f.rule(in, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, eq(name), pass)
	f.rule(out, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, eq(name), pass)
	f.rule(out, &expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, eq(binaryutil.NativeEndian.PutUint32(f.opt.Mark)), pass)
	f.rule(in, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, eq([]byte{unix.IPPROTO_ESP}), pass)
	for _, port := range []uint16{500, f.opt.EncapPort} {
		f.rule(in, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, eq([]byte{unix.IPPROTO_UDP}),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, eq(binary.BigEndian.AppendUint16(nil, port)), pass)
	}
	// Neighbour discovery is the link's own, whatever the flows say.
	for _, typ := range []byte{133, 134, 135, 136} {
		for _, c := range []*nftables.Chain{in, out} {
			f.rule(c, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, eq([]byte{unix.IPPROTO_ICMPV6}),
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, eq([]byte{typ}), pass)
		}
	}
}

func eq(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// match is a selector as expressions.
func match(s ipsec.Selector) []expr.Any {
	proto, srcAt, dstAt := byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
	if s.Dst.Addr().Is6() {
		proto, srcAt, dstAt = unix.NFPROTO_IPV6, 8, 24
	}
	e := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, eq([]byte{proto})}
	e = append(e, network(s.Src, srcAt)...)
	e = append(e, network(s.Dst, dstAt)...)
	if s.Proto != 0 {
		e = append(e, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, eq([]byte{s.Proto}))
	}
	for i, port := range []uint16{s.SrcPort, s.DstPort} {
		if port != 0 && s.Proto != 0 {
			e = append(e, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: uint32(2 * i), Len: 2},
				eq(binary.BigEndian.AppendUint16(nil, port)))
		}
	}
	return e
}

func network(p netip.Prefix, at uint32) []expr.Any {
	if p.Bits() == 0 {
		return nil
	}
	addr := p.Masked().Addr().AsSlice()
	n := uint32(len(addr))
	mask := make([]byte, n)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: n},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: n, Mask: mask, Xor: make([]byte, n)},
		eq(addr),
	}
}

// close removes the table.
func (f *filter) close() error {
	f.conn.AddTable(f.table)
	f.conn.DelTable(f.table)
	err := f.conn.Flush()
	if err != nil {
		err = fmt.Errorf("the packet-filter rules cannot be removed: %w", err)
	}
	return errors.Join(err, f.conn.CloseLasting())
}
