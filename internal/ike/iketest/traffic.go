package iketest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// Stream is packets that one node sends to another through a connection.
type Stream struct {
	From, To *Node
	Conn     string // as the sender calls it
	Size     uint64 // bytes of a packet
	Acquire  bool   // without SAs the data plane holds the packet and asks for some

	Sent, Received int
	Lost           map[string]int // by reason
	stopped        bool
}

// Traffic is one packet of a stream on its way.
type Traffic struct {
	stream *Stream
	sas    []*ipsec.SA // that sealed it, the innermost first
	udp    bool
}

func (t *Traffic) lost(why string) { t.stream.Lost[why]++ }

// NewStream makes a stream that sends nothing by itself.
func (w *World) NewStream(from, to *Node, conn string) *Stream {
	return &Stream{From: from, To: to, Conn: conn, Size: 1000, Lost: map[string]int{}}
}

// Stream sends a packet each pause until Stop.
func (w *World) Stream(from, to *Node, conn string, pause time.Duration) *Stream {
	s := w.NewStream(from, to, conn)
	w.Every(pause, func() bool {
		if !s.stopped {
			s.Send()
		}
		return !s.stopped
	})
	return s
}

func (s *Stream) flow() ipsec.FlowID { return ipsec.FlowName(s.Conn, ipsec.Out) }

// Stop ends a stream. What is on the way still arrives.
func (s *Stream) Stop() { s.stopped = true }

// Missing is how many packets were not received, those on their way too.
func (s *Stream) Missing() int { return s.Sent - s.Received }

func (s *Stream) String() string {
	var why []string
	for k, v := range s.Lost {
		why = append(why, fmt.Sprintf("%d by %s", v, k))
	}
	slices.Sort(why)
	return fmt.Sprintf("%s to %s: %d of %d arrived, lost %s", s.From.Name, s.To.Name, s.Received, s.Sent, strings.Join(why, ", "))
}

// Send sends one packet on the outgoing SA that the connection's flow takes.
func (s *Stream) Send() {
	s.Sent++
	s.pass()
}

func (s *Stream) pass() {
	p := s.From.Plane
	ls := p.outgoing(s.flow())
	if ls == nil {
		if s.Acquire {
			p.hold(s)
		} else {
			s.Lost["no SA"]++
		}
		return
	}
	l := ls[len(ls)-1]
	t := &Traffic{stream: s, udp: l.sa.Encap != nil}
	for _, o := range ls {
		t.sas = append(t.sas, o.sa)
	}
	from, to := netip.AddrPortFrom(s.From.Addr, 0), netip.AddrPortFrom(l.sa.ID.Dst, 0)
	if t.udp {
		from, to = l.sa.Encap.Local, l.remote
	}
	s.From.World.send(&Packet{Sender: s.From, From: from, To: to, ESP: t})
	for _, o := range ls {
		p.count(o, s.Size)
	}
}

// count holds an SA against its limits in bytes (RFC 4301 section 4.4.2.1).
func (p *Plane) count(l *liveSA, size uint64) {
	l.bytes += size
	l.number++
	sa := l.sa
	switch {
	case sa.Hard.Bytes > 0 && l.bytes >= sa.Hard.Bytes:
		p.expired(l)
	case sa.Soft.Bytes > 0 && l.bytes >= sa.Soft.Bytes && !l.soft:
		l.soft = true
		p.node.Handle(ike.Expire{SA: sa.ID})
	}
}

// receive opens a packet if the SAs that sealed it are live here.
func (p *Plane) receive(pk *Packet) {
	w, t := p.node.World, pk.ESP
	if p.node != t.stream.To {
		t.lost("wrong host " + p.node.Name)
		return
	}
	var ls []*liveSA
	for _, sa := range t.sas {
		l := p.live[ipsec.SAID{Dir: ipsec.In, Proto: sa.ID.Proto, SPI: sa.ID.SPI, Dst: pk.To.Addr()}]
		switch {
		case l == nil:
			t.lost(fmt.Sprintf("unknown SPI %s at %s", sa.ID.SPI, p.node.Name))
			return
		case !sameKeys(sa, l.sa):
			w.Errorf("%s cannot open what %s sealed: %+v, %+v", p.node.Name, t.stream.From.Name, *l.sa, *sa)
			return
		}
		ls = append(ls, l)
	}
	t.stream.Received++
	for _, l := range ls {
		if l.sa.Encap != nil && pk.From != l.remote {
			l.remote = pk.From
			p.node.Handle(ike.Mapping{SA: l.sa.ID, Remote: pk.From})
		}
		p.count(l, t.stream.Size)
	}
}

// Carries tells whether one packet goes through each way, now.
func (w *World) Carries(a *Node, connA string, b *Node, connB string) error {
	x, y := w.NewStream(a, b, connA), w.NewStream(b, a, connB)
	x.Send()
	y.Send()
	w.Run(w.Net.Latency + w.Net.Jitter)
	for _, s := range []*Stream{x, y} {
		if s.Received != 1 {
			return fmt.Errorf("no packet got through: %s\n%s%s", s, a.dump(), b.dump())
		}
	}
	return nil
}
