package key

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// principals are the stored keys by the names that testdata/signatures has.
func principals(t testing.TB) map[string]string {
	t.Helper()
	r, err := Public(private(t, "rsa.pem"))
	must(t, err)
	d, err := Public(private(t, "dsa.pem"))
	must(t, err)
	return map[string]string{"rsa": r, "dsa": d}
}

// under is the message that a signature over testdata/body is about.
func under(t testing.TB, signature string) []byte {
	t.Helper()
	name, _, _ := strings.Cut(signature, ":")
	return append(stored(t, "body"), name+":"...)
}

// signatures are those of testdata/body, made by openssl: of every algorithm, and
// of the RSA ones OpenBSD's way, PKCS #1's and in an OCTET STRING.
func signatures(t testing.TB) [][2]string {
	t.Helper()
	var all [][2]string
	in := bufio.NewScanner(bytes.NewReader(stored(t, "signatures")))
	for in.Scan() {
		who, sig, _ := strings.Cut(in.Text(), " ")
		all = append(all, [2]string{who, sig})
	}
	if len(all) < 10 {
		t.Fatalf("only %d signatures", len(all))
	}
	return all
}

func TestSignaturesOfOpenSSLVerify(t *testing.T) {
	keys := principals(t)
	for _, s := range signatures(t) {
		name, bits, _ := strings.Cut(s[1], ":")
		if err := Verify(keys[s[0]], name+":"+wrap(bits), under(t, s[1])); err != nil {
			t.Errorf("%.40s...: %v", s[1], err)
		}
		if err := Verify(keys[s[0]], s[1], under(t, s[1])[1:]); !errors.Is(err, ErrForged) {
			t.Errorf("%.40s... over another text: %v", s[1], err)
		}
	}
}

func TestNoBitOfASignatureMayChange(t *testing.T) {
	keys := principals(t)
	for _, s := range signatures(t) {
		_, scheme, err := signatureScheme(s[1])
		must(t, err)
		name, text, _ := strings.Cut(s[1], ":")
		sig, err := scheme.ascii.decode(name, text)
		must(t, err)
		for i := range sig {
			bent := bytes.Clone(sig)
			bent[i] ^= 1 << (i % 8)
			if Verify(keys[s[0]], name+":"+scheme.ascii.encode(bent), under(t, s[1])) == nil {
				t.Errorf("%.40s... verifies with byte %d changed", s[1], i)
			}
		}
	}
}

func TestTheNameOfTheAlgorithmIsSigned(t *testing.T) {
	keys := principals(t)
	for _, s := range signatures(t) {
		name, bits, _ := strings.Cut(s[1], ":")
		other := swapCase(name) + ":" + bits
		if err := Verify(keys[s[0]], other, under(t, other)); !errors.Is(err, ErrForged) {
			t.Errorf("%s as %s: %v", name, swapCase(name), err)
		}
		if err := Verify(keys[s[0]], s[1], stored(t, "body")); err == nil || !strings.Contains(err.Error(), "ends in the name of the algorithm") {
			t.Errorf("%s: without its name: %v", name, err)
		}
	}
}

func swapCase(s string) string {
	if up := strings.ToUpper(s); up != s {
		return up
	}
	return strings.ToLower(s)
}

func TestWhatIsSignedVerifies(t *testing.T) {
	keys := principals(t)
	for name, s := range schemes {
		for _, alg := range []string{name, name + ":", strings.ToUpper(name) + ":"} {
			who, file := "rsa", "rsa-pkcs8.pem"
			if s.kind == dsaKey {
				who, file = "dsa", "dsa-pkcs8.pem"
			}
			sig, err := Sign(rand.Reader, alg, private(t, file), under(t, alg))
			must(t, err)
			if !strings.HasPrefix(sig, strings.TrimSuffix(alg, ":")+":") {
				t.Errorf("a %s signature starts with %.30s", alg, sig)
			}
			must(t, Verify(keys[who], sig, under(t, sig)))
			if err := Verify(keys[who], sig, under(t, sig)[1:]); !errors.Is(err, ErrForged) {
				t.Errorf("%s over another text: %v", alg, err)
			}
		}
	}
}

