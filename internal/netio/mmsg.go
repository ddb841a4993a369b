package netio

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvmmsg(2) and sendmmsg(2) with everything they point to allocated once.
// golang.org/x/net's batches would do the same work but allocate an address for
// each message.

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

const (
	sizeName = unix.SizeofSockaddrInet6
	// Room for IPV6_PKTINFO, class, hop limit and UDP_GRO or UDP_SEGMENT, in
	// 8-byte words; of what comes, for IPv6's extension headers too.
	wordsControl     = 16
	sizeControl      = wordsControl * 8
	wordsRecvControl = 64
	sizeRecvControl  = wordsRecvControl * 8
)

type sysRecv struct {
	hdrs    []mmsghdr
	iovs    []unix.Iovec
	names   []unix.RawSockaddrInet6
	control []uint64
	call    func(fd uintptr) bool
	n       int
	errno   unix.Errno
}

func (s *sysRecv) init(room [][]byte) {
	n := len(room)
	s.hdrs = make([]mmsghdr, n)
	s.iovs = make([]unix.Iovec, n)
	s.names = make([]unix.RawSockaddrInet6, n)
	s.control = make([]uint64, n*wordsRecvControl)
	for i := range n {
		s.iovs[i].Base = &room[i][0]
		s.iovs[i].SetLen(len(room[i]))
		h := &s.hdrs[i].hdr
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Control = (*byte)(unsafe.Pointer(&s.control[i*wordsRecvControl]))
	}
	s.call = func(fd uintptr) bool { return s.recv(fd) }
}

// recv is one try; false: nothing is there yet.
func (s *sysRecv) recv(fd uintptr) bool {
	for i := range s.hdrs {
		s.hdrs[i].hdr.Namelen = sizeName
		s.hdrs[i].hdr.SetControllen(sizeRecvControl)
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.hdrs[0])), uintptr(len(s.hdrs)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		s.n, s.errno = int(n), errno
		if errno != 0 {
			s.n = 0
		}
		return true
	}
}

// remote is where message i came from.
func (s *sysRecv) remote(i int) netip.AddrPort {
	sa := &s.names[i]
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), hostOrder(sa4.Port))
	}
	return netip.AddrPortFrom(zoned(netip.AddrFrom16(sa.Addr), int(sa.Scope_id)), hostOrder(sa.Port))
}

// zoned puts the zone to a link-local address, the only ones that need it.
func zoned(a netip.Addr, ifindex int) netip.Addr {
	if ifindex != 0 && a.IsLinkLocalUnicast() {
		return a.WithZone(strconv.Itoa(ifindex))
	}
	return a
}

func hostOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// ancillary reads message i's control data into r: the length of its datagrams
// when there are several, class and hop limit. It returns the address it was
// sent to.
func (s *sysRecv) ancillary(i int, r *Received) (local netip.Addr) {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&s.control[i*wordsRecvControl])), sizeRecvControl)
	b = b[:min(int(s.hdrs[i].hdr.Controllen), sizeRecvControl)]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(b) {
			break
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4([4]byte(data[4:8])) // ipi_spec_dst: ours, even for a broadcast
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = zoned(netip.AddrFrom16([16]byte(data[:16])), int(binary.NativeEndian.Uint32(data[16:])))
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			r.Seg = max(0, int(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			r.TOS = data[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			r.TOS = uint8(binary.NativeEndian.Uint32(data))
		case len(data) >= 4 && (h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT):
			r.TTL = uint8(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IPV6 && extension(h.Type) >= 0 && len(data) >= 8:
			if len(r.Headers) == 0 {
				r.First = uint8(extension(h.Type))
			}
			r.Headers = append(r.Headers, data...)
		}
		next := unix.CmsgSpace(len(data))
		if next > len(b) {
			break
		}
		b = b[next:]
	}
	return local
}

// extension is the protocol number of an extension header that comes as control
// data; negative: it is something else.
func extension(typ int32) int {
	switch typ {
	case unix.IPV6_HOPOPTS:
		return unix.IPPROTO_HOPOPTS
	case unix.IPV6_RTHDR:
		return unix.IPPROTO_ROUTING
	case unix.IPV6_DSTOPTS:
		return unix.IPPROTO_DSTOPTS
	}
	return -1
}

type sysSend struct {
	hdrs    []mmsghdr
	iovs    []unix.Iovec
	names   []unix.RawSockaddrInet6
	control []uint64
	call    func(fd uintptr) bool
	from    int // first of hdrs to send
	to      int
	sent    int
	errno   unix.Errno
}

func (s *sysSend) init(n int) {
	s.hdrs = make([]mmsghdr, n)
	s.iovs = make([]unix.Iovec, n)
	s.names = make([]unix.RawSockaddrInet6, n)
	s.control = make([]uint64, n*wordsControl)
	s.call = func(fd uintptr) bool { return s.send(fd) }
}

// send is one try to send hdrs[from:to]; false: the socket's buffer is full.
func (s *sysSend) send(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.hdrs[s.from])), uintptr(s.to-s.from), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		s.sent, s.errno = int(n), errno
		if errno != 0 {
			s.sent = 0
		}
		return true
	}
}

