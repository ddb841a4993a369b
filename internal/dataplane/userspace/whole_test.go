package userspace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

var (
	gcmTunnel    = coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}
	gcmTransport = coat{proto: ipsec.ProtoESP, mode: ipsec.Transport, cipher: ipsec.CipherAESGCM16}
)

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// TestTransportModeProtectsWholeDatagrams (RFC 4303 section 3.3.4): the host's
// fragments become one packet, which is sealed once.
func TestTransportModeProtectsWholeDatagrams(t *testing.T) {
	for _, coats := range [][]coat{
		{gcmTransport},
		{{proto: ipsec.ProtoESP, mode: ipsec.Transport, cipher: ipsec.CipherAESGCM16, udp: true}},
		{{proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA256}},
		{{proto: ipsec.ProtoIPComp, mode: ipsec.Transport}, gcmTransport},
	} {
		for _, v6 := range []bool{false, true} {
			s := newScene(t, Options{OuterMTU: 65000})
			src, dst := benchUs, benchPeer
			if v6 {
				src, dst = us6, peer6
			}
			sa := s.wear(1, v6, ipsec.Selector{Src: single(src), Dst: single(dst)}, coats...)
			pkt := datagram(src, dst, 6000, false)
			parts := s.fragmentsOf(pkt, sceneMTU)
			parts[1], parts[3] = parts[3], parts[1]
			for i, p := range parts {
				left := s.send(p)
				if last := i == len(parts)-1; len(left) == 1 != last {
					t.Fatalf("%v IPv6 %t: after fragment %d of %d: %d packets left; drops %v %v", coats, v6, i+1, len(parts), len(left), s.p.drops.read(), sa.drops.read())
				}
			}
			if n := sa.packets.Load(); n != 1 {
				t.Errorf("%v: %d packets were protected", coats, n)
			}
			got := s.come(s.net.kept)
			if len(got) != 1 || !same(got[0], pkt) {
				t.Fatalf("%v IPv6 %t: what came is not what was sent; drops %v", coats, v6, s.p.drops.read())
			}
		}
	}
}

// same compares packets but for identification and hop limit and what depends on them, which
// ESP in UDP does not carry.
func same(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	if a[0]>>4 == 6 {
		return bytes.Equal(a[:7], b[:7]) && bytes.Equal(a[8:], b[8:])
	}
	return bytes.Equal(a[:4], b[:4]) && bytes.Equal(a[12:], b[12:])
}

// TestTunnelsCarryFragments: as they are, unless a flow is for certain ports.
func TestTunnelsCarryFragments(t *testing.T) {
	s := newScene(t, Options{OuterMTU: 65000})
	s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, gcmTunnel)
	parts := s.fragmentsOf(datagram(nearest, farthest, 3000, false), sceneMTU)
	for _, p := range parts {
		left := s.send(p)
		if len(left) != 1 {
			t.Fatalf("%d packets left", len(left))
		}
		if got := s.come(left); len(got) != 1 || !bytes.Equal(got[0], p) {
			t.Fatalf("a fragment did not come as it was: drops %v", s.p.drops.read())
		}
	}
}

