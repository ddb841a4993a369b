package tun

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	maxRows    = 8   // TCP connections that are put together at the same time
	maxRowPkts = 128 // segments of one superpacket
	maxHeaders = 60 + 60
)

const (
	tcpPush = 0x08
	tcpACK  = 0x10
)

// row is a superpacket to be: consecutive segments of one TCP connection.
type row struct {
	pkts  [][]byte
	v6    bool
	iph   int // length of the IP header
	hdrs  int // with the TCP header
	seg   int // payload of each segment but the last
	size  int // with one header
	next  uint32
	short bool // its last segment is shorter: nothing fits behind it
}

// joiner puts TCP segments of one Write together. It keeps the order of every
// connection: what cannot be joined ends the connection's row first.
type joiner struct {
	rows [maxRows]row
	n    int
	emit func(r *row)
	pass func(pkt []byte)
}

func newJoiner(emit func(r *row), pass func(pkt []byte)) *joiner {
	j := &joiner{emit: emit, pass: pass}
	for i := range j.rows {
		j.rows[i].pkts = make([][]byte, 0, maxRowPkts)
	}
	return j
}

// segment is what of a packet decides whether it can be joined.
type segment struct {
	v6             bool
	iph, hdrs, len int // len: payload
	plain          bool
}

// parse is false for what is not TCP with a checksum of its own to be kept.
func (g *segment) parse(p []byte) bool {
	if len(p) < 40 {
		return false
	}
	switch p[0] >> 4 {
	case 4:
		g.iph = int(p[0]&15) * 4
		if p[9] != unix.IPPROTO_TCP || g.iph < 20 || int(binary.BigEndian.Uint16(p[2:])) != len(p) {
			return false
		}
		if binary.BigEndian.Uint16(p[6:])&0x3fff != 0 {
			return false // a fragment
		}
	case 6:
		g.v6, g.iph = true, 40
		if p[6] != unix.IPPROTO_TCP || int(binary.BigEndian.Uint16(p[4:]))+40 != len(p) {
			return false
		}
	default:
		return false
	}
	if len(p) < g.iph+20 {
		return false
	}
	g.hdrs = g.iph + int(p[g.iph+12]>>4)*4
	if g.hdrs < g.iph+20 || g.hdrs > len(p) {
		return false
	}
	g.len = len(p) - g.hdrs
	g.plain = g.len > 0 && p[g.iph+13]&^tcpPush == tcpACK && (g.v6 || g.iph == 20)
	return true
}

func (g *segment) addrs(p []byte) []byte {
	if g.v6 {
		return p[8:40]
	}
	return p[12:20]
}

// intact verifies the TCP checksum: a superpacket gets a new one, which must not
// hide damage that its sender would have noticed.
func (g *segment) intact(p []byte) bool {
	return fold(sum(p[g.iph:], pseudo(g.addrs(p), unix.IPPROTO_TCP, len(p)-g.iph))) == 0xffff
}

// add takes a packet; it is emitted or passed now or by flush.
func (j *joiner) add(p []byte) {
	var g segment
	if !g.parse(p) {
		j.pass(p)
		return
	}
	i := j.find(&g, p)
	if i >= 0 {
		if j.rows[i].fits(&g, p) && g.intact(p) {
			j.rows[i].put(&g, p)
			return
		}
		j.end(i)
	}
	if !g.plain || !g.intact(p) {
		j.pass(p)
		return
	}
	if j.n == maxRows {
		j.end(0)
	}
	r := &j.rows[j.n]
	j.n++
	*r = row{pkts: r.pkts[:0], v6: g.v6, iph: g.iph, hdrs: g.hdrs, seg: g.len, size: g.hdrs}
	r.next = binary.BigEndian.Uint32(p[g.iph+4:])
	r.put(&g, p)
}

// find returns the row of the packet's connection; -1: none.
func (j *joiner) find(g *segment, p []byte) int {
	for i := range j.n {
		r := &j.rows[i]
		q := r.pkts[0]
		if r.v6 == g.v6 && bytes.Equal(g.addrs(p), g.addrs(q)) && bytes.Equal(p[g.iph:g.iph+4], q[r.iph:r.iph+4]) {
			return i
		}
	}
	return -1
}

// end gives out row i and closes the gap.
func (j *joiner) end(i int) {
	j.emit(&j.rows[i])
	r := j.rows[i]
	copy(j.rows[i:j.n], j.rows[i+1:j.n])
	j.n--
	clear(r.pkts)
	r.pkts = r.pkts[:0]
	j.rows[j.n] = r
}

func (j *joiner) flush() {
	for j.n > 0 {
		j.end(0)
	}
}

// fits tells whether p continues the row: the next sequence number, the same
// headers in everything that does not count on, no more payload.
func (r *row) fits(g *segment, p []byte) bool {
	q := r.pkts[0]
	t, u := p[g.iph:g.hdrs], q[r.iph:r.hdrs]
	return g.plain && !r.short && g.iph == r.iph && g.hdrs == r.hdrs &&
		g.len <= r.seg && r.size+g.len <= 65535 && len(r.pkts) < maxRowPkts &&
		binary.BigEndian.Uint32(t[4:]) == r.next &&
		sameIP(g.v6, p, q) &&
		bytes.Equal(t[8:13], u[8:13]) && // acknowledgement, header length
		bytes.Equal(t[14:16], u[14:16]) && bytes.Equal(t[18:], u[18:]) // window; urgent, options
}

// sameIP compares class, TTL and fragment bits.
func sameIP(v6 bool, p, q []byte) bool {
	if v6 {
		return bytes.Equal(p[:4], q[:4]) && p[7] == q[7]
	}
	return p[1] == q[1] && p[6] == q[6] && p[8] == q[8]
}

func (r *row) put(g *segment, p []byte) {
	r.pkts = append(r.pkts, p)
	r.size += g.len
	r.next += uint32(g.len)
	// A push is the end of what the sender had to say; later data waits for no one.
	r.short = g.len < r.seg || p[r.iph+13]&tcpPush != 0
}

// header writes virtio, IP and TCP header of the superpacket to out and returns
// their length. The kernel completes the TCP checksum, or lets the hardware.
func (r *row) header(out []byte) int {
	first, last := r.pkts[0], r.pkts[len(r.pkts)-1]
	h := out[vnetLen:]
	copy(h, first[:r.hdrs])
	vnet := vnetHdr{
		flags: unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gsoType: unix.VIRTIO_NET_HDR_GSO_TCPV4,
		hdrLen: uint16(r.hdrs), gsoSize: uint16(r.seg), csumStart: uint16(r.iph), csumOffset: 16,
	}
	addrs := h[12:20]
	if r.v6 {
		vnet.gsoType = unix.VIRTIO_NET_HDR_GSO_TCPV6
		addrs = h[8:40]
		binary.BigEndian.PutUint16(h[4:], uint16(r.size-40))
	} else {
		binary.BigEndian.PutUint16(h[2:], uint16(r.size))
		h[10], h[11] = 0, 0
		putSum(h[10:], ^fold(sum(h[:r.iph], 0)))
	}
	h[r.iph+13] |= last[r.iph+13] & tcpPush
	putSum(h[r.iph+16:], fold(pseudo(addrs, unix.IPPROTO_TCP, r.size-r.iph)))
	vnet.put(out)
	return vnetLen + r.hdrs
}
