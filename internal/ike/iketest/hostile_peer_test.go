package iketest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

func deleteESP(spis ...[]byte) *isakmp.Delete {
	return &isakmp.Delete{DOI: doi.IPsec, Protocol: doi.ProtoESP, SPISize: 4, SPIs: spis}
}

func deleteISAKMP(s *Session) *isakmp.Delete {
	return &isakmp.Delete{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, SPISize: 16, SPIs: [][]byte{append(bytes.Clone(s.I[:]), s.R[:]...)}}
}

func notify(n doi.Notify, data ...byte) *isakmp.Notify {
	return &isakmp.Notify{DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, Type: n, Data: data}
}

// TestWrongHash: what is encrypted with the right keys and hashed wrongly, not at
// all, or with the hash of another exchange changes nothing (attack C1). Nobody
// without the keys can make these; a message whose hash is not checked would
// still pass without this test.
func TestWrongHash(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	s := g.Observer().Last()
	payloads := [][]isakmp.Payload{
		{deleteESP(SPIBytes(g.East.OutSA().ID.SPI))},
		{deleteISAKMP(s)},
		{notify(doi.NotifyInitialContact)},
		{notify(doi.NotifyInvalidSPI)},
		{notify(doi.NotifyInvalidCookie)},
		{notify(doi.NotifyResponderLifetime, 0x80, 1, 0, 1, 0x80, 2, 0, 1)},
	}
	id := uint32(1)
	for _, ps := range payloads {
		chain := isakmp.AppendPayloads(nil, ps)
		good := s.Keys.Hash1(id+7, chain) // of another exchange
		for name, hash := range map[string][]byte{
			"zeros": make([]byte, 20), "empty": {}, "short": good[:19], "long": append(bytes.Clone(good), 0),
			"of another exchange": good, "of the responder": s.Keys.Hash2(id, make([]byte, 16), chain), "third": s.Keys.Hash3(id, make([]byte, 16), make([]byte, 16)),
		} {
			for _, x := range []doi.Exchange{doi.ExchangeInformational, doi.ExchangeQuick} {
				b, _ := s.Seal(x, id, s.IV(id), append([]isakmp.Payload{&isakmp.Hash{Data: hash}}, ps...)...)
				g.East.unmoved(fmt.Sprintf("%s with a hash %s", ps[0], name), "192.0.2.1:500", b)
			}
		}
		b, _ := s.Seal(doi.ExchangeInformational, id, s.IV(id), ps...)
		g.East.unmoved("no hash", "192.0.2.1:500", b)
		right := &isakmp.Hash{Data: s.Keys.Hash1(id, chain)}
		b, _ = s.Seal(doi.ExchangeInformational, id, s.IV(id), append(ps, right)...)
		g.East.unmoved("a hash at the end", "192.0.2.1:500", b)
		b, _ = s.Seal(doi.ExchangeInformational, 0, s.IV(0), append([]isakmp.Payload{right}, ps...)...)
		g.East.unmoved("no message ID", "192.0.2.1:500", b)
		b, _ = s.Seal(doi.ExchangeInformational, id, s.IV(id+1), append([]isakmp.Payload{right}, ps...)...)
		g.East.unmoved("another IV", "192.0.2.1:500", b)
		id++
	}
	g.MustCarry()
}

// TestReplayedInformation: a good message a second time is nothing.
func TestReplayedInformation(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	s := g.Observer().Last()
	b := s.Inform(77, notify(doi.NotifyReplayStatus, 0, 0, 0, 1))
	g.East.Handle(ike.Datagram{Local: addrPort("198.51.100.2:500"), Remote: addrPort("192.0.2.1:500"), Data: bytes.Clone(b)})
	g.East.unmoved("a replay", "192.0.2.1:500", b)
	g.West.unmoved("a reflection that nobody sent", "198.51.100.2:500", []byte{})
	g.MustCarry()
}

