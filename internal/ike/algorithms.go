package ike

import (
	"fmt"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// The tables lead from the numbers of the wire to what the data planes know.

var espCiphers = map[doi.ESP]ipsec.Cipher{
	doi.ESPDES:              ipsec.CipherDES,
	doi.ESP3DES:             ipsec.Cipher3DES,
	doi.ESPCAST:             ipsec.CipherCAST,
	doi.ESPBlowfish:         ipsec.CipherBlowfish,
	doi.ESPNull:             ipsec.CipherNull,
	doi.ESPAES:              ipsec.CipherAESCBC,
	doi.ESPAESCTR:           ipsec.CipherAESCTR,
	doi.ESPAESGCM8:          ipsec.CipherAESGCM8,
	doi.ESPAESGCM12:         ipsec.CipherAESGCM12,
	doi.ESPAESGCM16:         ipsec.CipherAESGCM16,
	doi.ESPNullAESGMAC:      ipsec.CipherAESGMAC,
	doi.ESPSkipjack:         ipsec.CipherSkipjack,
	doi.ESPChaCha20Poly1305: ipsec.CipherChaCha20Poly1305,
}

// private tells whether a transform has its number from us and means something
// to our own kind alone.
func private(proto doi.Protocol, id uint8) bool {
	return proto == doi.ProtoESP && (doi.ESP(id) == doi.ESPSkipjack || doi.ESP(id) == doi.ESPChaCha20Poly1305)
}

// espAuths are the values of the authentication attribute for ESP. AES-GMAC is
// none of them (RFC 4543 section 5.3).
var espAuths = map[doi.AuthAlg]ipsec.Auth{
	0:                   ipsec.AuthNone,
	doi.AuthHMACMD5:     ipsec.AuthHMACMD5,
	doi.AuthHMACSHA1:    ipsec.AuthHMACSHA1,
	doi.AuthHMACSHA2256: ipsec.AuthHMACSHA256,
	doi.AuthHMACSHA2384: ipsec.AuthHMACSHA384,
	doi.AuthHMACSHA2512: ipsec.AuthHMACSHA512,
	doi.AuthHMACRIPEMD:  ipsec.AuthHMACRIPEMD160,
	doi.AuthAESXCBC:     ipsec.AuthAESXCBC,
}

// ahTransform is what an AH transform stands for.
type ahTransform struct {
	auth ipsec.Auth
	attr doi.AuthAlg // that has to be with it (RFC 2407 section 4.4.3)
	key  int         // bytes
	salt int         // bytes of keying material behind the key
}

func plainAH(a ipsec.Auth, attr doi.AuthAlg) ahTransform {
	return ahTransform{auth: a, attr: attr, key: a.Info().Key}
}

var ahTransforms = map[doi.AH]ahTransform{
	doi.AHMD5:     plainAH(ipsec.AuthHMACMD5, doi.AuthHMACMD5),
	doi.AHSHA1:    plainAH(ipsec.AuthHMACSHA1, doi.AuthHMACSHA1),
	doi.AHRIPEMD:  plainAH(ipsec.AuthHMACRIPEMD160, doi.AuthHMACRIPEMD),
	doi.AHSHA2256: plainAH(ipsec.AuthHMACSHA256, doi.AuthHMACSHA2256),
	doi.AHSHA2384: plainAH(ipsec.AuthHMACSHA384, doi.AuthHMACSHA2384),
	doi.AHSHA2512: plainAH(ipsec.AuthHMACSHA512, doi.AuthHMACSHA2512),
	doi.AHAESXCBC: plainAH(ipsec.AuthAESXCBC, doi.AuthAESXCBC),
	// RFC 4543 section 5.4: the salt comes from KEYMAT, behind the key.
	doi.AHAESGMAC128: {ipsec.AuthAESGMAC, doi.AuthAESGMAC128, 16, 4},
	doi.AHAESGMAC192: {ipsec.AuthAESGMAC, doi.AuthAESGMAC192, 24, 4},
	doi.AHAESGMAC256: {ipsec.AuthAESGMAC, doi.AuthAESGMAC256, 32, 4},
}

var compressions = map[doi.IPComp]ipsec.Comp{doi.IPCompDeflate: ipsec.CompDeflate}

var ipProtos = map[doi.Protocol]ipsec.Proto{
	doi.ProtoESP: ipsec.ProtoESP, doi.ProtoAH: ipsec.ProtoAH, doi.ProtoIPComp: ipsec.ProtoIPComp,
}

// CipherOf is the data plane's name for an ESP transform, CipherNone when it has
// none.
func CipherOf(id doi.ESP) ipsec.Cipher { return espCiphers[id] }

// AuthOf is the data plane's name for what authenticates under a transform with
// an authentication attribute, AuthNone when it has none.
func AuthOf(proto doi.Protocol, id uint8, attr doi.AuthAlg) ipsec.Auth {
	if proto == doi.ProtoAH {
		return ahTransforms[doi.AH(id)].auth
	}
	return espAuths[attr]
}

// CompOf is the data plane's name for an IPComp transform, CompNone when it has
// none.
func CompOf(id doi.IPComp) ipsec.Comp { return compressions[id] }

// chosenSA is what both sides agreed on for one protocol of a suite.
type chosenSA struct {
	proto     doi.Protocol
	offer     saOffer
	offered   ipsec.Mode // as the transform had it; in a bundle, offer.mode is what it came to
	replay    int
	cipher    ipsec.Cipher
	keyLen    int // bytes of the cipher's key, salt not counted
	auth      ipsec.Auth
	authLen   int // bytes of the authentication key, salt not counted
	salt      int // bytes
	comp      ipsec.Comp
	spi       [4]byte // the peer's
	transform isakmp.Transform
}

// agree makes what the data plane needs of an offer; an error is about what no
// configuration can mend (attack B1: never an SA without a key). withAH says that
// AH authenticates what this protocol does not.
func (o *saOffer) agree(withAH bool) (chosenSA, error) {
	c := chosenSA{proto: o.proto, offer: *o}
	switch o.proto {
	case doi.ProtoESP:
		return c.agreeESP(withAH)
	case doi.ProtoAH:
		return c.agreeAH()
	case doi.ProtoIPComp:
		comp, ok := compressions[doi.IPComp(o.id)]
		if !ok {
			return c, fmt.Errorf("%s is not spoken here", doi.IPComp(o.id))
		}
		if o.auth != 0 || o.keyBits != 0 || o.esn {
			return c, fmt.Errorf("%s has neither key nor sequence numbers", doi.IPComp(o.id))
		}
		c.comp = comp
		return c, nil
	}
	return c, fmt.Errorf("protocol %s is not spoken here", o.proto)
}

func (c chosenSA) agreeESP(withAH bool) (chosenSA, error) {
	o := &c.offer
	cipher, ok := espCiphers[doi.ESP(o.id)]
	if !ok {
		return c, fmt.Errorf("%s is not spoken here", doi.ESP(o.id))
	}
	auth, ok := espAuths[o.auth]
	if !ok {
		return c, fmt.Errorf("ESP with authentication by %s is not spoken here", o.auth)
	}
	i := cipher.Info()
	switch {
	case i.ICV != 0 && auth != ipsec.AuthNone:
		return c, fmt.Errorf("%s authenticates on its own, and %s is asked for besides", cipher, auth)
	case i.ICV == 0 && auth == ipsec.AuthNone && !withAH:
		return c, fmt.Errorf("%s without authentication is refused", cipher)
	case cipher == ipsec.CipherNull && auth == ipsec.AuthNone:
		return c, fmt.Errorf("ESP that neither encrypts nor authenticates is refused")
	}
	c.cipher, c.auth, c.keyLen, c.authLen, c.salt = cipher, auth, i.DefKey, auth.Info().Key, i.Salt
	if o.keyBits != 0 {
		c.keyLen = o.keyBits / 8
	}
	if o.keyBits%8 != 0 || !cipher.KeyLenOK(c.keyLen) {
		return c, fmt.Errorf("a key of %d bits does not fit %s", o.keyBits, cipher)
	}
	if o.keyBits != 0 && i.MinKey == i.MaxKey && cipher != ipsec.CipherChaCha20Poly1305 {
		return c, fmt.Errorf("a key length for %s, whose keys have one length alone", cipher)
	}
	return c, nil
}

func (c chosenSA) agreeAH() (chosenSA, error) {
	o := &c.offer
	t, ok := ahTransforms[doi.AH(o.id)]
	switch {
	case !ok:
		return c, fmt.Errorf("%s is not spoken here", doi.AH(o.id))
	case o.auth != t.attr:
		return c, fmt.Errorf("AH transform %s with authentication %s", doi.AH(o.id), authName(o.auth))
	case o.keyBits != 0: // RFC 4543 section 5.3; the others have one length alone
		return c, fmt.Errorf("a key length for %s, which has one alone", doi.AH(o.id))
	}
	c.auth, c.authLen, c.salt = t.auth, t.key, t.salt
	return c, nil
}

// keyMaterial is how many bytes of KEYMAT an SA takes.
func (c *chosenSA) keyMaterial() int { return c.keyLen + c.salt + c.authLen }

// cut takes KEYMAT apart: the cipher's key, then its salt (RFC 3686 section 5.1,
// RFC 4106 section 8.1), then the key of the authentication (RFC 2407 section
// 4.5); AH's AES-GMAC has its own salt behind its key (RFC 4543 section 5.4).
func (c *chosenSA) cut(sa *ipsec.SA, keymat []byte) {
	take := func(n int) []byte {
		k := keymat[:n:n]
		keymat = keymat[n:]
		return k
	}
	if c.proto == doi.ProtoAH {
		sa.AuthKey, sa.Salt = take(c.authLen), take(c.salt)
		return
	}
	sa.Key, sa.Salt, sa.AuthKey = take(c.keyLen), take(c.salt), take(c.authLen)
}

func (c *chosenSA) String() string {
	s := fmt.Sprintf("%s %s", c.proto, encapsulation(c.offer.mode, c.offer.udp))
	switch {
	case c.proto == doi.ProtoIPComp:
		return s + " " + c.comp.String()
	case c.cipher != ipsec.CipherNone:
		s += " " + c.cipher.String()
		if i := c.cipher.Info(); i.MinKey != i.MaxKey {
			s = fmt.Sprintf("%s-%d", s, c.keyLen*8)
		}
	}
	switch {
	case c.auth == ipsec.AuthAESGMAC:
		s = fmt.Sprintf("%s %s-%d", s, c.auth, c.authLen*8)
	case c.auth != ipsec.AuthNone:
		s += " " + c.auth.String()
	}
	if c.offer.esn {
		s += " ESN"
	}
	return s
}
