package policy_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"oakley/internal/policy"
)

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// pki is what the policies of the FAQ speak of.
type pki struct {
	ca, sub, other       *pair // other has the CA's name and not its key
	gateway, imposter    *pair // signed by ca: gw.worksite.se and somebody else
	mobile, faked, leafs *pair // by sub; by other; by gateway, which is no CA
}

func name(cn string) pkix.Name {
	return pkix.Name{Country: []string{"SE"}, Organization: []string{"Worksite A/S"}, CommonName: cn}
}

var serial int64

func issue(t testing.TB, by *pair, change func(*x509.Certificate)) *pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	serial++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), BasicConstraintsValid: true,
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	change(c)
	p := &pair{key: key}
	if by == nil {
		by = &pair{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return p
}

func authority(cn string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.KeyUsage = name(cn), true, x509.KeyUsageCertSign
	}
}

func leaf(cn string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject, c.DNSNames = name(cn), []string{cn} }
}

var makePKI = sync.OnceValue(func() *pki {
	var t testing.T // failures panic
	p := &pki{ca: issue(&t, nil, authority("Worksite CA")), other: issue(&t, nil, authority("Worksite CA"))}
	p.sub = issue(&t, p.ca, func(c *x509.Certificate) {
		authority("Mobile CA")(c)
		c.MaxPathLenZero = true
	})
	p.gateway = issue(&t, p.ca, leaf("gw.worksite.se"))
	p.imposter = issue(&t, p.ca, leaf("imposter.example"))
	p.mobile = issue(&t, p.sub, leaf("ann.worksite.se"))
	p.faked = issue(&t, p.other, leaf("gw.worksite.se"))
	p.leafs = issue(&t, p.gateway, leaf("ann.worksite.se"))
	return p
})

// licensee is a certificate as a policy has it, on lines of its own.
func (p *pair) licensee() string {
	text := base64.StdEncoding.EncodeToString(p.cert.Raw)
	var b strings.Builder
	b.WriteString(`"x509-base64:`)
	for len(text) > 56 {
		b.WriteString(text[:56] + "\\\n\t")
		text = text[56:]
	}
	b.WriteString(text + `"`)
	return b.String()
}

// certificates adds to a policy what is in the CA directory and what the peer sent.
func certificates(t testing.TB, p *policy.Policy, ca *pair, sent ...*pair) *policy.Policy {
	t.Helper()
	var certs []*x509.Certificate
	for _, s := range sent {
		certs = append(certs, s.cert)
	}
	with, l := p.With(policy.FromCertificates(certs, []*x509.Certificate{ca.cert}))
	if len(l) > 0 {
		t.Fatal(l)
	}
	return with
}

var keyBits = regexp.MustCompile(`(rsa-hex:|x509-base64:)[0-9A-Za-z+/=]+(\.\.\.)?`)

// stable takes out of a text what is different in every run.
func stable(s string) string { return keyBits.ReplaceAllString(s, "${1}KEY") }

func TestCredentialsOfCertificates(t *testing.T) {
	p := makePKI()
	trusted := []*x509.Certificate{p.ca.cert}
	count := func(certs ...*pair) int {
		var l []*x509.Certificate
		for _, c := range certs {
			l = append(l, c.cert)
		}
		as := policy.FromCertificates(l, trusted)
		for _, a := range as {
			if !strings.Contains(a.Text(), `app_domain == "IPsec policy" && GMTTimeOfDay >= "20260101000000" && GMTTimeOfDay <= "20261231235959"`) {
				t.Errorf("%s", a.Text())
			}
		}
		return len(as)
	}
	ip := func(c *x509.Certificate) { c.Subject, c.IPAddresses = pkix.Name{}, []net.IP{{192, 0, 2, 1}} }
	limited := issue(t, p.ca, func(c *x509.Certificate) {
		authority("Limited CA")(c)
		c.PermittedDNSDomains = []string{"worksite.se"}
	})
	strange := issue(t, p.ca, func(c *x509.Certificate) {
		leaf("strange")(c)
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 9999, 1}, Critical: true, Value: []byte{5, 0}}}
	})
	for _, x := range []struct {
		what  string
		certs []*pair
		want  int
	}{
		{"nothing", nil, 0},
		{"the CA itself, signed by itself", []*pair{p.ca}, 0},
		{"by key and by name", []*pair{p.gateway}, 2},
		{"a chain, in whatever order", []*pair{p.mobile, p.sub}, 4},
		{"the link is missing", []*pair{p.mobile}, 0},
		{"by a CA with the name of ours", []*pair{p.faked, p.other}, 0},
		{"by a certificate that is no CA's", []*pair{p.gateway, p.leafs}, 2},
		{"a CA below one that may have none", []*pair{p.sub, issue(t, p.sub, authority("Deep CA"))}, 2},
		{"no subject: by key alone", []*pair{issue(t, p.ca, ip)}, 1},
		{"by a CA that may not sign every name", []*pair{limited, issue(t, limited, leaf("gw.example"))}, 2},
		{"an extension that is critical and unknown", []*pair{strange}, 0},
	} {
		if got := count(x.certs...); got != x.want {
			t.Errorf("%s: %d credentials, wanted %d", x.what, got, x.want)
		}
	}
}
