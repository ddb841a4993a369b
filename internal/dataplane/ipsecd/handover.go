package ipsecd

import (
	"context"
	"net"
	"sync"

	"oakley/internal/dataplane"
)

// encap makes the connection one of IKE datagrams.
func (x *session) encap(ctx context.Context, r *request) error {
	ctx, cancel := context.WithTimeout(ctx, opTime)
	defer cancel()
	conn, err := x.s.b.EncapConn(ctx, r.Local)
	if err != nil {
		x.fail(r.ID, err)
		return net.ErrClosed // which it was told
	}
	defer conn.Close()
	x.send(&answer{ID: r.ID, Version: version})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { x.upwards(conn) })
	defer conn.Close()
	for {
		var d datagram
		if _, err := x.read(&d, 0); err != nil {
			return err
		}
		// What cannot be sent is lost, as on a network.
		if len(d.Data) == 0 {
			_ = conn.Keepalive(d.Local, d.Remote)
		} else {
			_ = conn.WriteTo(d.Data, d.Local, d.Remote)
		}
	}
}

// upwards hands on what comes from the network.
func (x *session) upwards(conn dataplane.IKEConn) {
	defer x.c.Close()
	b := make([]byte, 65535)
	for {
		n, remote, local, err := conn.ReadFrom(b)
		if err != nil {
			return
		}
		f, err := frame(&datagram{Local: local, Remote: remote, Data: b[:n]})
		if err == nil {
			err = x.write(f)
		}
		if err != nil {
			return
		}
	}
}
