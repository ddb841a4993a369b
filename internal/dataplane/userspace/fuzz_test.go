package userspace

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// fuzzed is a mode that a fuzzer feeds.
type fuzzed struct {
	v6    bool
	coats []coat
	ports bool // its flow is for certain ports
}

// fuzzModes: without a secret a fuzzer gets no further than the ICV, so what it
// makes is sealed by the peer's half first; the last ones are given to the sockets
// as they are.
var fuzzModes = []fuzzed{
	{coats: []coat{gcmTunnel}},
	{coats: []coat{gcmTunnel}, ports: true},
	{coats: []coat{gcmTransport}},
	{coats: []coat{{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1, udp: true}}},
	{coats: []coat{{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA256}}},
	{coats: []coat{{proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA256}}},
	{coats: []coat{{proto: ipsec.ProtoIPComp}}},
	{coats: []coat{{proto: ipsec.ProtoIPComp, mode: ipsec.Transport}}},
	{coats: []coat{{proto: ipsec.ProtoIPIP}}},
	{coats: []coat{gcmTunnel, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}}},
	{coats: []coat{gcmTunnel, {proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16, far: true}}},
	{coats: []coat{{proto: ipsec.ProtoIPComp}, gcmTunnel, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}}},
	{coats: []coat{{proto: ipsec.ProtoIPIP}, gcmTransport}},
}

// FuzzIncoming gives the plane bytes that authentic packets of every mode may
// have inside, and bytes that are no packets at all: nothing panics, and what
// comes out is within the selectors of the SA. layer says which SA of a bundle
// seals the bytes; those behind it are done as they should be.
func FuzzIncoming(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		src, dst := nearest, farthest
		if v6 {
			src, dst = nearest6, farthest6
		}
		pkt := datagram(src, dst, 200, false)
		for mode := range uint8(2 * len(fuzzModes)) {
			f.Add(mode, uint8(0), versionNext(pkt), pkt)
			f.Add(mode, uint8(1), uint8(51), []byte{4, 4, 0, 0, 0, 0, 0x10, 1, 0, 0, 0, 1})
			f.Add(mode, uint8(9), uint8(108), []byte{4, 0, 0, 2, 1, 2, 3})
			piece := make([]byte, 120)
			n, _ := inet.Fragment(piece, pkt, 0, 5)
			f.Add(mode, uint8(0), versionNext(pkt), piece[:n])
		}
	}
	var scenes []*scene
	var sels []ipsec.Selector
	for i := range 2 * len(fuzzModes) {
		m := fuzzModes[i%len(fuzzModes)]
		m.v6 = i >= len(fuzzModes)
		s := newScene(f, Options{})
		src, dst, sel := benchUs, benchPeer, ipsec.Selector{Src: nearNet, Dst: farNet}
		if m.v6 {
			src, dst, sel = us6, peer6, ipsec.Selector{Src: nearNet6, Dst: farNet6}
		}
		if m.coats[0].mode == ipsec.Transport {
			sel = ipsec.Selector{Src: single(src), Dst: single(dst)}
		}
		if m.ports {
			sel.Proto, sel.DstPort = protoUDP, 2000
		}
		s.wear(1, m.v6, sel, m.coats...)
		scenes, sels = append(scenes, s), append(sels, sel)
	}
	f.Fuzz(func(t *testing.T, mode, layer, next uint8, data []byte) {
		if len(data) == 0 || len(data) > 60000 {
			return
		}
		i := int(mode) % len(scenes)
		s, sel := scenes[i], sels[i]
		s.t = t
		o, ok := s.disguise(int(layer), next, data)
		if !ok {
			return
		}
		for _, pkt := range s.come([]outer{o}) {
			var info ipsec.PacketInfo
			if d := ipsec.ParsePacket(pkt, &info); d != ipsec.DropNone || info.TotalLen != len(pkt) || info.SourceRoute || !sel.Match(&info) {
				t.Errorf("a packet came out that no SA is for: %s %+v", d, info)
			}
		}
	})
}

// disguise makes an authentic packet with data in it, of protocol next, from the
// SA with this index on; beyond the last one, data is what comes to the socket.
func (s *scene) disguise(layer int, next uint8, data []byte) (o outer, ok bool) {
	var head *outSA
	for _, sa := range s.p.out {
		if sa.at.Index == 0 {
			head = sa
		}
	}
	chain := head.layers()
	last := chain[len(chain)-1]
	o = outer{proto: uint8(last.id.Proto), data: data, to: netip.AddrPortFrom(last.id.Dst, 0), udp: last.sa.Encap != nil}
	if layer >= len(chain) {
		if last.id.Proto == ipsec.ProtoIPIP {
			o.proto = nextIPv4
		}
		return o, true
	}
	sa := chain[layer]
	v6 := sa.sa.Src.Is6()
	head0 := inet.HeaderLen(v6)
	if head0+len(data) > 64000 {
		return o, false
	}
	w := wrapping{packet: packet{buf: make([]byte, layersHead+head0+len(data)+layersTail), off: layersHead, n: head0 + len(data)}}
	copy(w.bytes()[head0:], data)
	(&inet.Header{Src: sa.sa.Src, Dst: sa.id.Dst, Proto: next, TTL: 64, ID: 9}).Put(w.bytes())
	w.number(chain)
	w.opened(sa) // it has its outer header
	var squeeze []byte
	for i := layer; i < len(chain); i++ {
		if chain[i].id.Proto == ipsec.ProtoIPIP && i == layer {
			continue
		}
		if s.p.step(&w, chain[i], w.seqs[i], &squeeze, s.now) != ipsec.DropNone {
			return o, false
		}
	}
	o.whole, o.data, o.to = true, bytes.Clone(w.bytes()), netip.AddrPortFrom(inet.Destination(w.bytes()), 0)
	at, ok := inet.Payload(o.data)
	if !ok || !s.p.listens(o.data[at.Next]) {
		return o, false // compression that did not shrink leaves what no socket of ours sees
	}
	if !o.udp {
		return o, true
	}
	o.whole, o.data = false, o.data[min(at.At, len(o.data)):]
	return o, ok
}

// listens tells whether there is a raw socket for a protocol.
func (p *Plane) listens(proto uint8) bool {
	return slices.ContainsFunc(p.links, func(l *link) bool { return !l.encap && l.proto == proto })
}

// TestTheDisguiseIsGood: what the fuzzer seals would come out, were it a packet.
func TestTheDisguiseIsGood(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, m := range fuzzModes {
			s, pkt := hostile(t, v6, m.coats)
			next := versionNext(pkt)
			if m.coats[0].mode == ipsec.Transport {
				pkt, next = pkt[inet.HeaderLen(v6):], protoUDP
			}
			o, ok := s.disguise(0, next, pkt)
			if !ok {
				t.Fatalf("%v IPv6 %t: no disguise", m.coats, v6)
			}
			if got := s.come([]outer{o}); len(got) != 1 {
				t.Errorf("%v IPv6 %t: %d came; %d dropped", m.coats, v6, len(got), s.allDrops())
			}
		}
	}
}
