package policy_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oakley/internal/doi"
	"oakley/internal/policy"
)

// load reads a policy without mistakes; warnings are logged.
func load(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, l := policy.Load("isakmpd.policy", []byte(text))
	if p == nil {
		t.Fatalf("%s\n%s", text, l)
	}
	return p
}

// query is what the how-to's west asks of east: its network for east's, ESP with
// AES and HMAC-SHA in tunnel mode, one o'clock in the afternoon of a Saturday.
func query(requesters ...string) *policy.Query {
	if len(requesters) == 0 {
		requesters = policy.Passphrase([]byte("mekmitasdigoat"))
	}
	return &policy.Query{
		Exchange: doi.ExchangeMain, Group: doi.GroupMODP2048,
		Identity:  policy.ID{Type: doi.IDIPv4Addr, Data: []byte{192, 0, 2, 2}},
		Local:     policy.Network(netip.MustParsePrefix("192.168.1.0/24"), false, 0, 0),
		Remote:    policy.Network(netip.MustParsePrefix("192.168.2.0/24"), false, 0, 0),
		LocalAddr: netip.MustParseAddr("192.0.2.1"), RemoteAddr: netip.MustParseAddr("192.0.2.2"),
		Protocols: []policy.Protocol{{
			Proto: doi.ProtoESP, ID: uint8(doi.ESPAES), Auth: doi.AuthHMACSHA1, KeyBits: 128, Seconds: 1200, Kilobytes: 50000,
		}},
		Now:        time.Date(2026, 11, 21, 13, 5, 9, 0, time.FixedZone("CET", 3600)),
		Requesters: requesters,
	}
}

