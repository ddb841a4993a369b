package iketest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// suiteCase is a suite and what its SAs have to have: lengths in bytes, one
// line a protocol from the plain packet outwards.
type suiteCase struct {
	suite ike.Suite
	want  []material
	hosts bool
}

type material struct {
	proto           ipsec.Proto
	cipher          ipsec.Cipher
	auth            ipsec.Auth
	key, salt, akey int
	mode            ipsec.Mode
}

// everySuite has each cipher with each authentication, each AH transform, and
// bundles in many orders. Lengths are those of RFC 2407 section 4.4, 2451 section
// 2.2, 3686 section 5.1, 4106 section 8.1, 4543 section 5.4 and 4868 section 2.
func everySuite() []suiteCase {
	ciphers := []struct {
		id        doi.ESP
		bits      uint64
		c         ipsec.Cipher
		key, salt int
		whole     bool
	}{
		{doi.ESPDES, 0, ipsec.CipherDES, 8, 0, false},
		{doi.ESP3DES, 0, ipsec.Cipher3DES, 24, 0, false},
		{doi.ESPCAST, 0, ipsec.CipherCAST, 16, 0, false},
		{doi.ESPCAST, 40, ipsec.CipherCAST, 5, 0, false},
		{doi.ESPBlowfish, 0, ipsec.CipherBlowfish, 16, 0, false},
		{doi.ESPBlowfish, 448, ipsec.CipherBlowfish, 56, 0, false},
		{doi.ESPNull, 0, ipsec.CipherNull, 0, 0, false},
		{doi.ESPAES, 128, ipsec.CipherAESCBC, 16, 0, false},
		{doi.ESPAES, 192, ipsec.CipherAESCBC, 24, 0, false},
		{doi.ESPAES, 256, ipsec.CipherAESCBC, 32, 0, false},
		{doi.ESPAESCTR, 128, ipsec.CipherAESCTR, 16, 4, false},
		{doi.ESPAESCTR, 256, ipsec.CipherAESCTR, 32, 4, false},
		{doi.ESPSkipjack, 0, ipsec.CipherSkipjack, 10, 0, false},
		{doi.ESPAESGCM8, 128, ipsec.CipherAESGCM8, 16, 4, true},
		{doi.ESPAESGCM12, 192, ipsec.CipherAESGCM12, 24, 4, true},
		{doi.ESPAESGCM16, 256, ipsec.CipherAESGCM16, 32, 4, true},
		{doi.ESPNullAESGMAC, 256, ipsec.CipherAESGMAC, 32, 4, true},
		{doi.ESPChaCha20Poly1305, 0, ipsec.CipherChaCha20Poly1305, 32, 4, true},
	}
	auths := []struct {
		attr doi.AuthAlg
		ah   doi.AH
		a    ipsec.Auth
		key  int
	}{
		{doi.AuthHMACMD5, doi.AHMD5, ipsec.AuthHMACMD5, 16},
		{doi.AuthHMACSHA1, doi.AHSHA1, ipsec.AuthHMACSHA1, 20},
		{doi.AuthHMACRIPEMD, doi.AHRIPEMD, ipsec.AuthHMACRIPEMD160, 20},
		{doi.AuthHMACSHA2256, doi.AHSHA2256, ipsec.AuthHMACSHA256, 32},
		{doi.AuthHMACSHA2384, doi.AHSHA2384, ipsec.AuthHMACSHA384, 48},
		{doi.AuthHMACSHA2512, doi.AHSHA2512, ipsec.AuthHMACSHA512, 64},
		{doi.AuthAESXCBC, doi.AHAESXCBC, ipsec.AuthAESXCBC, 16},
	}
	var all []suiteCase
	for i, c := range ciphers {
		for j, a := range auths {
			pfs := doi.Group(0)
			if (i+j)%3 == 0 {
				pfs = doi.GroupCurve25519
			}
			m := material{ipsec.ProtoESP, c.c, a.a, c.key, c.salt, a.key, ipsec.Tunnel}
			attr := a.attr
			if c.whole {
				attr, m.auth, m.akey = 0, ipsec.AuthNone, 0
			}
			all = append(all, suiteCase{ESP(c.id, c.bits, attr, pfs), []material{m}, false})
			if c.whole {
				break
			}
		}
	}
	for _, a := range auths {
		all = append(all, suiteCase{AH(a.ah, a.attr, 0), []material{{ipsec.ProtoAH, 0, a.a, 0, 0, a.key, ipsec.Tunnel}}, false})
	}
	gmacs := []struct {
		id   doi.AH
		attr doi.AuthAlg
		key  int
	}{{doi.AHAESGMAC128, doi.AuthAESGMAC128, 16}, {doi.AHAESGMAC192, doi.AuthAESGMAC192, 24}, {doi.AHAESGMAC256, doi.AuthAESGMAC256, 32}}
	for _, g := range gmacs {
		all = append(all, suiteCase{AH(g.id, g.attr, 0), []material{{ipsec.ProtoAH, 0, ipsec.AuthAESGMAC, 0, 4, g.key, ipsec.Tunnel}}, false})
	}
	return append(all, bundleCases()...)
}

