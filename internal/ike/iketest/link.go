package iketest

import (
	"bytes"
	"net/netip"
	"time"
)

// Packet is a datagram on its way: IKE, a keepalive, or a packet of the data
// plane.
type Packet struct {
	Sender   *Node // who made it; nil: somebody else
	From, To netip.AddrPort
	Data     []byte   // IKE, without the non-ESP marker
	KeepOpen bool     // a NAT keepalive
	ESP      *Traffic // a packet of the data plane
}

func (p *Packet) clone() *Packet {
	c := *p
	c.Data = bytes.Clone(p.Data)
	return &c
}

// Link is what happens to datagrams on the way. Probabilities are from 0 to 1;
// they are for IKE alone unless Traffic is set.
type Link struct {
	Latency time.Duration
	Jitter  time.Duration // added at random: reorders
	Loss    float64
	Dup     float64
	Flip    float64 // one bit
	Cut     float64 // some bytes at the end
	Traffic bool    // the data plane's packets fare no better
	Down    bool    // nothing arrives at all
}

// Delivery is one copy of a datagram that arrives after some time more than the
// link's latency.
type Delivery struct {
	Data  []byte
	After time.Duration
}

// Pass delivers a datagram as it is.
func Pass(p *Packet) []Delivery { return []Delivery{{Data: p.Data}} }

// send puts a datagram onto the network.
func (w *World) send(p *Packet) {
	if p.Data != nil {
		w.sent++
		w.note(p)
	}
	if w.Net.Down {
		if p.ESP != nil {
			p.ESP.lost("link down")
		}
		return
	}
	if p.Data == nil {
		w.sendOther(p)
		return
	}
	out := Pass(p)
	if w.Tap != nil {
		out = w.Tap(p)
	}
	for _, d := range out {
		w.sendIKE(p, d)
	}
}

func (w *World) delay() time.Duration {
	d := w.Net.Latency
	if w.Net.Jitter > 0 {
		d += time.Duration(w.rng.Int64N(int64(w.Net.Jitter)))
	}
	return d
}

func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

func (w *World) sendIKE(p *Packet, d Delivery) {
	copies := 1
	if w.chance(w.Net.Dup) {
		copies = 2
	}
	for range copies {
		if w.chance(w.Net.Loss) {
			continue
		}
		c := p.clone()
		c.Data = bytes.Clone(d.Data)
		if len(c.Data) > 0 && w.chance(w.Net.Flip) {
			c.Data[w.rng.IntN(len(c.Data))] ^= 1 << w.rng.IntN(8)
		}
		if len(c.Data) > 0 && w.chance(w.Net.Cut) {
			c.Data = c.Data[:w.rng.IntN(len(c.Data))]
		}
		w.carry(c, d.After+w.delay())
	}
}

func (w *World) sendOther(p *Packet) {
	if w.Net.Traffic && w.chance(w.Net.Loss) {
		if p.ESP != nil {
			p.ESP.lost("link")
		}
		return
	}
	delay := w.Net.Latency
	if w.Net.Traffic {
		delay = w.delay()
	}
	w.carry(p, delay)
}

// carry takes a datagram through the sender's address translation, if it has
// one, and to where it is addressed.
func (w *World) carry(p *Packet, d time.Duration) {
	if p.Sender != nil && p.Sender.NAT != nil && p.From.Addr() == p.Sender.Addr {
		if !p.Sender.NAT.outgoing(w, p) {
			if p.ESP != nil {
				p.ESP.lost("address translation")
			}
			return
		}
	}
	w.After(d, func() {
		r := w.byAddr[p.To.Addr()]
		if r == nil {
			if p.ESP != nil {
				p.ESP.lost("no such host")
			}
			return
		}
		r.receive(w, p)
	})
}

// Inject delivers a datagram that nobody of this world sent.
func (w *World) Inject(from, to netip.AddrPort, data []byte) {
	w.carry(&Packet{From: from, To: to, Data: bytes.Clone(data)}, w.Net.Latency)
}
