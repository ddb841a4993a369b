package userspace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"oakley/internal/icv"
	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// hostileCoats are modes whose packets are bent in every way.
var hostileCoats = [][]coat{
	{gcmTunnel},
	{gcmTransport},
	{{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA256}},
	{{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16, udp: true}},
	{{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA256}},
	{{proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}},
	{{proto: ipsec.ProtoIPComp}},
	{{proto: ipsec.ProtoIPComp, mode: ipsec.Transport}},
	{{proto: ipsec.ProtoIPIP}},
	{gcmTunnel, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}},
	{gcmTunnel, {proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1, far: true}},
	{{proto: ipsec.ProtoIPComp}, gcmTunnel},
}

// hostile is a scene with one mode, and the ends of its packets.
func hostile(t *testing.T, v6 bool, coats []coat) (s *scene, pkt []byte) {
	s = newScene(t, Options{})
	src, dst, sel := nearest, farthest, ipsec.Selector{Src: nearNet, Dst: farNet}
	if v6 {
		src, dst, sel = nearest6, farthest6, ipsec.Selector{Src: nearNet6, Dst: farNet6}
	}
	if coats[0].mode == ipsec.Transport {
		if src, dst = benchUs, benchPeer; v6 {
			src, dst = us6, peer6
		}
		sel = ipsec.Selector{Src: single(src), Dst: single(dst)}
	}
	s.wear(1, v6, sel, coats...)
	pkt = datagram(src, dst, 300, false)
	clear(pkt[inet.HeaderLen(v6)+8:]) // what shrinks
	return s, pkt
}

// cut is a packet of which the network brought less.
func cut(o outer, n int) outer {
	o.data = bytes.Clone(o.data[:n])
	if o.whole && n >= inet.HeaderLen(o.data[0]>>4 == 6) {
		inet.Mend(o.data) // a kernel gives whole packets alone
	}
	return o
}

// TestPacketsCutAnywhere: of a packet that ends too early nothing comes out, and
// it is counted.
func TestPacketsCutAnywhere(t *testing.T) {
	for _, coats := range hostileCoats {
		for _, v6 := range []bool{false, true} {
			s, pkt := hostile(t, v6, coats)
			whole := s.send(pkt)[0]
			least := 1
			if whole.whole {
				least = inet.HeaderLen(v6) + 1
			}
			for n := least; n < len(whole.data); n++ {
				before := s.allDrops()
				if got := s.come([]outer{cut(whole, n)}); len(got) != 0 {
					t.Fatalf("%v IPv6 %t: %d of %d bytes made a packet: %x", coats, v6, n, len(whole.data), got[0])
				}
				if coats[0].udp && (n == 1 || n == 4) { // a keepalive's length, and IKE's mark
					continue
				}
				if s.allDrops() != before+1 {
					t.Fatalf("%v IPv6 %t: %d of %d bytes were counted %d times", coats, v6, n, len(whole.data), s.allDrops()-before)
				}
			}
			if got := s.come([]outer{whole}); len(got) != 1 || len(got[0]) != len(pkt) {
				t.Errorf("%v IPv6 %t: the whole packet did not come: %v", coats, v6, s.p.drops.read())
			}
		}
	}
}

// allDrops counts what was dropped, for whatever reason.
func (s *scene) allDrops() (n uint64) {
	st, err := s.p.Totals(bg)
	s.must(err)
	for i := range st.Drops {
		n += st.Drops[i]
		for _, p := range st.Protos {
			n += p.DropsIn[i] + p.DropsOut[i]
		}
	}
	return n
}