func bundleCases() []suiteCase {
	esp, ah, comp := AESESP, AH(doi.AHSHA2256, doi.AuthHMACSHA2256, 0), IPComp(0)
	bare := ESP(doi.ESPAES, 128, 0, 0)
	mEsp := material{ipsec.ProtoESP, ipsec.CipherAESCBC, ipsec.AuthHMACSHA1, 16, 0, 20, ipsec.Tunnel}
	mAh := material{ipsec.ProtoAH, 0, ipsec.AuthHMACSHA256, 0, 0, 32, ipsec.Tunnel}
	mComp := material{ipsec.ProtoIPComp, 0, 0, 0, 0, 0, ipsec.Tunnel}
	mBare := material{ipsec.ProtoESP, ipsec.CipherAESCBC, ipsec.AuthNone, 16, 0, 0, ipsec.Tunnel}
	in := func(m material) material { m.mode = ipsec.Transport; return m }
	pfs := Bundle(IPComp(doi.GroupCurve25519), PFSESP, AH(doi.AHMD5, doi.AuthHMACMD5, doi.GroupCurve25519))
	mMD5 := material{ipsec.ProtoAH, 0, ipsec.AuthHMACMD5, 0, 0, 16, ipsec.Transport}
	return []suiteCase{
		{Bundle(esp, ah), []material{mEsp, in(mAh)}, false},
		{Bundle(ah, esp), []material{mEsp, in(mAh)}, false},
		{Bundle(bare, ah), []material{mBare, in(mAh)}, false},
		{Bundle(esp, InTransport(ah)), []material{mEsp, in(mAh)}, false},
		{Bundle(comp, esp), []material{mComp, in(mEsp)}, false},
		{Bundle(ah, comp), []material{mComp, in(mAh)}, false},
		{Bundle(esp, ah, comp), []material{mComp, in(mEsp), in(mAh)}, false},
		{pfs, []material{mComp, in(mEsp), mMD5}, false},
		{InTransport(esp), []material{in(mEsp)}, true},
		{InTransport(ah), []material{in(mAh)}, true},
		{InTransport(Bundle(ah, esp, comp)), []material{in(mComp), in(mEsp), in(mAh)}, true},
		{WithESN(esp), []material{mEsp}, false},
		{WithESN(Bundle(esp, ah)), []material{mEsp, in(mAh)}, false},
	}
}

func (c *suiteCase) String() string { return c.suite.Name }

