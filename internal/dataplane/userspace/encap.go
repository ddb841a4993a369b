package userspace

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

const (
	keepalive = 0xff // RFC 3948 section 2.3
	ikeQueue  = 256  // datagrams that wait for IKE to read them
)

// encapTable has the IKE sides of the encapsulation port, by local address.
type encapTable struct {
	mu    sync.RWMutex
	conns map[netip.Addr]*encapConn
}

type encapConn struct {
	p     *Plane
	l     *link
	local netip.AddrPort
	queue chan ikeDatagram
	done  chan struct{}
	once  sync.Once
	wr    sync.Mutex
	out   *netio.SendBatch
	buf   []byte
}

type ikeDatagram struct {
	data          []byte
	remote, local netip.AddrPort
}

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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, dataplane.ErrClosed
	}
	c := &encapConn{
		p: p, l: l, local: local, queue: make(chan ikeDatagram, ikeQueue), done: make(chan struct{}),
		out: netio.NewSendBatch(1, false),
	}
	p.ike.mu.Lock()
	defer p.ike.mu.Unlock()
	if p.ike.conns[local.Addr()] != nil {
		return nil, fmt.Errorf("IKE on %s is read already: %w", local, dataplane.ErrExists)
	}
	if p.ike.conns == nil {
		p.ike.conns = map[netip.Addr]*encapConn{}
	}
	p.ike.conns[local.Addr()] = c
	return c, nil
}

// deliver hands a datagram without its marker to its reader; one that does not
// keep up loses it, as a full socket would.
func (t *encapTable) deliver(b []byte, remote, local netip.AddrPort) {
	t.mu.RLock()
	c := t.conns[local.Addr()]
	if c == nil && local.Addr().Is4() {
		c = t.conns[netip.IPv4Unspecified()]
	} else if c == nil {
		c = t.conns[netip.IPv6Unspecified()]
	}
	t.mu.RUnlock()
	if c == nil {
		return
	}
	if len(c.queue) == cap(c.queue) {
		c.p.drops.add(ipsec.DropQueueFull)
		return
	}
	select {
	case c.queue <- ikeDatagram{slices.Clone(b), remote, local}:
	default:
		c.p.drops.add(ipsec.DropQueueFull)
	}
}

func (t *encapTable) closeAll() {
	t.mu.Lock()
	conns := t.conns
	t.conns = nil
	t.mu.Unlock()
	for _, c := range conns {
		c.once.Do(func() { close(c.done) })
	}
}

func (c *encapConn) ReadFrom(b []byte) (n int, remote, local netip.AddrPort, err error) {
	select {
	case d := <-c.queue:
		return copy(b, d.data), d.remote, d.local, nil
	case <-c.done:
		return 0, netip.AddrPort{}, netip.AddrPort{}, netio.ErrClosed
	}
}

func (c *encapConn) WriteTo(b []byte, local, remote netip.AddrPort) error {
	return c.write(markerLen, b, local, remote)
}

func (c *encapConn) Keepalive(local, remote netip.AddrPort) error {
	return c.write(0, []byte{keepalive}, local, remote)
}

// write sends b behind zeros bytes of zero.
func (c *encapConn) write(zeros int, b []byte, local, remote netip.AddrPort) error {
	if remote.Addr().Is4() != c.l.local.Is4() {
		return fmt.Errorf("the socket on %s cannot send to %s: another address family", c.local, remote)
	}
	c.wr.Lock()
	defer c.wr.Unlock()
	select {
	case <-c.done:
		return netio.ErrClosed
	default:
	}
	c.buf = append(append(c.buf[:0], make([]byte, zeros)...), b...)
	c.out.Add(c.buf, local, remote)
	if _, err := c.l.conn.Send(c.out); err != nil {
		return fmt.Errorf("sending %d bytes to %s: %w", len(c.buf), remote, err)
	}
	return nil
}

func (c *encapConn) LocalAddr() netip.AddrPort { return c.local }

func (c *encapConn) Close() error {
	c.once.Do(func() { close(c.done) })
	t := &c.p.ike
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[c.local.Addr()] == c {
		delete(t.conns, c.local.Addr())
	}
	return nil
}