// TestRefusals: of several proposals each is told what it lacked, and what holds for
// all is told once.
func TestRefusals(t *testing.T) {
	p := load(t, `Authorizer: "POLICY"
Licensees: "passphrase:mekmitasdigoat"
Conditions: esp_enc_alg == "aes" && esp_key_length == "256" && remote_filter == "192.168.002.000-192.168.002.255" -> "true";
`)
	const (
		who  = "refused to the holder of the pre-shared key (passphrase:***)"
		what = "what to do: let both peers' Suites= in isakmpd.conf have what the test asks for, or change the test"
		line = "isakmpd.policy:1: line 3: "
	)
	elsewhere := func(q *policy.Query) { q.Remote = policy.Filter{} }
	for _, x := range []struct {
		proposals []func(*policy.Query)
		want      []string
	}{
		{[]func(*policy.Query){also(esp(doi.ESPAES, 256), elsewhere), also(esp(doi.ESPAES, 256), elsewhere)}, []string{
			who,
			line + `remote_filter == "192.168.002.000-192.168.002.255" is false: remote_filter is "192.000.002.002"`,
			`the conditions asked about esp_enc_alg="aes" esp_key_length="256" remote_filter="192.000.002.002"`,
			"what to do: the tunnel is for other networks than the test allows: correct the Remote-ID= of the connection here and the Local-ID= at the peer, or the test",
		}},
		{[]func(*policy.Query){esp(doi.ESP3DES, 0), esp(doi.ESPAES, 128), esp(doi.ESPAES, 128)}, []string{
			who,
			"ESP 3des cbc hmac-sha: " + line + `esp_enc_alg == "aes" is false: esp_enc_alg is "3des"`,
			`ESP 3des cbc hmac-sha: the conditions asked about esp_enc_alg="3des" esp_key_length="0" remote_filter="192.168.002.000-192.168.002.255"`,
			"ESP aes cbc 128 hmac-sha: " + line + `esp_key_length == "256" is false: esp_key_length is "128"`,
			`ESP aes cbc 128 hmac-sha: the conditions asked about esp_enc_alg="aes" esp_key_length="128" remote_filter="192.168.002.000-192.168.002.255"`,
			what,
		}},
	} {
		var refused []*policy.Decision
		for _, change := range x.proposals {
			q := query()
			change(q)
			refused = append(refused, p.Ask(q))
		}
		if diff := cmp.Diff(x.want, policy.Refusals(refused)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}

	var many []*policy.Decision
	for bits := range 200 {
		q := query()
		esp(doi.ESPBlowfish, bits)(q)
		many = append(many, p.Ask(q))
	}
	said := policy.Refusals(many)
	if last := said[len(said)-2]; len(said) != 9 || last != "200 proposals were refused; these were the first" {
		t.Errorf("%d lines:\n%s", len(said), strings.Join(said, "\n"))
	}
}

// TestRefusalsWithAdvice: there is something to do about each.
func TestRefusalsWithAdvice(t *testing.T) {
	for conditions, advice := range map[string]string{
		`esp_present == "yes" -> "yes"`:    `write "true" behind the -> of a test that is to allow the tunnel`,
		`esp_present == "yes" -> "false"`:  `write "true" behind the -> of a test that is to allow the tunnel`,
		`@esp_life_seconds <= 600`:         "let both peers propose such a lifetime (Default-phase-2-lifetime= in [General] of isakmpd.conf, or Life= of the transforms), or change the test",
		`esp_encapsulation == "transport"`: "let both peers' Suites= in isakmpd.conf be of that mode, or change the test; behind a NAT a mode has udp-encap- before it",
		`esp_key_length == "256"`:          "let both peers' Suites= in isakmpd.conf have what the test asks for, or change the test",
		`esp_present == yes -> "true"`:     "there is no attribute yes: look for its name in isakmpd.policy(5), or put it in quotes if it is a value",
		`esp_present == "yes" -> true`:     `write "true" behind the -> of a test that is to allow the tunnel`,
	} {
		p := load(t, "Authorizer: \"POLICY\"\nLicensees: \"passphrase:mekmitasdigoat\"\nConditions: "+conditions+";\n")
		said := p.Ask(query()).Brief()
		if !slices.Contains(said, "what to do: "+advice) {
			t.Errorf("%s:\n%s", conditions, strings.Join(said, "\n"))
		}
	}
}

// TestLongValues: of two ranges of IPv6 addresses the last figures are what
// differs.
func TestLongValues(t *testing.T) {
	q := query()
	q.Remote = policy.Network(netip.MustParsePrefix("fd00:1::/64"), false, 0, 0)
	const (
		wanted = `"fd00:0001:0000:0000:0000:0000:0000:0000-fd00:0001:0000:0000:ffff:ffff:ffff:0fff"`
		is     = `"fd00:0001:0000:0000:0000:0000:0000:0000-fd00:0001:0000:0000:ffff:ffff:ffff:ffff"`
	)
	said := strings.Join(load(t, "Authorizer: \"POLICY\"\nLicensees: \"passphrase:mekmitasdigoat\"\nConditions: remote_filter == "+wanted+";\n").Ask(q).Brief(), "\n")
	if want := "remote_filter == " + wanted + " is false: remote_filter is " + is + "\n"; !strings.Contains(said, want) {
		t.Errorf("%s\nwithout\n%s", said, want)
	}
}

// TestTooFewLicensees: the pre-shared key alone is less than the policy wants.
func TestTooFewLicensees(t *testing.T) {
	for licensees, want := range map[string][2]string{
		`"passphrase:mekmitasdigoat" && "DN:/CN=a"`: {
			"it needs also DN:/CN=a",
			"replace && by || in its Licensees if one of them is enough",
		},
		`2-of("passphrase:mekmitasdigoat", "DN:/CN=a", "DN:/CN=b")`: {
			"it needs more of these: DN:/CN=a, DN:/CN=b",
			"write a smaller number before -of, or || for &&, in its Licensees if fewer are enough",
		},
	} {
		said := strings.Join(load(t, "Authorizer: \"POLICY\"\nLicensees: "+licensees+"\nConditions: app_domain == \"IPsec policy\";\n").Ask(query()).Brief(), "\n")
		if !strings.Contains(said, "isakmpd.policy:1: asked for by one of its licensees, "+want[0]+"\n") || !strings.Contains(said, want[1]) {
			t.Errorf("%s:\n%s", licensees, said)
		}
	}
}

// TestNothingInIt: a file of comments is a policy, with a warning, and the refusal
// says which file it is.
func TestNothingInIt(t *testing.T) {
	for _, text := range []string{"", "\n\n", "# later\n"} {
		p, l := policy.Load("/etc/isakmpd/isakmpd.policy", []byte(text))
		if p == nil || len(l) != 1 || !strings.Contains(l.String(), "/etc/isakmpd/isakmpd.policy: warning: there is no assertion in this policy") {
			t.Fatalf("%q: %s", text, l)
		}
		if d := p.Ask(query()); d.Allow || !strings.Contains(strings.Join(d.Brief(), "\n"), "in /etc/isakmpd/isakmpd.policy no assertion is by POLICY") {
			t.Errorf("%q: %s", text, d.Tree())
		}
	}
}
