package tun

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// tcp makes a TCP packet with correct checksums.
func tcp(v6 bool, port uint16, seq uint32, flags byte, payload []byte) []byte {
	iph := 20
	if v6 {
		iph = 40
	}
	p := make([]byte, iph+20, iph+20+len(payload))
	p = append(p, payload...)
	if v6 {
		p[0], p[6], p[7] = 0x60, unix.IPPROTO_TCP, 64
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
		p[23], p[39] = 1, 2
	} else {
		p[0], p[6], p[8], p[9] = 0x45, 0x40, 64, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		copy(p[12:], []byte{10, 1, 0, 2, 10, 2, 0, 2})
	}
	t := p[iph:]
	binary.BigEndian.PutUint16(t, port)
	binary.BigEndian.PutUint16(t[2:], 9100)
	binary.BigEndian.PutUint32(t[4:], seq)
	t[12], t[13] = 5<<4, flags
	fixSums(p, v6)
	return p
}

// slowSum is the checksum by the book, RFC 1071.
func slowSum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			s += uint32(b[i])<<8 | uint32(b[i+1])
		}
		if len(b)%2 == 1 {
			s += uint32(b[len(b)-1]) << 8
		}
		for s > 0xffff {
			s = s>>16 + s&0xffff
		}
	}
	return uint16(s)
}

func pseudoOf(p []byte, v6 bool) (head, transport []byte) {
	if v6 {
		head = append(slices.Clone(p[8:40]), 0, 0, byte((len(p)-40)>>8), byte(len(p)-40), 0, 0, 0, p[6])
		return head, p[40:]
	}
	head = append(slices.Clone(p[12:20]), 0, p[9], byte((len(p)-20)>>8), byte(len(p)-20))
	return head, p[20:]
}

func fixSums(p []byte, v6 bool) {
	if !v6 {
		p[10], p[11] = 0, 0
		binary.BigEndian.PutUint16(p[10:], ^slowSum(p[:20]))
	}
	head, t := pseudoOf(p, v6)
	t[16], t[17] = 0, 0
	binary.BigEndian.PutUint16(t[16:], ^slowSum(head, t))
}

// sound tells whether both checksums are right.
func sound(p []byte, v6 bool) bool {
	head, t := pseudoOf(p, v6)
	return slowSum(head, t) == 0xffff && (v6 || slowSum(p[:20]) == 0xffff)
}

func TestChecksumAgainstTheBook(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
			if n%3 == 0 {
				b[i] = 0xff // carries everywhere
			}
		}
		want := slowSum(b)
		var got [2]byte
		putSum(got[:], fold(sum(b, 0)))
		if g := binary.BigEndian.Uint16(got[:]); g != want {
			t.Fatalf("%d bytes: %04x, by the book %04x", n, g, want)
		}
	}
}

// join runs packets through a joiner and returns what it gives out, superpackets
// with their virtio headers finished as the kernel would cut them again.
func join(t *testing.T, pkts ...[]byte) (out [][]byte, superpackets int) {
	t.Helper()
	emit := func(r *row) {
		if len(r.pkts) == 1 {
			out = append(out, slices.Clone(r.pkts[0]))
			return
		}
		superpackets++
		b := make([]byte, vnetLen+maxHeaders)
		b = b[:r.header(b)]
		for _, p := range r.pkts {
			b = append(b, p[r.hdrs:]...)
		}
		hdr := parseVnet(b)
		var s splitter
		if err := s.start(hdr, b[vnetLen:]); err != nil {
			t.Fatal(err)
		}
		for !s.done() {
			room := make([]byte, 2000)
			n := s.next(room)
			if n == 0 {
				t.Fatal("a packet did not fit")
			}
			out = append(out, room[:n])
		}
	}
	j := newJoiner(emit, func(p []byte) { out = append(out, slices.Clone(p)) })
	for _, p := range pkts {
		j.add(p)
	}
	j.flush()
	return out, superpackets
}

func data(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*3 + seed
	}
	return b
}

