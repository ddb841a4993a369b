package userspace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"oakley/internal/ah"
	"oakley/internal/esp"
	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// everyCoat lists what packets may be put into: ESP with every cipher and every
// length of ICV, AH with every algorithm, and bundles.
func everyCoat() (all [][]coat) {
	tunnel, transport := ipsec.Tunnel, ipsec.Transport
	for _, c := range esp.Ciphers() {
		auths := []ipsec.Auth{ipsec.AuthHMACSHA1, ipsec.AuthHMACSHA512}
		if c.Info().ICV != 0 {
			auths = []ipsec.Auth{ipsec.AuthNone}
		}
		for _, a := range auths {
			for _, udp := range []bool{false, true} {
				all = append(all, []coat{{ipsec.ProtoESP, tunnel, c, a, udp, false}}, []coat{{ipsec.ProtoESP, transport, c, a, udp, false}})
			}
		}
	}
	for _, a := range ah.Auths() {
		all = append(all, []coat{{ipsec.ProtoAH, tunnel, ipsec.CipherNone, a, false, false}}, []coat{{ipsec.ProtoAH, transport, ipsec.CipherNone, a, false, false}})
	}
	var (
		espT = coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}
		espX = coat{proto: ipsec.ProtoESP, mode: transport, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA256}
		udpT = coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16, udp: true}
		ahT  = coat{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA1}
		ahX  = coat{proto: ipsec.ProtoAH, mode: transport, auth: ipsec.AuthHMACSHA512}
		ipip = coat{proto: ipsec.ProtoIPIP}
		over = coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1, far: true}
	)
	return append(all, []coat{ipip}, []coat{espT, ahX}, []coat{espX, ahX}, []coat{espT, ahT}, []coat{ahT, espT}, []coat{ahT, udpT},
		[]coat{ipip, espX}, []coat{ipip, ahX}, []coat{espT, over}, []coat{espX, over}, []coat{ahX, espX, over})
}

// TestWhatFitsIsExact: whatever the SAs, the length that hosts are told is the
// longest that fits the path: a packet of that length leaves, in one piece that
// is no longer than the path; one more is answered with the length; and it is not
// told too little, since one more would have been too long outside.
func TestWhatFitsIsExact(t *testing.T) {
	s := newScene(t, Options{MTU: 1600, DF: DFCopy})
	for _, coats := range everyCoat() {
		for _, out6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v outer IPv6 %t", coats, out6), func(t *testing.T) {
				for _, in6 := range []bool{false, true} {
					if coats[0].mode == ipsec.Transport && in6 != out6 {
						continue
					}
					for path := 1485; path <= 1500; path += 5 {
						s.t = t
						fits(t, s, coats, out6, in6, path)
					}
				}
			})
		}
	}
}

func fits(t *testing.T, s *scene, coats []coat, out6, in6 bool, path int) {
	t.Helper()
	defer func() { s.must(s.p.Flush(bg, ipsec.OwnerAny)) }()
	s.p.opt.OuterMTU = path
	before := s.drops(ipsec.DropTooBig)
	src, dst := nearest, farthest
	if in6 {
		src, dst = nearest6, farthest6
	}
	if coats[0].mode == ipsec.Transport {
		if src, dst = benchUs, benchPeer; in6 {
			src, dst = us6, peer6
		}
	}
	sel := ipsec.Selector{Src: netip.PrefixFrom(src, src.BitLen()), Dst: netip.PrefixFrom(dst, dst.BitLen())}
	sa := s.wear(1, out6, sel, coats...)
	most := int(sa.most.Load())
	left := s.send(datagram(src, dst, most, true))
	if len(left) != 1 || left[0].size() > path || left[0].size() < path-16 {
		t.Fatalf("path %d: a packet of %d bytes left as %d of %v bytes", path, most, len(left), sizes(left))
	}
	if out4 := !out6; out4 && left[0].whole && dontFrag(left[0].data) != (!in6 || coats[0].mode == ipsec.Transport) {
		t.Errorf("path %d: mark not to fragment: %t", path, dontFrag(left[0].data))
	}
	if got := s.come(left); len(got) != 1 || len(got[0]) != most {
		t.Fatalf("path %d: %d packets came out of what fits exactly; drops %v", path, len(got), s.p.drops.read())
	}
	s.now += int64(icmpEvery)
	pkt := datagram(src, dst, most+1, true)
	left = s.send(pkt)
	told := append(slices.Clone(s.dev.kept), data(left)...)
	if len(told) != 1 {
		t.Fatalf("path %d: one byte too much was answered by %d messages", path, len(told))
	}
	if n, about := advice(t, told[0]); n != most || !bytes.HasPrefix(pkt, about) {
		t.Errorf("path %d: the message says %d, want %d; it is about %x", path, n, most, about)
	}
	if n := s.drops(ipsec.DropTooBig) - before; n != 1 {
		t.Errorf("path %d: %d packets dropped", path, n)
	}
	// With nobody to stop it, it would have been too long.
	sa.most.Store(65535)
	sa.path.Store(65535)
	if left = s.send(pkt); len(left) != 1 || left[0].size() <= path {
		t.Errorf("path %d: %d bytes would have fitted: %v", path, most+1, sizes(left))
	}
}

