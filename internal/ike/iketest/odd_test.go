package iketest

import (
	"strings"
	"testing"

	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// TestOddTransforms: what a peer may put into a transform that no suite of ours
// can mean, though it has one just so.
func TestOddTransforms(t *testing.T) {
	attr := func(a doi.SAAttr, v uint16) isakmp.Attribute { return isakmp.Basic(uint16(a), v) }
	mode, auth := attr(doi.SAEncapsulation, 1), func(a doi.AuthAlg) isakmp.Attribute { return attr(doi.SAAuthentication, uint16(a)) }
	bits := func(n uint16) isakmp.Attribute { return attr(doi.SAKeyLength, n) }
	group := attr(doi.SAGroup, uint16(doi.GroupCurve25519))
	prop := func(p doi.Protocol, id uint8, as ...isakmp.Attribute) isakmp.Proposal {
		spi := []byte{0x12, 0x34, 0x56, byte(p)}
		if p == doi.ProtoIPComp {
			spi = spi[:2]
		}
		return isakmp.Proposal{Number: 1, Protocol: p, SPI: spi, Transforms: []isakmp.Transform{{Number: 1, ID: id, Attributes: as}}}
	}
	esp := func(id doi.ESP, as ...isakmp.Attribute) isakmp.Proposal { return prop(doi.ProtoESP, uint8(id), as...) }
	ah := func(id doi.AH, as ...isakmp.Attribute) isakmp.Proposal { return prop(doi.ProtoAH, uint8(id), as...) }
	comp := func(as ...isakmp.Attribute) isakmp.Proposal {
		return prop(doi.ProtoIPComp, uint8(doi.IPCompDeflate), as...)
	}
	aes := esp(doi.ESPAES, mode, auth(doi.AuthHMACSHA1), bits(128))
	sha := AH(doi.AHSHA1, doi.AuthHMACSHA1, 0)
	crossed := AH(doi.AHSHA1, doi.AuthHMACMD5, 0)
	keyed := Changed(IPComp(0), func(t *ike.Phase2Transform) { t.Auth = doi.AuthHMACMD5 })
	counted := WithESN(IPComp(0))
	for name, c := range map[string]struct {
		suite ike.Suite
		offer []isakmp.Proposal
		wants string // in what is said; empty: it is taken
	}{
		"as it should be":              {AESESP, []isakmp.Proposal{aes}, ""},
		"compression alone":            {IPComp(0), []isakmp.Proposal{comp(mode)}, "which protects nothing"},
		"no authentication":            {ESP(doi.ESPAES, 128, 0, 0), []isakmp.Proposal{esp(doi.ESPAES, mode, bits(128))}, "without authentication is refused"},
		"NULL without authentication":  {Bundle(ESP(doi.ESPNull, 0, 0, 0), sha), []isakmp.Proposal{esp(doi.ESPNull, mode), ah(doi.AHSHA1, mode, auth(doi.AuthHMACSHA1))}, "neither encrypts nor authenticates"},
		"AH of two minds":              {crossed, []isakmp.Proposal{ah(doi.AHSHA1, mode, auth(doi.AuthHMACMD5))}, "AH transform AH_SHA with authentication HMAC_MD5"},
		"AH without its attribute":     {AH(doi.AHSHA1, 0, 0), []isakmp.Proposal{ah(doi.AHSHA1, mode)}, "AH transform AH_SHA with authentication none"},
		"AH with a key length":         {sha, []isakmp.Proposal{ah(doi.AHSHA1, mode, auth(doi.AuthHMACSHA1), bits(160))}, "which has one alone"},
		"GMAC of AH for ESP":           {ESP(doi.ESPAES, 128, doi.AuthAESGMAC128, 0), []isakmp.Proposal{esp(doi.ESPAES, mode, auth(doi.AuthAESGMAC128), bits(128))}, "is not spoken here"},
		"GCM with authentication":      {ESP(doi.ESPAESGCM16, 128, doi.AuthHMACSHA1, 0), []isakmp.Proposal{esp(doi.ESPAESGCM16, mode, auth(doi.AuthHMACSHA1), bits(128))}, "authenticates on its own"},
		"3DES with a key length":       {ESP(doi.ESP3DES, 0, doi.AuthHMACSHA1, 0), []isakmp.Proposal{esp(doi.ESP3DES, mode, auth(doi.AuthHMACSHA1), bits(192))}, "whose keys have one length alone"},
		"a CAST key of 7 bytes and 1":  {ESP(doi.ESPCAST, 0, doi.AuthHMACSHA1, 0), []isakmp.Proposal{esp(doi.ESPCAST, mode, auth(doi.AuthHMACSHA1), bits(57))}, "does not fit"},
		"compression with a MAC":       {Bundle(AESESP, keyed), []isakmp.Proposal{aes, comp(mode, auth(doi.AuthHMACMD5))}, "neither key nor sequence numbers"},
		"compression with a key":       {Bundle(AESESP, IPComp(0)), []isakmp.Proposal{aes, comp(mode, bits(128))}, "neither key nor sequence numbers"},
		"compression that counts":      {Bundle(AESESP, counted), []isakmp.Proposal{aes, comp(mode, attr(doi.SAExtendedSeq, 1))}, "neither key nor sequence numbers"},
		"sequence numbers of a kind":   {WithESN(AESESP), []isakmp.Proposal{esp(doi.ESPAES, mode, auth(doi.AuthHMACSHA1), bits(128), attr(doi.SAExtendedSeq, 2))}, "EXTENDED_SEQUENCE_NUMBER is 2"},
		"no sequence numbers at all":   {AESESP, []isakmp.Proposal{esp(doi.ESPAES, mode, auth(doi.AuthHMACSHA1), bits(128), attr(doi.SAExtendedSeq, 0))}, "EXTENDED_SEQUENCE_NUMBER is 0"},
		"UDP without NAT":              {AESESP, []isakmp.Proposal{esp(doi.ESPAES, attr(doi.SAEncapsulation, 3), auth(doi.AuthHMACSHA1), bits(128))}, "encapsulation: ours TUNNEL, the peer's UDP_ENCAP_TUNNEL"},
		"compression in UDP":           {Bundle(AESESP, IPComp(0)), []isakmp.Proposal{aes, comp(attr(doi.SAEncapsulation, 3))}, ""},
		"no mode":                      {AESESP, []isakmp.Proposal{esp(doi.ESPAES, auth(doi.AuthHMACSHA1), bits(128))}, ""},
		"a bundle without modes":       {Bundle(AESESP, sha), []isakmp.Proposal{esp(doi.ESPAES, auth(doi.AuthHMACSHA1), bits(128)), ah(doi.AHSHA1, auth(doi.AuthHMACSHA1))}, ""},
		"two groups in a bundle":       {Bundle(AESESP, AH(doi.AHSHA1, doi.AuthHMACSHA1, doi.GroupCurve25519)), []isakmp.Proposal{aes, ah(doi.AHSHA1, mode, auth(doi.AuthHMACSHA1), group)}, "PFS group"},
		"a compression with one group": {Bundle(AESESP, IPComp(0)), []isakmp.Proposal{aes, comp(mode, group)}, "PFS group"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGateways(t, Setup{Change: func(side string, cfg *ike.Config) {
				if side == "east" {
					cfg.Connections[0].Suites = []ike.Suite{c.suite, AESESP}
				}
			}})
			g.Connect()
			g.East.Events = nil
			_, m := askQuick(t, g, 42, quickIDs(), c.offer...)
			if c.wants == "" {
				if m == nil || len(g.East.Plane.Live(ipsec.Out)) != 1+len(c.offer) {
					t.Errorf("not taken: %s", g.East.Said())
				}
				return
			}
			f := Events[ike.Failed](g.East)
			if m != nil || len(f) != 1 || len(f[0].Ours) < 2 || len(f[0].Theirs) != len(c.offer) || !strings.Contains(f[0].Differs, c.wants) {
				t.Errorf("taken %t, or %q is not in what is said:\n%s", m != nil, c.wants, g.East.Said())
			}
			g.MustSettle()
		})
	}
}

