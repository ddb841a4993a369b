package netio

import (
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Prober is a Network that knows how long packets may be.
type Prober interface {
	OpenProbe(mark uint32) (Probe, error)
}

// Probe asks how long a packet may be that is to arrive somewhere. Any number of
// goroutines may use it.
type Probe interface {
	// MTU is the longest packet, in bytes with its IP header, that the first link
	// on the way to an address takes, or less when the system has learnt of a
	// narrower one behind it; 0: unknown.
	MTU(to netip.Addr) int
	Close() error
}

// probe asks the kernel: a UDP socket that is connected, which sends nothing,
// knows the route and its MTU.
type probe struct {
	mu sync.Mutex
	fd [2]int // IPv4, IPv6; -1: there is none
}

// OpenProbe opens a probe in the network namespace of the calling thread. It
// looks at the routes that packets with this mark have.
func (Host) OpenProbe(mark uint32) (Probe, error) {
	p := &probe{fd: [2]int{-1, -1}}
	for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			continue // a family that this kernel does not have
		}
		p.fd[i] = fd
		if mark == 0 {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			p.Close()
			return nil, &OpenError{What: "a socket to ask for MTUs", Hint: hint(err), Err: fmt.Errorf("setting SO_MARK: %w", err)}
		}
	}
	return p, nil
}

func (p *probe) MTU(to netip.Addr) int {
	i, level, name := 0, unix.IPPROTO_IP, unix.IP_MTU
	if to = to.Unmap(); to.Is6() {
		i, level, name = 1, unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd[i] < 0 {
		return 0
	}
	const discard = 9 // any port will do: nothing is sent
	if unix.Connect(p.fd[i], sockaddr(netip.AddrPortFrom(to, discard), i == 1)) != nil {
		return 0
	}
	n, err := unix.GetsockoptInt(p.fd[i], level, name)
	if err != nil {
		return 0
	}
	return n
}

func (p *probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, fd := range p.fd {
		if fd >= 0 {
			unix.Close(fd)
		}
		p.fd[i] = -1
	}
	return nil
}
