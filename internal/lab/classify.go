package lab

import (
	"encoding/binary"
	"net/netip"
)

// Class is what a packet on a cable is, to one who cannot decrypt.
type Class uint8

// Classes.
const (
	Other     Class = iota // anything that is not below: clear text
	IKE                    // UDP 500, or 4500 with the non-ESP marker (RFC 3948 section 2.2)
	ESP                    // IP protocol 50
	ESPinUDP               // UDP 4500
	Keepalive              // UDP 4500, one byte 0xFF (RFC 3948 section 2.3)
	AH                     // IP protocol 51
	Neighbour              // ARP, neighbour discovery, multicast listeners
	ICMPError              // about a packet of the gateways, from or to them
	classes
)

var classNames = [classes]string{"other", "IKE", "ESP", "ESP in UDP", "NAT keepalive", "AH", "neighbour discovery", "ICMP error"}

func (c Class) String() string { return classNames[c] }

// Packet is one packet as the spy saw it. Src and Dst are the addresses of its
// IP header; of an ICMP error those of the packet that it is about too.
type Packet struct {
	Class      Class
	Src, Dst   netip.Addr
	Proto      uint8
	SrcP, DstP uint16
	Len        int // of the IP packet
	addrs      []netip.Addr
	payload    []byte // of UDP, or what follows the IP header
	fragment   bool   // not the first one
}

// Ports of IKE; more can be given to a spy.
const (
	portIKE  = 500
	portNATT = 4500
)

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// classify decodes an Ethernet frame. natt are the UDP encapsulation ports, ike
// the plain ones.
func classify(frame []byte, ike, natt []uint16) Packet {
	if len(frame) < 14 {
		return Packet{Len: len(frame)}
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		return Packet{Class: Neighbour, Len: len(frame) - 14}
	case etherIPv4, etherIPv6:
		p, ok := parseIP(frame[14:])
		if ok {
			p.Class = p.class(ike, natt)
		}
		return p
	}
	return Packet{Len: len(frame) - 14}
}

func parseIP(b []byte) (Packet, bool) {
	p := Packet{Len: len(b)}
	if len(b) == 0 {
		return p, false
	}
	var rest []byte
	switch {
	case b[0]>>4 == 4 && len(b) >= 20:
		hl := int(b[0]&15) * 4
		if hl < 20 || hl > len(b) {
			return p, false
		}
		p.Proto = b[9]
		p.Src, _ = netip.AddrFromSlice(b[12:16])
		p.Dst, _ = netip.AddrFromSlice(b[16:20])
		p.fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
		if total := int(binary.BigEndian.Uint16(b[2:])); total >= hl && total < len(b) {
			b = b[:total] // Ethernet padding
		}
		rest = b[hl:]
	case b[0]>>4 == 6 && len(b) >= 40:
		p.Src, _ = netip.AddrFromSlice(b[8:24])
		p.Dst, _ = netip.AddrFromSlice(b[24:40])
		p.Proto, rest = b[6], b[40:]
		p.skipExtensions(&rest)
	default:
		return p, false
	}
	p.Len = len(b)
	p.addrs = []netip.Addr{p.Src, p.Dst}
	p.payload = rest
	if p.Proto == 17 && !p.fragment && len(rest) >= 8 {
		p.SrcP, p.DstP = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		p.payload = rest[8:]
	}
	return p, true
}

// skipExtensions walks over hop-by-hop, routing, destination and fragment headers.
func (p *Packet) skipExtensions(rest *[]byte) {
	for range 8 {
		b := *rest
		if len(b) < 8 {
			return
		}
		n := int(b[1])*8 + 8
		switch p.Proto {
		case 0, 43, 60:
		case 44:
			n = 8
			if binary.BigEndian.Uint16(b[2:])&0xfff8 != 0 {
				p.fragment = true
			}
		default:
			return
		}
		if n > len(b) {
			return
		}
		p.Proto, *rest = b[0], b[n:]
	}
}

func (p *Packet) class(ike, natt []uint16) Class {
	switch p.Proto {
	case 50:
		return ESP
	case 51:
		return AH
	case 17:
		return p.classUDP(ike, natt)
	case 58:
		if len(p.payload) > 0 && p.payload[0] >= 130 && p.payload[0] <= 143 {
			return Neighbour // RFC 4861, and listeners: RFC 2710, RFC 3810
		}
		if len(p.payload) >= 8 && p.payload[0] < 128 {
			return p.icmpError()
		}
	case 1:
		if len(p.payload) >= 8 && (p.payload[0] == 3 || p.payload[0] == 11 || p.payload[0] == 12) {
			return p.icmpError()
		}
	}
	return Other
}

func (p *Packet) icmpError() Class {
	if about, ok := parseIP(p.payload[8:]); ok {
		p.addrs = append(p.addrs, about.addrs...)
	}
	return ICMPError
}

func (p *Packet) classUDP(ike, natt []uint16) Class {
	if p.fragment {
		return Other // the spy knows its first fragment
	}
	for _, port := range natt {
		if p.SrcP != port && p.DstP != port {
			continue
		}
		switch {
		case len(p.payload) == 1 && p.payload[0] == 0xff:
			return Keepalive
		case len(p.payload) >= 4 && binary.BigEndian.Uint32(p.payload) == 0:
			return IKE
		case len(p.payload) >= 8:
			return ESPinUDP
		}
		return Other
	}
	for _, port := range ike {
		if p.SrcP == port || p.DstP == port {
			return IKE
		}
	}
	return Other
}