// check holds the SAs of one direction against what the suite has to come to.
func (c *suiteCase) check(sas []*ipsec.SA) error {
	if len(sas) != len(c.want) {
		return fmt.Errorf("%d SAs, expected %d", len(sas), len(c.want))
	}
	esn := c.suite.Protocols[0].Transforms[0].ESN
	for _, sa := range sas {
		w := c.want[sa.Bundle.Index]
		got := material{sa.ID.Proto, sa.Cipher, sa.Auth, len(sa.Key), len(sa.Salt), len(sa.AuthKey), sa.Mode}
		if got != w || sa.ESN != esn || sa.Bundle.ID != sas[0].Bundle.ID || int(sa.Bundle.Of) != len(sas) || (sa.Comp == ipsec.CompDeflate) != (w.proto == ipsec.ProtoIPComp) {
			return fmt.Errorf("%+v, expected %+v", *sa, w)
		}
	}
	return nil
}

// TestEverySuite negotiates everything that can be said, each way, with traffic,
// and has it end on both sides.
func TestEverySuite(t *testing.T) {
	t.Parallel()
	for i, c := range everySuite() {
		g := NewGateways(t, Setup{Seed: uint64(i), Suites: []ike.Suite{c.suite}, Hosts: c.hosts})
		begin := g.West
		if i%2 == 1 {
			begin = g.East
		}
		g.Tap = func(p *Packet) []Delivery {
			if s := g.Observer().Of(p.Data); s.Exchange == doi.ExchangeQuick && s.Step == 1 {
				checkKeyLengths(t, s.Message)
			}
			return Pass(p)
		}
		begin.Initiate("vpn")
		g.MustUp(10 * time.Second)
		for _, n := range []*Node{g.West, g.East} {
			for _, d := range []ipsec.Direction{ipsec.In, ipsec.Out} {
				if err := c.check(n.Plane.Live(d)); err != nil {
					t.Errorf("%s: %s %s: %v", c.suite.Name, n.Name, d, err)
				}
			}
			if up := Events[ike.Phase2Up](n); len(up) != 1 || len(up[0].In) != len(c.want) || strings.Count(up[0].Suite, "+")+1 != len(c.want) {
				t.Errorf("%s", n.Said())
			}
		}
		checkKeymat(t, g, &c)
		expireSoft(begin)
		g.Run(time.Minute)
		g.MustCarry()
		if err := Agreement(g.West, g.East, 1); err != nil {
			t.Errorf("%s after a rekey: %v", c.suite.Name, err)
		}
		begin.Handle(ike.Teardown{Name: "vpn"})
		g.Run(2 * time.Minute)
		if err := Agreement(g.West, g.East, 0); err != nil {
			t.Errorf("%s: %v", c.suite.Name, err)
		}
		g.MustSettle()
	}
}

// checkKeyLengths: a cipher with keys of several lengths has one named, and no
// other transform has (RFC 2407 section 4.5, RFC 4543 section 5.3).
func checkKeyLengths(t *testing.T, m *isakmp.Message) {
	t.Helper()
	sa, _ := find[*isakmp.SA](m)
	for _, p := range sa.Proposals {
		if size := map[doi.Protocol]int{doi.ProtoESP: 4, doi.ProtoAH: 4, doi.ProtoIPComp: 2}[p.Protocol]; len(p.SPI) != size {
			t.Errorf("%s has an SPI of %d bytes", p.Protocol, len(p.SPI))
		}
		for _, x := range p.Transforms {
			i := ike.CipherOf(doi.ESP(x.ID)).Info()
			_, named := x.Attribute(uint16(doi.SAKeyLength))
			if several := p.Protocol == doi.ProtoESP && i.MinKey != i.MaxKey; named != several {
				t.Errorf("%s: a key length is named: %t", x.Describe(p.Protocol), named)
			}
		}
	}
}