// OpenBSD's keynote(1) makes the same RSA signatures, bit by bit, since there is
// nothing random in them.
func TestRSASignaturesAreOpenBSDs(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range signatures(t) {
		name, _, _ := strings.Cut(s[1], ":")
		if s[0] != "rsa" || seen[name] {
			continue
		}
		seen[name] = true
		got, err := Sign(rand.Reader, name, private(t, "rsa.pem"), under(t, name))
		must(t, err)
		if got != s[1] {
			t.Errorf("%s: %s", name, got)
		}
	}
	if len(seen) != 4 {
		t.Errorf("only %v were compared", seen)
	}
}

// The numbers of a credential that OpenBSD's keynote(1) signed with
// sig-rsa-sha1-base64 in 2004: its authorizer, the digest of what is signed, and
// the signature.
func TestSignatureOfOpenBSDVerifies(t *testing.T) {
	const authorizer = "rsa-hex:30818902818100b916a7a91a7a8315bc5b2127d5766b15b0a041310b118be2e6c06042b2" +
		"0c8caa1087275621167f90123f32f280f6b0487f69cb7134e25cd2d3ff54b33f954f4c5b80f649f9e3f6d2" +
		"6cba2dcb86bfa7603b9b5a06c2ddb0e3d9c25fa000f2e3a42dea967bf71c8ee38397ed43ae15a073f86513" +
		"727145a236d680f224c4f8ba270203010001"
	const signature = "890abf3266ffbf260641bb0d524a67281e57de5bf91f4fd8e53eb4b897ba5a19bd2d963085d00140b8" +
		"58696fdc67e356d2671fbe9638f4445c5434e5d5a30460d2a62d27110f1f9c651760761323b3b8add479132" +
		"90ddad24b8b66a4b2c531d7579caf55cfadc5c737396549249aef4936e94999d69bf59ff0dc16bf34731074"
	digest, err := hex.DecodeString("b2d56eed301e3c66c24d2d979344d1ae3a3efca0")
	must(t, err)
	sig, err := hex.DecodeString(signature)
	must(t, err)
	pub, err := ParsePublic(authorizer)
	must(t, err)
	must(t, schemes["sig-rsa-sha1-base64"].verify(pub, sig, digest))
	if got := canonical(t, authorizer); got != authorizer {
		t.Errorf("its canonical form is %s", got)
	}
	digest[19] ^= 1
	if err := schemes["sig-rsa-sha1-base64"].verify(pub, sig, digest); !errors.Is(err, ErrForged) {
		t.Errorf("another digest: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	keys := principals(t)
	for _, c := range []struct{ authorizer, signature, want string }{
		{keys["rsa"], "", "is no signature: it starts with one of"},
		{keys["rsa"], "sig-rsa-sha512-hex:00", "is no signature"},
		{keys["rsa"], "sig-rsa-sha1-hex:0", "odd number"},
		{keys["rsa"], "sig-rsa-sha1-hex:zz", "'z' is no hexadecimal digit"},
		{keys["rsa"], "sig-rsa-sha1-hex:00", "has 1 bytes, and one of this RSA key has 128"},
		{keys["rsa"], "sig-rsa-sha1-base64:AA*A", "'*' is not base64 here (character 3"},
		{keys["rsa"], "sig-rsa-sha1-base64:A=AA", "is not base64 here"},
		{keys["rsa"], "sig-rsa-sha1-base64:AAA", "is the end cut off?"},
		{keys["rsa"], "sig-dsa-sha1-hex:3000", "made with a DSA key, and the authorizer is an RSA key"},
		{keys["dsa"], "sig-rsa-sha1-hex:3000", "made with an RSA key, and the authorizer is a DSA key"},
		{keys["dsa"], "sig-dsa-sha1-hex:3000", "0 INTEGERs instead of 2"},
		{keys["dsa"], "sig-dsa-sha1-hex:300602010102017f00", "1 bytes follow"},
		{keys["dsa"], "sig-dsa-sha1-hex:3006020101020180", "negative"},
		{keys["dsa"], "sig-dsa-sha1-hex:3006020100020100", "not the authorizer's"},
		{"POLICY", "sig-dsa-sha1-hex:3006020100020100", "the authorizer of a signed assertion is a key"},
		{"binary-hex:00", "sig-rsa-sha1-hex:00", "the authorizer is a binary identifier"},
	} {
		err := Verify(c.authorizer, c.signature, under(t, c.signature))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.30s by %.20s: %v", c.signature, c.authorizer, err)
		}
	}
}