func sizes(all []outer) (n []int) {
	for i := range all {
		n = append(n, all[i].size())
	}
	return n
}

func data(all []outer) (pkts [][]byte) {
	for i := range all {
		pkts = append(pkts, all[i].data)
	}
	return pkts
}

// advice reads a message that a packet was too long, whose checksums must be
// right.
func advice(t *testing.T, msg []byte) (room int, about []byte) {
	t.Helper()
	var info ipsec.PacketInfo
	if d := ipsec.ParsePacket(msg, &info); d != ipsec.DropNone || info.TotalLen != len(msg) {
		t.Fatalf("%s: %x", d, msg)
	}
	b := msg[info.HeaderLen:]
	if info.Version == 6 {
		sum := inet.Sum(msg[8:40], uint32(len(b))+58)
		if b[0] != 2 || b[1] != 0 || inet.Fold(inet.Sum(b, sum)) != 0xffff || len(msg) > 1280 {
			t.Fatalf("no good message: %x", msg)
		}
		return int(binary.BigEndian.Uint32(b[4:])), b[8:]
	}
	if b[0] != 3 || b[1] != 4 || inet.Fold(inet.Sum(b, 0)) != 0xffff || inet.Fold(inet.Sum(msg[:20], 0)) != 0xffff || len(msg) > 576 {
		t.Fatalf("no good message: %x", msg)
	}
	return int(binary.BigEndian.Uint16(b[6:])), b[8:]
}

// TestWhoIsToldAndByWhom: the message is from an address of this gateway, the
// SA's end if that is of the family, and goes to the sender of the packet.
func TestWhoIsToldAndByWhom(t *testing.T) {
	gcm := coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}
	for _, c := range []struct {
		in6, out6 bool
		from      netip.Addr
	}{
		{false, false, benchUs},
		{true, true, us6},
		{false, true, benchUs}, // the first of ours of that family
		{true, false, us6},
	} {
		s := newScene(t, Options{OuterMTU: 1400, MTU: 1500})
		sel, src, dst := ipsec.Selector{Src: nearNet, Dst: farNet}, nearest, farthest
		if c.in6 {
			sel, src, dst = ipsec.Selector{Src: nearNet6, Dst: farNet6}, nearest6, farthest6
		}
		s.wear(1, c.out6, sel, gcm)
		left := s.send(datagram(src, dst, 1450, true))
		if len(left) != 1 || !left[0].whole || left[0].to.Addr() != src {
			t.Fatalf("%+v: %d messages", c, len(left))
		}
		if msg := left[0].data; inet.Source(msg) != c.from || inet.Destination(msg) != src {
			t.Errorf("%+v: from %s to %s", c, inet.Source(msg), inet.Destination(msg))
		}
	}
}

