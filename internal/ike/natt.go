package ike

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
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

// originals are the two NAT-OA payloads for transport mode in UDP: what the two
// ends are called as seen from here, the initiator first (RFC 3947 section 5.2).
func (q *quick) originals() []isakmp.Payload {
	i, r := q.p.local.Addr(), q.p.remote.Addr()
	if q.role == Responder {
		i, r = r, i
	}
	return []isakmp.Payload{natOA(i), natOA(r)}
}

func natOA(a netip.Addr) isakmp.Payload {
	t := doi.IDIPv4Addr
	if a.Is6() {
		t = doi.IDIPv6Addr
	}
	return &isakmp.NATOA{Type: t, Data: a.AsSlice()}
}

// takeOriginals reads the peer's NAT-OA payloads. Of what it says there only
// checksums depend, so an address of the wrong family is as good as none.
func (q *quick) takeOriginals(m *isakmp.Message) {
	var said []netip.Addr
	for _, n := range payloads[*isakmp.NATOA](m) {
		a, _ := n.Addr()
		if a.Is4() != q.p.remote.Addr().Is4() {
			return
		}
		said = append(said, a)
	}
	if len(said) != 2 {
		return
	}
	q.natOA = ipsec.NATOA{Peer: said[0], Ours: said[1]}
	if q.role == Initiator {
		q.natOA = ipsec.NATOA{Peer: said[1], Ours: said[0]}
	}
}

// guessOriginals takes a responder's word from the identities when the initiator
// has sent no NAT-OA payloads: those are from before translation too.
func (q *quick) guessOriginals(remote, local Net) {
	if q.natOA.Peer.IsValid() || !remote.Prefix.IsSingleIP() || !local.Prefix.IsSingleIP() {
		return
	}
	q.natOA = ipsec.NATOA{Peer: remote.Prefix.Addr(), Ours: local.Prefix.Addr()}
}

// seen is what two identities mean that name single hosts as the peer sees
// them: behind a translator its own address is not the one that we see, and ours
// is not the one that it sees. With NAT-OA payloads the identities have to be
// what those say.
func (q *quick) seen(local, remote Net) (l, r Net) {
	swap := func(n Net, original, actual netip.Addr) Net {
		if n.Prefix.IsSingleIP() && (!original.IsValid() || n.isHost(original)) {
			n.Prefix = netip.PrefixFrom(actual, actual.BitLen())
		}
		return n
	}
	if q.p.natHere {
		local = swap(local, q.natOA.Ours, q.p.local.Addr())
	}
	if q.p.natThere {
		remote = swap(remote, q.natOA.Peer, q.p.remote.Addr())
	}
	return local, remote
}