// TestFragmentsFindFlowsWithPorts (RFC 4301 section 7): a fragment behind the
// first belongs to the flow of its datagram's ports; what it needs for that waits.
func TestFragmentsFindFlowsWithPorts(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := newScene(t, Options{OuterMTU: 1500})
		src, dst, nearP, farP := nearest, farthest, nearNet, farNet
		if v6 {
			src, dst, nearP, farP = nearest6, farthest6, nearNet6, farNet6
		}
		with := s.wear(1, false, ipsec.Selector{Src: nearP, Dst: farP, Proto: protoUDP, DstPort: 2000}, gcmTunnel)
		rest := s.wear(2, false, ipsec.Selector{Src: nearP, Dst: farP}, gcmTunnel)
		pkt := datagram(src, dst, 3000, false)
		for i, p := range s.fragmentsOf(pkt, sceneMTU) {
			if left := s.send(p); len(left) > 0 != (i == 2) {
				t.Fatalf("IPv6 %t: %d packets left after fragment %d", v6, len(left), i+1)
			}
		}
		if with.packets.Load() != 1 || rest.packets.Load() != 0 {
			t.Fatalf("IPv6 %t: the SA for the port has %d packets, the other %d", v6, with.packets.Load(), rest.packets.Load())
		}
		if got := s.come(s.net.kept); len(got) != 1 || !bytes.Equal(got[0], pkt) {
			t.Errorf("IPv6 %t: %d came", v6, len(got))
		}
		other := datagram(src, dst, 3000, false)
		binary.BigEndian.PutUint16(other[inet.HeaderLen(v6)+2:], 2001)
		other[5]++ // another datagram
		inet.Mend(other)
		for _, p := range s.fragmentsOf(other, 900) {
			for _, o := range s.send(p) {
				if !v6 && o.size() > 1500 {
					t.Errorf("%d bytes left, though they could have been divided before", o.size())
				}
			}
		}
		if with.packets.Load() != 1 || rest.packets.Load() == 0 {
			t.Errorf("IPv6 %t: the SA for the port has %d packets, the other %d", v6, with.packets.Load(), rest.packets.Load())
		}
		// A peer that sends fragments through the SA for a port.
		in := s.p.in[ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: 0x1000, Dst: benchPeer}]
		parts := s.fragmentsOf(pkt, 1000)
		s.dev.kept = nil
		for i, p := range parts {
			s.come([]outer{s.sealed(with, p)})
			if len(s.dev.kept) == 1 != (i == len(parts)-1) {
				t.Fatalf("IPv6 %t: %d came after fragment %d of %d; drops %v", v6, len(s.dev.kept), i+1, len(parts), in.drops.read())
			}
		}
		if !bytes.Equal(s.dev.kept[0], pkt) {
			t.Error("what came is not what was sent")
		}
		bytesBefore := in.bytes.Load()
		// And one who slips another port's datagram through it.
		for _, p := range s.fragmentsOf(other, 1000) {
			if got := s.come([]outer{s.sealed(with, p)}); len(got) != 0 {
				t.Error("a datagram of another port came through")
			}
		}
		if in.drops[ipsec.DropSelector].Load() != 1 || in.bytes.Load() < bytesBefore+1000 {
			t.Errorf("drops %v", in.drops.read())
		}
	}
}

// sealed is a packet as a peer would send it that has the other half of an SA.
func (s *scene) sealed(sa *outSA, pkt []byte) outer {
	s.t.Helper()
	seq, _ := sa.next()
	buf := make([]byte, headRoom+len(pkt)+tailRoom)
	copy(buf[headRoom:], pkt)
	b, err := sa.t.Seal(buf, headRoom, len(pkt), versionNext(pkt), seq)
	s.must(err)
	return outer{proto: uint8(ipsec.ProtoESP), data: b, to: *sa.remote.Load()}
}

// TestFragmentsThatLieInside: overlaps are dropped and have a counter.
func TestFragmentsThatLieInside(t *testing.T) {
	s := newScene(t, Options{OuterMTU: 1500})
	s.now -= int64(inet.FragmentTimeout) // so that what waits has waited long enough when it is looked at
	s.wear(1, false, ipsec.Selector{Src: single(benchUs), Dst: single(benchPeer)}, gcmTransport)
	parts := s.fragmentsOf(datagram(benchUs, benchPeer, 3000, false), sceneMTU)
	bad := bytes.Clone(parts[1])
	bad[7]--
	inet.Mend(bad)
	for _, p := range [][]byte{parts[0], bad, parts[1], parts[2]} {
		if left := s.send(p); len(left) != 0 {
			t.Error("something left")
		}
	}
	if n := s.drops(ipsec.DropReassembly); n != 4 {
		t.Errorf("%d dropped, want 4", n)
	}
	// What never becomes whole ends some day.
	odd := s.fragmentsOf(datagram(benchUs, benchPeer, 3001, false), 1000)
	odd[0][4] = 9
	inet.Mend(odd[0])
	s.send(odd[0])
	if n := s.drops(ipsec.DropReassembly); n != 5 {
		t.Errorf("%d dropped, want 5", n)
	}
	// A first fragment without the ports that it would be judged by (RFC 1858).
	tiny := bytes.Clone(parts[0][:20+3])
	tiny[4] = 11
	inet.Mend(tiny)
	s.send(tiny)
	if n := s.p.drops[ipsec.DropMalformed].Load(); n != 1 {
		t.Errorf("%d dropped as malformed, want the tiny one", n)
	}
}