// TestEveryNextHeader: in tunnel mode an authentic packet carries IPv4, IPv6, or
// nothing for anybody.
func TestEveryNextHeader(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, coats := range [][]coat{{gcmTunnel}, {gcmTunnel, {proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16, far: true}}} {
			s, pkt := hostile(t, v6, coats)
			var last *outSA
			for _, sa := range s.p.out {
				if int(sa.at.Index) == len(coats)-1 {
					last = sa
				}
			}
			for next := range 256 {
				seq, _ := last.next()
				buf := make([]byte, headRoom+len(pkt)+tailRoom)
				copy(buf[headRoom:], pkt)
				b, err := last.t.Seal(buf, headRoom, len(pkt), uint8(next), seq)
				s.must(err)
				before := s.allDrops()
				got := s.come([]outer{{proto: 50, data: b, to: *last.remote.Load()}})
				right := uint8(next) == versionNext(pkt) && len(coats) == 1
				switch {
				case right != (len(got) == 1):
					t.Errorf("IPv6 %t, %d SAs, next header %d: %d came", v6, len(coats), next, len(got))
				case !right && next != nextDummy && s.allDrops() != before+1:
					t.Errorf("IPv6 %t, %d SAs, next header %d: counted %d times", v6, len(coats), next, s.allDrops()-before)
				}
			}
		}
	}
}

// TestEveryPadding: of ESP that encrypts nothing, the trailer is what we want it
// to be, and authentic.
func TestEveryPadding(t *testing.T) {
	s, pkt := hostile(t, false, []coat{{proto: ipsec.ProtoESP, cipher: ipsec.CipherNull, auth: ipsec.AuthHMACSHA1}})
	mac, err := icv.New(ipsec.AuthHMACSHA1, fill(20, 11))
	s.must(err)
	in := s.p.in[ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: 0x1000, Dst: benchPeer}]
	seq := uint32(0)
	send := func(padding []byte, says uint8, want ipsec.Drop) {
		t.Helper()
		seq++
		b := binary.BigEndian.AppendUint32(nil, 0x1000)
		b = binary.BigEndian.AppendUint32(b, seq)
		b = append(append(append(b, pkt...), padding...), says, nextIPv4)
		tag := make([]byte, 64)
		mac.Sum(tag, b, nil, nil)
		b = append(b, tag[:ipsec.AuthHMACSHA1.Info().ICV]...)
		before := in.drops[want].Load()
		got := s.come([]outer{{proto: 50, data: b, to: (*s.p.out[ipsec.SAID{Proto: 50, SPI: 0x1000, Dst: benchPeer}].remote.Load())}})
		switch {
		case want == ipsec.DropNone && (len(got) != 1 || !bytes.Equal(got[0], pkt)):
			t.Errorf("%d bytes of padding, said to be %d: nothing came; drops %v", len(padding), says, in.drops.read())
		case want != ipsec.DropNone && (len(got) != 0 || in.drops[want].Load() != before+1):
			t.Errorf("%d bytes of padding, said to be %d: %d came, drops %v", len(padding), says, len(got), in.drops.read())
		}
	}
	right := make([]byte, 255)
	for i := range right {
		right[i] = byte(i + 1)
	}
	for n := range 256 {
		send(right[:n], uint8(n), ipsec.DropNone)
		if n > 0 {
			wrong := bytes.Clone(right[:n])
			wrong[n/2]++
			send(wrong, uint8(n), ipsec.DropPadding)
			send(nil, uint8(n), ipsec.DropPadding) // which reaches into the packet
		}
	}
}

// TestInnerLengthsThatLie: every total length but those that the bytes have room
// for.
func TestInnerLengthsThatLie(t *testing.T) {
	for _, coats := range [][]coat{{gcmTunnel}, {{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA1}}, {{proto: ipsec.ProtoIPIP}}} {
		for _, v6 := range []bool{false, true} {
			s, pkt := hostile(t, v6, coats)
			at, head := 2, 0
			if v6 {
				at, head = 4, 40
			}
			for n := range 65536 {
				if n > len(pkt)+10 && n%997 != 0 && n != 65535 {
					continue
				}
				bad := bytes.Clone(pkt)
				binary.BigEndian.PutUint16(bad[at:], uint16(n))
				got := s.come([]outer{s.dressed(bad)})
				total := head + n
				possible := total <= len(pkt) && total >= inet.HeaderLen(v6)+4 // with its ports
				if possible != (len(got) == 1) || possible && len(got[0]) != total {
					t.Fatalf("%v IPv6 %t: %d bytes that say %d: %d came; drops %v", coats, v6, len(pkt), total, len(got), s.p.drops.read())
				}
			}
		}
	}
}

