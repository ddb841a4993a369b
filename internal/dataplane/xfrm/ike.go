package xfrm

import (
	"net/netip"

	"oakley/internal/dataplane"
)

// ListenIKE opens a socket for IKE, on port 500 as a rule, that policies of the
// kernel's do not concern; see Bypass. It is in the network namespace of the
// calling thread. An unspecified address is all of its family.
func ListenIKE(local netip.AddrPort) (dataplane.IKEConn, error) {
	s, err := openPort(local, func(int) error { return nil })
	if err != nil {
		return nil, err
	}
	return &ikeConn{s}, nil
}

type ikeConn struct{ s *port }

func (c *ikeConn) ReadFrom(b []byte) (n int, remote, local netip.AddrPort, err error) {
	return c.s.readFrom(b)
}

func (c *ikeConn) WriteTo(b []byte, local, remote netip.AddrPort) error {
	return c.s.writeTo(b, local, remote)
}

func (c *ikeConn) Keepalive(local, remote netip.AddrPort) error {
	return c.s.writeTo([]byte{dataplane.Keepalive}, local, remote)
}

func (c *ikeConn) LocalAddr() netip.AddrPort { return c.s.local }

func (c *ikeConn) Close() error { return c.s.conn.Close() }