// TestManyDeletes: one SPI many times in a message, in many payloads, and counts
// that are lies (attack B3).
func TestManyDeletes(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	s := g.Observer().Last()
	spi := SPIBytes(g.East.OutSA().ID.SPI)
	// A count that the payload does not have.
	body := isakmp.BodyOf(deleteESP(spi))
	for _, count := range []uint16{0, 2, 0x4000, 0xffff} {
		for _, size := range []byte{0, 1, 4, 16, 255} {
			lie := bytes.Clone(body)
			lie[5] = size
			binary.BigEndian.PutUint16(lie[6:], count)
			raw := &isakmp.Unknown{Type: doi.PayloadDelete, Data: lie}
			g.East.Handle(ike.Datagram{Local: addrPort("198.51.100.2:500"), Remote: addrPort("192.0.2.1:500"), Data: s.Inform(uint32(count)<<8|uint32(size)|0x80000000, raw)})
		}
	}
	g.MustCarry()
	var many [][]byte
	for range 100 {
		many = append(many, spi)
	}
	var ps []isakmp.Payload
	for range 8 {
		ps = append(ps, deleteESP(many...))
	}
	g.East.Inject("192.0.2.1:500", s.Inform(5, ps...))
	g.Run(time.Second)
	if n := Count[ike.Phase2Down](g.East); n != 1 {
		t.Errorf("%d SAs ended\n%s", n, g.East.Said())
	}
	g.East.Inject("192.0.2.1:500", s.Inform(6, deleteISAKMP(s), deleteISAKMP(s), deleteESP(spi)))
	g.Run(time.Second)
	if n := Count[ike.Phase1Down](g.East); n != 1 {
		t.Errorf("%d ISAKMP SAs ended\n%s", n, g.East.Said())
	}
}

// TestForeignDeletes: a peer can end its own SAs alone: not ours, not another
// peer's, though both have the same address.
func TestForeignDeletes(t *testing.T) {
	b := newBehindNAT(t, nil)
	b.connect()
	var ann, bob *Session
	for _, s := range b.Observer().Sessions() {
		if s.Initiator == b.ann {
			ann = s
		} else {
			bob = s
		}
	}
	live := fmt.Sprint(b.hub.Plane.Live(ipsec.In), b.hub.Plane.Live(ipsec.Out))
	var ps []isakmp.Payload
	for _, n := range []*Node{b.ann, b.hub} {
		for _, sa := range n.Plane.Live(ipsec.In) {
			ps = append(ps, deleteESP(SPIBytes(sa.ID.SPI)))
		}
	}
	ps = append(ps, deleteISAKMP(ann), notify(doi.NotifyInvalidSPI), notify(doi.NotifyInvalidCookie), notify(doi.NotifyDPDRUThere, 0, 0, 0, 1))
	for i, p := range ps {
		b.Inject(b.natted(b.bob), addrPort("198.51.100.2:4500"), bob.Inform(uint32(100+i), p))
	}
	b.Run(time.Second)
	if now := fmt.Sprint(b.hub.Plane.Live(ipsec.In), b.hub.Plane.Live(ipsec.Out)); now != live || Count[ike.Phase1Down](b.hub) != 0 {
		t.Errorf("something ended:\n%s", b.hub.Said())
	}
	// INITIAL-CONTACT of one peer is no word about the other.
	b.Inject(b.natted(b.bob), addrPort("198.51.100.2:4500"), bob.Inform(200, notify(doi.NotifyInitialContact)))
	b.Run(time.Second)
	b.must(b.ann, "ann")
}

// natted is where a node's IKE on port 4500 seems to come from.
func (b *behindNAT) natted(n *Node) (at ipAddrPort) {
	for inner, m := range b.nat.inside {
		if inner.Addr() == n.Addr && inner.Port() == 4500 {
			return addrPort(fmt.Sprintf("%s:%d", b.nat.Public, m.port))
		}
	}
	b.T.Fatalf("%s has no mapping", n.Name)
	return at
}

// proposalOf is an offer of AESESP.
func proposalOf(spi uint32) *isakmp.SA {
	return &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []isakmp.Proposal{{
		Number: 1, Protocol: doi.ProtoESP, SPI: SPIBytes(ipsec.SPI(spi)),
		Transforms: []isakmp.Transform{{Number: 1, ID: uint8(doi.ESPAES), Attributes: []isakmp.Attribute{
			isakmp.Basic(uint16(doi.SAEncapsulation), 1), isakmp.Basic(uint16(doi.SAAuthentication), 2), isakmp.Basic(uint16(doi.SAKeyLength), 128),
		}}},
	}}}
}

func quickIDs() []isakmp.Payload {
	return []isakmp.Payload{isakmp.IDFromPrefix(prefix("10.1.0.0/16"), 0, 0), isakmp.IDFromPrefix(prefix("10.2.0.0/16"), 0, 0)}
}

