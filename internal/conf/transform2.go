package conf

import (
	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

var espChoices = []choice[doi.ESP]{
	{"DES", doi.ESPDES},
	{"3DES", doi.ESP3DES},
	{"CAST", doi.ESPCAST},
	{"BLOWFISH", doi.ESPBlowfish},
	{"AES", doi.ESPAES},
	{"AES_CTR", doi.ESPAESCTR},
	{"AES_GCM_8", doi.ESPAESGCM8},
	{"AES_GCM_12", doi.ESPAESGCM12},
	{"AES_GCM_16", doi.ESPAESGCM16},
	{"AES_GMAC", doi.ESPNullAESGMAC},
	{"CHACHA20_POLY1305", doi.ESPChaCha20Poly1305},
	{"SKIPJACK", doi.ESPSkipjack},
	{"NULL", doi.ESPNull},
}

var espKeys = map[doi.ESP]keys{
	doi.ESPDES: oneKey, doi.ESP3DES: oneKey, doi.ESPCAST: castKeys, doi.ESPBlowfish: blowfishKeys, doi.ESPAES: aesKeys,
	doi.ESPAESCTR: aesKeys, doi.ESPAESGCM8: aesKeys, doi.ESPAESGCM12: aesKeys, doi.ESPAESGCM16: aesKeys, doi.ESPNullAESGMAC: aesKeys,
	doi.ESPNull: oneKey, doi.ESPChaCha20Poly1305: oneKey, doi.ESPSkipjack: oneKey,
}

var ahChoices = []choice[doi.AH]{
	{"MD5", doi.AHMD5},
	{"SHA", doi.AHSHA1},
	{"RIPEMD", doi.AHRIPEMD},
	{"SHA2_256", doi.AHSHA2256},
	{"SHA2_384", doi.AHSHA2384},
	{"SHA2_512", doi.AHSHA2512},
	{"AES_XCBC", doi.AHAESXCBC},
	{"AES_128_GMAC", doi.AHAESGMAC128},
	{"AES_192_GMAC", doi.AHAESGMAC192},
	{"AES_256_GMAC", doi.AHAESGMAC256},
}

var ipcompChoices = []choice[doi.IPComp]{{"DEFLATE", doi.IPCompDeflate}}

// ahAuth is the authentication that each AH transform goes with (RFC 2407
// section 4.4.3).
var ahAuth = map[doi.AH]doi.AuthAlg{
	doi.AHMD5: doi.AuthHMACMD5, doi.AHSHA1: doi.AuthHMACSHA1, doi.AHRIPEMD: doi.AuthHMACRIPEMD,
	doi.AHSHA2256: doi.AuthHMACSHA2256, doi.AHSHA2384: doi.AuthHMACSHA2384, doi.AHSHA2512: doi.AuthHMACSHA2512,
	doi.AHAESXCBC: doi.AuthAESXCBC, doi.AHAESGMAC128: doi.AuthAESGMAC128, doi.AHAESGMAC192: doi.AuthAESGMAC192, doi.AHAESGMAC256: doi.AuthAESGMAC256,
}

var macChoices = []choice[doi.AuthAlg]{
	{"HMAC_MD5", doi.AuthHMACMD5},
	{"HMAC_SHA", doi.AuthHMACSHA1},
	{"HMAC_SHA2_256", doi.AuthHMACSHA2256},
	{"HMAC_SHA2_384", doi.AuthHMACSHA2384},
	{"HMAC_SHA2_512", doi.AuthHMACSHA2512},
	{"HMAC_RIPEMD", doi.AuthHMACRIPEMD},
	{"AES_XCBC_MAC", doi.AuthAESXCBC},
	{"AES_128_GMAC", doi.AuthAESGMAC128},
	{"AES_192_GMAC", doi.AuthAESGMAC192},
	{"AES_256_GMAC", doi.AuthAESGMAC256},
}

// tagESN asks for sequence numbers of 64 bits; it is ours.
const tagESN = "EXTENDED_SEQUENCE_NUMBERS"

var modeChoices = []choice[ipsec.Mode]{{"TUNNEL", ipsec.Tunnel}, {"TRANSPORT", ipsec.Transport}}

// transform2 reads an IPsec-transform section for a protocol. One section for
// ESP and for AH would not mean the same: it is remembered with its protocol.
func (l *loader) transform2(ref value, proto ipsec.Proto) *Phase2Transform {
	v, ok := l.open(roleTransform2, ref)
	if !ok {
		return nil
	}
	memoName := proto.String() + "/" + fold(v.name)
	if t, ok := l.transforms2[memoName]; ok {
		return t
	}
	t := &Phase2Transform{Name: v.name, Proto: proto, Mode: ipsec.Tunnel}
	l.transforms2[memoName] = t
	if x := v.get("ENCAPSULATION_MODE"); x.text != "" {
		t.Mode, _ = oneOf(l, x, "ENCAPSULATION_MODE", modeChoices)
	}
	macOK := true
	if x := v.get("AUTHENTICATION_ALGORITHM"); x.text != "" {
		t.Auth, macOK = oneOf(l, x, "AUTHENTICATION_ALGORITHM", macChoices)
	}
	if x := v.get("GROUP_DESCRIPTION"); x.text != "" {
		t.Group, _ = l.group(x)
	}
	if x := v.get(tagESN); x.text != "" {
		t.ESN, _ = oneOf(l, x, "value of "+tagESN, []choice[bool]{{"yes", true}, {"no", false}})
	}
	t.LifeSeconds, t.LifeKilobytes = l.lifetimes(v)
	x, ok := l.need(v, "TRANSFORM_ID", "write TRANSFORM_ID=AES")
	switch {
	case !ok:
	case proto == ipsec.ProtoAH:
		l.readAH(t, v, x)
	case proto == ipsec.ProtoIPComp:
		l.readIPComp(t, v, x)
	default:
		l.readESP(t, v, x, macOK)
	}
	return t
}

func (l *loader) readAH(t *Phase2Transform, v view, x value) {
	var ok bool
	if t.AH, ok = oneOf(l, withoutPrefix(x, "AH_"), "TRANSFORM_ID of AH", ahChoices); !ok {
		return
	}
	if mac := v.get("AUTHENTICATION_ALGORITHM"); mac.text != "" && t.Auth != 0 && t.Auth != ahAuth[t.AH] {
		l.fail(mac, "write AUTHENTICATION_ALGORITHM="+ahAuth[t.AH].String()+", or remove the line", "AH with TRANSFORM_ID %s authenticates by %s, not %s", t.AH, ahAuth[t.AH], t.Auth)
	}
	t.Auth = ahAuth[t.AH]
	if k := v.get("KEY_LENGTH"); k.text != "" {
		l.fail(k, "remove KEY_LENGTH", "AH has no cipher whose key has a length")
	}
}

func (l *loader) readIPComp(t *Phase2Transform, v view, x value) {
	t.IPComp, _ = oneOf(l, withoutPrefix(x, "IPCOMP_"), "TRANSFORM_ID of IPComp", ipcompChoices)
	for _, tag := range []string{"AUTHENTICATION_ALGORITHM", "KEY_LENGTH", tagESN} {
		if x := v.get(tag); x.text != "" {
			l.fail(x, "remove "+tag, "IPComp compresses: it has no key and no sequence numbers")
		}
	}
	t.Auth, t.ESN = 0, false
}

func (l *loader) readESP(t *Phase2Transform, v view, x value, macOK bool) {
	var ok bool
	if t.ESP, ok = oneOf(l, withoutPrefix(x, "ESP_"), "TRANSFORM_ID of ESP", espChoices); !ok {
		return
	}
	t.KeyLength = l.keyLength(v, espKeys[t.ESP])
	mac := v.get("AUTHENTICATION_ALGORITHM")
	switch {
	case t.ESP == doi.ESPNull && t.Auth == 0 && macOK:
		l.fail(x, "write AUTHENTICATION_ALGORITHM=, or take a cipher", "transform %s neither encrypts nor authenticates", clip(t.Name))
	case combined(t.ESP) && t.Auth != 0:
		l.fail(mac, "remove AUTHENTICATION_ALGORITHM", "%s authenticates by itself", t.ESP)
	case t.Auth >= doi.AuthAESGMAC128:
		l.fail(mac, "write TRANSFORM_ID=AES_GMAC and no AUTHENTICATION_ALGORITHM", "%s authenticates AH alone", t.Auth)
	}
}

// withoutPrefix takes the ESP_, AH_ or IPCOMP_ off that the RFCs have before the names.
func withoutPrefix(x value, prefix string) value {
	if len(x.text) > len(prefix) && fold(x.text[:len(prefix)]) == fold(prefix) {
		x.text = x.text[len(prefix):]
	}
	return x
}
