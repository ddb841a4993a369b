package key

import (
	"bytes"
	"crypto"
	"crypto/dsa"   //lint:ignore SA1019 RFC 2792 has DSA, and credentials that are in use are signed with it
	_ "crypto/md5" // sig-rsa-md5
	"crypto/rsa"
	_ "crypto/sha1"   // sig-dsa-sha1, sig-rsa-sha1, sig-x509-sha1
	_ "crypto/sha256" // sig-rsa-sha256
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
)

// ErrForged is that a signature is well formed and not the authorizer's, or not
// over this text.
var ErrForged = errors.New("the signature is not the authorizer's under this text: either the text was changed after it was signed, or another key signed it")

// scheme is a way to sign.
type scheme struct {
	kind  kind // of the key: rsaKey or dsaKey
	hash  crypto.Hash
	block func(crypto.Hash, []byte) []byte // what RSA signs; nil for DSA
	ascii ascii
}

// schemes are RFC 2792 section 6's names, OpenBSD's x509 and our sha256.
var schemes = map[string]scheme{
	"sig-dsa-sha1-hex":      {dsaKey, crypto.SHA1, nil, hexadecimal},
	"sig-dsa-sha1-base64":   {dsaKey, crypto.SHA1, nil, base64},
	"sig-rsa-sha1-hex":      {rsaKey, crypto.SHA1, octets, hexadecimal},
	"sig-rsa-sha1-base64":   {rsaKey, crypto.SHA1, octets, base64},
	"sig-rsa-md5-hex":       {rsaKey, crypto.MD5, octets, hexadecimal},
	"sig-rsa-md5-base64":    {rsaKey, crypto.MD5, octets, base64},
	"sig-x509-sha1-hex":     {rsaKey, crypto.SHA1, shaWithRSA, hexadecimal},
	"sig-x509-sha1-base64":  {rsaKey, crypto.SHA1, shaWithRSA, base64},
	"sig-rsa-sha256-hex":    {rsaKey, crypto.SHA256, digestInfo, hexadecimal},
	"sig-rsa-sha256-base64": {rsaKey, crypto.SHA256, digestInfo, base64},
}

// The blocks that RSA signs after PKCS #1's padding. RFC 2792 section 4.2 says
// nothing about them.

// octets is the digest as an OCTET STRING: what OpenBSD's sig-rsa signs.
func octets(_ crypto.Hash, digest []byte) []byte { return tlv(asn1.TagOctetString, digest) }

// digestInfo is PKCS #1's DigestInfo.
func digestInfo(h crypto.Hash, digest []byte) []byte { return info(hashes[h], digest) }

// shaWithRSA is a DigestInfo with the name of a signature algorithm where that of
// the digest belongs (1.3.14.3.2.15): what OpenBSD's sig-x509 signs.
func shaWithRSA(_ crypto.Hash, digest []byte) []byte { return info(oidSHAWithRSA, digest) }

// blocks are all that a verifier takes: which one was signed is of no importance
// as long as the digest is in it.
var blocks = []func(crypto.Hash, []byte) []byte{octets, digestInfo, shaWithRSA}

var (
	// hashes are the contents of the object identifiers of digests.
	hashes = map[crypto.Hash][]byte{
		crypto.MD5:    {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05},
		crypto.SHA1:   {0x2b, 0x0e, 0x03, 0x02, 0x1a},
		crypto.SHA256: {0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01},
	}
	oidSHAWithRSA = []byte{0x2b, 0x0e, 0x03, 0x02, 0x0f}
)

func info(oid, digest []byte) []byte {
	algorithm := append(tlv(asn1.TagOID, oid), asn1.NullBytes...)
	return tlv(sequence, append(tlv(sequence, algorithm), tlv(asn1.TagOctetString, digest)...))
}

const sequence = asn1.TagSequence | 0x20 // as constructed

// tlv is the DER of something shorter than 128 bytes, as all digests are.
func tlv(tag byte, content []byte) []byte {
	return append([]byte{tag, byte(len(content))}, content...)
}

// Verify tells whether a signature is the authorizer's over a message. Both are
// texts as they stand in an assertion, their quotes and escapes taken away. The
// message is what RFC 2792 section 4 has signed: the assertion up to and including
// the newline before "Signature:", and after it the name of the signature's
// algorithm as it is spelled there, with its colon.
//
// The error is ErrForged when everything is as it should be but the signature.
func Verify(authorizer, signature string, message []byte) error {
	name, s, err := signatureScheme(signature)
	if err != nil {
		return err
	}
	spelled, text, _ := strings.Cut(signature, ":")
	if err := endsIn(message, spelled); err != nil {
		return err
	}
	sig, err := s.ascii.decode(name, text)
	if err != nil {
		return err
	}
	k, err := parse(authorizer)
	if err != nil {
		return fmt.Errorf("the authorizer of a signed assertion is a key: %w", err)
	}
	if k.form.kind != s.kind {
		return fmt.Errorf("a %s signature is made with %s, and the authorizer is %s", name, s.kind, k.form.kind)
	}
	if err := strong(k.public); err != nil {
		return err
	}
	return s.verify(k.public, sig, s.digest(message))
}

