package daemon

import (
	"net/netip"

	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// flows are two for each listed connection, that stand from the start to the
// end: what they cover is protected or dropped.
func (t *translator) flows(c *ike.Config) []ipsec.Flow {
	var flows []ipsec.Flow
	taken := map[ipsec.Selector]uint32{}
	for _, n := range c.Connections {
		sel, ok := selector(n)
		if !ok {
			t.warnf("connection %s has no flow yet, for the address of one of its ends is not known: nothing of it is protected or refused", n.Name)
			continue
		}
		f := ipsec.Flow{
			ID: ipsec.FlowName(n.Name, ipsec.Out), Dir: ipsec.Out, Type: ipsec.FlowRequire, Selector: sel,
			// Of two connections for the same traffic the first in the file is used.
			Order: ipsec.OrderIKE + taken[sel],
			Local: n.Peer.Local, Remote: n.Peer.Address,
			Owner: ipsec.OwnerIKE, Conn: n.Name, Interface: n.Interface, IDs: identities(n.Peer),
		}
		f.Mode, f.Proto = protection(n)
		taken[sel]++
		back := f
		back.ID, back.Dir, back.Selector = ipsec.FlowName(n.Name, ipsec.In), ipsec.In, sel.Reverse()
		flows = append(flows, f, back)
	}
	return flows
}

// identities are those of phase 1 that the configuration names.
func identities(p *ike.Peer) (ids ipsec.IDs) {
	if p.LocalID != nil {
		ids.LocalID = p.LocalID.Bare()
	}
	if p.RemoteID != nil {
		ids.RemoteID = p.RemoteID.Bare()
	}
	return ids
}

// protection is how the first of a connection's suites protects its traffic: the
// innermost protocol, and its mode, which is the bundle's.
func protection(n *ike.Connection) (ipsec.Mode, ipsec.Proto) {
	inner := &n.Suites[0].Protocols[0]
	return inner.Transforms[0].Mode, ipsecProtos[inner.Proto]
}

// selector is what a connection protects, outgoing. A side that the
// configuration leaves out is the tunnel's end itself.
func selector(n *ike.Connection) (sel ipsec.Selector, ok bool) {
	local, ok1 := prefix(n.Local, n.Peer.Local)
	remote, ok2 := prefix(n.Remote, n.Peer.Address)
	sel = ipsec.Selector{Src: local, Dst: remote, Proto: max(n.Local.Proto, n.Remote.Proto), SrcPort: n.Local.Port, DstPort: n.Remote.Port}
	return sel, ok1 && ok2
}

func prefix(n ike.Net, end netip.Addr) (netip.Prefix, bool) {
	if n.Prefix.IsValid() {
		return n.Prefix.Masked(), true
	}
	if !end.IsValid() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(end, end.BitLen()), true
}
