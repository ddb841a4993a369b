package userspace

import (
	"context"
	"fmt"
	"net/netip"

	"oakley/internal/dataplane"
	"oakley/internal/netio"
)

// EncapConn gives the IKE side of the encapsulation port on one local address,
// or, for the unspecified one, on all that have no reader of their own.
func (p *Plane) EncapConn(ctx context.Context, local netip.AddrPort) (dataplane.IKEConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if local.Port() != p.opt.EncapPort {
		return nil, fmt.Errorf("IKE on port %d: the data plane has UDP port %d: %w", local.Port(), p.opt.EncapPort, dataplane.ErrUnsupported)
	}
	l, err := p.linkFor(local.Addr(), true, 0)
	if err != nil {
		return nil, fmt.Errorf("IKE on port %d: %w", local.Port(), err)
	}
	out := netio.NewSendBatch(1, false)
	return p.ike.Open(local, func(b []byte, from, remote netip.AddrPort) error {
		if remote.Addr().Is4() != l.local.Is4() {
			return fmt.Errorf("the socket on %s cannot send to %s: another address family", local, remote)
		}
		out.Add(b, from, remote)
		if _, err := l.conn.Send(out); err != nil {
			return fmt.Errorf("sending %d bytes to %s: %w", len(b), remote, err)
		}
		return nil
	})
}
