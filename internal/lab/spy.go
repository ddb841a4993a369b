package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Spy watches one interface of a host, both directions.
type Spy struct {
	// Inner are networks whose addresses are never to be seen on this cable.
	inner []netip.Prefix
	// marks are byte strings that are never to be seen on it, in any packet.
	marks [][]byte
	ike   []uint16
	natt  []uint16
	tap   func(Packet)

	ring *ring
	pcap *pcapgo.Writer

	mu     sync.Mutex
	seen   Sight
	frags  map[fragKey]Class
	closed bool
	done   chan struct{}
}

// Sight is what a spy has seen: packets and bytes a class, and every leak.
type Sight struct {
	Packets, Bytes [classes]int
	Leaks          []string // at most some; Leaked counts all
	Leaked         int
	Missed         int // packets that came too fast for the spy
}

type fragKey struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
}

// SpyOptions says what a spy looks for.
type SpyOptions struct {
	Inner     []netip.Prefix // networks behind the gateways
	Marks     [][]byte       // clear text that is sent through the tunnel
	IKEPorts  []uint16       // besides 500
	NATTPorts []uint16       // besides 4500
	Pcap      io.Writer      // nil: no recording
	Tap       func(Packet)   // called for each packet, from the spy's goroutine
}

const maxLeaks = 20

// vnetHeader is the size of struct virtio_net_hdr, which tells how a packet that
// the kernel has not cut yet will be cut.
const vnetHeader = 10

// Spy starts to watch an interface of the host.
func (h *Host) Spy(ifname string, o SpyOptions) (*Spy, error) {
	s := &Spy{
		inner: o.Inner, marks: o.Marks, tap: o.Tap,
		ike:   append([]uint16{portIKE}, o.IKEPorts...),
		natt:  append([]uint16{portNATT}, o.NATTPorts...),
		frags: map[fragKey]Class{}, done: make(chan struct{}),
	}
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("spy on %s %s: %w", h.Name, ifname, err)
	}
	if o.Pcap != nil {
		s.pcap = pcapgo.NewWriter(o.Pcap)
		if err := s.pcap.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
			return nil, err
		}
	}
	err = h.Do(func() (err error) {
		s.ring, err = openRing(link.Attrs().Index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("spy on %s %s: %w", h.Name, ifname, err)
	}
	go func() {
		defer close(s.done)
		s.ring.read(s.frame)
	}()
	h.net.onClose(func() { s.Close() })
	return s, nil
}

func (s *Spy) frame(vnet, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pcap != nil {
		_ = s.pcap.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(frame), Length: len(frame)}, frame)
	}
	p := classify(frame, s.ike, s.natt)
	s.fragments(frame, &p)
	size, count := int(binary.LittleEndian.Uint16(vnet[4:])), 1
	cut := vnet[1] != 0 && size > 0 && len(p.payload) > size
	if cut && p.Proto == 17 {
		s.cutUDP(p, size)
	} else {
		if cut {
			count = (len(p.payload) + size - 1) / size // a TCP segment to be
		}
		s.seen.Packets[p.Class] += count
		s.seen.Bytes[p.Class] += p.Len
		if s.tap != nil {
			s.tap(p)
		}
	}
	s.judge(p, frame)
}

// cutUDP counts the datagrams of one that the kernel will cut: an IKE message
// may be at the end of a row of ESP packets.
func (s *Spy) cutUDP(p Packet, size int) {
	for chunk := range slices.Chunk(p.payload, size) {
		q := p
		q.payload, q.Len = chunk, p.Len-len(p.payload)+len(chunk)
		q.Class = q.classUDP(s.ike, s.natt)
		s.seen.Packets[q.Class]++
		s.seen.Bytes[q.Class] += q.Len
		if s.tap != nil {
			s.tap(q)
		}
		if q.Class == Other {
			s.leak(fmt.Sprintf("an unknown datagram %s", q))
		}
	}
}

