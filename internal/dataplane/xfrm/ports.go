package xfrm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
)

// ports are the sockets of the encapsulation port. The kernel takes ESP out of
// what comes to them, whether IKE reads or not.
type ports struct {
	socks []*port
	ike   dataplane.EncapTable
}

// port is one socket.
type port struct {
	local netip.AddrPort
	conn  *net.UDPConn
}

// open opens the sockets, in the network namespace of this thread.
func (t *ports) open(p *Plane) error {
	for _, a := range p.opt.Local {
		s, err := openPort(netip.AddrPortFrom(a, p.opt.EncapPort), takeESP)
		// Before Linux 5.8 there is no ESP in UDP over IPv6.
		if a.IsUnspecified() && len(p.opt.Local) > 1 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOPROTOOPT)) {
			p.log.Info("this kernel has no ESP in UDP of one address family", "address", a, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		t.socks = append(t.socks, s)
	}
	if len(t.socks) == 0 {
		return errors.New("no socket could be opened: the kernel has neither IPv4 nor IPv6")
	}
	return nil
}

// openPort opens a socket that policies do not concern; more is what else it is
// to do.
func openPort(local netip.AddrPort, more func(fd int) error) (*port, error) {
	v6 := local.Addr().Is6()
	network := "udp4"
	if v6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) {
			if inner = prepare(int(fd), v6); inner == nil {
				inner = more(int(fd))
			}
		})
		return errors.Join(err, inner)
	}}
	c, err := lc.ListenPacket(context.Background(), network, local.String())
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("UDP port %d on %s: another program has it: is an IKE daemon running already? (ss -lunp shows who): %w", local.Port(), local.Addr(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("UDP port %d on %s: %w", local.Port(), local.Addr(), err)
	}
	return &port{local, c.(*net.UDPConn)}, nil
}

func prepare(fd int, v6 bool) error {
	level, info := unix.IPPROTO_IP, unix.IP_PKTINFO
	if v6 {
		level, info = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("setting IPV6_V6ONLY: %w", err)
		}
	} else if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT); err != nil {
		return fmt.Errorf("setting IP_MTU_DISCOVER: %w", err)
	}
	if err := unix.SetsockoptInt(fd, level, info, 1); err != nil {
		return fmt.Errorf("asking for the address to which datagrams come: %w", err)
	}
	return Bypass(fd, v6)
}

// start begins to read.
func (t *ports) start(p *Plane) {
	for _, s := range t.socks {
		p.wg.Go(func() { t.read(s) })
	}
}

func (t *ports) close() {
	for _, s := range t.socks {
		s.conn.Close()
	}
	t.ike.Close()
}

// read hands datagrams to those who asked for them.
func (t *ports) read(s *port) {
	buf := make([]byte, 65536)
	for {
		n, remote, local, err := s.readFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n <= dataplane.MarkerLen || binary.BigEndian.Uint32(buf) != 0 {
			continue // an error of ICMP's, or nothing of IKE's
		}
		t.ike.Deliver(buf[dataplane.MarkerLen:n], remote, local)
	}
}

// readFrom waits for a datagram, and tells to which address it came.
func (s *port) readFrom(b []byte) (n int, remote, local netip.AddrPort, err error) {
	var oob [256]byte
	n, m, _, from, err := s.conn.ReadMsgUDPAddrPort(b, oob[:])
	if err != nil {
		return 0, remote, local, err
	}
	local = s.local
	if a, ok := destination(oob[:m]); ok {
		local = netip.AddrPortFrom(a, local.Port())
	}
	return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), local, nil
}

// writeTo sends from an address of ours, if it is given.
func (s *port) writeTo(b []byte, local, remote netip.AddrPort) error {
	if remote.Addr().Is4() != s.local.Addr().Is4() {
		return fmt.Errorf("the socket on %s cannot send to %s: another address family", s.local, remote)
	}
	if _, _, err := s.conn.WriteMsgUDPAddrPort(b, source(local.Addr()), remote); err != nil {
		return fmt.Errorf("sending %d bytes to %s: %w", len(b), remote, err)
	}
	return nil
}

// destination is the address to which a datagram came.
func destination(oob []byte) (netip.Addr, bool) {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return netip.Addr{}, false
		}
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= 12:
			return netip.AddrFrom4([4]byte(data[8:12])), true
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= 16:
			return netip.AddrFrom16([16]byte(data[:16])), true
		}
		oob = rest
	}
	return netip.Addr{}, false
}

// EncapConn gives the IKE side of the encapsulation port on one local address,
// or, for the unspecified one, on all that have no reader of their own.
func (p *Plane) EncapConn(ctx context.Context, local netip.AddrPort) (dataplane.IKEConn, error) {
	if err := p.lock(ctx); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	if local.Port() != p.opt.EncapPort {
		return nil, fmt.Errorf("IKE on port %d: the data plane has UDP port %d: %w", local.Port(), p.opt.EncapPort, dataplane.ErrUnsupported)
	}
	s := p.ports.on(local.Addr())
	if s == nil {
		return nil, fmt.Errorf("IKE on port %d: the data plane does not listen on %s", local.Port(), local.Addr())
	}
	return p.ports.ike.Open(local, s.writeTo)
}

// on is the socket that has an address.
func (t *ports) on(a netip.Addr) *port {
	var all *port
	for _, s := range t.socks {
		if s.local.Addr() == a {
			return s
		}
		if s.local.Addr().IsUnspecified() && s.local.Addr().Is4() == a.Is4() {
			all = s
		}
	}
	return all
}

// source is the control message that says from which address to send.
func source(a netip.Addr) []byte {
	switch {
	case !a.IsValid() || a.IsUnspecified():
		return nil
	case a.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: a.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16()})
}
