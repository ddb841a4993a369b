package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/policy"
)

// ask is a query, and whether it is to be allowed.
type ask struct {
	what   string
	allow  bool
	change func(*policy.Query)
	sent   []*pair // certificates of the peer
}

// as makes somebody ask, whose ID is in the certificate.
func as(p *pair) func(*policy.Query) {
	return func(q *policy.Query) {
		q.Requesters = policy.Certificate(p.cert)
		q.Identity = policy.ID{Type: doi.IDFQDN, Data: []byte(p.cert.Subject.CommonName)}
	}
}

// also is one change after the other.
func also(changes ...func(*policy.Query)) func(*policy.Query) {
	return func(q *policy.Query) {
		for _, c := range changes {
			c(q)
		}
	}
}

func key(psk string) func(*policy.Query) {
	return func(q *policy.Query) { q.Requesters = policy.Passphrase([]byte(psk)) }
}

func esp(id doi.ESP, bits int) func(*policy.Query) {
	return func(q *policy.Query) { q.Protocols[0].ID, q.Protocols[0].KeyBits = uint8(id), bits }
}

func ah(id doi.AH, auth doi.AuthAlg) func(*policy.Query) {
	return func(q *policy.Query) {
		q.Protocols = []policy.Protocol{{Proto: doi.ProtoAH, ID: uint8(id), Auth: auth, Mode: ipsec.Transport}}
	}
}

func local(prefix string, protocol uint8, port uint16) func(*policy.Query) {
	return func(q *policy.Query) {
		q.Local = policy.Network(netip.MustParsePrefix(prefix), false, protocol, port)
	}
}

func at(hour, minute int) func(*policy.Query) {
	return func(q *policy.Query) {
		y, m, d := q.Now.Date()
		q.Now = time.Date(y, m, d, hour, minute, 0, 0, q.Now.Location())
	}
}

func unchanged(*policy.Query) {}

// decisions asks a policy everything and writes what is said about refusals.
func decisions(t *testing.T, p *policy.Policy, ca *pair, asks []ask) string {
	t.Helper()
	var b strings.Builder
	for _, x := range asks {
		q := query()
		x.change(q)
		with := p
		if ca != nil {
			with = certificates(t, p, ca, x.sent...)
		}
		d := with.Ask(q)
		if d.Allow != x.allow {
			t.Errorf("%s: allowed is %v\n%s", x.what, d.Allow, d.Tree())
		}
		text := strings.Join(d.Brief(), "\n")
		for _, s := range []string{text, d.Tree()} {
			for _, no := range []string{"mekmitasdigoat", "otherpassword", "foobar", "another key"} {
				if strings.Contains(s, no) {
					t.Errorf("%s: a passphrase is shown:\n%s", x.what, s)
				}
			}
		}
		fmt.Fprintf(&b, "# %s\n%s\n\n", x.what, text)
	}
	return stable(b.String())
}

