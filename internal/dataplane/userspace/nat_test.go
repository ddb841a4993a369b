package userspace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// TestTwoClientsBehindOneNAT: in transport mode both are one address, with one
// selector, to a server (RFC 3948 section 5.2). The first has the flow; what the
// second sends is refused, with a counter of its own, rather than answered to the
// first. When the first has gone, the second has the flow.
func TestTwoClientsBehindOneNAT(t *testing.T) {
	s := newScene(t, Options{})
	nat := benchUs // the scene's other end
	server := benchPeer
	sel := ipsec.Selector{Src: single(server), Dst: single(nat)}
	type client struct {
		out, in *ipsec.SA
		peer    *outSA // the client's own half
	}
	var clients [2]client
	var all [][]ipsec.FlowChange
	for i := range clients {
		c, port := &clients[i], uint16(4500+i)
		flow := ipsec.Flow{ID: ipsec.FlowID(fmt.Sprintf("c%d/out", i)), Selector: sel, Local: server, Remote: nat, Mode: ipsec.Transport, Proto: ipsec.ProtoESP}
		back := flow
		back.ID, back.Dir, back.Selector = ipsec.FlowID(fmt.Sprintf("c%d/in", i)), ipsec.In, sel.Reverse()
		all = append(all, []ipsec.FlowChange{{Flow: flow}, {Flow: back}})
		s.must(s.p.ApplyFlows(bg, all[i]))
		key := fill(16, byte(3+i))
		c.out = &ipsec.SA{
			ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0x2000, Dst: nat, Port: port}, Src: server, Mode: ipsec.Transport,
			Cipher: ipsec.CipherAESGCM16, Key: key, Salt: fill(4, 7), Selector: sel, Flow: flow.ID,
			Encap: &ipsec.Encap{Local: netip.AddrPortFrom(server, 4500), Remote: netip.AddrPortFrom(nat, port)},
		}
		in := *c.out
		in.ID, in.Src, in.Selector, in.Flow = ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: ipsec.SPI(0x1000 + i), Dst: server}, nat, sel.Reverse(), back.ID
		c.in = &in
		s.must(s.p.AddSA(bg, c.in))
		s.must(s.p.AddSA(bg, c.out))
		their := in
		their.ID.Dir, their.ID.Port, their.Flow, their.Src = ipsec.Out, 4500, "", nat
		their.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(nat, 4500), Remote: netip.AddrPortFrom(server, 4500)}
		s.must(s.p.AddSA(bg, &their))
		c.peer = s.p.out[their.ID]
	}
	says := func(c *client) int {
		t.Helper()
		return len(s.come([]outer{{udp: true, data: s.payload(c.peer, datagram(nat, server, 100, false)), to: netip.AddrPortFrom(server, 4500)}}))
	}
	answered := func() uint16 {
		t.Helper()
		left := s.send(datagram(server, nat, 100, false))
		if len(left) != 1 {
			t.Fatalf("%d left; drops %v", len(left), s.p.drops.read())
		}
		return left[0].to.Port()
	}
	if says(&clients[0]) != 1 || answered() != 4500 {
		t.Error("the first client is not served")
	}
	if says(&clients[1]) != 0 || s.drops(ipsec.DropWrongSA) != 1 || answered() != 4500 {
		t.Error("the second client has the first one's flow")
	}
	gone := all[0]
	for i := range gone {
		gone[i].Remove = true
	}
	s.must(s.p.DeleteSA(bg, clients[0].out.ID))
	s.must(s.p.DeleteSA(bg, clients[0].in.ID))
	s.must(s.p.ApplyFlows(bg, gone))
	if says(&clients[1]) != 1 || answered() != 4501 {
		t.Error("the second client is not served though the first has gone")
	}
}

// payload is a packet's payload, as an SA in transport mode seals it.
func (s *scene) payload(sa *outSA, pkt []byte) []byte {
	s.t.Helper()
	at, ok := inet.Payload(pkt)
	if !ok {
		s.t.Fatal("no packet")
	}
	seq, _ := sa.next()
	n := len(pkt) - at.At
	buf := make([]byte, headRoom+n+tailRoom)
	copy(buf[headRoom:], pkt[at.At:])
	b, err := sa.t.Seal(buf, headRoom, n, pkt[at.Next], seq)
	s.must(err)
	return b
}

// TestChecksumsAcrossNAT (RFC 3948 section 3.1.2): right for the addresses that
// the receiver sees, if they were right for those that the sender saw; wrong, if
// not; and none stays none.
func TestChecksumsAcrossNAT(t *testing.T) {
	a := netip.MustParseAddr
	seen := netio.Received{Remote: netip.MustParseAddrPort("203.0.113.7:1024"), Local: netip.MustParseAddrPort("10.9.9.9:4500")}
	for _, proto := range []uint8{6, 17} {
		at := map[uint8]int{6: 16, 17: 6}[proto]
		for seed := range 2000 {
			src, dst := a("192.168.1.2"), a("198.51.100.1")
			pkt := datagram(src, dst, 60+seed%50, false)
			pkt[9] = proto
			b := pkt[20:]
			binary.BigEndian.PutUint32(b[20:], uint32(seed*2654435761))
			sum := func(src, dst netip.Addr) uint16 {
				s := inet.Sum(b, uint32(proto)+uint32(len(b)))
				return inet.Fold(inet.Sum(dst.AsSlice(), inet.Sum(src.AsSlice(), s)))
			}
			b[at], b[at+1] = 0, 0
			is := ^sum(src, dst)
			if proto == 17 && is == 0 {
				is = 0xffff
			}
			wrong := seed%7 == 0
			if wrong {
				is ^= 0x0100
			}
			binary.BigEndian.PutUint16(b[at:], is)
			in := &inSA{sa: ipsec.SA{NATOA: ipsec.NATOA{Peer: src, Ours: dst}}}
			mendChecksum(b, proto, in, &seen)
			got := sum(seen.Remote.Addr(), seen.Local.Addr())
			if (got == 0xffff) == wrong {
				t.Fatalf("protocol %d, seed %d: the sum is %04x; it was wrong before: %t", proto, seed, got, wrong)
			}
			if proto == 17 && binary.BigEndian.Uint16(b[at:]) == 0 {
				t.Fatal("a checksum became none")
			}
		}
	}
	none := datagram(a("192.168.1.2"), a("198.51.100.1"), 60, false)[20:]
	none[6], none[7] = 0, 0
	mendChecksum(none, 17, &inSA{sa: ipsec.SA{NATOA: ipsec.NATOA{Peer: a("192.168.1.2"), Ours: a("198.51.100.1")}}}, &seen)
	if none[6]|none[7] != 0 {
		t.Error("a datagram without a checksum got one")
	}
}
