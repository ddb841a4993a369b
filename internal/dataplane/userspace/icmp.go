package userspace

import (
	"encoding/binary"
	"net/netip"
	"time"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// Nobody is told to send less than every network carries.
const (
	leastMTU4 = 576
	leastMTU6 = 1280
)

// icmpEvery bounds how often hosts are told that a packet is too long.
const icmpEvery = 10 * time.Millisecond

// tooBig tells the host that its packet is too long for an SA, with what there is
// room for (RFC 1191 section 4, RFC 4443 section 3.2), or with the least that a
// host may be told; a packet of no more than that is to be fragmented outside
// (RFC 2473 section 7): false. True does not say that a message went: some packets
// are not to be answered, and others come too fast.
//
// The message comes from this gateway: from the SA's own end when that is of the
// inner packet's family, otherwise from another address of ours. The kernel would
// drop it if it came out of the device, since it takes a packet that claims to be
// from the host itself for a forged one; so it leaves through a socket. Where we
// have no address of that family, or no such socket, the message comes out of the
// device and from the packet's destination, as if the far end had said it. So it
// does when the way back to the sender may be through a tunnel: what the socket
// sends is in clear, and the message has a part of the packet in it.
func (p *Plane) tooBig(s *sender, sa *outSA, pkt []byte, room int, now int64) bool {
	v6 := pkt[0]>>4 == 6
	least := leastMTU4
	if v6 {
		least = leastMTU6
	}
	if room = max(room, least); len(pkt) <= room {
		return false
	}
	if !answerable(pkt) {
		return true
	}
	if _, ok := p.icmp.allow(now, icmpEvery); !ok {
		return true // the next packet will tell
	}
	family := 0
	if v6 {
		family = 1
	}
	from := p.ownAddr(sa.sa.Src, v6)
	if from.IsValid() && p.plain[family] != nil && !p.shieldsBack(pkt) {
		s.whole(family, packetTooBig(pkt, from, room), netip.AddrPortFrom(inet.Source(pkt), 0))
		return true
	}
	p.toDevice([][]byte{packetTooBig(pkt, inet.Destination(pkt), room)})
	return true
}

// shieldsBack tells whether a flow protects what goes the other way, from where a
// packet is going to where it came from.
func (p *Plane) shieldsBack(pkt []byte) bool {
	var info ipsec.PacketInfo
	if ipsec.ParsePacket(pkt, &info) != ipsec.DropNone {
		return true
	}
	icmp := ipsec.PacketInfo{Dir: ipsec.Out, Version: info.Version, Src: info.Dst, Dst: info.Src, Proto: protoICMP, HasICMP: true}
	if icmp.Version == 6 {
		icmp.Proto = protoICMP6
	}
	same := icmp
	same.Proto, same.HasICMP = info.Proto, info.HasICMP
	same.HasPorts, same.SrcPort, same.DstPort = info.HasPorts, info.DstPort, info.SrcPort
	for _, i := range [...]*ipsec.PacketInfo{&icmp, &same} {
		if f := p.spd.Lookup(i); f != nil && f.Type != ipsec.FlowBypass {
			return true
		}
	}
	return false
}

// ownAddr is an address of this gateway: best, when it is of the family, or one
// that it was told to listen on.
func (p *Plane) ownAddr(best netip.Addr, v6 bool) netip.Addr {
	if best.Is6() == v6 {
		return best
	}
	for _, l := range p.links {
		if l.local.Is6() == v6 && !l.local.IsUnspecified() {
			return l.local
		}
	}
	return netip.Addr{}
}

// packetTooBig is the message about pkt that from sends: fragmentation needed
// with the next hop's MTU, or IPv6's own.
func packetTooBig(pkt []byte, from netip.Addr, room int) []byte {
	if pkt[0]>>4 == 6 {
		msg := make([]byte, min(40+8+len(pkt), leastMTU6))
		b := msg[40:]
		b[0] = 2
		binary.BigEndian.PutUint32(b[4:], uint32(room))
		copy(b[8:], pkt)
		h := inet.Header{Src: from, Dst: inet.Source(pkt), Proto: protoICMP6, TTL: outerTTL}
		h.Put(msg)
		pseudo := inet.Sum(msg[8:40], uint32(len(b))+protoICMP6)
		binary.BigEndian.PutUint16(b[2:], ^inet.Fold(inet.Sum(b, pseudo)))
		return msg
	}
	msg := make([]byte, min(20+8+len(pkt), leastMTU4))
	b := msg[20:]
	b[0], b[1] = 3, 4
	binary.BigEndian.PutUint16(b[6:], uint16(room))
	copy(b[8:], pkt)
	h := inet.Header{Src: from, Dst: inet.Source(pkt), Proto: protoICMP, TTL: outerTTL, ID: 1}
	h.Put(msg)
	binary.BigEndian.PutUint16(b[2:], ^inet.Fold(inet.Sum(b, 0)))
	return msg
}

// Protocol numbers of ICMP.
const (
	protoICMP  = 1
	protoICMP6 = 58
)

// errors4 are the ICMP types that report an error (RFC 1122 section 3.2.2). In
// IPv6 those are below 128.
var errors4 = [256]bool{3: true, 4: true, 5: true, 11: true, 12: true}

// answerable tells whether the sender of a packet may be told that it is too
// long: not about another error or a redirect, nor about fragments behind the
// first, nor when the source is no single host (RFC 1122 section 3.2.2, RFC 4443
// section 2.4). IPv4 does not answer what goes to many hosts; IPv6 does, of all
// errors this one (section 3.2).
func answerable(pkt []byte) bool {
	src, dst := inet.Source(pkt), inet.Destination(pkt)
	if src.IsMulticast() || src.IsUnspecified() || src.IsLoopback() || classE(src) || classE(dst) || dst.Is4() && dst.IsMulticast() {
		return false
	}
	var info ipsec.PacketInfo
	if ipsec.ParsePacket(pkt, &info) != ipsec.DropNone || info.FragOffset != 0 {
		return false
	}
	switch {
	case !info.HasICMP:
		return true
	case info.Version == 6:
		return info.Proto != protoICMP6 || info.ICMPType >= 128 && info.ICMPType != redirect6
	}
	return info.Proto != protoICMP || !errors4[info.ICMPType]
}

// redirect6 is IPv6's message that there is a better way (RFC 4861 section 4.5).
const redirect6 = 137

// classE tells whether an address is of IPv4's last sixteenth, which nobody has;
// its last one is everybody on a link.
func classE(a netip.Addr) bool { return a.Is4() && a.As4()[0] >= 240 }