// TestPassedByWhole: a bypass beside a flow with ports gets what the host sent.
func TestPassedByWhole(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := newScene(t, Options{OuterMTU: 1500})
		src, dst, nearP, farP := nearest, farthest, nearNet, farNet
		if v6 {
			src, dst, nearP, farP = nearest6, farthest6, nearNet6, farNet6
		}
		s.wear(1, false, ipsec.Selector{Src: nearP, Dst: farP, Proto: protoUDP, DstPort: 53}, gcmTunnel)
		s.must(s.p.ApplyFlows(bg, []ipsec.FlowChange{{Flow: ipsec.Flow{ID: "by/out", Type: ipsec.FlowBypass, Selector: ipsec.Selector{Src: nearP, Dst: farP}}}}))
		pkt := datagram(src, dst, 60000, false)
		var whole inet.Reassembler
		var got []byte
		for _, p := range s.fragmentsOf(pkt, sceneMTU) {
			for _, o := range s.send(p) {
				var info ipsec.PacketInfo
				if d := ipsec.ParsePacket(o.data, &info); d != ipsec.DropNone || o.size() > sceneMTU {
					t.Fatalf("%s, %d bytes", d, o.size())
				}
				got, _ = whole.Add(o.data, &info, nil, 0)
			}
		}
		if !bytes.Equal(got, pkt) {
			t.Errorf("IPv6 %t: what left in clear is not what was sent; drops %v", v6, s.p.drops.read())
		}
	}
}

// TestNestedFragments: a tunnel in a tunnel whose packets somebody between its
// begin and the other's divided: they are made whole before they are opened (RFC
// 4303 section 3.4.1).
func TestNestedFragments(t *testing.T) {
	for _, inner6 := range []bool{false, true} {
		s := newScene(t, Options{OuterMTU: 65000})
		sel := ipsec.Selector{Src: nearNet, Dst: farNet}
		s.wear(1, inner6, sel, gcmTunnel, coat{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1, far: true})
		src, dst := benchUs, benchPeer
		if inner6 {
			src, dst = us6, peer6
		}
		first := s.p.out[ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: 0x1000, Dst: dst}]
		second := s.p.out[ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: 0x1001, Dst: src}]
		pkt := datagram(nearest, farthest, 1300, false)
		esp := s.sealed(first, pkt)
		whole := make([]byte, inet.HeaderLen(inner6)+len(esp.data))
		copy(whole[inet.HeaderLen(inner6):], esp.data)
		(&inet.Header{Src: src, Dst: dst, Proto: 50, TTL: 64, ID: 5}).Put(whole)
		parts := s.fragmentsOf(whole, 600)
		for i, p := range parts {
			o := s.sealed(second, p)
			s.come([]outer{o})
			if len(s.dev.kept) == 1 != (i == len(parts)-1) {
				t.Fatalf("IPv6 %t: %d came after fragment %d of %d; drops %v %v", inner6, len(s.dev.kept), i+1, len(parts), s.p.drops.read(), s.drops(ipsec.DropMalformed))
			}
		}
		if !bytes.Equal(s.dev.kept[0], pkt) {
			t.Errorf("%x came", s.dev.kept[0][:40])
		}
	}
}

