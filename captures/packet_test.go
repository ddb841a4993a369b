package captures

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Ports of the packets that are sent; no program is known to talk on them. The
// source port tells the packet's number too, so that each is a stream of its own
// and tshark does not take one for another's repetition.
const (
	fromPort = 47000
	toPort   = 46999
)

// sent is a packet from the network behind A.
type sent struct {
	src, dst netip.Addr
	number   uint32 // in the payload, and TCP's sequence number
	tcp      bool
	tos      uint8 // class octet of the IP header
	payload  string
}

// numbered is a packet that names itself. It is long enough to be compressed.
func numbered(src, dst netip.Addr, number uint32, what string, tcp bool) sent {
	text := fmt.Sprintf("packet %d of %s. ", number, what)
	return sent{src: src, dst: dst, number: number, tcp: tcp, payload: strings.Repeat(text, 6)}
}

func (s sent) port() int { return fromPort + int(s.number) }

func (s sent) transport() string {
	if s.tcp {
		return "tcp"
	}
	return "udp"
}

// packet is the IP packet with all its checksums.
func (s sent) packet(t *testing.T) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	var ip gopacket.SerializableLayer
	proto := layers.IPProtocolUDP
	if s.tcp {
		proto = layers.IPProtocolTCP
	}
	if s.src.Is4() {
		// AH covers the identification; a 0 would be filled in by the kernel.
		h := &layers.IPv4{Version: 4, TOS: s.tos, TTL: 64, Id: uint16(s.number) | 1, Protocol: proto, SrcIP: s.src.AsSlice(), DstIP: s.dst.AsSlice()}
		network, ip = h, h
	} else {
		h := &layers.IPv6{Version: 6, TrafficClass: s.tos, HopLimit: 64, NextHeader: proto, SrcIP: s.src.AsSlice(), DstIP: s.dst.AsSlice()}
		network, ip = h, h
	}
	var head gopacket.SerializableLayer
	var err error
	if s.tcp {
		h := &layers.TCP{SrcPort: layers.TCPPort(s.port()), DstPort: toPort, Seq: s.number, Ack: 1, ACK: true, PSH: true, Window: 1000}
		err, head = h.SetNetworkLayerForChecksum(network), h
	} else {
		h := &layers.UDP{SrcPort: layers.UDPPort(s.port()), DstPort: toPort}
		err, head = h.SetNetworkLayerForChecksum(network), h
	}
	if err != nil {
		t.Fatal(err)
	}
	pkt, err := assemble(ip, head, gopacket.Payload(s.payload))
	if err != nil {
		t.Fatal(err)
	}
	return pkt
}
