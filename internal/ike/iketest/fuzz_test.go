package iketest

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/isakmp"
)

// maxFuzzed bounds what one input makes the engine do.
const maxFuzzed = 64

// split takes a byte string apart into messages: a byte for what is done with
// it, two for the length, then the bytes.
func split(b []byte, f func(how byte, data []byte)) {
	for n := 0; len(b) >= 3 && n < maxFuzzed; n++ {
		how, l := b[0], int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		l = min(l, len(b))
		f(how, b[:l])
		b = b[l:]
	}
}

func join(how byte, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{how}, uint16(len(data))), data...)
}

// FuzzEngine gives an engine that has an established tunnel, and a main mode and
// a quick mode of its own under way, byte strings as messages: as they are, with
// the right cookies, encrypted with the right keys, and hashed too. Nothing
// panics, outputs are bounded, what was dropped changed nothing, and without the
// keys the tunnel stays what it was.
func FuzzEngine(f *testing.F) {
	// Whole sessions are the seed.
	for _, translated := range []bool{false, true} {
		for _, suite := range []ike.Suite{PFSESP, threefold(), espTransport} {
			g := fuzzed(f, 99, translated, []ike.Suite{suite})
			var session []byte
			g.Tap = func(p *Packet) []Delivery {
				session = append(session, join(0, p.Data)...)
				if s := g.Observer().Of(p.Data); s.Message != nil {
					seedMessage(f, s.Message)
				}
				return Pass(p)
			}
			g.West.Initiate("vpn")
			g.Run(time.Second)
			expireSoft(g.West)
			g.Run(15 * time.Second)
			f.Add(translated, session)
		}
	}
	g := NewGateways(f, Setup{Seed: 99})
	for _, l := range lies(g.Rand(), isakmp.Cookie{1}, isakmp.Cookie{2}, nil)[:200] {
		f.Add(false, join(0, l.data))
	}
	f.Fuzz(func(t *testing.T, translated bool, b []byte) {
		g := fuzzed(t, 0, translated, []ike.Suite{AESESP, PFSESP, threefold(), Bundle(IPComp(0), AESESP), espTransport})
		g.West.Initiate("vpn")
		if !g.RunUntil(10*time.Second, g.Up) {
			t.Fatalf("not up\n%s%s", g.West.Said(), g.East.Said())
		}
		home, port, vpn := "192.0.2.1:500", "500", "vpn"
		if translated {
			h := &hosts{World: g.World, nat: g.West.NAT, ann: g.West, hub: g.East}
			home, port, vpn = h.natted(g.West).String(), "4500", h.back()
		}
		s := g.Observer().Last()
		g.Observer().Lenient = true
		// East has a quick mode that nobody answers; strangers hear its answers.
		g.Tap = func(*Packet) []Delivery { return nil }
		expireSoft(g.East)
		keys, id := false, uint32(5000)
		sent := g.Sent()
		messages := 0
		split(b, func(how byte, data []byte) {
			messages++
			id++
			from := home
			if how&0x80 != 0 {
				from = "203.0.113.9:4500"
			}
			first, chain := doi.PayloadSA, data
			if how&7 != 0 && len(data) > 0 {
				first, chain = doi.Payload(data[0]), data[1:]
			}
			switch how & 7 {
			case 1, 2: // our cookies, in clear
				x := doi.ExchangeMain
				if how&7 == 2 {
					x = doi.ExchangeInformational
				}
				h := isakmp.Header{Initiator: s.I, Responder: s.R, NextPayload: first, Version: isakmp.Version, Exchange: x, MessageID: uint32(how >> 3), Length: uint32(28 + len(chain))}
				if how&8 != 0 {
					h.Responder = isakmp.Cookie{}
					h.Initiator[0] ^= 0xff
				}
				data = append(isakmp.AppendHeader(nil, h), chain...)
			case 3: // encrypted, hashed or not as it may be
				keys = true
				data, _ = s.SealBytes(doi.ExchangeQuick, id, s.IV(id), first, chain)
			case 4, 5: // encrypted, and the hash is right
				keys = true
				x := doi.ExchangeQuick
				if how&7 == 5 {
					x = doi.ExchangeInformational
				}
				hash := s.Keys.Hash1(id, chain)
				plain := append([]byte{byte(first), 0, 0, byte(4 + len(hash))}, hash...)
				data, _ = s.SealBytes(x, id, s.IV(id), doi.PayloadHash, append(plain, chain...))
			}
			g.East.Handle(ike.Datagram{Local: addrPort("198.51.100.2:" + port), Remote: addrPort(from), Data: bytes.Clone(data)})
			g.Run(time.Millisecond)
		})
		if n := g.Sent() - sent; n > 4*messages+2 {
			t.Errorf("%d datagrams for %d", n, messages)
		}
		g.Run(3 * time.Minute)
		g.Tap = nil
		if !keys {
			if err := g.Carries(g.West, "vpn", g.East, vpn); err != nil {
				t.Error(err)
			}
		}
		g.East.Handle(ike.Shutdown{})
		g.Run(time.Minute)
		if n := len(g.East.Plane.live) + g.East.Plane.Reserved(); n > 0 {
			t.Errorf("%d SAs and SPIs after the end", n)
		}
	})
}

// seedMessage adds a message's payloads, encrypted and hashed in each way.
func seedMessage(f *testing.F, m *isakmp.Message) {
	chain := isakmp.AppendPayloads(nil, m.Payloads)
	for how := byte(1); how < 6; how++ {
		f.Add(how&1 == 0, join(how, append([]byte{byte(m.Payloads[0].Kind())}, chain...)))
	}
	if len(m.Payloads) < 2 {
		return
	}
	rest := m.Payloads[1:]
	for how := byte(4); how < 6; how++ {
		for _, translated := range []bool{false, true} {
			f.Add(translated, join(how, append([]byte{byte(rest[0].Kind())}, isakmp.AppendPayloads(nil, rest)...)))
		}
	}
}

// fuzzed is two hosts: gateways of networks, or one behind a translator and one
// that knows nobody beforehand, where AH and tunnels have no place.
func fuzzed(t testing.TB, seed uint64, translated bool, suites []ike.Suite) *Gateways {
	if !translated {
		return NewGateways(t, Setup{Seed: seed, Suites: suites})
	}
	h := newHostsAt(t, seed, []ike.Suite{espTransport}, append([]ike.Suite{espTransport}, suites...))
	return &Gateways{World: h.World, West: h.ann, East: h.hub}
}

// FuzzDatagram gives an engine without any state one datagram.
func FuzzDatagram(f *testing.F) {
	g := NewGateways(f, Setup{Suites: []ike.Suite{PFSESP}})
	g.Tap = func(p *Packet) []Delivery {
		f.Add(p.Data)
		return Pass(p)
	}
	g.Connect()
	f.Add(firstMessage(g.Rand()))
	f.Fuzz(func(t *testing.T, b []byte) {
		g := NewGateways(t, Setup{})
		g.East.Inject("192.0.2.1:500", b)
		g.East.Inject("203.0.113.9:500", b)
		g.Run(10 * time.Minute)
		if n := g.East.Transmits; n > 2 {
			t.Errorf("%d answers", n)
		}
		if g.East.Requests["DiffieHellman"] > 0 {
			t.Error("arithmetic for a stranger")
		}
		if d := g.East.Engine.Dump(); !bytes.HasPrefix(d, []byte("started false stopped false half-open 0 requests 0\nconnection")) {
			t.Errorf("something is left:\n%s", d)
		}
	})
}