// TestWhatIsNotAnswered (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
func TestWhatIsNotAnswered(t *testing.T) {
	all4, all6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	a := netip.MustParseAddr
	icmp := func(pkt []byte, proto, typ uint8) []byte {
		at := inet.HeaderLen(pkt[0]>>4 == 6)
		pkt[at], pkt[at+1] = typ, 0
		if at == 20 {
			pkt[9] = proto
		} else {
			pkt[6] = proto
		}
		inet.Mend(pkt)
		return pkt
	}
	later := datagram(nearest, farthest, 1450, true)
	later[6], later[7] = 0x40, 5
	inet.Mend(later)
	first := datagram(nearest, farthest, 1450, true)
	first[6] = 0x60
	inet.Mend(first)
	for _, c := range []struct {
		name string
		pkt  []byte
		want bool
	}{
		{"an ordinary one", datagram(nearest, farthest, 1450, true), true},
		{"an ordinary one, IPv6", datagram(nearest6, farthest6, 1450, true), true},
		{"to a group", datagram(nearest, a("239.1.2.3"), 1450, true), false},
		{"to a group, IPv6", datagram(nearest6, a("ff0e::1234"), 1450, true), true},
		{"to everybody", datagram(nearest, a("255.255.255.255"), 1450, true), false},
		{"from a group", datagram(a("224.0.0.5"), farthest, 1450, true), false},
		{"from nobody", datagram(a("0.0.0.0"), farthest, 1450, true), false},
		{"from nobody, IPv6", datagram(a("::"), farthest6, 1450, true), false},
		{"from this very host", datagram(a("127.0.0.1"), farthest, 1450, true), false},
		{"from class E", datagram(a("241.0.0.1"), farthest, 1450, true), false},
		{"a fragment behind the first", later, false},
		{"a first fragment", first, true},
		{"a ping", icmp(datagram(nearest, farthest, 1450, true), 1, 8), true},
		{"an error", icmp(datagram(nearest, farthest, 1450, true), 1, 3), false},
		{"a redirect", icmp(datagram(nearest, farthest, 1450, true), 1, 5), false},
		{"a ping, IPv6", icmp(datagram(nearest6, farthest6, 1450, true), 58, 128), true},
		{"an error, IPv6", icmp(datagram(nearest6, farthest6, 1450, true), 58, 1), false},
		{"a redirect, IPv6", icmp(datagram(nearest6, farthest6, 1450, true), 58, 137), false},
	} {
		s := newScene(t, Options{OuterMTU: 1400, MTU: 1500})
		gcm := coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}
		s.wear(1, false, ipsec.Selector{Src: all4, Dst: all4}, gcm)
		s.wear(2, false, ipsec.Selector{Src: all6, Dst: all6}, gcm)
		// A flow for everything is one for the way back, too.
		if left := s.send(c.pkt); len(left) != 0 || len(s.dev.kept) > 1 || len(s.dev.kept) == 1 != c.want {
			t.Errorf("%s: %d messages, %d in clear; wanted one: %t", c.name, len(s.dev.kept), len(left), c.want)
		}
		if s.drops(ipsec.DropTooBig) != 1 {
			t.Errorf("%s: drops %v", c.name, s.p.drops.read())
		}
	}
}

// TestMessagesAreBounded: a host that does not listen is told now and then.
func TestMessagesAreBounded(t *testing.T) {
	s := newScene(t, Options{OuterMTU: 1400, MTU: 1500})
	s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16})
	told := 0
	for range 1000 {
		told += len(s.send(datagram(nearest, farthest, 1450, true)))
		s.now += int64(icmpEvery) / 10
	}
	if told != 100 {
		t.Errorf("told %d times, want one in ten", told)
	}
}

// TestNobodyIsToldTooLittle: where the path has less room than a host may be told,
// what is longer than that is fragmented outside (RFC 2473 section 7).
func TestNobodyIsToldTooLittle(t *testing.T) {
	gcm := coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}
	s := newScene(t, Options{OuterMTU: 1300, MTU: 1500})
	s.wear(1, false, ipsec.Selector{Src: nearNet6, Dst: farNet6}, gcm)
	left := s.send(datagram(nearest6, farthest6, 1400, true))
	if len(left) != 1 || !left[0].whole {
		t.Fatalf("%d messages", len(left))
	}
	if n, _ := advice(t, left[0].data); n != 1280 {
		t.Errorf("told %d, want 1280", n)
	}
	if left = s.send(datagram(nearest6, farthest6, 1280, true)); len(left) != 1 || left[0].whole || left[0].size() <= 1300 {
		t.Errorf("1280 bytes left as %v, want one packet for the kernel to fragment", sizes(left))
	}
	if got := s.come(left); len(got) != 1 || len(got[0]) != 1280 {
		t.Errorf("%d came", len(got))
	}
}

