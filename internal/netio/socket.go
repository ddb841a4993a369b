package netio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host opens real sockets, in the network namespace of the calling thread.
type Host struct{}

// bufferSize is asked for each socket, in bytes: a tenth of a second at 500
// Mbit/s, so that a busy moment of the scheduler loses nothing.
const bufferSize = 7 << 20

// gsoRest is for how many packets GSO is left alone after the kernel refused
// one row: it says EINVAL or EMSGSIZE when a datagram does not fit the path and
// would have to be fragmented, which only single ones are.
const gsoRest = 10000

// socket is a Conn over a file descriptor.
type socket struct {
	file  *os.File
	raw   syscall.RawConn
	local netip.AddrPort
	v6    bool
	strip bool // raw IPv4: packets come with their IP header
	gro   bool

	closed atomic.Bool
	gsoOff atomic.Bool
	rest   atomic.Int64
}

// OpenUDP opens a UDP socket.
func (Host) OpenUDP(o UDPOptions) (Conn, error) {
	what := fmt.Sprintf("UDP port %d on %s", o.Local.Port(), o.Local.Addr())
	s, err := open(o.Local, unix.SOCK_DGRAM, unix.IPPROTO_UDP, o.Mark, what)
	if err != nil {
		return nil, err
	}
	s.gsoOff.Store(true)
	if o.Offload {
		_ = s.control(func(fd int) error {
			s.gro = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
			if _, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT); err == nil {
				s.gsoOff.Store(false)
			}
			return nil
		})
	}
	return s, nil
}

// OpenRaw opens a raw IP socket for one protocol.
func (Host) OpenRaw(o RawOptions) (Conn, error) {
	what := fmt.Sprintf("raw IP protocol %d on %s", o.Proto, o.Local)
	proto := int(o.Proto)
	if o.Whole {
		proto = unix.IPPROTO_RAW // implies IP_HDRINCL and IPV6_HDRINCL
		what = fmt.Sprintf("raw IP socket on %s", o.Local)
	}
	s, err := open(netip.AddrPortFrom(o.Local, 0), unix.SOCK_RAW, proto, o.Mark, what)
	if err != nil {
		return nil, err
	}
	if o.Only != 0 {
		// A set bit keeps a type out (RFC 3542 section 3.2).
		var f unix.ICMPv6Filter
		for i := range f.Data {
			f.Data[i] = ^uint32(0)
		}
		f.Data[o.Only>>5] &^= 1 << (o.Only & 31)
		if err := s.control(func(fd int) error {
			return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f)
		}); err != nil {
			s.Close()
			return nil, &OpenError{What: what, Hint: hint(err), Err: fmt.Errorf("setting ICMPV6_FILTER: %w", err)}
		}
	}
	s.strip = !s.v6
	s.gsoOff.Store(true)
	return s, nil
}

func open(local netip.AddrPort, typ, proto int, mark uint32, what string) (*socket, error) {
	s := &socket{v6: !local.Addr().Unmap().Is4()}
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, &OpenError{What: what, Hint: hint(err), Err: err}
	}
	if err := configure(fd, typ, s.v6, mark); err != nil {
		unix.Close(fd)
		return nil, &OpenError{What: what, Hint: hint(errors.Unwrap(err)), Err: err}
	}
	if err := unix.Bind(fd, sockaddr(local, s.v6)); err != nil {
		unix.Close(fd)
		return nil, &OpenError{What: what, Hint: hint(err), Err: err}
	}
	s.local = local
	if sa, err := unix.Getsockname(fd); err == nil && typ == unix.SOCK_DGRAM {
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			s.local = netip.AddrPortFrom(local.Addr(), uint16(sa.Port))
		case *unix.SockaddrInet6:
			s.local = netip.AddrPortFrom(local.Addr(), uint16(sa.Port))
		}
	}
	s.file = os.NewFile(uintptr(fd), what)
	s.raw, err = s.file.SyscallConn()
	if err != nil {
		s.file.Close()
		return nil, &OpenError{What: what, Err: err}
	}
	return s, nil
}

func sockaddr(a netip.AddrPort, v6 bool) unix.Sockaddr {
	if !v6 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().Unmap().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zoneIndex(a.Addr())}
}

// hint says what to do about an error of opening.
func hint(err error) string {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return "another program has it: is an IKE daemon running already? (ss -lunp shows who)"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "this needs root, or CAP_NET_BIND_SERVICE, CAP_NET_RAW and CAP_NET_ADMIN"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "no interface of this host has that address"
	case errors.Is(err, unix.EAFNOSUPPORT):
		return "this kernel has no such address family"
	}
	return ""
}

type option struct {
	name              string
	level, opt, value int
	optional          bool
}

// configure sets what every socket of ours has.
func configure(fd, typ int, v6 bool, mark uint32) error {
	opts := []option{
		{"SO_RCVBUFFORCE", unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize, true},
		{"SO_SNDBUFFORCE", unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferSize, true},
	}
	if mark != 0 {
		opts = append(opts, option{"SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, int(mark), false})
	}
	if v6 {
		if typ == unix.SOCK_DGRAM { // a raw socket is of one family anyway, and refuses it
			opts = append(opts, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, false})
		}
		opts = append(opts,
			option{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, false},
			option{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT, false},
			option{"IPV6_RECVTCLASS", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1, false},
			option{"IPV6_RECVHOPLIMIT", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1, false})
		if typ == unix.SOCK_RAW { // AH covers them
			opts = append(opts,
				option{"IPV6_RECVHOPOPTS", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPOPTS, 1, true},
				option{"IPV6_RECVRTHDR", unix.IPPROTO_IPV6, unix.IPV6_RECVRTHDR, 1, true},
				option{"IPV6_RECVDSTOPTS", unix.IPPROTO_IPV6, unix.IPV6_RECVDSTOPTS, 1, true})
		}
	} else {
		opts = append(opts,
			option{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1, false},
			option{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, false})
		if typ == unix.SOCK_DGRAM { // a raw socket shows the header
			opts = append(opts,
				option{"IP_RECVTOS", unix.IPPROTO_IP, unix.IP_RECVTOS, 1, false},
				option{"IP_RECVTTL", unix.IPPROTO_IP, unix.IP_RECVTTL, 1, false})
		}
	}
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil && !o.optional {
			return fmt.Errorf("setting %s: %w", o.name, err)
		}
	}
	return nil
}

