// Package key is the cryptography of KeyNote (RFC 2704): the keys that name
// principals, and the signatures under credentials, as RFC 2792 writes them and as
// OpenBSD's keynote(1) does where the two differ.
//
// A principal that is a key is written "algorithm:bits". This package reads
//
//	rsa-hex, rsa-base64         an RSA key (RFC 2792 section 3.2)
//	dsa-hex, dsa-base64         a DSA key (section 3.1)
//	binary-hex, binary-base64   bytes without meaning (section 3.3)
//	x509-hex, x509-base64       a certificate, which stands for its public key
//	spki-hex, spki-base64       a SubjectPublicKeyInfo: keys of other algorithms
//
// the first three of which have a form for private keys, with "private-" before
// it. x509 is OpenBSD's, spki ours. Everything else is an opaque name, the
// passphrase and DN principals of isakmpd included.
//
// Signatures are sig-dsa-sha1, sig-rsa-sha1, sig-rsa-md5 (RFC 2792 section 4),
// sig-x509-sha1 (OpenBSD's) and sig-rsa-sha256 (ours), each -hex or -base64.
//
// What is read may come from an enemy: lengths, moduli, exponents and DSA
// parameters are bounded before anything is computed with them.
package key

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Bounds of what is read.
const (
	// MaxText is the most bytes that a key or a signature may have as text.
	MaxText = 64 << 10
	// MaxModulus is the most bits of an RSA modulus.
	MaxModulus = 16384
	// MaxPrime is the most bits of the prime p of DSA. FIPS 186-3 ends at 3072,
	// and at twice this a datagram of signatures would take a third of a second.
	MaxPrime = 4096
	// MinModulus is the fewest bits of either with which a signature counts, and
	// with which keys are made. Shorter keys can be named, but whoever wants to
	// can find their private half.
	MinModulus = 1024
)

// ErrPrivate is what reading a private key as a principal gives.
var ErrPrivate = errors.New("this is a private key, and the public one belongs here; whoever has read this text can sign in its name, so make a new pair")

// Canonical returns the form by which principals are compared: two principals
// are the same exactly if their canonical forms are (RFC 2704 section 4.7, RFC
// 2792 section 2). That of an RSA key is rsa-hex with the modulus first, of a DSA
// key dsa-hex, of a binary identifier binary-hex, in lower case, whatever it was
// written as; a certificate is its public key. The principals of isakmpd are
// text: of passphrase-md5-hex and passphrase-sha1-hex the digits are made lower
// case, of these and passphrase the name. Any other text is itself, unchanged.
//
// It fails when the name of an algorithm is followed by something that is no such
// key, or when the key is a private one.
func Canonical(principal string) (string, error) {
	name, bits, colon := strings.Cut(principal, ":")
	if !colon {
		return principal, nil
	}
	name = strings.ToLower(name)
	if keep, ok := labels[name]; ok {
		return name + ":" + keep(bits), nil
	}
	if _, ok := keyForms[strings.TrimPrefix(name, privatePrefix)]; !ok {
		return principal, nil
	}
	k, err := parse(principal)
	if err != nil {
		return "", err
	}
	return k.canonical()
}

// Keys is this package as keynote.Set wants it.
type Keys struct{}

// Canonical is the function of this name.
func (Keys) Canonical(principal string) (string, error) { return Canonical(principal) }

// Verify is the function of this name.
func (Keys) Verify(authorizer, signature string, message []byte) error {
	return Verify(authorizer, signature, message)
}

// labels are the principals of isakmpd that are compared as text, and what is
// done to the text.
var labels = map[string]func(string) string{
	"passphrase":          func(s string) string { return s },
	"passphrase-md5-hex":  strings.ToLower,
	"passphrase-sha1-hex": strings.ToLower,
}

// IsKey tells whether a principal is written as a key that may sign: everything
// but opaque names and binary identifiers. It does not look at the key.
func IsKey(principal string) bool {
	name, _, colon := strings.Cut(principal, ":")
	f, ok := keyForms[strings.ToLower(name)]
	return ok && colon && f.kind != binaryID
}

// ParsePublic returns the public key that a principal names: *rsa.PublicKey,
// *dsa.PublicKey, or for spki and certificates whatever crypto/x509 makes of it.
func ParsePublic(principal string) (crypto.PublicKey, error) {
	k, err := parse(principal)
	if err != nil {
		return nil, err
	}
	if k.public == nil {
		return nil, fmt.Errorf("%s names no public key that this program can compute with", k.name)
	}
	return k.public, nil
}

// FromPublic returns the canonical principal of a public key.
func FromPublic(pub crypto.PublicKey) (string, error) {
	k, err := of(pub)
	if err != nil {
		return "", err
	}
	return k.canonical()
}

// EncodePublic writes a public key as a principal in the form that alg names, as
// "rsa-base64:"; the colon may be missing.
func EncodePublic(alg string, pub crypto.PublicKey) (string, error) {
	k, err := of(pub)
	if err != nil {
		return "", err
	}
	name, f, err := k.formFor(alg)
	if err != nil {
		return "", err
	}
	der, err := k.encode()
	if err != nil {
		return "", err
	}
	return name + ":" + f.ascii.encode(der), nil
}

// canonical is the key with its bits in the one form that we compare.
func (k *parsed) canonical() (string, error) {
	der, err := k.encode()
	if err != nil {
		return "", err
	}
	return k.form.kind.hexName() + ":" + hex.EncodeToString(der), nil
}