// TestThousandQuickModes: a peer that begins them and never ends one is held to
// a bound, in every state, and nothing stays (attack B5).
func TestThousandQuickModes(t *testing.T) {
	for _, stuck := range []string{"policy", "SPI", "install", "third message"} {
		t.Run(stuck, func(t *testing.T) {
			g := NewGateways(t, Setup{})
			g.Connect()
			s := g.Observer().Last()
			g.Light = true
			g.East.Faults.Delay = func(o ike.Output) time.Duration {
				slow := false
				switch o.(type) {
				case ike.QueryPolicy:
					slow = stuck == "policy"
				case ike.AllocSPI:
					slow = stuck == "SPI"
				case ike.InstallSA:
					slow = stuck == "install"
				}
				if slow {
					return 5 * time.Second
				}
				return 0
			}
			g.Tap = func(p *Packet) []Delivery { return nil } // nobody answers
			was := g.East.Requests["QueryPolicy"]
			for k := range uint32(1000) {
				ps := append([]isakmp.Payload{proposalOf(0x10000 + k), &isakmp.Nonce{Data: make([]byte, 16)}}, quickIDs()...)
				g.East.Inject("192.0.2.1:500", s.Quick1(1000+k, ps...))
			}
			g.Run(time.Second)
			if n := g.East.Requests["QueryPolicy"] - was; n != 50 {
				t.Errorf("%d quick modes were begun, 50 are allowed", n)
			}
			if n := len(g.East.Plane.live) + g.East.Plane.Reserved(); n > 2+2*50 {
				t.Errorf("%d SAs and SPIs", n)
			}
			g.Run(10 * time.Minute)
			g.Tap = nil
			g.MustCarry()
			if n := len(g.East.Plane.live); n > 4 {
				t.Errorf("%d SAs are left", n)
			}
			if err := g.East.Settled(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAuthenticNonsense: a peer with the keys sends quick modes that make no
// sense. Each gets one protected answer at most; the answer gets none (D3).
func TestAuthenticNonsense(t *testing.T) {
	nonce := &isakmp.Nonce{Data: make([]byte, 16)}
	esp := proposalOf(4096)
	mutate := func(f func(p *isakmp.Proposal, tr *isakmp.Transform)) *isakmp.SA {
		sa := proposalOf(4096)
		f(&sa.Proposals[0], &sa.Proposals[0].Transforms[0])
		return sa
	}
	attr := func(a ...isakmp.Attribute) *isakmp.SA {
		return mutate(func(_ *isakmp.Proposal, tr *isakmp.Transform) { tr.Attributes = append(tr.Attributes, a...) })
	}
	ids := quickIDs()
	for name, ps := range map[string][]isakmp.Payload{
		"nothing":                     {nonce},
		"no nonce":                    {esp},
		"a short nonce":               {esp, &isakmp.Nonce{Data: make([]byte, 7)}},
		"a long nonce":                {esp, &isakmp.Nonce{Data: make([]byte, 257)}},
		"two nonces":                  {esp, nonce, nonce},
		"two SAs":                     {esp, esp, nonce},
		"one ID":                      {esp, nonce, ids[0]},
		"three IDs":                   {esp, nonce, ids[0], ids[0], ids[1]},
		"a name as ID":                {esp, nonce, &isakmp.ID{Type: doi.IDFQDN, Data: []byte("host.example")}, ids[1]},
		"a name as other ID":          {esp, nonce, ids[0], &isakmp.ID{Type: doi.IDUserFQDN, Data: []byte("a@host.example")}},
		"key ID":                      {esp, nonce, &isakmp.ID{Type: doi.IDKeyID, Data: []byte{1, 2, 3}}, ids[1]},
		"a mask with holes":           {esp, nonce, &isakmp.ID{Type: doi.IDIPv4Subnet, Data: []byte{10, 1, 0, 0, 255, 0, 255, 0}}, ids[1]},
		"a short address":             {esp, nonce, &isakmp.ID{Type: doi.IDIPv4Addr, Data: []byte{10, 1, 0}}, ids[1]},
		"a KE nobody asked for":       append([]isakmp.Payload{esp, nonce, &isakmp.KE{Data: make([]byte, 32)}}, ids...),
		"PFS without KE":              append([]isakmp.Payload{attr(isakmp.Basic(uint16(doi.SAGroup), 31)), nonce}, ids...),
		"an unknown group":            append([]isakmp.Payload{attr(isakmp.Basic(uint16(doi.SAGroup), 999)), nonce, &isakmp.KE{Data: make([]byte, 32)}}, ids...),
		"an attribute twice":          append([]isakmp.Payload{attr(isakmp.Basic(uint16(doi.SAKeyLength), 256)), nonce}, ids...),
		"an unknown attribute":        append([]isakmp.Payload{attr(isakmp.Basic(9999, 1)), nonce}, ids...),
		"a duration without type":     append([]isakmp.Payload{attr(isakmp.Basic(uint16(doi.SALifeDuration), 1)), nonce}, ids...),
		"a lifetime of 16 bytes":      append([]isakmp.Payload{attr(isakmp.Basic(uint16(doi.SALifeType), 1), isakmp.Variable(uint16(doi.SALifeDuration), bytes.Repeat([]byte{255}, 16))), nonce}, ids...),
		"a reserved SPI":              append([]isakmp.Payload{proposalOf(255), nonce}, ids...),
		"SPI zero":                    append([]isakmp.Payload{proposalOf(0), nonce}, ids...),
		"no transform":                append([]isakmp.Payload{mutate(func(p *isakmp.Proposal, _ *isakmp.Transform) { p.Transforms = nil }), nonce}, ids...),
		"a long SPI":                  append([]isakmp.Payload{mutate(func(p *isakmp.Proposal, _ *isakmp.Transform) { p.SPI = make([]byte, 16) }), nonce}, ids...),
		"AH for ESP":                  append([]isakmp.Payload{mutate(func(p *isakmp.Proposal, _ *isakmp.Transform) { p.Protocol = doi.ProtoAH }), nonce}, ids...),
		"no authentication":           append([]isakmp.Payload{mutate(func(_ *isakmp.Proposal, tr *isakmp.Transform) { tr.Attributes = tr.Attributes[:1] }), nonce}, ids...),
		"GMAC without authentication": append([]isakmp.Payload{mutate(func(_ *isakmp.Proposal, tr *isakmp.Transform) { tr.ID = uint8(doi.ESPNullAESGMAC) }), nonce}, ids...),
		"a key of 8 bits": append([]isakmp.Payload{mutate(func(_ *isakmp.Proposal, tr *isakmp.Transform) {
			tr.Attributes[2] = isakmp.Basic(uint16(doi.SAKeyLength), 8)
		}), nonce}, ids...),
		"a certificate": append([]isakmp.Payload{esp, nonce, &isakmp.Cert{Encoding: 4, Data: make([]byte, 100)}}, ids...),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGateways(t, Setup{})
			g.Connect()
			s := g.Observer().Last()
			sent, live := g.Sent(), len(g.East.Plane.live)
			b := s.Quick1(99, ps...)
			for range 3 {
				g.East.Inject("192.0.2.1:500", b)
				g.Run(time.Second)
			}
			g.Run(3 * time.Minute)
			if n := g.Sent() - sent; n > 2 {
				t.Errorf("%d datagrams for one\n%s", n, g.East.Said())
			}
			if n := len(g.East.Plane.live); n != live {
				t.Errorf("%d SAs, before %d", n, live)
			}
			if Count[ike.Phase2Up](g.East) != 1 {
				t.Errorf("it was taken:\n%s", g.East.Said())
			}
			g.MustSettle()
			g.MustCarry()
		})
	}
}

// TestManyInformationalMessages: a peer that talks a lot costs a bounded memory.
func TestManyInformationalMessages(t *testing.T) {
	t.Parallel()
	g := NewGateways(t, Setup{})
	g.Connect()
	s := g.Observer().Last()
	g.Light = true
	for k := range uint32(20_000) {
		g.East.Handle(ike.Datagram{Local: addrPort("198.51.100.2:500"), Remote: addrPort("192.0.2.1:500"), Data: s.Inform(k+1, notify(doi.NotifyReplayStatus, 0, 0, 0, 1))})
	}
	if n := len(g.East.Engine.Dump()); n > 100_000 {
		t.Errorf("the state has %d bytes", n)
	}
	g.MustCarry()
	g.Run(25 * time.Minute) // a rekey gets through, under a new ISAKMP SA
	g.oneOfEach()
}
