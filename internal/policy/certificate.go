package policy

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"oakley/internal/keynote"
)

// maxIssued is how deep below a trusted certificate others are looked for.
const maxIssued = 16

// FromCertificates makes credentials of certificates: their issuer says that their
// subject may ask for whatever the issuer may, in IPsec, while the certificate is
// valid; once by the keys of both and once by their names.
//
// Only those count that lead, signature by signature, to one of trusted, the
// certificates of the CA directory: a name is worth what the CA behind it is. The
// others are left out, and so are those that are signed by themselves, and what
// an issuer must not issue (RFC 5280 sections 4.2.1.9 and 6.1.4), or with critical
// extensions or restrictions on names that KeyNote has no words for. Whether they
// are valid today is a condition; whether a trusted one that is signed by itself is,
// and whether any was revoked, is the caller's business.
func FromCertificates(certs, trusted []*x509.Certificate) []*keynote.Assertion {
	var known []issuer
	for _, c := range trusted {
		known = append(known, issuer{c, pathLength(c), true})
	}
	var text strings.Builder
	todo := slices.DeleteFunc(append(slices.Clone(certs), trusted...), selfSigned)
	tried := 0 // of known, by all that are still to do
	for range maxIssued {
		before := len(known)
		todo = slices.DeleteFunc(todo, func(c *x509.Certificate) bool {
			by, ok := find(known[tried:], c)
			if ok {
				text.WriteString(credential(by.cert, c))
				known = append(known, issuer{c, min(by.below-1, pathLength(c)), false})
			}
			return ok
		})
		if tried = before; len(known) == before {
			break
		}
	}
	as, _ := keynote.Parse("certificates", []byte(text.String()), keynote.Pseudo) // what is too long for the engine is left out
	return as
}

// issuer is a certificate that was verified.
type issuer struct {
	cert    *x509.Certificate
	below   int // how many CAs may stand between it and the end of a chain
	trusted bool
}

func pathLength(c *x509.Certificate) int {
	if c.BasicConstraintsValid && (c.MaxPathLen > 0 || c.MaxPathLenZero) {
		return c.MaxPathLen
	}
	return maxIssued
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// find is who issued c.
func find(known []issuer, c *x509.Certificate) (issuer, bool) {
	for _, i := range known {
		if bytes.Equal(i.cert.RawSubject, c.RawIssuer) && i.mayIssue(c) && c.CheckSignatureFrom(i.cert) == nil {
			return i, true
		}
	}
	return issuer{}, false
}

func (i issuer) mayIssue(c *x509.Certificate) bool {
	switch {
	case len(c.UnhandledCriticalExtensions) > 0 || restricted(i.cert):
		return false
	case c.IsCA && i.below < 1:
		return false
	}
	return i.trusted || i.cert.BasicConstraintsValid && i.cert.IsCA
}

// restricted tells whether a CA may issue certificates for some names only.
func restricted(c *x509.Certificate) bool {
	return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+
		len(c.PermittedIPRanges)+len(c.ExcludedIPRanges)+
		len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses)+
		len(c.PermittedURIDomains)+len(c.ExcludedURIDomains) > 0
}

// credential is the text of both assertions.
func credential(by, c *x509.Certificate) string {
	var b strings.Builder
	write := func(authorizer, licensee string) {
		fmt.Fprintf(&b, "Comment: certificate of %s\nAuthorizer: %s\nLicensees: %s\nConditions: %s == %s && GMTTimeOfDay >= %s && GMTTimeOfDay <= %s -> \"true\";\n\n",
			clean(c.Subject.String()), quote(authorizer), quote(licensee), appDomainAttribute, quote(appDomain),
			quote(stamp(c.NotBefore.UTC())), quote(stamp(c.NotAfter.UTC())))
	}
	byKey, err := RawKey(by.PublicKey)
	if cKey, bad := RawKey(c.PublicKey); err == nil && bad == nil {
		write(byKey[0], cKey[0])
	}
	if issuer, subject := dnText(by.RawSubject), dnText(c.RawSubject); issuer != "" && subject != "" {
		write(dnPrefix+issuer, dnPrefix+subject)
	}
	return b.String()
}

// quote writes a text without NUL characters, as all names here are, for KeyNote.
func quote(s string) string {
	literal, _ := keynote.Quote(s)
	return literal
}
