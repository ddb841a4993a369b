package userspace

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// outer is what left through a socket, as a link would see it.
type outer struct {
	whole bool // it brought its header
	udp   bool
	proto uint8 // of a raw socket
	data  []byte
	tos   uint8
	to    netip.AddrPort
}

// size is that of the whole packet.
func (o *outer) size() int {
	n := len(o.data)
	if o.whole {
		return n
	}
	n += inet.HeaderLen(o.to.Addr().Is6())
	if o.udp {
		n += 8
	}
	return n
}

// tape is a network that keeps everything.
type tape struct{ kept []outer }

type tapeConn struct {
	t     *tape
	local netip.AddrPort
	done  chan struct{}
	whole bool
	udp   bool
	proto uint8
}

func (n *tape) OpenUDP(o netio.UDPOptions) (netio.Conn, error) {
	return &tapeConn{t: n, local: o.Local, done: make(chan struct{}), udp: true}, nil
}

func (n *tape) OpenRaw(o netio.RawOptions) (netio.Conn, error) {
	return &tapeConn{t: n, local: netip.AddrPortFrom(o.Local, 0), done: make(chan struct{}), whole: o.Whole, proto: o.Proto}, nil
}

func (c *tapeConn) Recv(*netio.RecvBatch) error {
	<-c.done
	return net.ErrClosed
}

func (c *tapeConn) Send(b *netio.SendBatch) (int, error) {
	b.EachTOS(func(pkt []byte, _, remote netip.AddrPort, tos uint8) {
		c.t.kept = append(c.t.kept, outer{c.whole, c.udp, c.proto, append([]byte(nil), pkt...), tos, remote})
	})
	b.Reset()
	return 0, nil
}

func (c *tapeConn) LocalAddr() netip.AddrPort { return c.local }
func (c *tapeConn) Offload() (gso, gro bool)  { return false, true }
func (c *tapeConn) Close() error              { close(c.done); return nil }

// mouth is a device that keeps what it is given.
type mouth struct {
	hole
	mtu  int
	kept [][]byte
}

func (m *mouth) MTU() int { return m.mtu }

func (m *mouth) Write(pkts [][]byte) (int, error) {
	for _, p := range pkts {
		m.kept = append(m.kept, append([]byte(nil), p...))
	}
	return 0, nil
}

// scene is a plane with both its ends: packets that it sends can be given to it
// again. The test is its only goroutine but for the workers.
type scene struct {
	t   testing.TB
	p   *Plane
	net *tape
	dev *mouth
	out *outWork
	now int64
	in  map[*link]*inWork
}

var (
	us6, peer6  = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	nearNet     = netip.MustParsePrefix("10.1.0.0/16")
	farNet      = netip.MustParsePrefix("10.2.0.0/16")
	nearNet6    = netip.MustParsePrefix("fd01::/64")
	farNet6     = netip.MustParsePrefix("fd02::/64")
	nearest     = netip.MustParseAddr("10.1.0.2")
	farthest    = netip.MustParseAddr("10.2.0.2")
	nearest6    = netip.MustParseAddr("fd01::2")
	farthest6   = netip.MustParseAddr("fd02::2")
	bg          = context.Background()
	sceneMTU    = 1400
	sceneLocals = []netip.Addr{benchUs, us6, benchPeer, peer6}
)

func newScene(t testing.TB, o Options) *scene {
	t.Helper()
	s := &scene{t: t, net: &tape{}, dev: &mouth{hole: hole{done: make(chan struct{})}, mtu: sceneMTU}, now: time.Now().UnixNano(), in: map[*link]*inWork{}}
	if o.MTU != 0 {
		s.dev.mtu = o.MTU
	}
	o.Local, o.Device, o.Network, o.System = sceneLocals, s.dev, s.net, still{}
	var err error
	if s.p, err = New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.p.Close() })
	s.out = newOutWork(s.p)
	return s
}

// coat is one SA of those that a flow's packets go through.
type coat struct {
	proto  ipsec.Proto
	mode   ipsec.Mode
	cipher ipsec.Cipher
	auth   ipsec.Auth
	udp    bool
	far    bool // of a tunnel that goes further: between other addresses than the others
}

