package iketest

import (
	"bytes"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// TestChoice: the choice among what both sides know is the responder's, by its
// own order, in both phases.
func TestChoice(t *testing.T) {
	aes256 := Phase1(doi.CipherAES, 256, doi.HashSHA2256, doi.GroupCurve25519)
	des3 := Phase1(doi.Cipher3DES, 0, doi.HashMD5, doi.GroupMODP768)
	espAES, espGCM, espDES := ESP(doi.ESPAES, 128, doi.AuthHMACSHA1, 0), ESP(doi.ESPAESGCM16, 256, 0, 0), ESP(doi.ESP3DES, 0, doi.AuthHMACMD5, 0)
	for _, c := range []struct {
		west1, east1 []ike.Phase1Transform
		west2, east2 []ike.Suite
		suite        string
		cipher       ipsec.Cipher
	}{
		{[]ike.Phase1Transform{des3, AES, aes256}, []ike.Phase1Transform{aes256, AES, des3}, []ike.Suite{espDES, espAES, espGCM}, []ike.Suite{espGCM, espAES, espDES}, "AES-256-SHA2-256", ipsec.CipherAESGCM16},
		{[]ike.Phase1Transform{aes256, AES, des3}, []ike.Phase1Transform{des3}, []ike.Suite{espGCM, espAES, espDES}, []ike.Suite{espDES}, "3DES-MD5", ipsec.Cipher3DES},
		{[]ike.Phase1Transform{AES}, []ike.Phase1Transform{des3, aes256, AES}, []ike.Suite{espAES}, []ike.Suite{espDES, espGCM, espAES}, "AES-128-SHA", ipsec.CipherAESCBC},
	} {
		g := NewGateways(t, Setup{Change: func(side string, cfg *ike.Config) {
			if side == "west" {
				cfg.Peers[0].Transforms, cfg.Connections[0].Suites = c.west1, c.west2
				return
			}
			cfg.Peers[0].Transforms, cfg.Connections[0].Suites = c.east1, c.east2
		}})
		g.Connect()
		if up := Events[ike.Phase1Up](g.West)[0]; !bytes.HasPrefix([]byte(up.Suite), []byte(c.suite+",")) {
			t.Errorf("phase 1 is %s, expected %s", up.Suite, c.suite)
		}
		if got := g.West.OutSA().Cipher; got != c.cipher {
			t.Errorf("phase 2 is %s, expected %s", got, c.cipher)
		}
		g.MustSettle() // the SPIs of what was not chosen too
	}
}

// TestUnchosenProtocol: an SPI that was reserved for a protocol which was not
// chosen is given back.
func TestUnchosenProtocol(t *testing.T) {
	ah := ESP(0, 0, doi.AuthHMACSHA2256, 0)
	ah.Protocols[0].Proto, ah.Protocols[0].Transforms[0].ID = doi.ProtoAH, uint8(doi.AHSHA2256)
	g := NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
		if side == "west" {
			c.Connections[0].Suites = []ike.Suite{ah, AESESP}
		}
	}})
	g.Connect()
	if n := g.West.Requests["AllocSPI"]; n != 2 {
		t.Errorf("%d SPIs were asked for", n)
	}
	g.MustSettle()
}

// strange is a transform with its attributes in an odd order and odd encodings.
func strange(number, id uint8, attrs ...isakmp.Attribute) isakmp.Transform {
	return isakmp.Transform{Number: number, ID: id, Attributes: attrs}
}

