package key

import (
	"crypto"
	"crypto/dsa" //lint:ignore SA1019 RFC 2792 has DSA, and credentials that are in use are signed with it
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	b64 "encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stored reads a file that openssl wrote.
func stored(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	must(t, err)
	return b
}

func storedPEM(t testing.TB, name string) []byte {
	t.Helper()
	block, _ := pem.Decode(stored(t, name))
	if block == nil {
		t.Fatalf("%s is no PEM", name)
	}
	return block.Bytes
}

func private(t testing.TB, name string) crypto.PrivateKey {
	t.Helper()
	k, err := ParsePrivate(string(stored(t, name)))
	must(t, err)
	return k
}

// canonical is Canonical of what has to be well formed.
func canonical(t testing.TB, principal string) string {
	t.Helper()
	c, err := Canonical(principal)
	must(t, err)
	return c
}

// wrap is a text as an editor may wrap it.
func wrap(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i%20 == 19 {
			b.WriteString("\n\t ")
		}
		b.WriteRune(r)
	}
	return b.String()
}

func TestAllFormsOfOneKeyAreOne(t *testing.T) {
	rsaDER := stored(t, "rsa-public.der")
	var ne []*big.Int
	_, err := asn1.Unmarshal(rsaDER, &ne)
	must(t, err)
	swapped, err := asn1.Marshal([]*big.Int{ne[1], ne[0]})
	must(t, err)
	rsaCert, dsaCert := storedPEM(t, "rsa-cert.pem"), storedPEM(t, "dsa-cert.pem")
	parsedCert, err := x509.ParseCertificate(rsaCert)
	must(t, err)
	d := private(t, "dsa.pem").(*dsa.PrivateKey)
	dsaDER, err := asn1.Marshal([]*big.Int{d.Y, d.P, d.Q, d.G})
	must(t, err)
	std := b64.StdEncoding.EncodeToString
	for want, forms := range map[string][]string{
		"rsa-hex:" + hex.EncodeToString(rsaDER): {
			"rsa-hex:" + hex.EncodeToString(rsaDER),
			"RSA-Hex:" + strings.ToUpper(hex.EncodeToString(rsaDER)),
			"rsa-hex:" + wrap(hex.EncodeToString(rsaDER)),
			"rsa-base64:" + std(rsaDER),
			"RSA-BASE64:" + wrap(std(rsaDER)),
			"rsa-hex:" + hex.EncodeToString(swapped),
			"rsa-base64:" + std(swapped),
			"x509-hex:" + hex.EncodeToString(rsaCert),
			"x509-base64:" + std(rsaCert),
			"X509-base64:" + wrap(std(rsaCert)),
			"spki-hex:" + hex.EncodeToString(parsedCert.RawSubjectPublicKeyInfo),
		},
		"dsa-hex:" + hex.EncodeToString(dsaDER): {
			"dsa-hex:" + hex.EncodeToString(dsaDER),
			"DSA-HEX:" + strings.ToUpper(hex.EncodeToString(dsaDER)),
			"dsa-base64:" + std(dsaDER),
			"x509-base64:" + std(dsaCert),
		},
		"binary-hex:00ff10": {"binary-hex:00ff10", "BINARY-HEX:00FF10", "binary-base64:AP8Q"},
		"binary-hex:":       {"binary-hex:", "binary-base64:"},
	} {
		for _, f := range forms {
			if got := canonical(t, f); got != want {
				t.Errorf("%.60s... is\n%s, not\n%s", f, got, want)
			}
		}
	}
}

func TestOpaqueNamesAreUnchanged(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"POLICY":                  "POLICY",
		"mekmitasdigoat":          "mekmitasdigoat",
		"Key A":                   "Key A",
		"RSA:abc123":              "RSA:abc123", // RFC 2704 section 7's examples
		"DSA:4401FF92":            "DSA:4401FF92",
		"rsa-hex":                 "rsa-hex", // a name without a colon is text
		"rsahex:00":               "rsahex:00",
		"DN:/C=SE/O=A/CN=B":       "DN:/C=SE/O=A/CN=B",
		"dn:/C=se":                "dn:/C=se",
		"passphrase:FooBar: x":    "passphrase:FooBar: x",
		"passphrase":              "passphrase",
		"PassPhrase:FooBar":       "passphrase:FooBar",
		"passphrase-md5-hex:3B1D": "passphrase-md5-hex:3b1d",
		"Passphrase-SHA1-hex:AB":  "passphrase-sha1-hex:ab",
		"passphrase-sha1-HEX:g":   "passphrase-sha1-hex:g",
	} {
		if got := canonical(t, in); got != want {
			t.Errorf("%q is %q, not %q", in, got, want)
		}
	}
}

func TestCertificatesOfOtherAlgorithmsCompare(t *testing.T) {
	der := storedPEM(t, "ec-cert.pem") // on a curve that crypto/x509 does not know
	got := canonical(t, "x509-hex:"+hex.EncodeToString(der))
	if !strings.HasPrefix(got, "spki-hex:30") || canonical(t, got) != got {
		t.Errorf("its principal is %s", got)
	}
	if _, err := ParsePublic(got); err == nil {
		t.Error("a key on an unknown curve can be computed with")
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	for _, pub := range []crypto.PublicKey{&p256.PublicKey, ed} {
		p, err := FromPublic(pub)
		must(t, err)
		back, err := ParsePublic(p)
		must(t, err)
		if !back.(interface{ Equal(crypto.PublicKey) bool }).Equal(pub) {
			t.Errorf("%s is another key", p)
		}
		err = Verify(p, "sig-rsa-sha1-hex:00", under(t, "sig-rsa-sha1-hex"))
		if err == nil || !strings.Contains(err.Error(), "made with an RSA key") {
			t.Errorf("it verifies: %v", err)
		}
	}
	if _, err := FromPublic(5); err == nil {
		t.Error("5 is a key")
	}
}

func TestIsKey(t *testing.T) {
	for in, want := range map[string]bool{
		"rsa-hex:00": true, "X509-Base64:": true, "dsa-base64:x": true, "spki-hex:": true,
		"binary-hex:00": false, "POLICY": false, "passphrase:x": false, "DN:/C=SE": false, "": false,
	} {
		if IsKey(in) != want {
			t.Errorf("%q: %v", in, !want)
		}
	}
}

func TestEncodePublic(t *testing.T) {
	pub := private(t, "rsa.pem").(*rsa.PrivateKey).Public()
	for alg, want := range map[string]string{
		"rsa-hex:":    "rsa-hex:" + hex.EncodeToString(stored(t, "rsa-public.der")),
		"RSA-base64":  "rsa-base64:" + b64.StdEncoding.EncodeToString(stored(t, "rsa-public.der")),
		"dsa-hex:":    "",
		"x509-hex:":   "",
		"spki-hex:":   "",
		"binary-hex:": "",
		"md5":         "",
	} {
		got, err := EncodePublic(alg, pub)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", alg, got, err)
		}
	}
}
