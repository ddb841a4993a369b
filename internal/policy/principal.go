package policy

import (
	"crypto"
	"crypto/md5"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"oakley/internal/keynote/key"
)

// Prefixes of the principals that stand for a pre-shared key.
const (
	passphrasePrefix = "passphrase:"
	md5Prefix        = "passphrase-md5-hex:"
	sha1Prefix       = "passphrase-sha1-hex:"
)

// Passphrase is whom a peer with this pre-shared key stands for: the key itself
// behind "passphrase:", its MD5 and SHA-1 hashes, and the key with nothing before
// it, as the oldest policies have it. The last one is left out where it would read
// as a principal of another kind, and both plain ones where the key is no text.
func Passphrase(psk []byte) []string {
	m, s := md5.Sum(psk), sha1.Sum(psk)
	who := []string{md5Prefix + hex.EncodeToString(m[:]), sha1Prefix + hex.EncodeToString(s[:])}
	text := string(psk)
	if text == "" || strings.IndexByte(text, 0) >= 0 {
		return who
	}
	who = append(who, passphrasePrefix+text)
	if !claimsKind(text) {
		who = append(who, text)
	}
	return who
}

// claimsKind tells whether a text says of itself what kind of principal it is.
func claimsKind(text string) bool {
	kind, _, ok := strings.Cut(strings.ToLower(text), ":")
	kind, _, _ = strings.Cut(kind, "-")
	switch kind {
	case "passphrase", "dn", "rsa", "dsa", "x509", "spki", "binary", "private", "dh", "ecdsa", "ed25519", "elgamal", "pgp":
		return ok
	}
	return text == "POLICY"
}

// Certificate is whom the holder of a certificate's key stands for, once phase 1
// has proven that and the certificate's chain was verified: the subject's
// distinguished name and the key. One without a subject has the key alone.
func Certificate(c *x509.Certificate) []string {
	var who []string
	if dn := dnText(c.RawSubject); dn != "" {
		who = append(who, dnPrefix+dn)
	}
	if k, err := RawKey(c.PublicKey); err == nil {
		who = append(who, k...)
	}
	return who
}

// RawKey is whom the holder of a key stands for: rsa-hex:... for an RSA key. It
// fails for a key that nothing in KeyNote can name, or that is malformed.
func RawKey(pub crypto.PublicKey) ([]string, error) {
	name, err := key.FromPublic(pub)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return []string{name}, nil
}

// keys compares principals: those of package key, and distinguished names.
type keys struct{ key.Keys }

// Canonical is the one name of a principal.
func (k keys) Canonical(principal string) (string, error) {
	if len(principal) > len(dnPrefix) && strings.EqualFold(principal[:len(dnPrefix)], dnPrefix) {
		return dnPrefix + canonicalDN(principal[len(dnPrefix):]), nil
	}
	return k.Keys.Canonical(principal)
}
