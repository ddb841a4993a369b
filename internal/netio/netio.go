// Package netio sends and receives what leaves this host outside a tunnel: UDP
// for IKE and for ESP in UDP, and raw IP protocols. Packets go in batches, with
// the kernel's UDP segmentation and receive offload where there is one, and
// nothing is allocated for a packet. Hub is an in-memory network of the same
// shape for tests.
//
// Every socket bears a mark (SO_MARK), so that routing rules can keep the
// tunnel's own packets out of the tunnel. Outer packets are sent so that they
// are fragmented rather than lost: IPv4 without the DF bit, deaf to ICMP's "too
// big" (which anybody can forge); IPv6 fragmented by this host to the path MTU
// that its kernel knows, which no message shrinks below 1280 bytes.
package netio

import (
	"fmt"
	"net/netip"
)

// Conn is a socket. Recv and Send may be called at the same time, each by any
// number of goroutines that own the batch they bring.
type Conn interface {
	// Recv waits for at least one packet and fills b. After Close it returns
	// net.ErrClosed; no other error needs more than a log line and another try.
	Recv(b *RecvBatch) error
	// Send sends all of b and empties it. What the system refused is counted,
	// not tried again; err is the first refusal.
	Send(b *SendBatch) (failed int, err error)
	// LocalAddr is what the socket is bound to; port 0 for a raw protocol.
	LocalAddr() netip.AddrPort
	// Offload says whether GSO and GRO are in use.
	Offload() (gso, gro bool)
	Close() error
}

// Network opens sockets: Host's real ones or a Node's of a Hub.
type Network interface {
	OpenUDP(o UDPOptions) (Conn, error)
	OpenRaw(o RawOptions) (Conn, error)
}

// UDPOptions says what socket is wanted.
type UDPOptions struct {
	Local   netip.AddrPort // unspecified address: all of its family
	Mark    uint32         // 0: none
	Offload bool           // use UDP_SEGMENT and UDP_GRO if the kernel has them
}

// RawOptions says what raw IP socket is wanted.
type RawOptions struct {
	Local netip.Addr
	Proto uint8
	Mark  uint32
	// Whole: what is sent has its own IP header, and nothing is received.
	Whole bool
	// Only is, of ICMPv6, the type of messages that are received; 0: all.
	Only uint8
}

// Received is one message of a RecvBatch. With receive offload it may hold a
// row of datagrams.
type Received struct {
	Data          []byte // valid until the batch is used again; may be changed
	Seg           int    // length of each datagram but the last; 0: Data is one
	Remote, Local netip.AddrPort
	// TOS is the class octet of the IP header and TTL its hop limit; of a row of
	// datagrams, the first one's. TTL 0: unknown.
	TOS, TTL uint8
	// Packet is the whole packet, of which Data is the end, for raw IPv4 alone:
	// no other socket shows the header.
	Packet []byte
	// Headers are the extension headers that stood before Data, one behind the
	// other, and First what the first of them is: of raw IPv6 alone.
	Headers []byte
	First   uint8
}

// Next takes the first datagram off r.
func (r *Received) Next() (datagram []byte, ok bool) {
	if len(r.Data) == 0 {
		return nil, false
	}
	n := len(r.Data)
	if r.Seg > 0 && r.Seg < n {
		n = r.Seg
	}
	datagram, r.Data = r.Data[:n:n], r.Data[n:]
	return datagram, true
}

// MaxPacket is the size in bytes of the largest packet that Recv can return.
const MaxPacket = 65535

// RecvBatch is the room for one call of Recv. One goroutine owns it.
type RecvBatch struct {
	Msgs []Received // what the last Recv brought

	all  []Received
	room [][]byte
	sys  sysRecv
}

// NewRecvBatch makes a batch of n messages of up to MaxPacket bytes. The memory
// is touched only as far as packets reach.
func NewRecvBatch(n int) *RecvBatch {
	b := &RecvBatch{all: make([]Received, n), room: make([][]byte, n)}
	slab := make([]byte, n*(MaxPacket+1))
	for i := range b.room {
		b.room[i] = slab[i*(MaxPacket+1):][:MaxPacket:MaxPacket]
	}
	b.sys.init(b.room)
	return b
}

