package key

import (
	"crypto/dsa" //lint:ignore SA1019 RFC 2792 has DSA, and credentials that are in use are signed with it
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestPrivateKeysGoThereAndBack(t *testing.T) {
	for _, file := range []string{"rsa.pem", "rsa-pkcs8.pem", "dsa.pem", "dsa-pkcs8.pem"} {
		k := private(t, file)
		for _, alg := range []string{"-hex:", "-base64:", "-HEX"} {
			text, err := EncodePrivate(file[:3]+alg, k)
			must(t, err)
			if want := "private-" + file[:3] + "-"; !strings.HasPrefix(text, want) {
				t.Errorf("%s is written %.30s", file, text)
			}
			for _, form := range []string{text, "\n " + text + "\n", text[:30] + wrap(text[30:]), strings.ToUpper(text[:8]) + text[8:]} {
				back, err := ParsePrivate(form)
				must(t, err)
				again, err := EncodePrivate(file[:3]+alg, back)
				must(t, err)
				if again != text {
					t.Errorf("%s%s: another key came back", file, alg)
				}
			}
		}
	}
	if private(t, "dsa.pem").(*dsa.PrivateKey).X.Cmp(private(t, "dsa-pkcs8.pem").(*dsa.PrivateKey).X) != 0 {
		t.Error("PKCS #8 gives another DSA key")
	}
}

func TestGenerate(t *testing.T) {
	for _, c := range []struct {
		alg  string
		bits int
		want string
	}{
		{"rsa-hex:", 1024, ""},
		{"RSA-base64", 1536, ""},
		{"dsa-hex:", 1024, ""},
		{"rsa-hex:", 512, "an RSA key of 512 bits"},
		{"rsa-hex:", MaxModulus + 1, "an RSA key of 16385 bits"},
		{"dsa-hex:", 512, "they have 1024, 2048 or 3072"},
		{"x509-hex:", 2048, "only RSA and DSA keys can be made"},
		{"binary-hex:", 128, "only RSA and DSA keys can be made"},
		{"elgamal-hex:", 1024, "no way to write a key"},
	} {
		k, err := Generate(rand.Reader, c.alg, c.bits)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %d: %v", c.alg, c.bits, err)
			}
			continue
		}
		must(t, err)
		p, err := Public(k)
		must(t, err)
		alg := "sig-" + p[:3] + "-sha1-hex:"
		sig, err := Sign(rand.Reader, alg, k, under(t, alg))
		must(t, err)
		must(t, Verify(p, sig, under(t, sig)))
		var bits int
		switch k := k.(type) {
		case *rsa.PrivateKey:
			bits = k.N.BitLen()
		case *dsa.PrivateKey:
			bits = k.P.BitLen()
		}
		if bits != c.bits {
			t.Errorf("%s: %d bits, not %d", c.alg, bits, c.bits)
		}
	}
}

