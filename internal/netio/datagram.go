package netio

import (
	"fmt"
	"net/netip"
	"sync"
)

// Datagrams reads and writes single datagrams of a UDP Conn: IKE on its own
// port. A reply leaves from the address that the request came to when it is
// written with the local address that ReadFrom returned.
type Datagrams struct {
	c Conn

	rd sync.Mutex
	in *RecvBatch
	at int // next of in.Msgs

	wr  sync.Mutex
	out *SendBatch
}

// ikeBatch is how many datagrams are taken from the socket at a time.
const ikeBatch = 8

// NewDatagrams wraps c, which is closed with it.
func NewDatagrams(c Conn) *Datagrams {
	return &Datagrams{c: c, in: NewRecvBatch(ikeBatch), out: NewSendBatch(1, false)}
}

// ListenUDP opens a UDP socket for single datagrams, without offload.
func ListenUDP(n Network, local netip.AddrPort, mark uint32) (*Datagrams, error) {
	c, err := n.OpenUDP(UDPOptions{Local: local, Mark: mark})
	if err != nil {
		return nil, err
	}
	return NewDatagrams(c), nil
}

// ReadFrom waits for a datagram and returns where it came from and to. One that
// is larger than p is cut.
func (d *Datagrams) ReadFrom(p []byte) (n int, remote, local netip.AddrPort, err error) {
	d.rd.Lock()
	defer d.rd.Unlock()
	for {
		for d.at < len(d.in.Msgs) {
			m := &d.in.Msgs[d.at]
			data, ok := m.Next()
			if !ok {
				d.at++
				continue
			}
			return copy(p, data), m.Remote, m.Local, nil
		}
		d.at = 0
		if err := d.c.Recv(d.in); err != nil {
			d.in.Msgs = nil
			return 0, netip.AddrPort{}, netip.AddrPort{}, err
		}
	}
}

// WriteTo sends p to remote; local says from which address, if the socket has
// several.
func (d *Datagrams) WriteTo(p []byte, local, remote netip.AddrPort) error {
	if remote.Addr().Is4() != d.c.LocalAddr().Addr().Is4() {
		return fmt.Errorf("the socket on %s cannot send to %s: another address family", d.c.LocalAddr(), remote)
	}
	d.wr.Lock()
	defer d.wr.Unlock()
	d.out.Add(p, local, remote)
	if _, err := d.c.Send(d.out); err != nil {
		return fmt.Errorf("sending %d bytes to %s: %w", len(p), remote, err)
	}
	return nil
}

// Keepalive sends the one byte of RFC 3948 section 2.3.
func (d *Datagrams) Keepalive(local, remote netip.AddrPort) error {
	return d.WriteTo([]byte{0xff}, local, remote)
}

// LocalAddr is what the socket is bound to.
func (d *Datagrams) LocalAddr() netip.AddrPort { return d.c.LocalAddr() }

// Close closes the socket; a ReadFrom that waits returns net.ErrClosed.
func (d *Datagrams) Close() error { return d.c.Close() }