// TestMarksThroughTunnels is the table of RFC 6040 section 4.2, figure 4, and the
// copy of section 4.1, on both ways through the plane.
func TestMarksThroughTunnels(t *testing.T) {
	const not, ect1, ect0, ce, drop = 0, 1, 2, 3, 9
	want := [4][4]int{ // by inner, then outer
		not:  {not, not, not, drop},
		ect1: {ect1, ect1, ect1, ce},
		ect0: {ect0, ect1, ect0, ce},
		ce:   {ce, ce, ce, ce},
	}
	for _, coats := range [][]coat{{gcmTunnel}, {{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA1}}, {gcmTunnel, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}}} {
		for i := range 4 {
			in6, out6 := i&1 == 1, i&2 == 2
			s := newScene(t, Options{})
			src, dst, sel := nearest, farthest, ipsec.Selector{Src: nearNet, Dst: farNet}
			if in6 {
				src, dst, sel = nearest6, farthest6, ipsec.Selector{Src: nearNet6, Dst: farNet6}
			}
			s.wear(1, out6, sel, coats...)
			for inner, row := range want {
				for outside, result := range row {
					what := fmt.Sprintf("%v, inner %d outer %d (IPv6 in %t out %t)", coats, inner, outside, in6, out6)
					pkt := datagram(src, dst, 200, false)
					inet.SetTOS(pkt, 0xb8|uint8(inner))
					o := s.send(pkt)[0]
					if o.whole {
						o.tos = inet.TOS(o.data)
					}
					if o.tos != 0xb8|uint8(inner) {
						t.Fatalf("%s: left with class %02x", what, o.tos)
					}
					o.tos = 0x50 | uint8(outside) // the class changed on the way, too
					if o.whole {
						inet.SetTOS(o.data, o.tos)
					}
					before := s.drops(ipsec.DropCongestion)
					got := s.come([]outer{o})
					switch {
					case result == drop && (len(got) != 0 || s.drops(ipsec.DropCongestion) != before+1):
						t.Errorf("%s: not dropped for congestion", what)
					case result != drop && (len(got) != 1 || inet.TOS(got[0]) != 0xb8|uint8(result)):
						t.Errorf("%s: %d came, want mark %d", what, len(got), result)
					case result != drop && !in6 && inet.Fold(inet.Sum(got[0][:20], 0)) != 0xffff:
						t.Errorf("%s: the header's checksum is wrong", what)
					}
				}
			}
		}
	}
}

// TestHeadersOfTunnels (RFC 4301 section 5.1.2): hop limits are each header's own,
// and the mark not to fragment is what the option says.
func TestHeadersOfTunnels(t *testing.T) {
	ahTunnel := coat{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA256}
	udp := gcmTunnel
	udp.udp = true
	for _, df := range []DF{DFClear, DFCopy, DFSet} {
		for _, coats := range [][]coat{{gcmTunnel}, {udp}, {ahTunnel}, {{proto: ipsec.ProtoIPIP}}} {
			for _, mark := range []bool{false, true} {
				s := newScene(t, Options{DF: df})
				s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, coats...)
				pkt := datagram(nearest, farthest, 500, mark)
				left := s.send(pkt)
				if len(left) != 1 {
					t.Fatalf("%v: %d packets left", coats, len(left))
				}
				want := df == DFSet || df == DFCopy && mark
				has := left[0].whole && dontFrag(left[0].data)
				if has != want {
					t.Errorf("DF %d, %v, inner mark %t: outer mark %t", df, coats, mark, has)
				}
				if left[0].whole && left[0].data[8] != outerTTL {
					t.Errorf("%v: outer hop limit %d", coats, left[0].data[8])
				}
				got := s.come(left)
				if len(got) != 1 || !bytes.Equal(got[0], pkt) {
					t.Errorf("DF %d, %v: the inner packet changed; drops %v", df, coats, s.p.drops.read())
				}
			}
		}
	}
}