// fragments gives a fragment the class of the packet whose first fragment was seen.
func (s *Spy) fragments(frame []byte, p *Packet) {
	k := fragKey{src: p.Src, dst: p.Dst, proto: p.Proto}
	switch {
	case !p.Src.IsValid():
		return
	case p.Src.Is4():
		more := binary.BigEndian.Uint16(frame[14+6:])&0x2000 != 0
		if !more && !p.fragment {
			return
		}
		k.id = uint32(binary.BigEndian.Uint16(frame[14+4:]))
	case frame[14+6] == 44 && len(frame) >= 14+48:
		k.id = binary.BigEndian.Uint32(frame[14+44:])
	default:
		return
	}
	if !p.fragment {
		if len(s.frags) > 1000 {
			clear(s.frags)
		}
		s.frags[k] = p.Class
	} else if c, ok := s.frags[k]; ok {
		p.Class = c
	}
}

func (s *Spy) judge(p Packet, frame []byte) {
	for _, a := range p.addrs {
		if slices.ContainsFunc(s.inner, func(n netip.Prefix) bool { return n.Contains(a) }) {
			s.leak(fmt.Sprintf("the inner address %s, in clear, in %s", a, p))
			return
		}
	}
	for _, m := range s.marks {
		if bytes.Contains(frame, m) {
			s.leak(fmt.Sprintf("the text %.20q, in clear, in %s", m, p))
			return
		}
	}
}

func (s *Spy) leak(what string) {
	s.seen.Leaked++
	if len(s.seen.Leaks) < maxLeaks {
		s.seen.Leaks = append(s.seen.Leaks, what)
	}
}

func (p Packet) String() string {
	ends := fmt.Sprintf("%s > %s", p.Src, p.Dst)
	if p.SrcP != 0 || p.DstP != 0 {
		ends = fmt.Sprintf("%s > %s", netip.AddrPortFrom(p.Src, p.SrcP), netip.AddrPortFrom(p.Dst, p.DstP))
	}
	return fmt.Sprintf("%s, protocol %d, %d bytes (%s)", ends, p.Proto, p.Len, p.Class)
}

// Sight is what was seen so far. A packet that was sent a moment ago may be
// missing from it; see Settle.
func (s *Spy) Sight() Sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.seen
	v.Leaks = slices.Clone(v.Leaks)
	if !s.closed {
		s.seen.Missed += s.ring.dropped()
		v.Missed = s.seen.Missed
	}
	return v
}

// Settle waits until nothing new was seen for a while (or a second has passed),
// so that Sight has all that was sent before the call.
func (s *Spy) Settle() Sight {
	last, same := s.Sight(), 0
	Until(time.Second, func() bool {
		now := s.Sight()
		if now.Packets == last.Packets {
			same++
		} else {
			last, same = now, 0
		}
		return same >= 5
	})
	return s.Sight()
}

// Close ends it; Sight still works.
func (s *Spy) Close() Sight {
	s.mu.Lock()
	was := s.closed
	if !was {
		s.seen.Missed += s.ring.dropped()
		s.closed = true
	}
	s.mu.Unlock()
	if !was {
		s.ring.file.Close()
	}
	<-s.done
	return s.Sight()
}

// Protected is the number of packets that carry protected traffic.
func (v Sight) Protected() int { return v.Packets[ESP] + v.Packets[ESPinUDP] + v.Packets[AH] }

// Check gives an error unless the cable carried IKE and protected packets alone
// (what neighbours say to each other, and errors about such packets, are fine).
func (v Sight) Check() error {
	switch {
	case v.Leaked > 0:
		return fmt.Errorf("%d packets leaked:\n  %s", v.Leaked, strings.Join(v.Leaks, "\n  "))
	case v.Packets[Other] > 0:
		return fmt.Errorf("%d packets were neither IKE nor IPsec", v.Packets[Other])
	case v.Missed > 0:
		return fmt.Errorf("the spy missed %d packets and can swear to nothing", v.Missed)
	}
	return nil
}

func (v Sight) String() string {
	var parts []string
	for c := range classes {
		if v.Packets[c] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", v.Packets[c], c))
		}
	}
	if v.Leaked > 0 {
		parts = append(parts, fmt.Sprintf("%d LEAKED", v.Leaked))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