func (s *socket) control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

func (s *socket) LocalAddr() netip.AddrPort { return s.local }

func (s *socket) Offload() (gso, gro bool) { return !s.gsoOff.Load(), s.gro }

func (s *socket) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return s.file.Close()
}

func (s *socket) Recv(b *RecvBatch) error {
	b.Msgs = b.all[:0]
	for len(b.Msgs) == 0 {
		if err := s.raw.Read(b.sys.call); err != nil {
			if s.closed.Load() {
				return net.ErrClosed
			}
			return err
		}
		if b.sys.errno != 0 {
			return b.sys.errno
		}
		for i := range b.sys.n {
			if s.received(b, i, &b.all[len(b.Msgs)]) {
				b.Msgs = b.all[:len(b.Msgs)+1]
			}
		}
	}
	return nil
}

// received fills r from message i; false: there is nothing in it for anybody.
func (s *socket) received(b *RecvBatch, i int, r *Received) bool {
	n := int(b.sys.hdrs[i].n)
	if n == 0 || b.sys.hdrs[i].hdr.Flags&unix.MSG_TRUNC != 0 {
		return false
	}
	*r = Received{Data: b.room[i][:n:n], Remote: b.sys.remote(i), Headers: b.room[i][n:n]}
	local := b.sys.ancillary(i, r)
	if !local.IsValid() {
		local = s.local.Addr()
	}
	r.Local = netip.AddrPortFrom(local, s.local.Port())
	if !s.strip {
		return true
	}
	// The kernel has put fragments together and checked the header.
	head := int(r.Data[0]&15) * 4
	if n < 20 || r.Data[0]>>4 != 4 || head < 20 || head >= n {
		return false
	}
	if size := int(binary.BigEndian.Uint16(r.Data[2:])); size > head && size < n {
		n = size
	}
	r.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(r.Data[16:20])), 0)
	r.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(r.Data[12:16])), 0)
	r.Packet, r.Data = r.Data[:n], r.Data[head:n]
	r.TOS, r.TTL = r.Packet[1], r.Packet[8]
	return true
}

func (s *socket) Send(b *SendBatch) (failed int, err error) {
	if len(b.msgs) == 0 {
		return 0, nil
	}
	gso := !s.gsoOff.Load()
	if gso && s.rest.Load() > 0 {
		s.rest.Add(-int64(len(b.pkts)))
		gso = false
	}
	slots := 0
	for i := range b.msgs {
		m := &b.msgs[i]
		if gso {
			b.sys.put(slots, m, b.pkts[m.first:][:m.n], m.first, s.v6, true)
			slots++
			continue
		}
		for k := range m.n {
			b.sys.put(slots, m, b.pkts[m.first+k:][:1], m.first+k, s.v6, false)
			slots++
		}
	}
	failed, err = s.flush(b, slots, gso)
	b.Reset()
	return failed, err
}

// flush sends slots of b. With gso, slot i is message i.
func (s *socket) flush(b *SendBatch, slots int, gso bool) (failed int, first error) {
	b.sys.from, b.sys.to = 0, slots
	for b.sys.from < slots {
		if err := s.raw.Write(b.sys.call); err != nil {
			if s.closed.Load() {
				err = net.ErrClosed
			}
			return failed + slots - b.sys.from, err
		}
		if b.sys.errno == 0 {
			b.sys.from += b.sys.sent
			continue
		}
		errno, at := b.sys.errno, b.sys.from
		b.sys.from++
		if gso && b.msgs[at].n > 1 && s.refusedGSO(errno) {
			n, err := s.oneByOne(b, at)
			failed += n
			first = firstOf(first, err)
			continue
		}
		failed++
		if gso {
			failed += b.msgs[at].n - 1
		}
		first = firstOf(first, errno)
	}
	return failed, first
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// refusedGSO tells whether errno is about the row and not about its packets:
// EIO comes from a device that cannot do checksums, once and for all; EINVAL
// and EMSGSIZE when a packet is larger than the path.
func (s *socket) refusedGSO(errno unix.Errno) bool {
	switch errno {
	case unix.EIO:
		s.gsoOff.Store(true)
	case unix.EINVAL, unix.EMSGSIZE:
		s.rest.Store(gsoRest)
	default:
		return false
	}
	return true
}

// oneByOne sends the packets of message at singly, through that message's slot;
// the slots behind it stay as they are.
func (s *socket) oneByOne(b *SendBatch, at int) (failed int, first error) {
	m := b.msgs[at]
	from, to := b.sys.from, b.sys.to
	defer func() { b.sys.from, b.sys.to = from, to }()
	for k := range m.n {
		b.sys.put(at, &m, b.pkts[m.first+k:][:1], m.first+k, s.v6, false)
		b.sys.from, b.sys.to = at, at+1
		if err := s.raw.Write(b.sys.call); err != nil {
			return failed + m.n - k, err
		}
		if b.sys.errno != 0 {
			failed++
			first = firstOf(first, b.sys.errno)
		}
	}
	return failed, first
}