// What is joined and cut again is what it was, but for the IP identification.
func TestJoinAndSplitAreInverse(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		var in [][]byte
		seq := uint32(0xffffff00) // wraps on the way
		for i := range 30 {
			flags, n := byte(tcpACK), 1000
			if i == 29 {
				flags, n = tcpACK|tcpPush, 333
			}
			p := tcp(v6, 1234, seq, flags, data(n, byte(i)))
			if !v6 {
				binary.BigEndian.PutUint16(p[4:], uint16(i))
				fixSums(p, v6)
			}
			in = append(in, p)
			seq += uint32(n)
		}
		out, super := join(t, in...)
		if super != 1 || len(out) != len(in) {
			t.Fatalf("IPv6 %v: %d superpackets and %d packets of %d", v6, super, len(out), len(in))
		}
		for i := range out {
			if !bytes.Equal(in[i], out[i]) {
				t.Fatalf("IPv6 %v: packet %d changed:\n%x\n%x", v6, i, in[i][:60], out[i][:60])
			}
		}
	}
}

func TestWhatMustNotBeJoined(t *testing.T) {
	first := tcp(false, 1, 1000, tcpACK, data(100, 1))
	change := func(f func(p []byte)) []byte {
		p := tcp(false, 1, 1100, tcpACK, data(100, 2))
		f(p)
		fixSums(p, false)
		return p
	}
	broken := tcp(false, 1, 1100, tcpACK, data(100, 2))
	broken[60] ^= 1
	for name, second := range map[string][]byte{
		"a gap":                     tcp(false, 1, 1101, tcpACK, data(100, 2)),
		"a repetition":              tcp(false, 1, 1000, tcpACK, data(100, 1)),
		"a larger segment":          tcp(false, 1, 1100, tcpACK, data(101, 2)),
		"FIN":                       tcp(false, 1, 1100, tcpACK|1, data(100, 2)),
		"no data":                   tcp(false, 1, 1100, tcpACK, nil),
		"another connection":        tcp(false, 2, 1100, tcpACK, data(100, 2)),
		"a wrong checksum":          broken,
		"another acknowledgement":   change(func(p []byte) { p[31] = 9 }),
		"another window":            change(func(p []byte) { p[35] = 9 }),
		"another TTL":               change(func(p []byte) { p[8] = 63 }),
		"congestion experienced":    change(func(p []byte) { p[1] = 3 }),
		"without DF":                change(func(p []byte) { p[6] = 0 }),
		"a fragment":                change(func(p []byte) { p[6] = 0x20 }),
		"a length that lies":        change(func(p []byte) { p[3]-- }),
		"a TCP header that is long": change(func(p []byte) { p[32] = 0xf0 }),
	} {
		was := slices.Clone(second)
		out, super := join(t, slices.Clone(first), second)
		// What is no whole TCP packet belongs to no connection and waits for none.
		if len(out) == 2 && bytes.Equal(out[0], was) && (name == "a fragment" || name == "a length that lies") {
			out[0], out[1] = out[1], out[0]
		}
		if super != 0 || len(out) != 2 || !bytes.Equal(out[0], first) || !bytes.Equal(out[1], was) {
			t.Errorf("%s: %d superpackets, %d packets", name, super, len(out))
		}
	}
}

// Connections keep their order, whatever lies between their packets.
func TestOrderOfEveryConnection(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var in [][]byte
		seq := map[uint16]uint32{}
		for range 100 {
			port := uint16(1 + r.IntN(12))
			n := []int{0, 50, 100, 100, 100}[r.IntN(5)]
			in = append(in, tcp(false, port, seq[port], tcpACK, data(n, byte(port))))
			seq[port] += uint32(n)
			if r.IntN(20) == 0 {
				seq[port] += 7 // a loss before us
			}
		}
		out, _ := join(t, in...)
		if len(out) != len(in) {
			t.Fatalf("%d packets became %d", len(in), len(out))
		}
		by := func(pkts [][]byte) map[uint16][]uint32 {
			m := map[uint16][]uint32{}
			for _, p := range pkts {
				if !sound(p, false) {
					t.Fatalf("a wrong checksum in %x", p[:40])
				}
				m[binary.BigEndian.Uint16(p[20:])] = append(m[binary.BigEndian.Uint16(p[20:])], binary.BigEndian.Uint32(p[24:]))
			}
			return m
		}
		a, b := by(in), by(out)
		for port := range a {
			if !slices.Equal(a[port], b[port]) {
				t.Fatalf("connection %d: sequence numbers %v became %v", port, a[port], b[port])
			}
		}
	}
}