// endsIn sees that nobody forgot the name of the algorithm.
func endsIn(message []byte, spelled string) error {
	if !bytes.HasSuffix(message, []byte(spelled+":")) {
		return fmt.Errorf("what is signed ends in the name of the algorithm (RFC 2792 section 4), and this message does not end in %q", spelled+":")
	}
	return nil
}

func (s scheme) digest(message []byte) []byte {
	h := s.hash.New()
	h.Write(message)
	return h.Sum(nil)
}

func (s scheme) verify(pub crypto.PublicKey, sig, digest []byte) error {
	if pub, ok := pub.(*dsa.PublicKey); ok {
		return verifyDSA(pub, sig, digest)
	}
	return s.verifyRSA(pub.(*rsa.PublicKey), sig, digest)
}

// verifyDSA reads r and s (RFC 2792 section 4.1).
func verifyDSA(pub *dsa.PublicKey, sig, digest []byte) error {
	is, err := integers(sig, 2)
	if err != nil {
		return fmt.Errorf("the signature is malformed: %w", err)
	}
	if !dsa.Verify(pub, digest, is[0], is[1]) {
		return ErrForged
	}
	return nil
}

// verifyRSA takes a signature in an OCTET STRING (RFC 2792 section 4.2) and one as
// it is (OpenBSD), and every block in it.
func (s scheme) verifyRSA(pub *rsa.PublicKey, sig, digest []byte) error {
	raw, err := unwrap(sig, pub.Size())
	if err != nil {
		return err
	}
	for _, block := range blocks {
		if rsa.VerifyPKCS1v15(pub, 0, block(s.hash, digest), raw) == nil {
			return nil
		}
	}
	return ErrForged
}

// unwrap finds the signature of size bytes, which is that of the modulus.
func unwrap(sig []byte, size int) ([]byte, error) {
	if len(sig) == size {
		return sig, nil
	}
	var raw []byte
	rest, err := asn1.Unmarshal(sig, &raw)
	if err != nil || len(rest) > 0 || len(raw) != size {
		return nil, fmt.Errorf("the signature has %d bytes, and one of this RSA key has %d, with or without an OCTET STRING around it", len(sig), size)
	}
	return raw, nil
}

// strong refuses keys that others can compute the private half of.
func strong(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return longEnough("an RSA", pub.N)
	case *dsa.PublicKey:
		return longEnough("a DSA", pub.P)
	}
	return fmt.Errorf("keys of type %T cannot sign assertions; RSA and DSA keys can", pub)
}

func longEnough(alg string, modulus *big.Int) error {
	if bits := modulus.BitLen(); bits < MinModulus {
		return fmt.Errorf("signatures of %s key of %d bits count for nothing, since anybody can forge them; %d bits are the least (make a new key with \"keynote keygen\")", alg, bits, MinModulus)
	}
	return nil
}

// signatureScheme finds the scheme of a signature or of the name of one.
func signatureScheme(signature string) (string, scheme, error) {
	name, _, _ := strings.Cut(signature, ":")
	lower := strings.ToLower(name)
	s, ok := schemes[lower]
	if !ok {
		return "", s, fmt.Errorf("%s is no signature: it starts with one of %s and a colon", quoteShort(name), names(schemes))
	}
	return lower, s, nil
}

// Sign signs a message (see Verify) by the algorithm that alg names, as
// "sig-rsa-sha256-base64:", in which the message ends. The colon may be missing in
// alg. The key is an *rsa.PrivateKey or a *dsa.PrivateKey. It returns the signature
// as text, without quotes, the name in it spelled as in alg.
func Sign(rand io.Reader, alg string, private crypto.PrivateKey, message []byte) (string, error) {
	alg = strings.TrimSuffix(alg, ":")
	name, s, err := signatureScheme(alg)
	if err != nil {
		return "", err
	}
	if err := endsIn(message, alg); err != nil {
		return "", err
	}
	k, err := publicOf(private)
	if err != nil {
		return "", err
	}
	if k.form.kind != s.kind {
		return "", fmt.Errorf("a %s signature is made with %s, and the private key is %s", name, s.kind, k.form.kind)
	}
	if err := strong(k.public); err != nil {
		return "", err
	}
	sig, err := s.sign(rand, private, s.digest(message))
	if err != nil {
		return "", fmt.Errorf("cannot sign: %w", err)
	}
	return alg + ":" + s.ascii.encode(sig), nil
}

// sign makes RSA signatures as OpenBSD does, without an OCTET STRING around them:
// its keynote(1) takes no others.
func (s scheme) sign(rand io.Reader, private crypto.PrivateKey, digest []byte) ([]byte, error) {
	if private, ok := private.(*rsa.PrivateKey); ok {
		return rsa.SignPKCS1v15(rand, private, 0, s.block(s.hash, digest))
	}
	r, t, err := dsa.Sign(rand, private.(*dsa.PrivateKey), digest)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal([]*big.Int{r, t})
}
