package xfrm

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	nl "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/planetest"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// tunDevice is a device whose packets are ours to read and write.
type tunDevice struct {
	file *os.File
	wr   sync.Mutex
}

// openTUN makes one in the namespace of this thread.
func openTUN(name string, addrs ...string) (*tunDevice, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	for _, s := range addrs {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return nil, err
		}
	}
	return &tunDevice{file: os.NewFile(uintptr(fd), name)}, netlink.LinkSetUp(link)
}

func (d *tunDevice) write(pkt []byte) {
	d.wr.Lock()
	defer d.wr.Unlock()
	_, _ = d.file.Write(pkt) // a device that is down drops
}

// each hands every packet to f until the device is closed.
func (d *tunDevice) each(f func(pkt []byte)) {
	buf := make([]byte, 65536)
	for {
		n, err := d.file.Read(buf)
		if err != nil {
			return
		}
		f(append([]byte(nil), buf[:n]...))
	}
}

// gate is a gateway: a host with a device towards the network behind it and one
// towards the other gateway, and the kernel's IPsec between them.
type gate struct {
	*planetest.Site
	host     *lab.Host
	lan, wan *tunDevice
	raw      [2]int // sends packets of the host's own, by family
	plane    *Plane // nil: another kind
}

// udpPort is where planetest's packets go. A socket of the host takes them, so
// that it does not answer that the port is closed.
const udpPort = 2000

func newGate(t *testing.T, n *lab.Net, name, a4, a6 string, routes map[string]string, o Options) *gate {
	t.Helper()
	var p *Plane
	g := gateOf(t, n, name, a4, a6, routes, func() (b dataplane.Backend, err error) {
		p, err = New(o)
		return p, err
	})
	g.plane, g.Coarse = p, true
	return g
}

// gateOf is a gateway with a data plane of any kind; nil: it comes later.
func gateOf(t *testing.T, n *lab.Net, name, a4, a6 string, routes map[string]string, open func() (dataplane.Backend, error)) *gate {
	t.Helper()
	h, err := n.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Forward(); err != nil {
		t.Fatal(err)
	}
	g := &gate{Site: &planetest.Site{Addr: netip.MustParseAddr(a4), Addr6: netip.MustParseAddr(a6)}, host: h}
	got := make(chan []byte, 256)
	g.Got, g.Put = got, g.put
	var listen []int
	err = h.Do(func() error {
		if g.wan, err = openTUN("wan", a4+"/24", a6+"/64"); err != nil {
			return err
		}
		if g.lan, err = openTUN("lan"); err != nil {
			return err
		}
		for dst, dev := range routes {
			link, err := netlink.LinkByName(dev)
			if err != nil {
				return err
			}
			_, ipnet, err := parseCIDR(dst)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipnet, Scope: netlink.SCOPE_LINK}); err != nil {
				return err
			}
		}
		for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
			if g.raw[i], err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
				return err
			}
			fds, err := receivers(family)
			if err != nil {
				return err
			}
			listen = append(listen, fds...)
		}
		if open != nil {
			g.Backend, err = open()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		g.lan.each(func(pkt []byte) {
			if isOurs(pkt) { // the host itself talks too: who is there, who listens to groups
				got <- hops(pkt, 1)
			}
		})
	})
	wg.Go(func() { receive(listen[1], false, got) })
	wg.Go(func() { receive(listen[3], true, got) })
	t.Cleanup(func() {
		if g.Backend != nil {
			g.Backend.Close()
		}
		if g.plane != nil { // which may be another one by now
			g.plane.Close()
		}
		g.lan.file.Close()
		g.wan.file.Close()
		for _, fd := range listen {
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		}
		wg.Wait()
		for _, fd := range append(listen, g.raw[:]...) {
			unix.Close(fd)
		}
	})
	return g
}

// receivers are a socket that takes what is for the port, and one that sees the
// whole packets.
func receivers(family int) ([]int, error) {
	udp, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var at unix.Sockaddr = &unix.SockaddrInet4{Port: udpPort}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(udp, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return nil, err
		}
		at = &unix.SockaddrInet6{Port: udpPort}
	}
	if err := unix.Bind(udp, at); err != nil {
		return nil, err
	}
	raw, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_INET6 {
		for _, o := range []int{unix.IPV6_RECVPKTINFO, unix.IPV6_RECVHOPLIMIT, unix.IPV6_RECVTCLASS} {
			if err := unix.SetsockoptInt(raw, unix.IPPROTO_IPV6, o, 1); err != nil {
				return nil, err
			}
		}
	}
	return []int{udp, raw}, nil
}

// receive reads the host's own packets.
func receive(fd int, v6 bool, got chan<- []byte) {
	buf, oob := make([]byte, 65536), make([]byte, 256)
	for {
		n, m, _, from, err := unix.Recvmsg(fd, buf, oob, 0)
		if err != nil || n == 0 {
			return
		}
		pkt := append([]byte(nil), buf[:n]...)
		if v6 {
			pkt = header6(pkt, oob[:m], from)
		}
		if isOurs(pkt) {
			got <- pkt
		}
	}
}

// isOurs tells planetest's packets.
func isOurs(pkt []byte) bool {
	at, proto := 40, pkt[6]
	if pkt[0]>>4 == 4 {
		at, proto = int(pkt[0]&15)*4, pkt[9]
	}
	return proto == unix.IPPROTO_UDP && len(pkt) >= at+8 && binary.BigEndian.Uint16(pkt[at+2:]) == udpPort
}

