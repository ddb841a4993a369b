package lab

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Literal addresses only: a name would be looked up by another thread, which is
// in another namespace.

// DialTCP connects from the host; a zero timeout is 10 s.
func (h *Host) DialTCP(to netip.AddrPort, timeout time.Duration) (*net.TCPConn, error) {
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	var c net.Conn
	err := h.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: timeout, FallbackDelay: -1}).Dial("tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// ListenTCP listens on the host.
func (h *Host) ListenTCP(on netip.AddrPort) (*net.TCPListener, error) {
	var l *net.TCPListener
	err := h.Do(func() (err error) {
		l, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(on))
		return err
	})
	return l, err
}

// ListenUDP opens a UDP socket on the host.
func (h *Host) ListenUDP(on netip.AddrPort) (*net.UDPConn, error) {
	var c *net.UDPConn
	err := h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(on))
		return err
	})
	return c, err
}

// listenICMP opens a raw ICMP socket ("ip4:icmp" or "ip6:ipv6-icmp").
func (h *Host) listenICMP(v6 bool) (*net.IPConn, error) {
	network := "ip4:icmp"
	if v6 {
		network = "ip6:ipv6-icmp"
	}
	var c *net.IPConn
	err := h.Do(func() error {
		pc, err := (&net.ListenConfig{}).ListenPacket(context.Background(), network, "")
		if err != nil {
			return err
		}
		c = pc.(*net.IPConn)
		return nil
	})
	return c, err
}
