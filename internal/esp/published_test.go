package esp

import (
	"bytes"
	"crypto/subtle"
	"testing"

	"oakley/internal/ipsec"
)

// cbcVectors are published samples of whole chains.
var cbcVectors = []struct {
	source                 string
	cipher                 ipsec.Cipher
	key, iv, plain, secret string
}{
	{
		"FIPS 81 appendix C", ipsec.CipherDES, "0123456789abcdef", "1234567890abcdef",
		"4e6f77206973207468652074696d6520666f7220616c6c20",
		"e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6",
	},
	{
		"Blowfish, the author's vectors", ipsec.CipherBlowfish, "0123456789abcdeff0e1d2c3b4a59687", "fedcba9876543210",
		"37363534333231204e6f77206973207468652074696d6520666f722000000000",
		"6b77b4d63006dee605b156e27403979358deb9e7154616d959f1652bd5ff92cc",
	},
	{
		"RFC 3602 section 4, case 1", ipsec.CipherAESCBC, "06a9214036b8a15b512e03d534120006", "3dafba429d9eb430b422da802c9fac41",
		"53696e676c6520626c6f636b206d7367", "e353779c1079aeb82708942dbe77181a",
	},
	{
		"NIST SP 800-38A F.2.1", ipsec.CipherAESCBC, "2b7e151628aed2a6abf7158809cf4f3c", "000102030405060708090a0b0c0d0e0f", nistPlain,
		"7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2" +
			"73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
	},
	{
		"NIST SP 800-38A F.2.3", ipsec.CipherAESCBC, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", "000102030405060708090a0b0c0d0e0f", nistPlain,
		"4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a" +
			"571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
	},
	{
		"NIST SP 800-38A F.2.5", ipsec.CipherAESCBC, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f", nistPlain,
		"f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d" +
			"39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
	},
}

const nistPlain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51" +
	"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"

// blockVectors are published samples of single blocks. What goes into the chain
// is each block mixed with the ciphertext before it, which the chain takes out
// again.
var blockVectors = []struct {
	source             string
	cipher             ipsec.Cipher
	key, plain, secret string
}{
	{
		"NIST SP 800-67 appendix B.1", ipsec.Cipher3DES, "0123456789abcdef23456789abcdef01456789abcdef0123",
		"54686520717566636b2062726f776e20666f78206a756d70",
		"a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900",
	},
	{
		"RFC 2144 appendix B.1, 128 bits", ipsec.CipherCAST, "0123456712345678234567893456789a",
		"0123456789abcdef0123456789abcdef", "238b4fe5847e44b2238b4fe5847e44b2",
	},
	{
		"RFC 2144 appendix B.1, 80 bits", ipsec.CipherCAST, "01234567123456782345",
		"0123456789abcdef0123456789abcdef", "eb6a711a2c02271beb6a711a2c02271b",
	},
	{
		"RFC 2144 appendix B.1, 40 bits", ipsec.CipherCAST, "0123456712",
		"0123456789abcdef0123456789abcdef", "7ac816d16e9b302e7ac816d16e9b302e",
	},
	{
		"NIST, SKIPJACK and KEA specifications 2.0", ipsec.CipherSkipjack, "00998877665544332211",
		"33221100ddccbbaa33221100ddccbbaa", "2587cae27a12d3002587cae27a12d300",
	},
}

// checkChain encrypts and decrypts a chain the way packets are.
func checkChain(t *testing.T, source string, c ipsec.Cipher, key, iv, plain, secret []byte) {
	t.Helper()
	tr, err := New(&ipsec.SA{ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0x1000}, Cipher: c, Key: key})
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	pkt := append(append(make([]byte, baseHeader), iv...), plain...)
	s := scratches.New().(*scratch)
	tr.protect(s, pkt, len(pkt), 0)
	if got := pkt[tr.HeaderLen():]; !bytes.Equal(got, secret) {
		t.Errorf("%s: %x, want %x", source, got, secret)
	}
	if !tr.reveal(s, pkt, len(pkt), 0) || !bytes.Equal(pkt[tr.HeaderLen():], plain) {
		t.Errorf("%s does not undo itself: %x", source, pkt[tr.HeaderLen():])
	}
}

func TestPublishedChains(t *testing.T) {
	for _, v := range cbcVectors {
		checkChain(t, v.source, v.cipher, unhex(t, v.key), unhex(t, v.iv), unhex(t, v.plain), unhex(t, v.secret))
	}
	for _, v := range blockVectors {
		plain, secret := unhex(t, v.plain), unhex(t, v.secret)
		iv := []byte("any  IV.")
		before := append(bytes.Clone(iv), secret...)
		subtle.XORBytes(plain, plain, before)
		checkChain(t, v.source, v.cipher, unhex(t, v.key), iv, plain, secret)
	}
}

// RFC 2410 section 2: NULL is the identity, and has no key and no IV.
func TestNullIsTheIdentity(t *testing.T) {
	for _, a := range Auths() {
		tr := suite{cipher: ipsec.CipherNull, auth: a}.transform(t, false)
		plain := []byte("anybody may read this text")
		pkt := seal(t, tr, plain, 4, 9)
		if tr.HeaderLen() != 8 || !bytes.Equal(pkt[8:][:len(plain)], plain) {
			t.Errorf("%s: %x", a, pkt)
		}
		if inner, _, drop := tr.Open(pkt, 0); drop != ipsec.DropNone || !bytes.Equal(inner, plain) {
			t.Errorf("%s: opened to %x, %v", a, inner, drop)
		}
	}
}

// Every cipher that New takes has a published vector in this package.
func TestEveryCipherHasAVector(t *testing.T) {
	have := map[ipsec.Cipher]bool{
		ipsec.CipherNull: true, ipsec.CipherAESCTR: true, ipsec.CipherChaCha20Poly1305: true,
	}
	for _, v := range cbcVectors {
		have[v.cipher] = true
	}
	for _, v := range blockVectors {
		have[v.cipher] = true
	}
	for _, v := range gcmVectors {
		have[v.cipher] = true
	}
	for _, c := range Ciphers() {
		if !have[c] {
			t.Errorf("%s has none", c)
		}
	}
}