// TestPiecesBeforeProtection: an IPv4 packet without the mark is sent in pieces
// that each fit, which together are what the host sent (RFC 4301 section 8.2).
func TestPiecesBeforeProtection(t *testing.T) {
	for _, coats := range [][]coat{
		{{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}},
		{{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16, udp: true}},
		{{proto: ipsec.ProtoESP, cipher: ipsec.Cipher3DES, auth: ipsec.AuthHMACSHA1}},
		{{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA256}},
		{{proto: ipsec.ProtoIPIP}, {proto: ipsec.ProtoESP, mode: ipsec.Transport, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1}},
	} {
		for _, out6 := range []bool{false, true} {
			s := newScene(t, Options{OuterMTU: 700, MTU: 4000})
			s.wear(1, out6, ipsec.Selector{Src: nearNet, Dst: farNet}, coats...)
			var whole inet.Reassembler
			for round := range 60 { // more than an arena holds
				pkt := datagram(nearest, farthest, 3000+round, false)
				pkt[5] = byte(round)
				inet.Mend(pkt)
				left := s.send(pkt)
				if len(left) < 5 {
					t.Fatalf("%v: %d packets left", coats, len(left))
				}
				for i := range left {
					if n := left[i].size(); n > 700 || n < 600 && i < len(left)-1 {
						t.Fatalf("%v: sizes %v", coats, sizes(left))
					}
				}
				s.come(left)
				var got []byte
				for _, p := range s.dev.kept {
					var info ipsec.PacketInfo
					if d := ipsec.ParsePacket(p, &info); d != ipsec.DropNone {
						t.Fatal(d)
					}
					got, _ = whole.Add(p, &info, nil, s.now)
				}
				if !bytes.Equal(got, pkt) {
					t.Fatalf("%v: %d pieces came, and they are not what was sent", coats, len(s.dev.kept))
				}
			}
		}
	}
}

// TestTheMessageDoesNotLeak: what came out of one tunnel and is too long for
// another is not answered in clear.
func TestTheMessageDoesNotLeak(t *testing.T) {
	for _, proto := range []uint8{0, protoUDP} { // of the flow back to the sender
		s := newScene(t, Options{OuterMTU: 1400, MTU: 1500})
		s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, gcmTunnel)
		s.wear(2, false, ipsec.Selector{Src: farNet, Dst: nearNet, Proto: proto}, gcmTunnel)
		left := s.send(datagram(nearest, farthest, 1450, true))
		if len(left) != 0 || len(s.dev.kept) != 1 {
			t.Fatalf("%d left, %d for the host", len(left), len(s.dev.kept))
		}
		if msg := s.dev.kept[0]; inet.Source(msg) != farthest || inet.Destination(msg) != nearest {
			t.Errorf("from %s to %s", inet.Source(msg), inet.Destination(msg))
		}
	}
}

// TestCompressionMayMakeItFit: a packet that is too long as it is goes if it
// shrinks enough, and its sender is told what always fits if it does not.
func TestCompressionMayMakeItFit(t *testing.T) {
	for _, coats := range [][]coat{
		{{proto: ipsec.ProtoIPComp}, gcmTunnel},
		{{proto: ipsec.ProtoIPComp}, {proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1, udp: true}},
	} {
		s := newScene(t, Options{OuterMTU: 1400, MTU: 1500})
		sa := s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, coats...)
		shrinks := datagram(nearest, farthest, 1500, true)
		clear(shrinks[28:])
		left := s.send(shrinks)
		if len(left) != 1 || left[0].size() > 300 {
			t.Fatalf("%v: %v left", coats, sizes(left))
		}
		if got := s.come(left); len(got) != 1 || !bytes.Equal(got[0], shrinks) {
			t.Errorf("%v: %d came", coats, len(got))
		}
		s.now += int64(icmpEvery)
		random := datagram(nearest, farthest, 1500, true)
		rnd := rand.NewChaCha8([32]byte{})
		_, _ = rnd.Read(random[28:])
		left = s.send(random)
		if len(left) != 1 {
			t.Fatalf("%v: %v left; drops %v", coats, sizes(left), s.drops(ipsec.DropTooBig))
		}
		n, about := advice(t, left[0].data)
		if n != int(sa.most.Load()) || !bytes.HasPrefix(random, about) {
			t.Errorf("%v: told %d, want %d", coats, n, sa.most.Load())
		}
		// What is told is true.
		random = random[:n]
		inet.Mend(random)
		left = s.send(random)
		if len(left) != 1 || left[0].size() > 1400 {
			t.Fatalf("%v: %v left", coats, sizes(left))
		}
		if got := s.come(left); len(got) != 1 || !bytes.Equal(got[0], random) {
			t.Errorf("%v: %d came", coats, len(got))
		}
	}
}
