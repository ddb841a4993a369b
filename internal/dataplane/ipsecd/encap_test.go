package ipsecd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/netio"
)

// encapOn is IKE's side of the encapsulation port.
func encapOn(t *testing.T, b dataplane.Backend, a netip.Addr) dataplane.IKEConn {
	t.Helper()
	c, err := b.EncapConn(ctx, netip.AddrPortFrom(a, 4500))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// IKE's messages go through both sockets and the network between two data planes,
// either way, and keepalives are nobody's messages.
func TestIKEThroughTheSocket(t *testing.T) {
	hub := netio.NewHub()
	a, b := site(t, hub, "a", "192.0.2.1", "2001:db8::1"), site(t, hub, "b", "192.0.2.2", "2001:db8::2")
	ca, cb := encapOn(t, a.Backend, a.Addr), encapOn(t, b.Backend, b.Addr)
	if ca.LocalAddr() != netip.AddrPortFrom(a.Addr, 4500) {
		t.Errorf("it is on %s", ca.LocalAddr())
	}
	must(t, ca.Keepalive(ca.LocalAddr(), cb.LocalAddr()))
	must(t, ca.WriteTo([]byte("question"), ca.LocalAddr(), cb.LocalAddr()))
	buf := make([]byte, 100)
	n, remote, local, err := cb.ReadFrom(buf)
	must(t, err)
	if string(buf[:n]) != "question" || remote != ca.LocalAddr() || local != cb.LocalAddr() {
		t.Errorf("%q from %s to %s", buf[:n], remote, local)
	}
	must(t, cb.WriteTo([]byte("answer"), local, remote))
	if n, _, _, err = ca.ReadFrom(buf); err != nil || string(buf[:n]) != "answer" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if err := ca.WriteTo(nil, ca.LocalAddr(), cb.LocalAddr()); err == nil {
		t.Error("nothing was sent, as a keepalive")
	}
	must(t, ca.WriteTo(make([]byte, 1000), ca.LocalAddr(), netip.MustParseAddrPort("[2001:db8::2]:4500"))) // lost, as on a network
	must(t, ca.WriteTo([]byte("still"), ca.LocalAddr(), cb.LocalAddr()))
	if n, _, _, err = cb.ReadFrom(buf); err != nil || string(buf[:n]) != "still" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// The port is one client's at a time, and free when that is gone; a read ends with
// the connection.
func TestTheEncapsulationPortIsTaken(t *testing.T) {
	hub := netio.NewHub()
	a := site(t, hub, "a", "192.0.2.1", "2001:db8::1")
	first := encapOn(t, a.Backend, a.Addr)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if c, err := a.Backend.EncapConn(short, first.LocalAddr()); !errors.Is(err, dataplane.ErrExists) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", c, err)
	}
	if c, err := a.Backend.EncapConn(ctx, netip.AddrPortFrom(a.Addr, 9)); !errors.Is(err, dataplane.ErrUnsupported) {
		t.Errorf("another port: %v, %v", c, err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, _, err := first.ReadFrom(make([]byte, 100))
		ended <- err
	}()
	must(t, first.Close())
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the read ends with %v", err)
	}
	second := encapOn(t, a.Backend, a.Addr) // waits until the first is gone
	if err := first.WriteTo([]byte("x"), first.LocalAddr(), second.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed one writes: %v", err)
	}
}
