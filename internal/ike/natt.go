package ike

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"oakley/internal/isakmp"
	"oakley/internal/oakley"
)

// NAT traversal of RFC 3947: both sides say which addresses they see, and move
// to the UDP-encapsulation port when somebody changed them on the way.

// natD is HASH(CKY-I | CKY-R | IP | Port) (RFC 3947 section 3.2).
func (p *phase1) natD(a netip.AddrPort) *isakmp.NATD {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], a.Port())
	return &isakmp.NATD{Data: oakley.HashSum(p.chosen.suite.Hash, p.icky[:], p.rcky[:], a.Addr().AsSlice(), port[:])}
}

// detectNAT compares what the peer sees with what we see. The first payload is
// for us, the others are for the peer's own addresses. A peer that says nothing
// does without.
func (p *phase1) detectNAT(d Datagram, m *isakmp.Message) {
	seen := payloads[*isakmp.NATD](m)
	if !p.natt || len(seen) < 2 {
		p.natt = false
		return
	}
	p.natHere = !bytes.Equal(seen[0].Data, p.natD(d.Local).Data)
	p.natThere = true
	theirs := p.natD(d.Remote).Data
	for _, n := range seen[1:] {
		if bytes.Equal(n.Data, theirs) {
			p.natThere = false
		}
	}
}

// floatPort moves the initiator to the UDP-encapsulation port (RFC 3947 section
// 4); an exchange that is there already, or a port that NAT has mapped, stays.
func (p *phase1) floatPort(e *Engine) {
	if !p.nat() || p.local.Port() == e.cfg.EncapPort {
		return
	}
	p.local = netip.AddrPortFrom(p.local.Addr(), e.cfg.EncapPort)
	p.remote = netip.AddrPortFrom(p.remote.Addr(), e.cfg.EncapPort)
}