// TestEchoPhase1: the chosen transform comes back byte for byte, whatever way it
// was put, with its proposal's number and SPI.
func TestEchoPhase1(t *testing.T) {
	life := func(n int) isakmp.Attribute {
		return isakmp.Variable(uint16(doi.IKELifeDuration), append(make([]byte, n), 0x0e, 0x10))
	}
	for name, tr := range map[string]isakmp.Transform{
		"odd order": strange(3, 1, isakmp.Basic(uint16(doi.IKELifeType), 1), life(2), isakmp.Basic(uint16(doi.IKEGroup), 31), isakmp.Basic(uint16(doi.IKEKeyLength), 128),
			isakmp.Basic(uint16(doi.IKEAuthMethod), 1), isakmp.Basic(uint16(doi.IKEHash), 2), isakmp.Basic(uint16(doi.IKEEncryption), 7)),
		"variable": strange(250, 1, isakmp.Variable(uint16(doi.IKEEncryption), []byte{0, 0, 7}), isakmp.Variable(uint16(doi.IKEHash), []byte{2}),
			isakmp.Variable(uint16(doi.IKEAuthMethod), []byte{0, 1}), isakmp.Variable(uint16(doi.IKEGroup), []byte{0, 0, 0, 31}), isakmp.Basic(uint16(doi.IKEKeyLength), 128),
			isakmp.Variable(uint16(doi.IKELifeType), []byte{0, 1}), life(6)),
		"no lifetime": strange(7, 1, isakmp.Basic(uint16(doi.IKEEncryption), 7), isakmp.Basic(uint16(doi.IKEKeyLength), 128), isakmp.Basic(uint16(doi.IKEHash), 2),
			isakmp.Basic(uint16(doi.IKEAuthMethod), 1), isakmp.Basic(uint16(doi.IKEGroup), 31)),
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGateways(t, Setup{})
			other := strange(1, 1, isakmp.Basic(uint16(doi.IKEEncryption), 5), isakmp.Basic(uint16(doi.IKEHash), 1))
			offer := isakmp.Proposal{Number: 9, Protocol: doi.ProtoISAKMP, SPI: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Transforms: []isakmp.Transform{other, tr, other}}
			offer.Transforms[2].Number = 255
			sa := &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []isakmp.Proposal{offer}}
			var reply []byte
			g.Tap = func(p *Packet) []Delivery { reply = p.Data; return nil }
			g.East.Inject("192.0.2.1:500", firstMessage(g.Rand(), sa))
			g.Run(time.Second)
			m, err := isakmp.Parse(reply)
			if err != nil {
				t.Fatalf("%v\n%s", err, g.East.Said())
			}
			offer.Transforms = []isakmp.Transform{tr}
			want := isakmp.BodyOf(&isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []isakmp.Proposal{offer}})
			if got := m.Body(0); !bytes.Equal(got, want) {
				t.Errorf("the answer is\n%x, expected\n%x\n%s", got, want, g.East.Said())
			}
		})
	}
}

// TestEchoPhase2 does the same for quick mode, several proposals and protocols
// before it.
func TestEchoPhase2(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Connect()
	s := g.Observer().Last()
	g.Light = true
	tr := strange(77, uint8(doi.ESPAES), isakmp.Basic(uint16(doi.SAKeyLength), 128), isakmp.Variable(uint16(doi.SALifeType), []byte{1}),
		isakmp.Variable(uint16(doi.SALifeDuration), []byte{0, 0, 0x0e, 0x10}), isakmp.Variable(uint16(doi.SAAuthentication), []byte{0, 0, 2}), isakmp.Basic(uint16(doi.SAEncapsulation), 1))
	des := strange(1, uint8(doi.ESPDES), isakmp.Basic(uint16(doi.SAEncapsulation), 1), isakmp.Basic(uint16(doi.SAAuthentication), 1))
	ah := strange(1, uint8(doi.AHSHA1), isakmp.Basic(uint16(doi.SAEncapsulation), 1), isakmp.Basic(uint16(doi.SAAuthentication), 2))
	chosen := isakmp.Proposal{Number: 200, Protocol: doi.ProtoESP, SPI: []byte{9, 8, 7, 6}, Transforms: []isakmp.Transform{des, tr}}
	sa := &isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []isakmp.Proposal{
		{Number: 3, Protocol: doi.ProtoAH, SPI: []byte{1, 1, 1, 1}, Transforms: []isakmp.Transform{ah}}, // a bundle with
		{Number: 3, Protocol: doi.ProtoESP, SPI: []byte{2, 2, 2, 2}, Transforms: []isakmp.Transform{tr}},
		{Number: 4, Protocol: doi.ProtoESP, SPI: []byte{3, 3, 3, 3}, Transforms: []isakmp.Transform{des}},
		chosen,
	}}
	nonce := &isakmp.Nonce{Data: bytes.Repeat([]byte{5}, 32)}
	ps := append([]isakmp.Payload{sa, nonce}, quickIDs()...)
	hash := &isakmp.Hash{Data: s.Keys.Hash1(42, isakmp.AppendPayloads(nil, ps))}
	b, next := s.Seal(doi.ExchangeQuick, 42, s.IV(42), append([]isakmp.Payload{hash}, ps...)...)
	var reply []byte
	g.Tap = func(p *Packet) []Delivery { reply = p.Data; return nil }
	g.East.Inject("192.0.2.1:500", b)
	g.Run(100 * time.Millisecond)
	h, err := isakmp.ParseHeader(reply)
	if err != nil {
		t.Fatalf("%v\n%s", err, g.East.Said())
	}
	m, _, err := s.open(h, reply, next)
	if err != nil {
		t.Fatal(err)
	}
	got, at := find[*isakmp.SA](m)
	if at != 1 || len(got.Proposals) != 1 || len(got.Proposals[0].SPI) != 4 {
		t.Fatalf("%s", m)
	}
	chosen.SPI, chosen.Transforms = got.Proposals[0].SPI, []isakmp.Transform{tr}
	want := isakmp.BodyOf(&isakmp.SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []isakmp.Proposal{chosen}})
	if !bytes.Equal(m.Body(1), want) {
		t.Errorf("the answer is\n%x, expected\n%x", m.Body(1), want)
	}
	hash2, _ := find[*isakmp.Hash](m)
	if !bytes.Equal(hash2.Data, s.Keys.Hash2(42, nonce.Data, m.After(0))) {
		t.Error("its hash is wrong")
	}
}

