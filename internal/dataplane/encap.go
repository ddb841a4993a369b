package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
)

const (
	// MarkerLen is the length, in bytes, of the zeros before IKE on the
	// encapsulation port: the non-ESP marker of RFC 3948 section 2.2.
	MarkerLen = 4
	// Keepalive is the one byte of a NAT keepalive (RFC 3948 section 2.3).
	Keepalive = 0xff

	encapWaiting = 256 // datagrams that wait for IKE to read them
)

// EncapTable has the IKE sides of the encapsulation port, by local address. The
// zero value is ready.
type EncapTable struct {
	mu     sync.RWMutex
	conns  map[netip.Addr]*encapConn
	closed bool
}

// EncapSend sends a datagram from the encapsulation port as it is. Of one IKEConn
// there is one call at a time.
type EncapSend func(b []byte, local, remote netip.AddrPort) error

// Open gives the IKE side on one local address or, for the unspecified one, on all
// of its family that have no reader of their own. It is ErrExists for one that is
// open, and ErrClosed after Close.
func (t *EncapTable) Open(local netip.AddrPort, send EncapSend) (IKEConn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, ErrClosed
	case t.conns[local.Addr()] != nil:
		return nil, fmt.Errorf("IKE on %s is read already: %w", local, ErrExists)
	case t.conns == nil:
		t.conns = map[netip.Addr]*encapConn{}
	}
	c := &encapConn{t: t, local: local, send: send, queue: make(chan ikeDatagram, encapWaiting), done: make(chan struct{})}
	t.conns[local.Addr()] = c
	return c, nil
}

// Deliver hands a datagram without its marker to its reader, if there is one. It is
// false when that does not keep up and has lost it, as from a full socket.
func (t *EncapTable) Deliver(b []byte, remote, local netip.AddrPort) bool {
	t.mu.RLock()
	c := t.conns[local.Addr()]
	if c == nil && local.Addr().Is4() {
		c = t.conns[netip.IPv4Unspecified()]
	} else if c == nil {
		c = t.conns[netip.IPv6Unspecified()]
	}
	t.mu.RUnlock()
	switch {
	case c == nil:
		return true
	case len(c.queue) == cap(c.queue):
		return false
	}
	select {
	case c.queue <- ikeDatagram{slices.Clone(b), remote, local}:
		return true
	default:
		return false
	}
}

// Close ends all reads.
func (t *EncapTable) Close() {
	t.mu.Lock()
	conns := t.conns
	t.conns, t.closed = nil, true
	t.mu.Unlock()
	for _, c := range conns {
		c.end()
	}
}

type ikeDatagram struct {
	data          []byte
	remote, local netip.AddrPort
}

type encapConn struct {
	t     *EncapTable
	local netip.AddrPort
	queue chan ikeDatagram
	done  chan struct{}
	once  sync.Once

	wr   sync.Mutex
	send EncapSend
	buf  []byte
}

func (c *encapConn) end() { c.once.Do(func() { close(c.done) }) }

func (c *encapConn) ReadFrom(b []byte) (n int, remote, local netip.AddrPort, err error) {
	select {
	case d := <-c.queue:
		return copy(b, d.data), d.remote, d.local, nil
	case <-c.done:
		return 0, remote, local, net.ErrClosed
	}
}

func (c *encapConn) WriteTo(b []byte, local, remote netip.AddrPort) error {
	return c.write(make([]byte, MarkerLen), b, local, remote)
}

func (c *encapConn) Keepalive(local, remote netip.AddrPort) error {
	return c.write(nil, []byte{Keepalive}, local, remote)
}

func (c *encapConn) write(marker, b []byte, local, remote netip.AddrPort) error {
	c.wr.Lock()
	defer c.wr.Unlock()
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	c.buf = append(append(c.buf[:0], marker...), b...)
	return c.send(c.buf, local, remote)
}

func (c *encapConn) LocalAddr() netip.AddrPort { return c.local }

func (c *encapConn) Close() error {
	c.end()
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.t.conns[c.local.Addr()] == c {
		delete(c.t.conns, c.local.Addr())
	}
	return nil
}
