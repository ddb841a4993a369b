package ipsecd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/netio"
)

// encapConn is IKE's side of the encapsulation port: a connection of datagrams.
type encapConn struct {
	c     *net.UnixConn
	local netip.AddrPort
	wr    sync.Mutex
	once  sync.Once
}

func dialEncap(ctx context.Context, path string, local netip.AddrPort) (dataplane.IKEConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := connect(path)
	if err != nil {
		return nil, err
	}
	e := &encapConn{c: c, local: local}
	var a answer
	end := time.Now().Add(opTime)
	if d, ok := ctx.Deadline(); ok {
		end = d
	}
	_ = c.SetDeadline(end)
	f, err := frame(&request{ID: 1, Op: opEncap, Version: version, Local: local})
	if err == nil {
		_, err = c.Write(f)
	}
	if err == nil {
		err = readFrame(c, &a)
	}
	_ = c.SetDeadline(time.Time{})
	if err == nil && a.Error != "" {
		err = &remoteError{a.Error, a.Kind}
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("IKE on %s through the data plane at %s: %w", local, path, err)
	}
	return e, nil
}

func (e *encapConn) ReadFrom(b []byte) (n int, remote, local netip.AddrPort, err error) {
	var d datagram
	if err := readFrame(e.c, &d); err != nil {
		return 0, remote, local, fmt.Errorf("%w: %w", netio.ErrClosed, err)
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
	_, err = e.c.Write(f)
	return err
}

func (e *encapConn) LocalAddr() netip.AddrPort { return e.local }

func (e *encapConn) Close() error {
	e.once.Do(func() { e.c.Close() })
	return nil
}