// dressed is what the peer's SA makes of bytes that no host would send.
func (s *scene) dressed(pkt []byte) outer {
	s.t.Helper()
	var head *outSA
	for _, sa := range s.p.out {
		if sa.at.Index == 0 {
			head = sa
		}
	}
	if head.plain.Load() {
		return s.sealed(head, pkt)
	}
	w := wrapping{packet: packet{buf: make([]byte, layersHead+len(pkt)+layersTail), off: layersHead, n: len(pkt)}}
	copy(w.bytes(), pkt)
	w.number(head.layers())
	var squeeze []byte
	if _, d := s.p.dress(&w, head.layers(), &squeeze, s.now); d != ipsec.DropNone {
		s.t.Fatal(d)
	}
	return outer{whole: true, data: bytes.Clone(w.bytes()), to: netip.AddrPortFrom(inet.Destination(w.bytes()), 0)}
}

// TestNumbersFarAway: replays, what is left of the window, and what is far ahead;
// with extended numbers too, of which half is not sent.
func TestNumbersFarAway(t *testing.T) {
	for _, esn := range []bool{false, true} {
		s, pkt := hostile(t, false, []coat{gcmTunnel})
		s.must(s.p.Flush(bg, ipsec.OwnerAny))
		sel := ipsec.Selector{Src: nearNet, Dst: farNet}
		sa := &ipsec.SA{
			ID: ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: 0x1000, Dst: benchPeer}, Src: benchUs, Cipher: ipsec.CipherAESGCM16,
			Key: fill(16, 3), Salt: fill(4, 7), Selector: sel, Replay: 64, ESN: esn,
		}
		s.must(s.p.AddSA(bg, sa))
		tx := *sa
		tx.ID.Dir, tx.Flow = ipsec.Out, ""
		s.must(s.p.AddSA(bg, &tx))
		out := s.p.out[tx.ID]
		far := uint64(math.MaxUint32)
		if esn {
			far = math.MaxUint32 + 1000
		}
		for i, c := range []struct {
			seq  uint64
			want int
		}{
			{5, 1},
			{5, 0},
			{4, 1},
			{70, 1},
			{6, 0},
			{7, 1},
			{7, 0},
			{1 << 20, 1},
			{1<<20 - 64, 0},
			{1<<20 - 63, 1},
			{1<<31 + 5, 1},
			{1 << 20, 0},
			{far, 1},
			{far, 0},
			{1 << 31, 0},
		} {
			out.seq.Store(c.seq - 1)
			if got := s.come([]outer{s.sealed(out, pkt)}); len(got) != c.want {
				t.Errorf("extended %t, step %d, number %d: %d came, want %d", esn, i, c.seq, len(got), c.want)
			}
		}
	}
}

// TestUnknownSPIsAreNotedOnce a second, however many come, and all are counted.
func TestUnknownSPIsAreNotedOnce(t *testing.T) {
	var log lines
	s := newScene(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, gcmTunnel)
	good := s.send(datagram(nearest, farthest, 100, false))[0]
	const n = 5000
	for i := range n {
		bad := good
		bad.data = bytes.Clone(good.data)
		binary.BigEndian.PutUint32(bad.data, 0x70000000+uint32(i))
		s.come([]outer{bad})
	}
	if d := s.drops(ipsec.DropUnknownSPI); d != n {
		t.Errorf("%d were counted of %d", d, n)
	}
	text := log.String()
	if got := strings.Count(text, "unknown SPI"); got < 1 || got > 20 || !strings.Contains(text, "spi=70000000") {
		t.Errorf("%d lines for %d packets within a few seconds:\n%.400s", got, n, text)
	}
}

// lines is what a log writes to.
type lines struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(b)
}

