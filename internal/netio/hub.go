package netio

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Hub is an IP network in memory: every node reaches every other, packets keep
// their order, and Filter can lose, change or readdress them.
type Hub struct {
	mu     sync.Mutex
	nodes  map[netip.Addr]*Node
	filter func(p *HubPacket) bool
	join   bool
}

// HubPacket is a packet on its way through a Hub. For a raw protocol the ports
// are 0.
type HubPacket struct {
	Proto    uint8 // 17 or a raw protocol
	Src, Dst netip.AddrPort
	Data     []byte
	TOS, TTL uint8  // a TTL of 0 counts as 64
	Header   []byte // of IPv4, when the sender made its own; else one is made for raw sockets
}

// Node is a host of a Hub; it is a Network.
type Node struct {
	hub   *Hub
	addrs []netip.Addr
	conns []*hubConn
}

// NewHub makes an empty network.
func NewHub() *Hub { return &Hub{nodes: map[netip.Addr]*Node{}} }

// SetFilter sets what happens to packets: f may change them; false loses them.
// It is called with the Hub locked and must not call it.
func (h *Hub) SetFilter(f func(p *HubPacket) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.filter = f
}

// SetGRO makes UDP sockets with Offload receive rows of datagrams in one
// message, as with the kernel's receive offload.
func (h *Hub) SetGRO(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.join = on
}

// Node adds a host with these addresses.
func (h *Hub) Node(addrs ...netip.Addr) *Node {
	n := &Node{hub: h, addrs: addrs}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range addrs {
		h.nodes[a] = n
	}
	return n
}

// hubQueue is how many packets wait in a socket before new ones are lost.
const hubQueue = 4096

type hubConn struct {
	node    *Node
	proto   uint8
	local   netip.AddrPort
	offload bool
	ready   *sync.Cond // on hub.mu
	queue   []HubPacket
	closed  bool
}

// OpenUDP opens a UDP socket.
func (n *Node) OpenUDP(o UDPOptions) (Conn, error) {
	return n.open(unix.IPPROTO_UDP, o.Local, o.Offload)
}

// OpenRaw opens a raw socket.
func (n *Node) OpenRaw(o RawOptions) (Conn, error) {
	if o.Whole {
		return n.open(unix.IPPROTO_RAW, netip.AddrPortFrom(o.Local, 0), false)
	}
	return n.open(o.Proto, netip.AddrPortFrom(o.Local, 0), false)
}

func (n *Node) open(proto uint8, local netip.AddrPort, offload bool) (Conn, error) {
	h := n.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	what := fmt.Sprintf("protocol %d port %d on %s", proto, local.Port(), local.Addr())
	if !local.Addr().IsUnspecified() && !slices.Contains(n.addrs, local.Addr()) {
		return nil, &OpenError{What: what, Hint: hint(unix.EADDRNOTAVAIL), Err: unix.EADDRNOTAVAIL}
	}
	if slices.ContainsFunc(n.conns, func(c *hubConn) bool { return c.proto == proto && c.local == local }) {
		return nil, &OpenError{What: what, Hint: hint(unix.EADDRINUSE), Err: unix.EADDRINUSE}
	}
	c := &hubConn{node: n, proto: proto, local: local, offload: offload, ready: sync.NewCond(&h.mu)}
	n.conns = append(n.conns, c)
	return c, nil
}

func (c *hubConn) LocalAddr() netip.AddrPort { return c.local }

func (c *hubConn) Offload() (gso, gro bool) { return c.offload, c.offload }

func (c *hubConn) Close() error {
	c.node.hub.mu.Lock()
	defer c.node.hub.mu.Unlock()
	c.closed = true
	c.node.conns = slices.DeleteFunc(c.node.conns, func(o *hubConn) bool { return o == c })
	c.ready.Broadcast()
	return nil
}

func (c *hubConn) Recv(b *RecvBatch) error {
	h := c.node.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	b.Msgs = b.all[:0]
	for len(c.queue) == 0 && !c.closed {
		c.ready.Wait()
	}
	if c.closed {
		return net.ErrClosed
	}
	join := h.join && c.offload
	taken := 0
	for _, p := range c.queue {
		if join && len(b.Msgs) > 0 && grow(&b.Msgs[len(b.Msgs)-1], b.room[len(b.Msgs)-1], p) {
			taken++
			continue
		}
		if len(b.Msgs) == len(b.all) {
			break
		}
		i := len(b.Msgs)
		n := copy(b.room[i], p.Data)
		b.all[i] = Received{Data: b.room[i][:n], Remote: p.Src, Local: p.Dst, TOS: p.TOS, TTL: p.TTL}
		if c.proto != unix.IPPROTO_UDP && p.Dst.Addr().Is4() {
			h := p.header()
			n = copy(b.room[i], h)
			n += copy(b.room[i][n:], p.Data)
			b.all[i].Packet, b.all[i].Data = b.room[i][:n], b.room[i][len(h):n]
		}
		b.Msgs = b.all[:i+1]
		taken++
	}
	c.queue = slices.Delete(c.queue, 0, taken)
	return nil
}

