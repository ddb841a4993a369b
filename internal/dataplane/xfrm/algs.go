package xfrm

import (
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// kernelCipher is a cipher in the kernel's words.
type kernelCipher struct {
	cipher  ipsec.Cipher
	name    string
	aead    bool   // with its own ICV, of CipherInfo.ICV bytes
	modules string // what has to be loaded; the kernel tries by itself where modprobe works
}

// kernelCiphers are those of ours that Linux has in ESP. SKIPJACK it never had.
// The key is followed by the salt where RFC 3686, 4106, 4543 and 7634 have one.
var kernelCiphers = []kernelCipher{
	{ipsec.CipherNull, "ecb(cipher_null)", false, "crypto_null"},
	{ipsec.CipherDES, "cbc(des)", false, "des_generic, cbc"},
	{ipsec.Cipher3DES, "cbc(des3_ede)", false, "des_generic, cbc"},
	{ipsec.CipherBlowfish, "cbc(blowfish)", false, "blowfish_generic, cbc"},
	{ipsec.CipherCAST, "cbc(cast5)", false, "cast5_generic, cbc"},
	{ipsec.CipherAESCBC, "cbc(aes)", false, "aes, cbc, echainiv"},
	{ipsec.CipherAESCTR, "rfc3686(ctr(aes))", false, "aes, ctr, seqiv"},
	{ipsec.CipherAESGCM8, "rfc4106(gcm(aes))", true, "aes, gcm, seqiv"},
	{ipsec.CipherAESGCM12, "rfc4106(gcm(aes))", true, "aes, gcm, seqiv"},
	{ipsec.CipherAESGCM16, "rfc4106(gcm(aes))", true, "aes, gcm, seqiv"},
	{ipsec.CipherAESGMAC, "rfc4543(gcm(aes))", true, "aes, gcm, seqiv"},
	{ipsec.CipherChaCha20Poly1305, "rfc7539esp(chacha20,poly1305)", true, "chacha20poly1305, chacha_generic, poly1305_generic"},
}

// kernelAuth is a hash in the kernel's words. What of it is sent is
// AuthInfo.ICV, as its RFC says: the kernel's own idea of SHA2-256 was 96 bits
// for years.
type kernelAuth struct {
	auth    ipsec.Auth
	name    string
	modules string
}

// kernelAuths are those of ours that Linux has in ESP and AH. GMAC in AH (RFC
// 4543) it does not have.
var kernelAuths = []kernelAuth{
	{ipsec.AuthHMACMD5, "hmac(md5)", "md5, hmac"},
	{ipsec.AuthHMACSHA1, "hmac(sha1)", "sha1_generic, hmac"},
	{ipsec.AuthHMACRIPEMD160, "hmac(rmd160)", "rmd160, hmac"},
	{ipsec.AuthHMACSHA256, "hmac(sha256)", "sha256_generic, hmac"},
	{ipsec.AuthHMACSHA384, "hmac(sha384)", "sha512_generic, hmac"},
	{ipsec.AuthHMACSHA512, "hmac(sha512)", "sha512_generic, hmac"},
	{ipsec.AuthAESXCBC, "xcbc(aes)", "xcbc, aes"},
}

const compDeflate = "deflate"

// protoModules are what a protocol needs, for IPv4 and IPv6.
var protoModules = map[ipsec.Proto]string{
	ipsec.ProtoESP:    "esp4, esp6",
	ipsec.ProtoAH:     "ah4, ah6",
	ipsec.ProtoIPComp: "ipcomp, ipcomp6, deflate",
}

func cipherOf(c ipsec.Cipher) *kernelCipher {
	for i := range kernelCiphers {
		if kernelCiphers[i].cipher == c {
			return &kernelCiphers[i]
		}
	}
	return nil
}

func authOf(a ipsec.Auth) *kernelAuth {
	for i := range kernelAuths {
		if kernelAuths[i].auth == a {
			return &kernelAuths[i]
		}
	}
	return nil
}

// transform puts the algorithms and keys of sa into w.
func transform(sa *ipsec.SA, w *wire.SA) {
	if sa.ID.Proto == ipsec.ProtoIPComp {
		w.Comp = &wire.Alg{Name: compDeflate}
		return
	}
	if sa.ID.Proto == ipsec.ProtoESP {
		c := cipherOf(sa.Cipher)
		key := append(append([]byte(nil), sa.Key...), sa.Salt...)
		if c.aead {
			w.AEAD = &wire.AEAD{Name: c.name, Key: key, ICV: uint32(sa.Cipher.Info().ICV * 8)}
			return
		}
		w.Crypt = &wire.Alg{Name: c.name, Key: key}
	}
	if a := authOf(sa.Auth); a != nil {
		w.Auth = &wire.AuthAlg{Name: a.name, Key: sa.AuthKey, Trunc: uint32(sa.Auth.Info().ICV * 8)}
	}
}

// keysOf is the way back: the keys of an SA that the kernel has.
func keysOf(w *wire.SA, to *ipsec.SA) {
	key := func(b []byte) {
		n := max(len(b)-to.Cipher.Info().Salt, 0)
		to.Key, to.Salt = b[:n:n], b[n:]
	}
	switch {
	case w.AEAD != nil:
		key(w.AEAD.Key)
	case w.Crypt != nil:
		key(w.Crypt.Key)
	}
	if w.Auth != nil {
		to.AuthKey = w.Auth.Key
	}
}
