package doi

import (
	"fmt"
	"strings"
	"testing"
)

// TestNamesOnTheWire: a number is what its RFC or registry says, and so is its
// name.
func TestNamesOnTheWire(t *testing.T) {
	for want, v := range map[string]fmt.Stringer{
		"SA": Payload(1), "CERT_REQ": Payload(7), "VENDOR": Payload(13), "NAT-D": Payload(20), "NAT-OA": Payload(21),
		"IKEv2 payload 33": Payload(33), "IKEv2 payload 48": Payload(48), "payload 99": Payload(99), "FRAGMENT": Payload(132),
		"ID_PROT": Exchange(2), "AGGRESSIVE": Exchange(4), "INFO": Exchange(5), "QUICK_MODE": Exchange(32), "exchange 77": Exchange(77),
		"ISAKMP": Protocol(1), "IPSEC_AH": Protocol(2), "IPSEC_ESP": Protocol(3), "IPCOMP": Protocol(4), "protocol 9": Protocol(9),
		"IPV4_ADDR": IDType(1), "USER_FQDN": IDType(3), "IPV4_ADDR_SUBNET": IDType(4), "IPV6_ADDR_RANGE": IDType(8), "KEY_ID": IDType(11), "ID type 12": IDType(12),
		"X509_SIG": CertEncoding(4), "KEYNOTE": CertEncoding(16), "certificate encoding 99": CertEncoding(99),
		"ENCRYPTION_ALGORITHM": IKEAttr(1), "KEY_LENGTH": IKEAttr(14), "attribute 99": IKEAttr(99),
		"DES_CBC": Cipher(1), "BLOWFISH_CBC": Cipher(3), "3DES_CBC": Cipher(5), "CAST_CBC": Cipher(6), "AES_CBC": Cipher(7), "cipher 99": Cipher(99),
		"MD5": Hash(1), "SHA": Hash(2), "SHA2_256": Hash(4), "SHA2_512": Hash(6), "hash 99": Hash(99),
		"PRE_SHARED": AuthMethod(1), "RSA_SIG": AuthMethod(3), "ECDSA_384": AuthMethod(10), "XAUTH_RESP_PRE_SHARED": AuthMethod(65002), "authentication method 99": AuthMethod(99),
		"MODP_768": Group(1), "MODP_1024": Group(2), "MODP_1536": Group(5), "MODP_2048": Group(14), "MODP_8192": Group(18), "ECP_256": Group(19),
		"ECP_521": Group(21), "ECP_192": Group(25), "ECP_224": Group(26), "BP_224": Group(27), "BP_512": Group(30), "CURVE25519": Group(31), "group 99": Group(99),
		"SECONDS": LifeType(1), "KILOBYTES": LifeType(2), "life type 3": LifeType(3),
		"SA_LIFE_TYPE": SAAttr(1), "ENCAPSULATION_MODE": SAAttr(4), "AUTHENTICATION_ALGORITHM": SAAttr(5), "EXTENDED_SEQUENCE_NUMBER": SAAttr(11),
		"TUNNEL": Encapsulation(1), "TRANSPORT": Encapsulation(2), "UDP_ENCAP_TUNNEL": Encapsulation(3), "UDP_ENCAP_TRANSPORT_DRAFT": Encapsulation(61444), "encapsulation 5": Encapsulation(5),
		"ESP_DES": ESP(2), "ESP_3DES": ESP(3), "ESP_CAST": ESP(6), "ESP_BLOWFISH": ESP(7), "ESP_RC4": ESP(10), "ESP_NULL": ESP(11), "ESP_AES": ESP(12),
		"ESP_AES_CTR": ESP(13), "ESP_AES_GCM_16": ESP(20), "ESP_NULL_AES_GMAC": ESP(23), "ESP transform 99": ESP(99),
		"AH_MD5": AH(2), "AH_SHA": AH(3), "AH_SHA2_512": AH(7), "AH_AES_256_GMAC": AH(13), "AH transform 99": AH(99),
		"IPCOMP_DEFLATE": IPComp(2), "IPComp transform 99": IPComp(99),
		"HMAC_MD5": AuthAlg(1), "HMAC_SHA": AuthAlg(2), "HMAC_SHA2_256": AuthAlg(5), "HMAC_RIPEMD": AuthAlg(8), "authentication algorithm 99": AuthAlg(99),
		"NO-PROPOSAL-CHOSEN": Notify(14), "PAYLOAD-MALFORMED": Notify(16), "UNEQUAL-PAYLOAD-LENGTHS": Notify(30), "CONNECTED": Notify(16384),
		"RESPONDER-LIFETIME": Notify(24576), "INITIAL-CONTACT": Notify(24578), "R-U-THERE": Notify(36136), "R-U-THERE-ACK": Notify(36137), "notification 9999": Notify(9999),
	} {
		if got := v.String(); got != want {
			t.Errorf("%T(%d) is %q, expected %q", v, v, got, want)
		}
	}
}

func TestWordsForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"main mode":                ExchangeMain.Words(),
		"quick mode":               ExchangeQuick.Words(),
		"exchange type 77":         Exchange(77).Words(),
		"pre-shared key":           AuthPSK.Words(),
		"RSA signatures":           AuthRSASig.Words(),
		"authentication method 99": AuthMethod(99).Words(),
	} {
		if got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
	for e := range exchanges {
		if _, ok := exchangeWords[e]; !ok {
			t.Errorf("%s has no words", e)
		}
	}
	for a := AuthPSK; a < 66; a++ {
		if (authMethods[a] == "") != (authWords[a] == "") {
			t.Errorf("%s: a name or words are missing", a)
		}
	}
}

// comesBack checks that every name in a table is found again, in any spelling,
// and that no two numbers share one.
func comesBack[T number](t *testing.T, what string, names map[T]string, parse func(string) (T, bool)) {
	t.Helper()
	seen := map[string]T{}
	for v, name := range names {
		if other, twice := seen[plain(name)]; twice {
			t.Errorf("%s: %d and %d are both %s", what, other, v, name)
		}
		seen[plain(name)] = v
		for _, spelling := range []string{name, strings.ToLower(name), strings.ReplaceAll(name, "_", "-")} {
			if got, ok := parse(spelling); !ok || got != v {
				t.Errorf("%s %q is %d, %t; expected %d", what, spelling, got, ok, v)
			}
		}
	}
	for _, wrong := range []string{"", " ", "ANY", "99", "x" + names[1]} {
		if got, ok := parse(wrong); ok {
			t.Errorf("%s %q was taken for %d", what, wrong, got)
		}
	}
}

func TestNamesComeBack(t *testing.T) {
	comesBack(t, "group", groups, ParseGroup)
	comesBack(t, "cipher", ciphers, ParseCipher)
	comesBack(t, "hash", hashes, ParseHash)
	comesBack(t, "authentication method", authMethods, ParseAuthMethod)
	comesBack(t, "life type", lifeTypes, ParseLifeType)
	comesBack(t, "exchange", exchanges, ParseExchange)
	comesBack(t, "protocol", protocols, ParseProtocol)
	comesBack(t, "ID type", idTypes, ParseIDType)
	comesBack(t, "encapsulation", encapsulations, ParseEncapsulation)
	comesBack(t, "ESP transform", espTransforms, ParseESP)
	comesBack(t, "AH transform", ahTransforms, ParseAH)
	comesBack(t, "IPComp transform", ipcompTransforms, ParseIPComp)
	comesBack(t, "authentication algorithm", authAlgs, ParseAuthAlg)
}

func TestOtherSpellings(t *testing.T) {
	check := func(what string, got, want any, ok bool) {
		t.Helper()
		if !ok || got != want {
			t.Errorf("%s is %v, %t; expected %v", what, got, ok, want)
		}
	}
	g, ok := ParseGroup("GRP2")
	check("GRP2", g, GroupMODP1024, ok)
	g, ok = ParseGroup("grp31")
	check("grp31", g, GroupCurve25519, ok)
	e, ok := ParseESP("3DES")
	check("3DES", e, ESP3DES, ok)
	e, ok = ParseESP("AES_GMAC")
	check("AES_GMAC", e, ESPNullAESGMAC, ok)
	a, ok := ParseAH("sha")
	check("sha", a, AHSHA1, ok)
	p, ok := ParseProtocol("PROTO_IPSEC_ESP")
	check("PROTO_IPSEC_ESP", p, ProtoESP, ok)
	i, ok := ParseIDType("DER_ASN1_DN")
	check("DER_ASN1_DN", i, IDASN1DN, ok)
	for _, wrong := range []string{"GRP", "GRP0", "GRP02", "GRP22", "GRP-2", "GRP+2"} {
		if g, ok := ParseGroup(wrong); ok {
			t.Errorf("%s was taken for %s", wrong, g)
		}
	}
}

func TestErrorsAmongNotifications(t *testing.T) {
	for n, want := range map[Notify]bool{0: false, 1: true, 14: true, 16383: true, 16384: false, NotifyInitialContact: false, NotifyDPDRUThere: false} {
		if n.IsError() != want {
			t.Errorf("%s reports an error: %t", n, !want)
		}
	}
}

// TestEveryNumberHasSomeName: no number of the wire makes String panic or
// return nothing. All numbers to 1024 and some of the rest.
func TestEveryNumberHasSomeName(t *testing.T) {
	for i := 0; i < 1<<16; i += 1 + i/1024*7 {
		n, b := uint16(i), uint8(i)
		for _, s := range []fmt.Stringer{
			Payload(b), Exchange(b), Protocol(b), IDType(b), CertEncoding(b), ESP(b), AH(b), IPComp(b),
			IKEAttr(n), Cipher(n), Hash(n), AuthMethod(n), Group(n), LifeType(n), SAAttr(n), Encapsulation(n), AuthAlg(n), Notify(n),
		} {
			if s.String() == "" {
				t.Fatalf("%T(%d) has no name", s, n)
			}
		}
	}
}
