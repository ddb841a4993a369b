package policy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/policy"
)

type change = func(*policy.Query)

// also is one change after the other.
func also(changes ...change) change {
	return func(q *policy.Query) {
		for _, c := range changes {
			c(q)
		}
	}
}

func unchanged(*policy.Query) {}

// base is a tunnel between the networks of the how-to with AES and HMAC-SHA, at
// one in the afternoon, by who knows the key.
func base() *policy.Query {
	return &policy.Query{
		Exchange: doi.ExchangeMain, Group: doi.GroupMODP2048,
		Identity:  policy.ID{Type: doi.IDIPv4Addr, Data: []byte{192, 0, 2, 2}},
		Local:     policy.Network(netip.MustParsePrefix("192.168.1.0/24"), false, 0, 0),
		Remote:    policy.Network(netip.MustParsePrefix("192.168.2.0/24"), false, 0, 0),
		LocalAddr: netip.MustParseAddr("192.0.2.1"), RemoteAddr: netip.MustParseAddr("192.0.2.2"),
		Protocols: []policy.Protocol{{
			Proto: doi.ProtoESP, ID: uint8(doi.ESPAES), Auth: doi.AuthHMACSHA1, KeyBits: 128, Seconds: 1200,
		}},
		Now:        time.Date(2026, 11, 20, 13, 0, 0, 0, time.FixedZone("CET", 3600)),
		Requesters: policy.Passphrase([]byte("mekmitasdigoat")),
	}
}

func key(psk string) change {
	return func(q *policy.Query) { q.Requesters = policy.Passphrase([]byte(psk)) }
}

func esp(id doi.ESP, auth doi.AuthAlg, bits int) change {
	return func(q *policy.Query) {
		q.Protocols[0].ID, q.Protocols[0].Auth, q.Protocols[0].KeyBits = uint8(id), auth, bits
	}
}

func ah(q *policy.Query) {
	q.Protocols = []policy.Protocol{{Proto: doi.ProtoAH, ID: uint8(doi.AHSHA1), Auth: doi.AuthHMACSHA1}}
}

func pfs(g doi.Group) change     { return func(q *policy.Query) { q.PFS = g } }
func life(seconds uint64) change { return func(q *policy.Query) { q.Protocols[0].Seconds = seconds } }
func aggressive(q *policy.Query) { q.Exchange = doi.ExchangeAggressive }
func on(t time.Time) change      { return func(q *policy.Query) { q.Now = t } }
func hour(h, minute int) change {
	return on(time.Date(2026, 11, 20, h, minute, 0, 0, time.FixedZone("CET", 3600)))
}
func from(f policy.Filter) change     { return func(q *policy.Query) { q.Remote = f } }
func to(f policy.Filter) change       { return func(q *policy.Query) { q.Local = f } }
func dn(name string) change           { return func(q *policy.Query) { q.Requesters = []string{"DN:" + name} } }
func net(prefix string) policy.Filter { return port(prefix, 0, 0) }

func port(prefix string, protocol uint8, n uint16) policy.Filter {
	p := netip.MustParsePrefix(prefix)
	return policy.Network(p, p.IsSingleIP(), protocol, n)
}