// TestExtensionHeadersThroughThePlane: what stands between a host's IPv6 header
// and its payload is there again at the other end, whatever protects it.
func TestExtensionHeadersThroughThePlane(t *testing.T) {
	hop := []byte{17, 0, 1, 4, 0, 0, 0, 0}
	dest := []byte{17, 0, 1, 4, 0, 0, 0, 0}
	for _, coats := range [][]coat{
		{{proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA256}},
		{{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA256}},
		{gcmTransport},
		{gcmTransport, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}},
	} {
		for name, headers := range map[string][]byte{
			"hop by hop":                          append([]byte{}, hop...),
			"destination options":                 append([]byte{}, dest...),
			"hop by hop, and destination options": append(append([]byte{}, hop...), dest...),
		} {
			s, pkt := hostile(t, true, coats)
			with := append(append(bytes.Clone(pkt[:40]), headers...), pkt[40:]...)
			with[6] = inet.HopByHop
			if name == "destination options" {
				with[6] = inet.DestOpts
			}
			if len(headers) > 8 {
				with[40] = inet.DestOpts
			}
			inet.Mend(with)
			left := s.send(with)
			if len(left) != 1 {
				t.Fatalf("%v, %s: %d left; drops %v", coats, name, len(left), s.p.drops.read())
			}
			if got := s.come(left); len(got) != 1 || !bytes.Equal(got[0], with) {
				t.Errorf("%v, %s: it did not come as it was; drops %d %d", coats, name, s.drops(ipsec.DropAuth), s.drops(ipsec.DropMalformed))
			}
		}
	}
}

// TestSegmentSizesThroughThePlane: clamped in tunnels, both ways, unless somebody
// says no; to what fits the SA, where that is less than the device.
func TestSegmentSizesThroughThePlane(t *testing.T) {
	bulky := []coat{gcmTunnel, {proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA512, far: true}, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA512, far: true}}
	for _, c := range []struct {
		coats []coat
		off   bool
		v6    bool
	}{
		{[]coat{gcmTunnel}, false, false},
		{[]coat{gcmTunnel}, false, true},
		{[]coat{gcmTunnel}, true, false},
		{[]coat{{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA1}}, false, false},
		{bulky, false, false},
		{[]coat{gcmTransport}, false, false},
	} {
		name := fmt.Sprintf("%v, off %t, IPv6 %t", c.coats, c.off, c.v6)
		s := newScene(t, Options{NoClampMSS: c.off})
		src, dst := benchUs, benchPeer
		if c.v6 {
			src, dst = us6, peer6
		}
		sel := ipsec.Selector{Src: single(src), Dst: single(dst)}
		sa := s.wear(1, c.v6, sel, c.coats...)
		fits := min(sceneMTU, int(sa.most.Load()))
		if len(c.coats) > 1 && fits >= sceneMTU {
			t.Fatalf("%s: %d fit", name, fits)
		}
		want := fits - inet.HeaderLen(c.v6) - 20
		if c.off || c.coats[0].mode == ipsec.Transport {
			want = 1460
		}
		pkt := syn(c.v6, 2, []byte{2, 4, 1460 >> 8, 1460 & 255})
		got := s.come(s.send(pkt))
		if len(got) != 1 {
			t.Fatalf("%s: %d came; drops %v", name, len(got), s.p.drops.read())
		}
		h := inet.HeaderLen(c.v6)
		if mss := int(binary.BigEndian.Uint16(got[0][h+22:])); mss != want || tcpSum(got[0], h) != 0xffff {
			t.Errorf("%s: segments of %d bytes, want %d; sum %04x", name, mss, want, tcpSum(got[0], h))
		}
		if want == 1460 {
			continue
		}
		// And of a peer that does not clamp.
		got = s.come([]outer{s.dressed(pkt)})
		if len(got) != 1 {
			t.Fatalf("%s: %d came", name, len(got))
		}
		if mss := int(binary.BigEndian.Uint16(got[0][h+22:])); mss > sceneMTU-h-20 {
			t.Errorf("%s: the peer's segments of %d bytes came in", name, mss)
		}
	}
}