// checkKeymat makes the keying material of each SA again, from what was on the
// wire and the keys of the ISAKMP SA, and cuts it up by the table.
func checkKeymat(t *testing.T, g *Gateways, c *suiteCase) {
	t.Helper()
	x := g.Observer().Last()
	if len(x.quicks) != 1 {
		t.Fatalf("%d quick modes", len(x.quicks))
	}
	for _, q := range x.quicks {
		for _, sa := range append(g.West.Plane.Live(ipsec.In), g.East.Plane.Live(ipsec.In)...) {
			w := c.want[sa.Bundle.Index]
			n := w.key + w.salt + w.akey
			if n == 0 {
				continue
			}
			k := x.Keys.KeyMat(q.secret(g.Observer()), map[ipsec.Proto]doi.Protocol{ipsec.ProtoESP: doi.ProtoESP, ipsec.ProtoAH: doi.ProtoAH}[sa.ID.Proto], SPIBytes(sa.ID.SPI), q.ni, q.nr, 200)
			want := k[:n]
			got := append(append(append([]byte{}, sa.Key...), sa.Salt...), sa.AuthKey...)
			if w.proto == ipsec.ProtoAH { // whose salt is behind its key
				got = append(append([]byte{}, sa.AuthKey...), sa.Salt...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %s has the keys %x, expected %x", c.suite.Name, sa.ID, got, want)
			}
		}
	}
}

// TestEveryPairOfSuites: of two sides with one suite each those agree that have
// the same, in whatever order it is written, and all others are refused with
// both proposals and what differs.
func TestEveryPairOfSuites(t *testing.T) {
	t.Parallel()
	all := append([]suiteCase{}, bundleCases()...)
	for i, c := range everySuite() {
		info, open := c.want[0].cipher.Info(), c.suite.Protocols[0].Transforms[0].KeyLength.IsZero()
		if i%7 == 0 && !c.hosts && !(open && info.MinKey != info.MaxKey) { // such a one takes keys of any length
			all = append(all, c)
		}
	}
	for i, a := range all {
		for j, b := range all {
			hosts := a.hosts || b.hosts
			g := NewGateways(t, Setup{Seed: uint64(i*len(all) + j), Hosts: hosts, Change: func(side string, c *ike.Config) {
				c.Connections[0].Suites = []ike.Suite{a.suite}
				if side == "east" {
					c.Connections[0].Suites = []ike.Suite{b.suite}
				}
			}})
			g.Light = true
			g.West.Handle(ike.Acquire{ID: 1, Conn: "vpn"})
			g.Run(10 * time.Second)
			same := a.outcome() == b.outcome()
			err := Agreement(g.West, g.East, 1)
			switch {
			case same != (err == nil):
				t.Errorf("%s with %s: %v\n%s%s", a.suite.Name, b.suite.Name, err, g.West.Said(), g.East.Said())
			case same:
				if err := a.check(g.West.Plane.Live(ipsec.Out)); err != nil {
					t.Errorf("%s with %s: %v", a.suite.Name, b.suite.Name, err)
				}
				continue
			}
			refused(t, g, a.suite.Name+" with "+b.suite.Name)
		}
	}
}

// outcome is what both sides have to have in common.
func (c *suiteCase) outcome() string {
	t := &c.suite.Protocols[0].Transforms[0]
	return fmt.Sprint(c.want, t.Group, t.ESN)
}

func refused(t *testing.T, g *Gateways, what string) {
	t.Helper()
	if err := Agreement(g.West, g.East, 0); err != nil {
		t.Errorf("%s: neither agreement nor a clean failure: %v", what, err)
	}
	g.MustSettle()
	for i, n := range []*Node{g.West, g.East} {
		f := Events[ike.Failed](n)
		if len(f) != 1 || len(f[0].Ours) == 0 || f[0].Differs == "" || f[0].Hint == "" || i == 1 && len(f[0].Theirs) == 0 {
			t.Errorf("%s: %s", what, n.Said())
		}
	}
	if len(g.West.Ended) != 1 || g.West.Ended[0].Err == nil {
		t.Errorf("%s: the acquire was answered with %v", what, g.West.Ended)
	}
}