// samples say of each what it lets in and what it refuses.
var samples = map[string][]struct {
	what   string
	allow  bool
	change change
}{
	"howto": {
		{"ESP", true, unchanged},
		{"ESP with DES", true, esp(doi.ESPDES, doi.AuthHMACMD5, 0)},
		{"AH alone", false, ah},
		{"another key", false, key("other")},
	},
	"strong": {
		{"AES-128 with HMAC-SHA", true, unchanged},
		{"AES-256 with HMAC-SHA2-256", true, esp(doi.ESPAES, doi.AuthHMACSHA2256, 256)},
		{"AES-CTR", true, esp(doi.ESPAESCTR, doi.AuthHMACSHA2512, 256)},
		{"AES-GCM", true, esp(doi.ESPAESGCM16, 0, 128)},
		{"AES without authentication", false, esp(doi.ESPAES, 0, 128)},
		{"AES with HMAC-MD5", false, esp(doi.ESPAES, doi.AuthHMACMD5, 128)},
		{"GMAC, which does not encrypt", false, esp(doi.ESPNullAESGMAC, 0, 128)},
		{"3DES", false, esp(doi.ESP3DES, doi.AuthHMACSHA1, 0)},
		{"no encryption", false, esp(doi.ESPNull, doi.AuthHMACSHA1, 0)},
		{"AH alone", false, ah},
		{"another key", false, key("other")},
	},
	"pfs": {
		{"group 14", true, pfs(doi.GroupMODP2048)},
		{"a curve", true, pfs(doi.GroupCurve25519)},
		{"no PFS", false, unchanged},
		{"group 5", false, pfs(doi.GroupMODP1536)},
		{"a short curve", false, pfs(doi.GroupECP192)},
		{"keys of a day", false, also(pfs(doi.GroupMODP2048), life(86400))},
		{"keys for ever", false, also(pfs(doi.GroupMODP2048), life(0))},
		{"aggressive mode", false, also(pfs(doi.GroupMODP2048), aggressive)},
	},
	"networks": {
		{"mail from the branch's network", true, to(port("192.168.1.25/32", 6, 25))},
		{"mail from one of its hosts", true, also(from(net("192.168.2.7/32")), to(port("192.168.1.25/32", 6, 25)))},
		{"the administrators", true, from(net("192.168.2.240/28"))},
		{"all of both networks", false, unchanged},
		{"mail from elsewhere", false, also(from(net("192.168.3.0/24")), to(port("192.168.1.25/32", 6, 25)))},
		{"mail from more than the branch", false, also(from(net("192.168.2.0/23")), to(port("192.168.1.25/32", 6, 25)))},
		{"another port", false, to(port("192.168.1.25/32", 6, 80))},
		{"all ports", false, to(net("192.168.1.25/32"))},
		{"another host", false, to(port("192.168.1.26/32", 6, 25))},
		{"the administrators, without encryption", false, also(from(net("192.168.2.240/28")), esp(doi.ESPNull, doi.AuthHMACSHA1, 0))},
	},
	"hours": {
		{"at one", true, unchanged},
		{"at seven", true, hour(7, 0)},
		{"at one to seven", true, hour(18, 59)},
		{"before seven", false, hour(6, 59)},
		{"at seven in the evening", false, hour(19, 0)},
		{"after the end of the contract", false, on(time.Date(2027, 7, 1, 13, 0, 0, 0, time.UTC))},
		{"keys of a day", false, life(86400)},
	},
	"mobile": {
		{"Ann to the servers", true, also(dn("/C=SE/O=Worksite/CN=Ann Andersson"), from(net("203.0.113.9/32")))},
		{"Bo, by IPv6", true, also(dn("/C=SE/O=Worksite/CN=Bo Berg"), from(net("2001:db8::9/128")))},
		{"Carin to everything", true, also(dn("/C=SE/O=Worksite/CN=Carin Carlsson"), to(net("0.0.0.0/0")))},
		{"Ann to everything", false, also(dn("/C=SE/O=Worksite/CN=Ann Andersson"), from(net("203.0.113.9/32")), to(net("0.0.0.0/0")))},
		{"Ann for a whole network", false, dn("/C=SE/O=Worksite/CN=Ann Andersson")},
		{"Carin without encryption", false, also(dn("/C=SE/O=Worksite/CN=Carin Carlsson"), esp(doi.ESPNull, doi.AuthHMACSHA1, 0))},
		{"who has left", false, also(dn("/C=SE/O=Worksite/CN=David Dahl"), from(net("203.0.113.9/32")))},
		{"a pre-shared key", false, unchanged},
	},
	"ca": {
		{"our gateway", true, certified("gw.worksite.se")},
		{"the other one", true, certified("gw.somesite.se")},
		{"whoever else has a certificate", false, certified("imposter.example")},
		{"our gateway, without encryption", false, also(certified("gw.worksite.se"), esp(doi.ESPNull, doi.AuthHMACSHA1, 0))},
		{"a pre-shared key", false, unchanged},
	},
}

var (
	caKey, caKeyErr = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca              = certificate("Worksite CA", nil)
)

func certificate(cn string, by *x509.Certificate) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Country: []string{"SE"}, Organization: []string{"Worksite"}, CommonName: cn},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, IsCA: by == nil,
	}
	if by == nil {
		by = c
	}
	if caKeyErr != nil {
		panic(caKeyErr)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, caKey.Public(), caKey)
	if err != nil {
		panic(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	return c
}

// certified asks with a certificate of the CA, whose name is also the peer's ID.
func certified(name string) change {
	return func(q *policy.Query) {
		q.Requesters = []string{"DN:/C=SE/O=Worksite/CN=" + name}
		q.Identity = policy.ID{Type: doi.IDFQDN, Data: []byte(name)}
	}
}

func TestSamples(t *testing.T) {
	names, err := filepath.Glob("*.policy")
	if err != nil || len(names) != len(samples) {
		t.Errorf("%v (%v), and there are tests for %d", names, err, len(samples))
	}
	about, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for name, asks := range samples {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(name + ".policy")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(about), name+".policy") {
				t.Errorf("doc.go does not say what %s.policy is", name)
			}
			p, remarks := policy.Load(name+".policy", text)
			if p == nil || len(remarks) > 0 {
				t.Fatalf("a sample is to load without a remark:\n%s", remarks)
			}
			let := map[bool]int{}
			for _, x := range asks {
				q := base()
				x.change(q)
				with := p
				if id := string(q.Identity.Data); q.Identity.Type == doi.IDFQDN {
					certs := policy.FromCertificates([]*x509.Certificate{certificate(id, ca)}, []*x509.Certificate{ca})
					if with, remarks = p.With(certs); len(certs) != 2 || len(remarks) > 0 {
						t.Fatalf("%d credentials: %s", len(certs), remarks)
					}
				}
				d := with.Ask(q)
				let[d.Allow]++
				if d.Allow != x.allow {
					t.Errorf("%s: allowed is %v\n%s", x.what, d.Allow, d.Tree())
				}
			}
			if let[true] == 0 || let[false] == 0 {
				t.Errorf("%d let in, %d refused", let[true], let[false])
			}
		})
	}
}