// header6 puts before a payload the header that a raw socket does not show.
func header6(payload, oob []byte, from unix.Sockaddr) []byte {
	h := make([]byte, 40, 40+len(payload))
	h[0], h[6] = 0x60, 17
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	src := from.(*unix.SockaddrInet6).Addr
	copy(h[8:], src[:])
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		switch m.Header.Type {
		case unix.IPV6_PKTINFO:
			copy(h[24:], m.Data[:16])
		case unix.IPV6_HOPLIMIT:
			h[7] = byte(*(*int32)(unsafe.Pointer(&m.Data[0])))
		case unix.IPV6_TCLASS:
			tc := byte(*(*int32)(unsafe.Pointer(&m.Data[0])))
			h[0] |= tc >> 4
			h[1] |= tc << 4
		}
	}
	return append(h, payload...)
}

// put sends a packet: of the host's own through a socket, of the network behind
// it through the device. A router takes a hop from it, which is given before and
// after, so that what arrives can be what was sent.
func (g *gate) put(pkt []byte) {
	src, dst := ends(pkt)
	if src != g.Addr && src != g.Addr6 {
		g.lan.write(hops(append([]byte(nil), pkt...), 1))
		return
	}
	if src.Is4() {
		_ = unix.Sendto(g.raw[0], pkt, 0, &unix.SockaddrInet4{Addr: dst.As4()}) // a packet that is dropped is an error here
		return
	}
	_ = unix.Sendto(g.raw[1], pkt, 0, &unix.SockaddrInet6{Addr: dst.As16()})
}

func ends(pkt []byte) (src, dst netip.Addr) {
	if pkt[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))
	}
	return netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20]))
}

// hops adds to a packet's hop limit.
func hops(pkt []byte, n byte) []byte {
	if pkt[0]>>4 == 6 {
		pkt[7] += n
		return pkt
	}
	pkt[8] += n
	sumHeader(pkt)
	return pkt
}

func sumHeader(pkt []byte) {
	pkt[10], pkt[11] = 0, 0
	var sum uint32
	for i := 0; i < int(pkt[0]&15)*4; i += 2 {
		sum += uint32(pkt[i])<<8 | uint32(pkt[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(pkt[10:], ^uint16(sum))
}

// setSequence lets an outgoing SA have sent n packets, and the one at the other
// end have seen them.
func setSequence(t *testing.T, from, to *gate, id ipsec.SAID, n uint64) {
	t.Helper()
	for _, g := range []*gate{from, to} {
		k := g.plane.kernel.(*sockets)
		w, err := g.plane.fetch(&saEntry{sa: ipsec.SA{ID: id}, dst: id.Dst})
		if err != nil {
			t.Fatal(err)
		}
		ae := wire.AE{SA: wire.ID{Dst: w.Dst, SPI: w.SPI, Family: w.Family, Proto: w.Proto}, Src: w.Src, ReqID: w.ReqID, Replay: w.Replay, ESN: w.ESN}
		life := w.Usage
		if g == from {
			life.Packets = n
		}
		ae.Life = &life
		switch {
		case w.ESN != nil && g == from:
			w.ESN.Sent = n
		case w.ESN != nil:
			w.ESN.Seen, w.ESN.Bitmap = n, make([]uint32, len(w.ESN.Bitmap))
		case g == from:
			w.Replay.Sent = uint32(n)
		}
		_, err = k.conn.Execute(nl.Message{
			Header: nl.Header{Type: nl.HeaderType(wire.NewAE), Flags: nl.Request | nl.Acknowledge | nl.Replace},
			Data:   ae.Append(nil),
		})
		if err != nil {
			t.Fatalf("setting the sequence number: %v", err)
		}
	}
}

// cable carries packets between two gateways, and does what planetest asks of
// the network between them.
type cable struct {
	twice atomic.Bool
	seen  atomic.Pointer[netip.AddrPort] // as what the first gateway's UDP is seen
	home  netip.Addr
}

func (c *cable) join(t *testing.T, a, b *gate) {
	c.home = a.Addr
	var wg sync.WaitGroup
	carry := func(from, to *gate) {
		wg.Go(func() {
			from.wan.each(func(pkt []byte) {
				pkt = c.translate(pkt)
				if pkt == nil {
					return
				}
				to.wan.write(pkt)
				if c.twice.Load() {
					to.wan.write(pkt)
				}
			})
		})
	}
	carry(a, b)
	carry(b, a)
	t.Cleanup(func() { a.wan.file.Close(); b.wan.file.Close(); wg.Wait() })
}

// translate is the NAT; nil: the packet is lost.
func (c *cable) translate(pkt []byte) []byte {
	seen := c.seen.Load()
	if seen == nil || pkt[0]>>4 != 4 || pkt[9] != unix.IPPROTO_UDP {
		return pkt
	}
	udp := pkt[int(pkt[0]&15)*4:]
	src, dst := ends(pkt)
	switch {
	case src == c.home:
		a := seen.Addr().As4()
		copy(pkt[12:], a[:])
		binary.BigEndian.PutUint16(udp, seen.Port())
	case dst == seen.Addr() && binary.BigEndian.Uint16(udp[2:]) == seen.Port():
		a := c.home.As4()
		copy(pkt[16:], a[:])
		binary.BigEndian.PutUint16(udp[2:], DefaultEncapPort)
	default:
		return nil
	}
	udp[6], udp[7] = 0, 0 // no checksum
	sumHeader(pkt)
	return pkt
}
