package userspace

import (
	"sync"
	"time"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// Fragments of what is inside (those of outer packets are the kernel's business,
// which makes them whole before a socket sees them). A tunnel carries them as they
// are, but where something must see the whole packet, it is made whole before
// protection and after it:
//
//   - transport mode protects whole datagrams (RFC 4303 section 3.3.4),
//   - an SA that another's tunnel carries is taken off whole packets (section
//     3.4.1),
//   - fragments behind the first have no ports. Of the ways that RFC 4301 section
//     7 leaves open for flows and SAs that are for certain ports, this is the one
//     that needs no agreement with the peer: neither is a fragment without ports
//     sent through such an SA, nor let through when a peer sends one. While there
//     is a flow with ports in a direction, all fragments in that direction are
//     made whole before their flow is looked for.

// gatherer has the fragments of one direction.
type gatherer struct {
	mu sync.Mutex
	r  inet.Reassembler
}

// add takes a fragment; nil: the packet is not whole yet. info is then about the
// whole packet, which begins at whole[r.Head]. What is given up is counted.
func (g *gatherer) add(pkt []byte, info *ipsec.PacketInfo, owner any, drops *counters, now int64) (whole []byte, n int) {
	g.mu.Lock()
	whole, lost := g.r.Add(pkt, info, owner, now)
	g.mu.Unlock()
	if lost > 0 {
		drops[ipsec.DropReassembly].Add(uint64(lost))
	}
	if whole == nil {
		return nil, 0
	}
	n = len(whole) - g.r.Head - g.r.Tail
	if d := ipsec.ParsePacket(whole[g.r.Head:][:n], info); d != ipsec.DropNone {
		drops.add(d)
		return nil, 0
	}
	return whole, n
}

// expire gives up what has waited too long.
func (g *gatherer) expire(drops *counters, now int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	drops[ipsec.DropReassembly].Add(uint64(g.r.Expire(now)))
}

func (p *Plane) expireFragments() {
	now := time.Now().UnixNano()
	for i := range p.gather {
		p.gather[i].expire(&p.drops, now)
	}
}

func hasPorts(s *ipsec.Selector) bool { return s.SrcPort|s.DstPort != 0 }

// countPorts keeps the numbers of flows with ports. Called with mu held.
func (p *Plane) countPorts(gone, come []ipsec.Flow) {
	for by, flows := range map[int32][]ipsec.Flow{-1: gone, 1: come} {
		for i := range flows {
			if f := &flows[i]; hasPorts(&f.Selector) {
				p.ported[f.Dir].Add(by)
			}
		}
	}
}

// fragment carries a fragment that the host sends: as it is, or with the others
// of its datagram once all are there.
func (w *outWork) fragment(buf []byte, n int, now int64) ipsec.Drop {
	p := w.p
	if p.ported[ipsec.Out].Load() == 0 {
		f := p.spd.Lookup(&w.info)
		if f == nil || f.Mode == ipsec.Tunnel || f.Proto == ipsec.ProtoIPIP || f.Type == ipsec.FlowBypass || f.Type == ipsec.FlowDeny {
			return w.route(buf, n, now)
		}
	}
	whole, n := p.gather[ipsec.Out].add(buf[headRoom:][:n], &w.info, nil, &p.drops, now)
	if whole == nil {
		return ipsec.DropNone
	}
	return w.route(whole, n, now)
}

// fragment takes a fragment that came out of a tunnel: it gives the whole packet
// that it completes, or itself where that need not be; nil: it waits for others.
// o.info is about what is returned.
func (o *opened) fragment(p *Plane, sa *inSA, pkt []byte, now int64) []byte {
	if !hasPorts(&sa.sa.Selector) && p.ported[ipsec.In].Load() == 0 {
		return pkt
	}
	whole, size := p.gather[ipsec.In].add(pkt, &o.info, sa, &sa.drops, now)
	return whole[:size]
}
