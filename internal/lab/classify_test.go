package lab

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func udpFrame(t *testing.T, sport, dport uint16, payload string) []byte {
	return frameOf(t, layers.IPProtocolUDP, func(ip *layers.IPv4) []gopacket.SerializableLayer {
		u := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
		must(t, u.SetNetworkLayerForChecksum(ip))
		return []gopacket.SerializableLayer{u, gopacket.Payload(payload)}
	})
}

func frameOf(t *testing.T, proto layers.IPProtocol, rest func(*layers.IPv4) []gopacket.SerializableLayer) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.IP{192, 0, 2, 2}, DstIP: net.IP{198, 51, 100, 2}}
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
	b := gopacket.NewSerializeBuffer()
	all := append([]gopacket.SerializableLayer{eth, ip}, rest(ip)...)
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...))
	return b.Bytes()
}

func TestPacketsAreWhatAnOutsiderTakesThemFor(t *testing.T) {
	plain := func(proto layers.IPProtocol, payload string) []byte {
		return frameOf(t, proto, func(*layers.IPv4) []gopacket.SerializableLayer {
			return []gopacket.SerializableLayer{gopacket.Payload(payload)}
		})
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  Class
	}{
		{"main mode", udpFrame(t, 500, 500, "cookiecookie"), IKE},
		{"a peer whose port was translated", udpFrame(t, 40000, 500, "cookie"), IKE},
		{"IKE on 4500", udpFrame(t, 4500, 4500, "\x00\x00\x00\x00cookie"), IKE},
		{"ESP on 4500", udpFrame(t, 4500, 61000, "\x00\x00\x01\x00\x00\x00\x00\x01data"), ESPinUDP},
		{"keepalive", udpFrame(t, 4500, 4500, "\xff"), Keepalive},
		{"rubbish on 4500", udpFrame(t, 4500, 4500, "hm"), Other},
		{"DNS", udpFrame(t, 5353, 53, "query"), Other},
		{"ESP", plain(layers.IPProtocolESP, "\x00\x00\x01\x00\x00\x00\x00\x01data"), ESP},
		{"AH", plain(layers.IPProtocolAH, "header"), AH},
		{"IP in IP", plain(layers.IPProtocolIPv4, "inner"), Other},
		{"echo", plain(layers.IPProtocolICMPv4, "\x08\x00\x00\x00\x00\x00\x00\x00"), Other},
		{"unreachable", plain(layers.IPProtocolICMPv4, "\x03\x01\x00\x00\x00\x00\x00\x00"), ICMPError},
		{"cut short", []byte{1, 2, 3}, Other},
		{"no header", append(make([]byte, 12), 8, 0, 0x4f, 0), Other},
	} {
		if got := classify(c.frame, []uint16{500}, []uint16{4500}).Class; got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
		for n := range c.frame { // no prefix of a frame makes it panic
			classify(c.frame[:n], []uint16{500}, []uint16{4500})
		}
	}
}

func TestSpyJudgesWhatAnErrorIsAboutAndCutsBatches(t *testing.T) {
	s := &Spy{inner: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, marks: [][]byte{[]byte("secret")}, ike: []uint16{500}, natt: []uint16{4500}, frags: map[fragKey]Class{}}
	inner := make([]byte, 20)
	inner[0] = 0x45
	copy(inner[12:], []byte{10, 1, 0, 2, 10, 2, 0, 2})
	about := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, inner...)
	none := make([]byte, vnetHeader)
	s.frame(none, frameOf(t, layers.IPProtocolICMPv4, func(*layers.IPv4) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{gopacket.Payload(about)}
	}))
	if s.seen.Leaked != 1 || s.seen.Packets[ICMPError] != 1 {
		t.Errorf("an error about an inner packet: %v %v", s.seen, s.seen.Leaks)
	}
	s.frame(none, udpFrame(t, 500, 500, "no secrets"))
	if s.seen.Leaked != 2 {
		t.Errorf("a mark in a datagram: %v", s.seen.Leaks)
	}
	// Two datagrams of 12 bytes as one: ESP, then IKE.
	vnet := make([]byte, vnetHeader)
	vnet[1], vnet[4] = 5, 12
	s.frame(vnet, udpFrame(t, 4500, 4500, "\x00\x00\x01\x00\x00\x00\x00\x01data\x00\x00\x00\x00cookie12"))
	if s.seen.Packets[ESPinUDP] != 1 || s.seen.Packets[IKE] != 2 {
		t.Errorf("a batch counts as %v", s.seen)
	}
	if got := s.seen.Protected(); got != 1 {
		t.Errorf("%d protected", got)
	}
}
