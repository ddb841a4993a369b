package policy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

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

func TestABriefRefusal(t *testing.T) {
	p := load(t, `Comment: the branch
Authorizer: "POLICY"
Licensees: "passphrase:mekmitasdigoat"
Conditions: app_domain == "IPSec policy" && esp_present == "yes" && esp_enc_alg == "3des" -> "true";
`)
	d := p.Ask(query())
	t.Log(d.Allow, "\n"+strings.Join(d.Brief(), "\n"))
	t.Log("\n" + d.Tree())
	t.Log("\n" + strings.Join(p.Ask(query("DN:/C=x")).Brief(), "\n"))
}
