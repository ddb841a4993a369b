package ipsecadm

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// encapPort is the port from which ESP in UDP leaves (RFC 3948 section 2.1).
const encapPort = 4500

func (r *Runner) newSA(ctx context.Context, c NewSA) error {
	dir, err := r.direction(c.Src, c.Dst)
	if err != nil {
		return err
	}
	st, err := r.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerManual})
	if err != nil {
		return err
	}
	if c.Proxy.IsValid() && dir == ipsec.Out {
		r.notice("-proxy is for incoming SAs, whose inner source it names; on this outgoing one it means -forcetunnel alone")
	}
	sa := c.sa(dir)
	sa.Mode, sa.Selector, err = shape(sa, c.Tunnel, st.Flows)
	if err != nil {
		return err
	}
	if c.Proxy.IsValid() && dir == ipsec.In {
		sa.Selector = ipsec.Selector{Src: netip.PrefixFrom(c.Proxy, c.Proxy.BitLen()), Dst: everything(c.Proxy.Is4())}
	}
	if err := r.Backend.AddSA(ctx, sa); err != nil {
		err = explain(err, "an SA is replaced by \"ipsecadm delspi\" and making it anew, or better by one with another -spi", dataplane.ErrExists)
		return r.beyond(err)
	}
	if slices.Contains(st.Off, c.Proto) { // or was: the first SA switches AH on
		if st, err := r.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerManual}); err == nil && slices.Contains(st.Off, c.Proto) {
			r.sayOff(c.Proto)
		}
	}
	return nil
}

// sayOff tells that a protocol is switched off.
func (r *Runner) sayOff(p ipsec.Proto) {
	r.notice("%s is switched off as a whole: \"ipsecadm enable %s\" switches it on", protoName(p), protoName(p))
}

// sa is the SA without its mode and selector. There is no replay window: RFC 4303
// section 2.2 and RFC 4302 section 2.5 have none for keys that are not negotiated,
// since a sender that starts anew counts from 1 again.
func (c NewSA) sa(dir ipsec.Direction) *ipsec.SA {
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: dir, Proto: c.Proto, SPI: c.SPI, Dst: c.Dst}, Src: c.Src,
		Cipher: c.Cipher, Key: c.Key, Auth: c.Auth, AuthKey: c.AuthKey, Comp: c.Comp,
		Owner: ipsec.OwnerManual, Conn: manual, IDs: ipsec.IDs{LocalID: c.SrcID, RemoteID: c.DstID},
	}
	if dir == ipsec.In {
		sa.LocalID, sa.RemoteID = c.DstID, c.SrcID
	}
	if c.UDPPort == 0 {
		return sa
	}
	if dir == ipsec.In {
		sa.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(c.Dst, encapPort), Remote: netip.AddrPortFrom(c.Src, c.UDPPort)}
		return sa
	}
	sa.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(c.Src, encapPort), Remote: netip.AddrPortFrom(c.Dst, c.UDPPort)}
	sa.ID.Port = c.UDPPort
	return sa
}

func (r *Runner) deleteSA(ctx context.Context, c DeleteSA) error {
	st, err := r.Backend.Dump(ctx, dataplane.Query{})
	if err != nil {
		return err
	}
	sa, err := find(&st, c.SAName)
	if err != nil {
		return err
	}
	if err := r.Backend.DeleteSA(ctx, sa.SA.ID); err != nil {
		return err
	}
	if sa.SA.Owner == ipsec.OwnerIKE {
		r.notice("the SA was isakmpd's (connection %s): it tells the peer and negotiates the next when there is traffic, or at once for a connection that it keeps up", sa.SA.Conn)
	}
	if sa.SA.Bundle.Of > 1 {
		r.notice("the SA was one of a group of %d: the others carry nothing without it", sa.SA.Bundle.Of)
	}
	return nil
}

func (r *Runner) toggle(ctx context.Context, c Switch) error {
	if c.Proto != 0 {
		err := r.Backend.Enable(ctx, c.Proto, c.On)
		return r.beyond(err)
	}
	st, err := r.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerManual})
	if err != nil {
		return err
	}
	off := map[ipsec.Proto]bool{}
	for _, p := range st.Off {
		off[p] = true
	}
	does := r.Backend.Info().Protos
	for _, p := range protos {
		state := "on"
		switch {
		case off[p.is]:
			state = "off"
		case !slices.Contains(does, p.is):
			state = "not in this data plane"
		}
		fmt.Fprintf(r.Out, "%s %s\n", p.name, state)
	}
	return nil
}