// TestCommitBit: a peer that sets it is tolerated.
func TestCommitBit(t *testing.T) {
	g := NewGateways(t, Setup{})
	g.Tap = func(p *Packet) []Delivery {
		if p.Data[18] == byte(doi.ExchangeQuick) {
			return []Delivery{{Data: damaged(p.Data, 19, byte(isakmp.FlagCommit))}}
		}
		return Pass(p)
	}
	g.Connect()
}

// TestResponderChanges: a responder that alters what it chose is refused. The
// numbers of proposal and transform, bytes 44 and 52, may differ: some peers count
// anew.
func TestResponderChanges(t *testing.T) {
	for _, at := range []int{40, 45, 48, 55, 59, 63, 67, 71, 75, 79} {
		g := NewGateways(t, Setup{})
		g.Tap = func(p *Packet) []Delivery {
			if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeMain && s.Step == 2 {
				return []Delivery{{Data: damaged(p.Data, min(at, len(p.Data)-1), 0x10)}}
			}
			return Pass(p)
		}
		g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
		g.Run(2 * time.Minute)
		if g.West.Requests["DiffieHellman"] != 0 {
			t.Errorf("byte %d: a changed answer was believed\n%s", at, g.West.Said())
		}
	}
}

// TestTransportAndSingleHosts: the tunnel's ends themselves, in transport mode,
// with protocol and port.
func TestTransportAndSingleHosts(t *testing.T) {
	for _, mode := range []ipsec.Mode{ipsec.Tunnel, ipsec.Transport} {
		s := ESP(doi.ESPAES, 128, doi.AuthHMACSHA1, 0)
		s.Protocols[0].Transforms[0].Mode = mode
		g := NewGateways(t, Setup{Suites: []ike.Suite{s}, Change: func(side string, c *ike.Config) {
			x := c.Connections[0]
			x.Local, x.Remote = ike.Net{}, ike.Net{Proto: 17}
			if side == "west" {
				x.Remote.Port = 1701
				x.Local.Proto = 17
			} else {
				x.Local = ike.Net{Proto: 17, Port: 1701}
			}
		}})
		g.Connect()
		sa := g.West.OutSA()
		if sa.Mode != mode || sa.Selector.String() != "192.0.2.1/32 -> 198.51.100.2/32 port 1701 proto 17" {
			t.Errorf("%s %s", sa.Mode, sa.Selector)
		}
	}
}
