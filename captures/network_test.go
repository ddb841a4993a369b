package captures

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/tun"
)

// patience is how long a packet may take to arrive.
const patience = 10 * time.Second

// noSystem stands for routes and filters, where there is no host.
type noSystem struct{}

func (noSystem) Change(_, _ []ipsec.Flow) error { return nil }
func (noSystem) Detail() string                 { return "in memory" }
func (noSystem) Refused() uint64                { return 0 }
func (noSystem) Close() error                   { return nil }

// site is one of two gateways.
type site struct {
	*userspace.Plane
	addr4, addr6 netip.Addr
	far4, far6   netip.Addr // second addresses
	dev          *tun.Pipe
	got          chan []byte
}

func (s *site) addr(v6 bool) netip.Addr {
	if v6 {
		return s.addr6
	}
	return s.addr4
}

func (s *site) far(v6 bool) netip.Addr {
	if v6 {
		return s.far6
	}
	return s.far4
}

// network is two gateways and what was seen between them.
type network struct {
	a, b *site

	mu     sync.Mutex
	frames [][]byte // whole IP packets, in their order
	err    error    // of making one
}

func newNetwork(t *testing.T) *network {
	hub := netio.NewHub()
	n := &network{a: newSite(t, hub, 1), b: newSite(t, hub, 2)}
	hub.SetFilter(func(p *netio.HubPacket) bool {
		frame, err := wire(p)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.frames = append(n.frames, frame)
		if err != nil {
			n.err = err
		}
		return true
	})
	return n
}

func newSite(t *testing.T, hub *netio.Hub, number int) *site {
	addr := func(format string) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, number)) }
	s := &site{
		addr4: addr("192.0.2.%d"), addr6: addr("2001:db8::%d"),
		far4: addr("198.51.100.%d"), far6: addr("2001:db8:1::%d"),
		dev: tun.NewPipe(fmt.Sprintf("site%d", number), 1400), got: make(chan []byte, 64),
	}
	all := []netip.Addr{s.addr4, s.addr6, s.far4, s.far6}
	p, err := userspace.New(userspace.Options{
		Local: all, Device: s.dev, Network: hub.Node(all...), System: noSystem{},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Plane = p
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	go func() {
		for pkt := s.dev.Take(); pkt != nil; pkt = s.dev.Take() {
			s.got <- pkt
		}
	}()
	return s
}

// seen is how many packets went between the gateways so far.
func (n *network) seen() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.frames)
}

// capture is everything that went between the gateways.
func (n *network) capture(t *testing.T) [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		t.Fatal(n.err)
	}
	return n.frames
}

// carry sends a packet from the network behind A and demands that it comes out
// behind B. It returns the number of the frame that it went in.
func (n *network) carry(t *testing.T, pkt []byte) int {
	t.Helper()
	before := n.seen()
	n.a.dev.Put(pkt)
	select {
	case got := <-n.b.got:
		// A header that was not sent is another's work but for the addresses.
		at := 12
		if pkt[0]>>4 == 6 {
			at = 8
		}
		if len(got) != len(pkt) || !bytes.Equal(got[at:], pkt[at:]) {
			t.Fatalf("what arrived is not what was sent:\n%x\n%x", got, pkt)
		}
	case <-time.After(patience):
		t.Fatal("nothing arrived")
	}
	if after := n.seen(); after != before+1 {
		t.Fatalf("one packet went as %d", after-before)
	}
	return before
}

// wire is a packet of the hub with the headers that the kernel puts before what
// a plane gives to a socket.
func wire(p *netio.HubPacket) ([]byte, error) {
	if p.Header != nil {
		return append(bytes.Clone(p.Header), p.Data...), nil
	}
	ttl := p.TTL
	if ttl == 0 {
		ttl = 64
	}
	var network gopacket.NetworkLayer
	var all []gopacket.SerializableLayer
	src, dst := p.Src.Addr(), p.Dst.Addr()
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, TOS: p.TOS, TTL: ttl, Protocol: layers.IPProtocol(p.Proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		network, all = ip, append(all, ip)
	} else {
		ip := &layers.IPv6{Version: 6, TrafficClass: p.TOS, HopLimit: ttl, NextHeader: layers.IPProtocol(p.Proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		network, all = ip, append(all, ip)
	}
	if p.Proto == unix.IPPROTO_UDP {
		udp := &layers.UDP{SrcPort: layers.UDPPort(p.Src.Port()), DstPort: layers.UDPPort(p.Dst.Port())}
		if err := udp.SetNetworkLayerForChecksum(network); err != nil {
			return nil, err
		}
		all = append(all, udp)
	}
	return assemble(append(all, gopacket.Payload(p.Data))...)
}

func assemble(all ...gopacket.SerializableLayer) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...)
	return bytes.Clone(buf.Bytes()), err
}
