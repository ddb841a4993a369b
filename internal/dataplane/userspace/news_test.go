package userspace

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// tooBigFor is what a router says about a packet of ours.
func tooBigFor(mtu int, pkt []byte) []byte {
	msg := make([]byte, 8, 8+len(pkt))
	msg[0] = packetIsTooBig
	binary.BigEndian.PutUint32(msg[4:], uint32(mtu))
	return append(msg, pkt...)
}

// sent6 is the beginning of a packet of ours, as a router quotes it.
func sent6(dst netip.Addr, proto uint8, fragmented bool, payload ...byte) []byte {
	pkt := make([]byte, 40, 120)
	if fragmented {
		pkt = append(pkt, proto, 0, 0, 1, 0, 0, 0, 9)
	}
	pkt = append(append(pkt, payload...), make([]byte, 40)...)
	h := inet.Header{Src: us6, Dst: dst, Proto: proto, TTL: 64}
	if fragmented {
		h.Proto = 44
	}
	h.Put(pkt)
	return pkt
}

// TestRoutersAreHeard: of those that know an SPI of ours, and never more than is
// true of every network.
func TestRoutersAreHeard(t *testing.T) {
	ah := coat{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA1}
	esp := []byte{0, 0, 0x10, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name string
		of   coat
		msg  []byte
		want int
	}{
		{"ESP", gcmTunnel, tooBigFor(1400, sent6(peer6, 50, false, esp...)), 1400},
		{"a fragment of ESP", gcmTunnel, tooBigFor(1400, sent6(peer6, 50, true, esp...)), 1400},
		{"AH", ah, tooBigFor(1350, sent6(peer6, 51, false, 4, 4, 0, 0, 0, 0, 0x10, 0)), 1350},
		{"IP in IP, which has no SPI", coat{proto: ipsec.ProtoIPIP}, tooBigFor(1350, sent6(peer6, 4, false, 0x45, 0, 0, 0, 0, 0, 0, 0)), 1350},
		{"less than every network carries", gcmTunnel, tooBigFor(68, sent6(peer6, 50, false, esp...)), 1280},
		{"nothing at all", gcmTunnel, tooBigFor(0, sent6(peer6, 50, false, esp...)), 1280},
		{"more than was configured", gcmTunnel, tooBigFor(9000, sent6(peer6, 50, false, esp...)), 1500},
		{"an SPI that nobody has", gcmTunnel, tooBigFor(1400, sent6(peer6, 50, false, 9, 9, 9, 9, 0, 0, 0, 1)), 1500},
		{"AH, of an SA that is none", gcmTunnel, tooBigFor(1400, sent6(peer6, 51, false, 4, 4, 0, 0, 0, 0, 0x10, 0)), 1500},
		{"another destination", gcmTunnel, tooBigFor(1400, sent6(us6, 50, false, esp...)), 1500},
		{"a fragment behind the first", gcmTunnel, tooBigFor(1400, sent6(peer6, 44, false, 50, 0, 1, 0, 0, 0, 0, 9)), 1500},
		{"cut short", gcmTunnel, tooBigFor(1400, sent6(peer6, 50, false, esp...))[:8+40+7], 1500},
		{"a message about something else", gcmTunnel, append([]byte{3}, tooBigFor(1400, sent6(peer6, 50, false, esp...))[1:]...), 1500},
	} {
		s := newScene(t, Options{})
		sa := s.wear(1, true, ipsec.Selector{Src: nearNet, Dst: farNet}, c.of)
		s.p.heard(c.msg, s.now)
		if got := int(sa.path.Load()); got != c.want {
			t.Errorf("%s: the path is %d, want %d", c.name, got, c.want)
		}
		if got, want := int(sa.most.Load()), fit([]*outSA{sa}, c.want); got != want {
			t.Errorf("%s: %d fit, want %d", c.name, got, want)
		}
		for n := range len(c.msg) { // and cut everywhere
			s.p.heard(c.msg[:n], s.now+int64(newsEvery))
		}
	}
}

// TestPathsAreForgotten: a path may have become wider, and what is remembered is
// bounded.
func TestPathsAreForgotten(t *testing.T) {
	var l learnt
	if !l.put(peer6, 1300, 0) || l.put(peer6, 1400, 1) || !l.put(peer6, 1290, 1) {
		t.Error("what is less counts, and nothing else")
	}
	if l.get(peer6, 1500, int64(newsAge)) != 1290 || l.get(peer6, 1280, 1) != 1280 || l.get(us6, 1500, 1) != 1500 {
		t.Error("not what was said")
	}
	if l.get(peer6, 1500, int64(newsAge)+2) != 1500 || len(l.all) != 0 {
		t.Error("it is not forgotten")
	}
	a := peer6
	for range 3 * maxPaths {
		a = a.Next()
		l.put(a, 1300, 0)
	}
	if len(l.all) != maxPaths {
		t.Errorf("%d are remembered", len(l.all))
	}
}

// TestLongPacketsOfNarrowPaths: what goes whole and is too long for an IPv6 path
// is divided here, since the kernel has not heard of the path.
func TestLongPacketsOfNarrowPaths(t *testing.T) {
	for _, c := range []coat{gcmTransport, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}} {
		s := newScene(t, Options{})
		sa := s.wear(1, true, ipsec.Selector{Src: single(us6), Dst: single(peer6)}, c)
		s.p.heard(tooBigFor(1300, sent6(peer6, uint8(c.proto), false, 0, 0, 0x10, 0, 0, 0, 0x10, 0)), s.now)
		if sa.path.Load() != 1300 {
			t.Fatalf("%s: path %d", c, sa.path.Load())
		}
		pkt := datagram(us6, peer6, 1280, true) // more than fits, and no less may be told
		left := s.send(pkt)
		if len(left) != 2 || left[0].size() > 1300 || left[1].size() > 1300 {
			t.Fatalf("%s: %v left", c, sizes(left))
		}
		var r inet.Reassembler
		var whole []byte
		for _, o := range left {
			var info ipsec.PacketInfo
			if d := ipsec.ParsePacket(o.data, &info); d != ipsec.DropNone {
				t.Fatal(d)
			}
			whole, _ = r.Add(o.data, &info, nil, 0)
		}
		if got := s.come([]outer{{whole: true, data: whole, to: netip.AddrPortFrom(peer6, 0)}}); len(got) != 1 || !same(got[0], pkt) {
			t.Errorf("%s: it did not come; drops %v", c, s.p.drops.read())
		}
	}
}