// header is the IPv4 header of p, whose checksum nobody looks at.
func (p *HubPacket) header() []byte {
	if p.Header != nil {
		return p.Header
	}
	h := make([]byte, 20)
	h[0], h[1], h[8], h[9] = 0x45, p.TOS, p.TTL, p.Proto
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(p.Data)))
	src, dst := p.Src.Addr().As4(), p.Dst.Addr().As4()
	copy(h[12:], src[:])
	copy(h[16:], dst[:])
	return h
}

// ownHeader is a packet that brings its IP header.
func ownHeader(pkt []byte) (p HubPacket, ok bool) {
	if len(pkt) >= 20 && pkt[0]>>4 == 4 {
		n := int(pkt[0]&15) * 4
		if n < 20 || n > len(pkt) {
			return p, false
		}
		p = HubPacket{
			Proto: pkt[9], TOS: pkt[1], TTL: pkt[8], Data: slices.Clone(pkt[n:]), Header: slices.Clone(pkt[:n]),
			Src: netip.AddrPortFrom(netip.AddrFrom4([4]byte(pkt[12:16])), 0), Dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte(pkt[16:20])), 0),
		}
		return p, true
	}
	if len(pkt) < 40 || pkt[0]>>4 != 6 {
		return p, false
	}
	return HubPacket{
		Proto: pkt[6], TOS: pkt[0]<<4 | pkt[1]>>4, TTL: pkt[7], Data: slices.Clone(pkt[40:]),
		Src: netip.AddrPortFrom(netip.AddrFrom16([16]byte(pkt[8:24])), 0), Dst: netip.AddrPortFrom(netip.AddrFrom16([16]byte(pkt[24:40])), 0),
	}, true
}

// grow puts p behind the datagrams of r, by the kernel's rule: a row ends with
// a datagram that is not as long as its first.
func grow(r *Received, room []byte, p HubPacket) bool {
	seg := r.Seg
	if seg == 0 {
		seg = len(r.Data)
	}
	if r.Remote != p.Src || r.Local != p.Dst || len(p.Data) > seg || len(r.Data)%seg != 0 || len(r.Data)+len(p.Data) > len(room) {
		return false
	}
	n := len(r.Data)
	r.Seg = seg
	r.Data = room[:n+copy(room[n:], p.Data)]
	return true
}

func (c *hubConn) Send(b *SendBatch) (failed int, err error) {
	h := c.node.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	defer b.Reset()
	if c.closed {
		return len(b.pkts), net.ErrClosed
	}
	for i := range b.msgs {
		m := &b.msgs[i]
		for _, pkt := range b.pkts[m.first:][:m.n] {
			if e := c.send(pkt, m); e != nil {
				failed++
				err = firstOf(err, e)
			}
		}
	}
	return failed, err
}

func (c *hubConn) send(pkt []byte, m *outMsg) error {
	if c.proto == unix.IPPROTO_RAW {
		p, ok := ownHeader(pkt)
		if !ok {
			return unix.EINVAL
		}
		c.node.hub.deliver(p)
		return nil
	}
	src := c.local.Addr()
	if a := m.local.Addr(); a.IsValid() && !a.IsUnspecified() {
		src = a
	}
	if src.IsUnspecified() {
		i := slices.IndexFunc(c.node.addrs, func(a netip.Addr) bool { return a.Is4() == m.remote.Addr().Is4() })
		if i < 0 {
			return unix.ENETUNREACH
		}
		src = c.node.addrs[i]
	}
	if !slices.Contains(c.node.addrs, src) {
		return unix.EINVAL
	}
	c.node.hub.deliver(HubPacket{
		Proto: c.proto, Src: netip.AddrPortFrom(src, c.local.Port()), Dst: m.remote, Data: slices.Clone(pkt), TOS: m.tos,
	})
	return nil
}

// Inject puts a packet on the network, past the filter.
func (h *Hub) Inject(p HubPacket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.filter
	h.filter = nil
	p.Data = slices.Clone(p.Data)
	h.deliver(p)
	h.filter = f
}

func (h *Hub) deliver(p HubPacket) {
	if h.filter != nil && !h.filter(&p) {
		return
	}
	if p.TTL == 0 {
		p.TTL = 64
	}
	n := h.nodes[p.Dst.Addr()]
	if n == nil {
		return
	}
	for _, c := range n.conns {
		a := c.local.Addr()
		if c.proto != p.Proto || c.local.Port() != p.Dst.Port() ||
			a != p.Dst.Addr() && (!a.IsUnspecified() || a.Is4() != p.Dst.Addr().Is4()) {
			continue
		}
		if len(c.queue) < hubQueue {
			c.queue = append(c.queue, p)
			c.ready.Broadcast()
		}
		return
	}
}