func (c coat) String() string {
	s := fmt.Sprintf("%s %s %s %s", c.proto, c.mode, c.cipher, c.auth)
	if c.udp {
		s += " UDP"
	}
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// wear gives the flow from near to far a coat of SAs, both halves of each in this
// plane, and returns the first: what the flow uses.
func (s *scene) wear(number uint64, v6 bool, sel ipsec.Selector, coats ...coat) *outSA {
	s.t.Helper()
	src, dst := benchUs, benchPeer
	if v6 {
		src, dst = us6, peer6
	}
	f := ipsec.Flow{
		ID: ipsec.FlowID(fmt.Sprintf("f%d/out", number)), Dir: ipsec.Out, Selector: sel, Local: src, Remote: dst,
		Mode: coats[0].mode, Proto: coats[0].proto,
	}
	in := f
	in.ID, in.Dir = ipsec.FlowID(fmt.Sprintf("f%d/in", number)), ipsec.In
	s.must(s.p.ApplyFlows(bg, []ipsec.FlowChange{{Flow: f}, {Flow: in}}))
	var first *outSA
	for i, c := range coats {
		ci := c.cipher.Info()
		sa := &ipsec.SA{
			ID: ipsec.SAID{Dir: ipsec.Out, Proto: c.proto, SPI: ipsec.SPI(0x1000*number) + ipsec.SPI(i), Dst: dst}, Src: src, Mode: c.mode,
			Cipher: c.cipher, Key: fill(ci.DefKey, 3), Salt: fill(ci.Salt, 7), Auth: c.auth, AuthKey: fill(c.auth.Info().Key, 11),
			Selector: sel, Flow: f.ID,
		}
		if c.far {
			sa.Src, sa.ID.Dst = dst, src // any other pair will do
		}
		if c.auth == ipsec.AuthAESGMAC {
			sa.Salt = fill(4, 7)
		}
		if c.proto == ipsec.ProtoIPComp {
			sa.Comp = ipsec.CompDeflate
		}
		if len(coats) > 1 {
			sa.Bundle = ipsec.Place{ID: number, Index: uint8(i), Of: uint8(len(coats))}
		}
		rx := *sa
		rx.ID.Dir, rx.Flow = ipsec.In, in.ID
		if c.udp {
			a, b := netip.AddrPortFrom(src, 4500), netip.AddrPortFrom(dst, 4500)
			sa.ID.Port, sa.Encap, rx.Encap = 4500, &ipsec.Encap{Local: a, Remote: b}, &ipsec.Encap{Local: b, Remote: a}
		}
		s.must(s.p.AddSA(bg, &rx))
		s.must(s.p.AddSA(bg, sa))
		if i == 0 {
			first = s.p.out[sa.ID]
		}
	}
	return first
}

// send lets the host send packets, and returns what left.
func (s *scene) send(pkts ...[]byte) []outer {
	s.t.Helper()
	s.net.kept, s.dev.kept = nil, nil
	for _, pkt := range pkts {
		buf := make([]byte, headRoom+len(pkt)+tailRoom)
		copy(buf[headRoom:], pkt)
		if d := s.out.packet(buf, len(pkt), s.now); d != ipsec.DropNone {
			s.p.drops.add(d)
		}
	}
	s.out.flush()
	s.settle()
	return s.net.kept
}

// come gives the plane packets that left, as their receiver would get them. Outer
// fragments are the kernel's business: there must be none.
func (s *scene) come(pkts []outer) [][]byte {
	s.t.Helper()
	s.dev.kept = nil
	for i := range pkts {
		s.arrive(&pkts[i])
	}
	s.settle()
	return s.dev.kept
}

func (s *scene) arrive(o *outer) {
	s.t.Helper()
	data := append([]byte(nil), o.data...)
	m := netio.Received{TOS: o.tos, TTL: 64, Data: data}
	proto := o.proto
	src, dst := benchUs, o.to.Addr()
	if dst == benchUs {
		src = benchPeer
	}
	switch {
	case dst == us6:
		src = peer6
	case dst == peer6:
		src = us6
	}
	if o.whole {
		at, ok := inet.Payload(data)
		if !ok {
			s.t.Fatalf("no whole packet left: %x", data[:40])
		}
		proto = data[at.Next]
		m.TOS, m.TTL = inet.TOS(data), data[8]
		if dst.Is6() {
			m.TTL = data[7]
		}
		m.Data = data[at.At:]
		if dst.Is4() {
			m.Packet = data
		} else {
			m.First, m.Headers = data[6], data[40:at.At]
		}
		if proto == protoUDP {
			o.udp, m.Data, m.Packet = true, m.Data[8:], nil
		}
	} else if dst.Is4() && !o.udp { // the kernel's header
		m.Packet = make([]byte, 20+len(data))
		copy(m.Packet[20:], data)
		(&inet.Header{Src: src, Dst: dst, Proto: proto, TOS: o.tos, TTL: 64}).Put(m.Packet)
		m.Data = m.Packet[20:]
	}
	port := uint16(0)
	if o.udp {
		port = 4500
	}
	m.Remote, m.Local = netip.AddrPortFrom(src, port), netip.AddrPortFrom(dst, port)
	for _, l := range s.p.links {
		if l.local == dst && l.encap == o.udp && (o.udp || l.proto == proto) {
			if s.in[l] == nil {
				s.in[l] = newInWork(s.p, l)
			}
			s.in[l].messages([]netio.Received{m})
			return
		}
	}
	s.t.Fatalf("no socket for protocol %d to %s", proto, dst)
}

// datagram is a UDP packet of size bytes.
func datagram(src, dst netip.Addr, size int, dontFrag bool) []byte {
	pkt := make([]byte, size)
	head := inet.HeaderLen(src.Is6())
	(&inet.Header{Src: src, Dst: dst, Proto: protoUDP, TTL: 60, DontFrag: dontFrag, ID: 7}).Put(pkt)
	udp := pkt[head:]
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], 2000)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	for i := 8; i < len(udp); i++ {
		udp[i] = byte(i * 167)
	}
	return pkt
}

func (s *scene) drops(d ipsec.Drop) uint64 {
	st, err := s.p.Totals(bg)
	s.must(err)
	n := st.Drops[d]
	for _, p := range st.Protos {
		n += p.DropsIn[d] + p.DropsOut[d]
	}
	return n
}

// fragmentsOf divides a packet as a router would.
func (s *scene) fragmentsOf(pkt []byte, size int) (all [][]byte) {
	s.t.Helper()
	for at := 0; at >= 0; {
		buf := make([]byte, size)
		n, next := inet.Fragment(buf, pkt, at, 77)
		if n == 0 {
			s.t.Fatal("the packet cannot be divided")
		}
		all = append(all, buf[:n])
		at = next
	}
	return all
}

// settle waits until the workers have done all that they were given.
func (s *scene) settle() {
	var lines []*line
	for _, sa := range s.p.in {
		lines = append(lines, sa.line, sa.order.Load())
	}
	for _, sa := range s.p.out {
		lines = append(lines, sa.line, sa.order.Load())
	}
	for _, l := range lines {
		for l != nil {
			l.mu.Lock()
			n := len(l.jobs)
			l.mu.Unlock()
			if n == 0 {
				break
			}
			runtime.Gosched()
		}
	}
}
