package key

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func seeds(f *testing.F) {
	for _, p := range principals(f) {
		f.Add(p)
	}
	for _, c := range []string{"rsa-cert.pem", "dsa-cert.pem", "ec-cert.pem"} {
		f.Add("x509-hex:" + hex.EncodeToString(storedPEM(f, c)))
	}
	for _, s := range []string{"POLICY", "binary-base64:AP8Q", "passphrase-md5-hex:AB", "DN:/C=SE", "private-rsa-hex:30", "spki-hex:30"} {
		f.Add(s)
	}
}

// FuzzCanonical: a canonical form is its own, and what ParsePublic makes of a
// principal has the same.
func FuzzCanonical(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Canonical(s)
		if err != nil {
			return
		}
		if again, err := Canonical(c); err != nil || again != c {
			t.Fatalf("%q is %q, and that %q, %v", s, c, again, err)
		}
		if !IsKey(s) {
			return
		}
		pub, err := ParsePublic(s)
		if err != nil {
			return
		}
		if p, err := FromPublic(pub); err != nil || p != c {
			t.Fatalf("%q is %q, and its key %q, %v", s, c, p, err)
		}
	})
}

// FuzzVerify: nothing verifies but what was signed.
func FuzzVerify(f *testing.F) {
	keys, good := principals(f), map[string]bool{}
	for _, s := range signatures(f) {
		f.Add(keys[s[0]], s[1], under(f, s[1]))
	}
	known := func(signature string) bool {
		_, s, err := signatureScheme(signature)
		if err != nil {
			return false
		}
		name, text, _ := strings.Cut(signature, ":")
		bits, err := s.ascii.decode(name, text)
		return err == nil && good[name+string(bits)]
	}
	for _, s := range signatures(f) {
		_, scheme, err := signatureScheme(s[1])
		must(f, err)
		name, text, _ := strings.Cut(s[1], ":")
		bits, err := scheme.ascii.decode(name, text)
		must(f, err)
		good[name+string(bits)] = true
	}
	f.Fuzz(func(t *testing.T, authorizer, signature string, text []byte) {
		c, err := Canonical(authorizer)
		ours := err == nil && (c == keys["rsa"] || c == keys["dsa"])
		if Verify(authorizer, signature, text) == nil && ours && !known(signature) {
			t.Fatalf("%q verifies", signature)
		}
	})
}

// FuzzParsePrivate: what is read as a private key signs, or is too short to.
func FuzzParsePrivate(f *testing.F) {
	for _, file := range []string{"rsa.pem", "rsa-pkcs8.pem", "dsa.pem", "dsa-pkcs8.pem"} {
		k := private(f, file)
		f.Add(string(stored(f, file)))
		text, err := EncodePrivate(file[:3]+"-hex", k)
		must(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParsePrivate(s)
		if err != nil {
			return
		}
		p, err := Public(k)
		must(t, err)
		pub, err := ParsePublic(p)
		must(t, err)
		alg := "sig-" + p[:3] + "-sha1-hex"
		sig, err := Sign(rand.Reader, alg, k, []byte(alg+":"))
		if err != nil {
			return
		}
		if err := Verify(p, sig, []byte(alg+":")); err != nil && strong(pub) == nil && !errors.Is(err, ErrForged) {
			t.Fatalf("%v", err)
		}
	})
}