func TestSeedPolicies(t *testing.T) {
	p := makePKI()
	const espOnly = `app_domain == "IPsec policy" && esp_present == "yes" && esp_enc_alg != "null"`
	wrongKey := ask{what: "another pre-shared key", change: key("another key")}
	for _, x := range []struct {
		name, text string
		ca         *pair
		asks       []ask
	}{
		{"1-everything", `Authorizer: "POLICY"` + "\n", nil, []ask{
			{what: "anything", allow: true, change: ah(doi.AHMD5, doi.AuthHMACMD5)},
			{what: "nobody was authenticated", change: func(q *policy.Query) { q.Requesters = nil }},
		}},
		{"2-passphrase", `Comment: whoever knows the key, with encryption
Authorizer: "POLICY"
Licensees: "passphrase:mekmitasdigoat"
Conditions: ` + espOnly + ` -> "true";
`, nil, []ask{
			{what: "ESP with AES", allow: true, change: unchanged},
			{what: "ESP without encryption", change: esp(doi.ESPNull, 0)},
			{what: "AH alone", change: ah(doi.AHSHA1, doi.AuthHMACSHA1)},
			wrongKey,
		}},
		{"3-subpolicies", `Authorizer: "POLICY"
Licensees: "subpolicy1" || "subpolicy2"
Conditions: app_domain == "IPsec policy";

KeyNote-Version: 2
Comment: those with the first key
Licensees: "passphrase-sha1-hex:2b22e9ad9c4d05f592e1c0ed8d9ee3a0e9c3b5ee" || "passphrase:mekmitasdigoat"
Conditions: esp_present == "yes" -> "true";
Authorizer: "subpolicy1"

Comment: those with the second key
Conditions: ah_present == "yes" -> {
		ah_auth_alg == "hmac-md5" -> "true";
		ah_auth_alg == "hmac-sha" && esp_present == "no" -> "true";
	};
Licensees: "passphrase:otherpassword"
Authorizer: "subpolicy2"
`, nil, []ask{
			{what: "the first key, ESP", allow: true, change: unchanged},
			{what: "the second key, AH", allow: true, change: also(key("otherpassword"), ah(doi.AHSHA1, doi.AuthHMACSHA1))},
			{what: "the first key, AH", change: ah(doi.AHSHA1, doi.AuthHMACSHA1)},
			{what: "the second key, AH with SHA2", change: also(key("otherpassword"), ah(doi.AHSHA2256, doi.AuthHMACSHA2256))},
			wrongKey,
		}},
		{"4-ca", `Comment: whoever has a certificate of ours
Authorizer: "POLICY"
Licensees: ` + p.ca.licensee() + `
Conditions: ` + espOnly + ` -> "true";
`, p.ca, []ask{
			{what: "the gateway", allow: true, change: as(p.gateway), sent: []*pair{p.gateway}},
			{what: "anybody with a certificate of that CA: the FAQ's attack", allow: true, change: as(p.imposter), sent: []*pair{p.imposter}},
			{what: "through a CA below it", allow: true, change: as(p.mobile), sent: []*pair{p.mobile, p.sub}},
			{what: "a CA of the same name with another key", change: as(p.faked), sent: []*pair{p.faked, p.other}},
			{what: "the certificate is not sent", change: as(p.gateway)},
			{what: "after its time", change: also(as(p.gateway), func(q *policy.Query) { q.Now = q.Now.AddDate(1, 0, 0) }), sent: []*pair{p.gateway}},
			{what: "without encryption", change: also(as(p.gateway), esp(doi.ESPNull, 0)), sent: []*pair{p.gateway}},
		}},
		{"4-ca-dn", `Authorizer: "POLICY"
Licensees: "DN:/C=SE/O=Worksite A/S/CN=Worksite CA"
Conditions: ` + espOnly + ` -> "true";
`, p.ca, []ask{
			{what: "the gateway", allow: true, change: as(p.gateway), sent: []*pair{p.gateway}},
			{what: "a CA of the same name with another key", change: as(p.faked), sent: []*pair{p.faked, p.other}},
		}},
		{"5-remote-id", `Comment: our gateways
Authorizer: "POLICY"
Licensees: ` + p.ca.licensee() + `
Conditions: ` + espOnly + ` &&
	(remote_id == "gw.worksite.se" || remote_id == "gw.somesite.se") -> "true";
`, p.ca, []ask{
			{what: "the gateway", allow: true, change: as(p.gateway), sent: []*pair{p.gateway}},
			{what: "another holder of a certificate: the attack fails", change: as(p.imposter), sent: []*pair{p.imposter}},
		}},
		{"6-mobile-dn", `Comment: Ann, wherever she is
Authorizer: "POLICY"
Licensees: "DN:/C=SE/O=Worksite A/S/CN=ann.worksite.se"
Conditions: ` + espOnly + ` &&
	local_filter == "192.168.001.000-192.168.001.255" && local_filter_proto == "tcp" &&
	(local_filter_port == "25" || local_filter_port == "110") &&
	LocalTimeOfDay ~= "^........(0[89]|1[0-7])" -> "true";
`, p.ca, []ask{
			{what: "mail at one o'clock", allow: true, change: also(as(p.mobile), local("192.168.1.0/24", 6, 25))},
			{what: "another service", change: also(as(p.mobile), local("192.168.1.0/24", 6, 80))},
			{what: "another network", change: also(as(p.mobile), local("192.168.9.0/24", 6, 25))},
			{what: "in the evening", change: also(as(p.mobile), local("192.168.1.0/24", 6, 25), at(18, 0))},
			{what: "somebody else", change: also(as(p.gateway), local("192.168.1.0/24", 6, 25))},
		}},
		{"howto", `KeyNote-Version: 2
Comment: This policy accepts ESP SAs from a remote that uses the right password
Authoriser: "POLICY"
Licensees: "mekmitasdigoat"
Conditions: app_domain == "IPSec policy" &&
 esp_present == "yes" -> "true";
`, nil, []ask{
			{what: "ESP", allow: true, change: unchanged},
			{what: "AH alone", change: ah(doi.AHSHA1, doi.AuthHMACSHA1)},
			wrongKey,
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			matches(t, "testdata/seeds/"+x.name+".txt", decisions(t, load(t, x.text), x.ca, x.asks))
		})
	}
}