func TestSplitUDP(t *testing.T) {
	p := make([]byte, 28+250)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	copy(p[28:], data(250, 9))
	var s splitter
	hdr := vnetHdr{gsoType: unix.VIRTIO_NET_HDR_GSO_UDP_L4, gsoSize: 100, csumStart: 20, csumOffset: 6}
	if err := s.start(hdr, p); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for _, want := range []int{100, 100, 50} {
		room := make([]byte, 200)
		n := s.next(room)
		u := room[20:n]
		head := append(slices.Clone(room[12:20]), 0, 17, byte(len(u)>>8), byte(len(u)))
		if n != 28+want || int(binary.BigEndian.Uint16(u[4:])) != want+8 || slowSum(head, u) != 0xffff || slowSum(room[:20]) != 0xffff {
			t.Fatalf("a datagram of %d bytes, want %d: %x", n, 28+want, room[:n])
		}
		got = append(got, u[8:]...)
	}
	if !s.done() || !bytes.Equal(got, data(250, 9)) {
		t.Error("not all of it, or something else")
	}
}

// FuzzSuperpacket: the kernel's headers are believed, but not blindly.
func FuzzSuperpacket(f *testing.F) {
	p := tcp(false, 1, 1, tcpACK, data(3000, 1))
	hdr := make([]byte, vnetLen)
	(&vnetHdr{gsoType: unix.VIRTIO_NET_HDR_GSO_TCPV4, gsoSize: 1000, csumStart: 20, csumOffset: 16}).put(hdr)
	f.Add(append(slices.Clone(hdr), p...))
	(&vnetHdr{flags: 1, csumStart: 20, csumOffset: 16}).put(hdr)
	f.Add(append(slices.Clone(hdr), p...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= vnetLen || len(b) > 9000 {
			return
		}
		h := parseVnet(b)
		if h.gsoType == unix.VIRTIO_NET_HDR_GSO_NONE {
			_ = h.finish(b[vnetLen:])
			return
		}
		var s splitter
		if s.start(h, b[vnetLen:]) != nil {
			return
		}
		room := make([]byte, 1600)
		for n := 0; !s.done(); n++ {
			if n > 70000 {
				t.Fatal("no end")
			}
			s.next(room)
		}
	})
}

func FuzzJoin(f *testing.F) {
	f.Add(tcp(false, 1, 1, tcpACK, data(10, 1)), tcp(false, 1, 11, tcpACK, data(10, 1)))
	f.Add(tcp(true, 1, 1, tcpACK, data(10, 1)), tcp(true, 1, 11, tcpACK, data(10, 1)))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) == 0 || len(b) == 0 || len(a) > 1500 || len(b) > 1500 {
			return
		}
		if out, _ := join(t, a, b); len(out) != 2 {
			t.Errorf("2 packets became %d", len(out))
		}
	})
}

func TestPipe(t *testing.T) {
	p := NewPipe("test", 1400)
	pkt := tcp(false, 1, 1, tcpACK, data(10, 1))
	p.Put(pkt, pkt)
	bufs, sizes := [][]byte{make([]byte, 1500), make([]byte, 1500), nil}, make([]int, 3)
	n, err := p.Read(bufs, sizes, 16)
	if err != nil || n != 2 || !bytes.Equal(bufs[1][16:][:sizes[1]], pkt) {
		t.Fatalf("read %d packets, %v", n, err)
	}
	if failed, err := p.Write([][]byte{pkt}); failed != 0 || err != nil {
		t.Fatal(failed, err)
	}
	if !bytes.Equal(p.Take(), pkt) || p.TryTake() != nil {
		t.Error("the device gave something else")
	}
	p.Close()
	if _, err := p.Read(bufs, sizes, 0); err != ErrClosed {
		t.Errorf("reading a closed device: %v", err)
	}
	if failed, _ := p.Write([][]byte{pkt}); failed != 1 {
		t.Error("a closed device took a packet")
	}
}
