package xfrm

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
)

// Bypass lets what a socket sends and receives pass whatever policies there are
// (IP_XFRM_POLICY). IKE needs it: a policy for everything between two gateways
// is one for the messages too by which its SAs are made, and drops UDP 4500
// before the kernel sees that ESP is in it.
func Bypass(fd int, v6 bool) error {
	level, option, family := unix.IPPROTO_IP, unix.IP_XFRM_POLICY, wire.FamilyIPv4
	if v6 {
		level, option, family = unix.IPPROTO_IPV6, unix.IPV6_XFRM_POLICY, wire.FamilyIPv6
	}
	for _, dir := range []wire.Dir{wire.DirIn, wire.DirOut} {
		p := wire.Policy{Sel: wire.Selector{Family: family}, Dir: dir, Action: wire.Allow}
		err := unix.SetsockoptString(fd, level, option, string(p.Append(nil)))
		if err != nil {
			return explain("letting IKE pass IPsec policies (IP_XFRM_POLICY)", err)
		}
	}
	return nil
}

// BypassConn is Bypass for a socket of package net or os.
func BypassConn(c syscall.Conn, v6 bool) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("letting IKE pass IPsec policies: %w", err)
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = Bypass(int(fd), v6) }); err != nil {
		return fmt.Errorf("letting IKE pass IPsec policies: %w", err)
	}
	return inner
}

// takeESP makes the kernel look for ESP in what comes to a UDP socket (RFC 3948):
// ESP and keepalives never reach us, what has the non-ESP marker does.
func takeESP(fd int) error {
	const udpEncapESPinUDP = 2
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_ENCAP, udpEncapESPinUDP); err != nil {
		return explain("ESP in UDP (UDP_ENCAP)", err)
	}
	return nil
}
