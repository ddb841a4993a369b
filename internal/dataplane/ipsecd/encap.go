package ipsecd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"oakley/internal/dataplane"
)

// encapConn is IKE's side of the encapsulation port: a connection of datagrams.
type encapConn struct {
	c     net.Conn
	local netip.AddrPort
	wr    sync.Mutex
	once  sync.Once
}

func dialEncap(ctx context.Context, path string, local netip.AddrPort) (dataplane.IKEConn, error) {
	c, err := open(ctx, path, &request{Op: opEncap, Local: local})
	if err != nil {
		return nil, fmt.Errorf("IKE on %s through the data plane at %s: %w", local, path, err)
	}
	return &encapConn{c: c, local: local}, nil
}

func (e *encapConn) ReadFrom(b []byte) (n int, remote, local netip.AddrPort, err error) {
	var d datagram
	if _, err := readFrame(e.c, &d); err != nil {
		return 0, remote, local, fmt.Errorf("%w: %w", net.ErrClosed, err)
	}
	return copy(b, d.Data), d.Remote, d.Local, nil
}

func (e *encapConn) WriteTo(b []byte, local, remote netip.AddrPort) error {
	if len(b) == 0 {
		return fmt.Errorf("nothing to send to %s", remote)
	}
	return e.write(&datagram{Local: local, Remote: remote, Data: b})
}

func (e *encapConn) Keepalive(local, remote netip.AddrPort) error {
	return e.write(&datagram{Local: local, Remote: remote})
}

func (e *encapConn) write(d *datagram) error {
	f, err := frame(d)
	if err != nil {
		return err
	}
	e.wr.Lock()
	defer e.wr.Unlock()
	_ = e.c.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err = e.c.Write(f); err != nil {
		e.c.Close() // part of it may be there
		return fmt.Errorf("%w: handing IKE's message to the data plane: %w", net.ErrClosed, err)
	}
	return nil
}

func (e *encapConn) LocalAddr() netip.AddrPort { return e.local }

func (e *encapConn) Close() error {
	e.once.Do(func() { e.c.Close() })
	return nil
}