// put prepares slot i: pkts of one message for the socket of family v6 or not.
// The iovs of message i begin at iov.
func (s *sysSend) put(i int, m *outMsg, pkts [][]byte, iov int, v6, gso bool) {
	h := &s.hdrs[i].hdr
	for k, p := range pkts {
		s.iovs[iov+k].SetLen(len(p))
		s.iovs[iov+k].Base = nil
		if len(p) > 0 {
			s.iovs[iov+k].Base = &p[0]
		}
	}
	h.Iov = &s.iovs[iov]
	h.SetIovlen(len(pkts))
	h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	h.Namelen = putName(&s.names[i], m.remote, v6)

	c := s.control[i*wordsControl:][:wordsControl]
	b := unsafe.Slice((*byte)(unsafe.Pointer(&c[0])), sizeControl)
	used := 0
	if a := m.local.Addr(); a.IsValid() && !a.IsUnspecified() {
		used = putPktinfo(b, a, v6)
	}
	if m.tos != 0 {
		level, typ := int32(unix.IPPROTO_IP), int32(unix.IP_TOS)
		if v6 {
			level, typ = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		data, n := putCmsg(b[used:], level, typ, 4)
		binary.NativeEndian.PutUint32(data, uint32(m.tos))
		used += n
	}
	if gso && len(pkts) > 1 {
		data, n := putCmsg(b[used:], unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(m.seg))
		used += n
	}
	h.Control = nil
	if used > 0 {
		h.Control = &b[0]
	}
	h.SetControllen(used)
}

func putName(sa *unix.RawSockaddrInet6, to netip.AddrPort, v6 bool) (size uint32) {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], to.Port())
	if !v6 {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*sa4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: binary.NativeEndian.Uint16(port[:]), Addr: to.Addr().Unmap().As4()}
		return unix.SizeofSockaddrInet4
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: binary.NativeEndian.Uint16(port[:]), Addr: to.Addr().As16(), Scope_id: zoneIndex(to.Addr())}
	return unix.SizeofSockaddrInet6
}

// zoneIndex is the interface of an address as zoned writes it.
func zoneIndex(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	n, err := strconv.ParseUint(a.Zone(), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func putPktinfo(b []byte, local netip.Addr, v6 bool) (used int) {
	if v6 {
		data, n := putCmsg(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		a := local.As16()
		copy(data, a[:])
		binary.NativeEndian.PutUint32(data[16:], zoneIndex(local))
		return n
	}
	data, n := putCmsg(b, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
	a := local.Unmap().As4()
	copy(data[4:], a[:])
	return n
}

// putCmsg writes a control message's header and returns its cleared data.
func putCmsg(b []byte, level, typ int32, size int) (data []byte, used int) {
	used = unix.CmsgSpace(size)
	clear(b[:used])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(size))
	return b[unix.CmsgLen(0):][:size], used
}