// SendBatch collects packets to be sent by one call. One goroutine owns it. The
// packets must stay as they are until Send has returned.
type SendBatch struct {
	msgs []outMsg
	pkts [][]byte
	join bool
	sys  sysSend
}

// outMsg is a row of packets, pkts[first:][:n], for one destination; all but
// the last have seg bytes, the last at most that.
type outMsg struct {
	remote, local netip.AddrPort
	first, n      int
	seg, total    int
	tos           uint8
}

// Limits of one message with segmentation offload: UDP_MAX_SEGMENTS of older
// kernels, and what an IPv4 datagram can carry.
const (
	maxSegments = 64
	maxJoined   = 65535 - 20 - 8
)

// NewSendBatch makes a batch with room for n packets. join: rows of packets for
// one destination may be handed over as one, for a Conn with Offload.
func NewSendBatch(n int, join bool) *SendBatch {
	b := &SendBatch{msgs: make([]outMsg, 0, n), pkts: make([][]byte, 0, n), join: join}
	b.sys.init(n)
	return b
}

// Add puts a packet into the batch: for UDP the datagram's content, for a raw
// protocol what follows the IP header. local may be invalid, its port is not
// looked at; else it is the source address to use. It is false when the batch
// is full.
func (b *SendBatch) Add(pkt []byte, local, remote netip.AddrPort) bool {
	return b.AddTOS(pkt, local, remote, 0)
}

// AddTOS is Add with the class octet of the IP header. A row that is handed over
// as one has one class.
func (b *SendBatch) AddTOS(pkt []byte, local, remote netip.AddrPort, tos uint8) bool {
	if len(b.pkts) == cap(b.pkts) {
		return false
	}
	b.pkts = append(b.pkts, pkt)
	if b.join && len(b.msgs) > 0 {
		m := &b.msgs[len(b.msgs)-1]
		// A row ends with the first packet that is shorter than the others.
		if len(pkt) <= m.seg && m.total == m.n*m.seg && m.n < maxSegments &&
			m.total+len(pkt) <= maxJoined && m.remote == remote && m.local == local && m.tos == tos {
			m.n++
			m.total += len(pkt)
			return true
		}
	}
	b.msgs = append(b.msgs, outMsg{
		remote: remote, local: local, first: len(b.pkts) - 1, n: 1, seg: len(pkt), total: len(pkt), tos: tos,
	})
	return true
}

// Len is the number of packets in the batch.
func (b *SendBatch) Len() int { return len(b.pkts) }

// Full tells whether Add would refuse.
func (b *SendBatch) Full() bool { return len(b.pkts) == cap(b.pkts) }

// Reset empties the batch.
func (b *SendBatch) Reset() {
	clear(b.pkts) // no references to other people's buffers
	b.msgs, b.pkts = b.msgs[:0], b.pkts[:0]
}

// OpenError says which socket could not be had, and what to do about it.
type OpenError struct {
	What string // "UDP port 500 on 0.0.0.0"
	Hint string
	Err  error
}

func (e *OpenError) Error() string {
	if e.Hint == "" {
		return fmt.Sprintf("%s: %v", e.What, e.Err)
	}
	return fmt.Sprintf("%s: %v; %s", e.What, e.Err, e.Hint)
}

func (e *OpenError) Unwrap() error { return e.Err }

// Each visits the packets of the batch in their order: for a Conn that is not of
// this package.
func (b *SendBatch) Each(visit func(pkt []byte, local, remote netip.AddrPort)) {
	b.EachTOS(func(pkt []byte, local, remote netip.AddrPort, _ uint8) { visit(pkt, local, remote) })
}

// EachTOS is Each with the class octet.
func (b *SendBatch) EachTOS(visit func(pkt []byte, local, remote netip.AddrPort, tos uint8)) {
	for i := range b.msgs {
		m := &b.msgs[i]
		for _, pkt := range b.pkts[m.first:][:m.n] {
			visit(pkt, m.local, m.remote, m.tos)
		}
	}
}