// TestACompressionLeavesTheGroupToTheOthers: with PFS too.
func TestACompressionLeavesTheGroupToTheOthers(t *testing.T) {
	g := NewGateways(t, Setup{Change: func(side string, c *ike.Config) {
		c.Connections[0].Suites = []ike.Suite{Bundle(PFSESP, IPComp(0))}
		if side == "east" {
			c.Connections[0].Suites = []ike.Suite{Bundle(PFSESP, IPComp(doi.GroupCurve25519))}
		}
	}})
	g.Connect()
	if up := Events[ike.Phase2Up](g.East); len(up) != 1 || up[0].PFS != doi.GroupCurve25519 {
		t.Errorf("%s", g.East.Said())
	}
}

// TestThePolicyHearsWhatTheTransformsSay: the modes are those of the file, also
// where a bundle comes to others.
func TestThePolicyHearsWhatTheTransformsSay(t *testing.T) {
	g := NewGateways(t, Setup{Suites: []ike.Suite{threefold()}})
	var heard []ike.QueryPolicy
	for _, n := range []*Node{g.West, g.East} {
		n.Faults.Policy = func(q ike.QueryPolicy) ike.PolicyAnswer {
			heard = append(heard, q)
			return ike.PolicyAnswer{Allow: []bool{true}}
		}
	}
	g.Connect()
	if len(heard) != 2 {
		t.Fatalf("%d questions", len(heard))
	}
	for _, q := range heard {
		ps := q.Proposals[0].Protocols
		if q.Proposals[0].PFS != doi.GroupCurve25519 || len(ps) != 3 || ps[0].Proto != doi.ProtoIPComp || ps[1].Proto != doi.ProtoESP || ps[2].Proto != doi.ProtoAH {
			t.Fatalf("%+v", q.Proposals)
		}
		for _, p := range ps {
			if p.Mode != ipsec.Tunnel {
				t.Errorf("%s in %s mode", p.Proto, p.Mode)
			}
		}
	}
}
