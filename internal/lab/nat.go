package lab

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nft opens the packet filter of the host.
func (h *Host) nft() (*nftables.Conn, error) {
	return nftables.New(nftables.WithNetNSFd(int(h.ns)))
}

// Masquerade hides everything that leaves by an interface behind one IPv4
// address there, as a home router does. With newPorts every connection gets a
// source port of the router's choice; else it keeps its own where it is free, so
// that a second peer behind the router is the first to lose port 500.
func (h *Host) Masquerade(ifname string, behind netip.Addr, newPorts bool) error {
	c, err := h.nft()
	if err != nil {
		return fmt.Errorf("host %s: nftables: %w", h.Name, err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "lab-nat"})
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifnameData(ifname)},
	}
	nat := &expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1}
	exprs = append(exprs, &expr.Immediate{Register: 1, Data: behind.AsSlice()})
	if newPorts {
		// The range is named: left to itself the kernel keeps ports below 512
		// below 512, and now and then it picks the old one.
		exprs = append(exprs,
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(20000)},
			&expr.Immediate{Register: 3, Data: binaryutil.BigEndian.PutUint16(29999)})
		nat.RegProtoMin, nat.RegProtoMax, nat.Random = 2, 3, true
	}
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(exprs, nat)})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("host %s: masquerading on %s: %w", h.Name, ifname, err)
	}
	return nil
}

// DropUDP drops UDP datagrams to a port on their way through the host, once it
// is called; the function that it returns lifts that. It is a cut cable for one
// protocol.
func (h *Host) DropUDP(port uint16) (lift func() error, err error) {
	c, err := h.nft()
	if err != nil {
		return nil, fmt.Errorf("host %s: nftables: %w", h.Name, err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: fmt.Sprintf("lab-drop-%d", port)})
	chain := c.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{17}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("host %s: dropping port %d: %w", h.Name, port, err)
	}
	return func() error {
		c.DelTable(table)
		return c.Flush()
	}, nil
}

// ifnameData is an interface name as the kernel compares it: 16 bytes.
func ifnameData(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}