func TestPrivateKeysThatAreNone(t *testing.T) {
	r, err := EncodePrivate("rsa-hex", private(t, "rsa.pem"))
	must(t, err)
	d := private(t, "dsa.pem").(*dsa.PrivateKey)
	numbers := []*big.Int{n(0), d.P, d.Q, d.G, d.Y, d.X}
	with := func(at int, x *big.Int) string {
		is := slices.Clone(numbers)
		is[at] = x
		return written(t, "private-dsa", is...)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	_, der, _ := strings.Cut(r, ":")
	bits, err := hex.DecodeString(der)
	must(t, err)
	bent := slices.Clone(bits)
	bent[20] ^= 2 // of the modulus
	for _, c := range []struct{ text, want string }{
		{"", "this is no private key"},
		{"private-rsa-hex", "no ASN.1 SEQUENCE"},
		{"private-binary-hex:00", "this is no private key"},
		{"private-x509-hex:00", "this is no private key"},
		{"private-ecdsa-hex:00", "this is no private key"},
		{principals(t)["rsa"], "rsa-hex is a public key"},
		{strings.Repeat("x", MaxText+1), "65536 are the most"},
		{r[:len(r)-1], "not hexadecimal, or its end is cut off"},
		{r[:len(r)-2], "no ASN.1 SEQUENCE"},
		{"private-rsa-base64:" + der, "private-rsa-base64: "},
		{"private-rsa-hex:" + hex.EncodeToString(bent), "do not fit together"},
		{"private-dsa-hex:" + der, "9 INTEGERs instead of 6"},
		{with(0, n(1)), "a version that is not 0"},
		{with(1, odd(100)), "does not divide"},
		{with(2, n(0)), "q of 0 bits"},
		{with(4, n(2)), "not that of its public half"},
		{with(5, n(2)), "not that of its public half"},
		{with(5, n(0)), "not between 0 and q"},
		{with(5, d.Q), "not between 0 and q"},
		{block("CERTIFICATE", bits), `a block "CERTIFICATE"`},
		{block("ENCRYPTED PRIVATE KEY", bits), "is encrypted"},
		{"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "is encrypted"},
		{block("RSA PRIVATE KEY", bits[1:]), "RSA PRIVATE KEY in PEM: this is no ASN.1"},
		{block("PRIVATE KEY", bits), "no PKCS #8"},
	} {
		_, err := ParsePrivate(c.text)
		switch {
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%.60s: %v, not %q", c.text, err, c.want)
		case strings.Contains(err.Error(), der[40:50]):
			t.Errorf("the error has the key in it: %v", err)
		}
	}
}

func TestPKCS8ThatIsNone(t *testing.T) {
	type algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	type info struct {
		Version   int
		Algorithm algorithm
		Key       []byte
	}
	d := private(t, "dsa.pem").(*dsa.PrivateKey)
	params, err := asn1.Marshal([]*big.Int{d.P, d.Q, d.G})
	must(t, err)
	x, err := asn1.Marshal(d.X)
	must(t, err)
	for _, c := range []struct {
		info info
		want string
	}{
		{info{0, algorithm{oidDSA, asn1.RawValue{FullBytes: params}}, x}, ""},
		{info{0, algorithm{oidDSA, asn1.RawValue{FullBytes: params}}, x[1:]}, "no ASN.1 INTEGER"},
		{info{0, algorithm{oidDSA, asn1.RawValue{FullBytes: params}}, []byte{2, 1, 0xff}}, "not between 0 and q"},
		{info{0, algorithm{oidDSA, asn1.NullRawValue}, x}, "DSA parameters"},
		{info{0, algorithm{ID: oidDSA}, x}, "DSA parameters"},
		{info{0, algorithm{oidRSA, asn1.NullRawValue}, x}, "no ASN.1 SEQUENCE"},
		{info{0, algorithm{ID: asn1.ObjectIdentifier{1, 3, 101, 112}}, x}, "neither RSA nor DSA"},
	} {
		der, err := asn1.Marshal(c.info)
		must(t, err)
		_, err = decodePKCS8(der)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, not %q", err, c.want)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	for _, c := range []struct {
		alg, file, want string
	}{
		{"sig-dsa-sha1-hex:", "rsa.pem", "made with a DSA key, and the private key is an RSA key"},
		{"sig-x509-sha1-hex:", "dsa.pem", "made with an RSA key"},
		{"rsa-hex:", "rsa.pem", "is no signature"},
		{"", "rsa.pem", "is no signature"},
	} {
		_, err := Sign(rand.Reader, c.alg, private(t, c.file), under(t, c.alg))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v", c.alg, c.file, err)
		}
	}
	if _, err := Sign(rand.Reader, "sig-rsa-sha1-hex", private(t, "rsa.pem"), stored(t, "body")); err == nil {
		t.Error("it signs a text without the name of the algorithm")
	}
	if _, err := Sign(rand.Reader, "sig-rsa-sha1-hex", 5, under(t, "sig-rsa-sha1-hex")); err == nil {
		t.Error("5 signs")
	}
	if _, err := EncodePrivate("rsa-hex", 5); err == nil {
		t.Error("5 is a key")
	}
	if _, err := EncodePrivate("dsa-hex", private(t, "rsa.pem")); err == nil {
		t.Error("an RSA key is written as a DSA key")
	}
}
