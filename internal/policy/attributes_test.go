package policy_test

import (
	"encoding/asn1"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/policy"
)

// bundle is a proposal that has everything.
func bundle(q *policy.Query) {
	q.PFS, q.Group, q.Exchange, q.Initiator = doi.GroupMODP1536, doi.GroupMODP3072, doi.ExchangeAggressive, true
	q.Protocols = []policy.Protocol{
		{Proto: doi.ProtoAH, ID: uint8(doi.AHSHA2256), Auth: doi.AuthHMACSHA2256, Mode: ipsec.Transport, KeyBits: 256, Rounds: 9, Seconds: 11, Kilobytes: 12, ECN: true, ESN: true},
		{Proto: doi.ProtoESP, ID: uint8(doi.ESPBlowfish), Auth: doi.AuthHMACRIPEMD, UDP: true, KeyBits: 448, Rounds: 16, Seconds: 21, Kilobytes: 1 << 40, ECN: true, ESN: true},
		{Proto: doi.ProtoIPComp, ID: uint8(doi.IPCompOUI), Mode: ipsec.Transport, UDP: true, Seconds: 31, Kilobytes: 32, ECN: true, DictSize: 13, PrivateAlg: 70000},
	}
	q.Local = policy.Network(netip.MustParsePrefix("2001:db8::/32"), false, 17, 53)
	q.Remote = policy.ID{Type: doi.IDIPv4Range, Data: []byte{10, 0, 0, 7, 10, 2, 0, 1}, Protocol: 6, Port: 80}.Filter()
	q.Identity = policy.ID{Type: doi.IDUserFQDN, Data: []byte("ann@worksite.se"), Protocol: 17, Port: 500}
	q.LocalAddr, q.RemoteAddr = netip.MustParseAddr("2001:db8::1%eth0"), netip.MustParseAddr("::ffff:10.128.1.12")
}

// TestEveryAttribute gives each row of the table two values.
func TestEveryAttribute(t *testing.T) {
	rows := `
app_domain                  IPsec policy                     | IPsec policy
doi                         ipsec                            | ipsec
initiator                   no                               | yes
phase_1                     main                             | aggressive
pfs                         no                               | yes
phase1_group_desc           14                               | 15
local_negotiation_address   192.000.002.001                  | 2001:0db8:0000:0000:0000:0000:0000:0001
remote_negotiation_address  192.000.002.002                  | 010.128.001.012
local_ike_address           192.000.002.001                  | 2001:0db8:0000:0000:0000:0000:0000:0001
remote_ike_address          192.000.002.002                  | 010.128.001.012
GMTTimeOfDay                20261121120509                   | 20261121120509
LocalTimeOfDay              20261121130509                   | 20261121130509
ah_present                  no                               | yes
ah_hash_alg                                                  | sha2-256
ah_auth_alg                                                  | hmac-sha2-256
ah_key_length               0                                | 256
ah_key_rounds               0                                | 9
ah_group_desc               0                                | 5
ah_life_seconds             0                                | 11
ah_life_kbytes              0                                | 12
ah_encapsulation                                             | transport
ah_ecn                      no                               | yes
ah_esn                      no                               | yes
esp_present                 yes                              | yes
esp_enc_alg                 aes                              | blowfish
esp_enc_mode                cbc                              | cbc
esp_auth_alg                hmac-sha                         | hmac-ripemd
esp_key_length              128                              | 448
esp_key_rounds              0                                | 16
esp_group_desc              0                                | 5
esp_life_seconds            1200                             | 21
esp_life_kbytes             50000                            | 1099511627776
esp_encapsulation           tunnel                           | udp-encap-tunnel
esp_ecn                     no                               | yes
esp_esn                     no                               | yes
comp_present                no                               | yes
comp_alg                                                     | oui
comp_dict_size              0                                | 13
comp_private_alg            0                                | 70000
comp_group_desc             0                                | 5
comp_life_seconds           0                                | 31
comp_life_kbytes            0                                | 32
comp_encapsulation                                           | udp-encap-transport
comp_ecn                    no                               | yes
remote_filter_type          IPv4 subnet                      | IPv4 range
remote_filter               192.168.002.000-192.168.002.255  | 010.000.000.007-010.002.000.001
remote_filter_addr_lower    192.168.002.000                  | 010.000.000.007
remote_filter_addr_upper    192.168.002.255                  | 010.002.000.001
remote_filter_port          0                                | 80
remote_filter_proto         0                                | tcp
local_filter_type           IPv4 subnet                      | IPv6 subnet
local_filter                192.168.001.000-192.168.001.255  | 2001:0db8:0000:0000:0000:0000:0000:0000-2001:0db8:ffff:ffff:ffff:ffff:ffff:ffff
local_filter_addr_lower     192.168.001.000                  | 2001:0db8:0000:0000:0000:0000:0000:0000
local_filter_addr_upper     192.168.001.255                  | 2001:0db8:ffff:ffff:ffff:ffff:ffff:ffff
local_filter_port           0                                | 53
local_filter_proto          0                                | udp
remote_id_type              IPv4 address                     | User FQDN
remote_id                   192.000.002.002                  | ann@worksite.se
remote_id_addr_lower        192.000.002.002                  |
remote_id_addr_upper        192.000.002.002                  |
remote_id_port              0                                | 500
remote_id_proto             0                                | udp
`
	plain, full := query(), query()
	bundle(full)
	a, b := plain.Attributes(), full.Attributes()
	seen := map[string]bool{}
	for row := range strings.Lines(strings.TrimPrefix(rows, "\n")) {
		left, second, _ := strings.Cut(strings.TrimSuffix(row, "\n"), "|")
		name, first, _ := strings.Cut(left, " ")
		first, second = strings.TrimSpace(first), strings.TrimSpace(second)
		seen[name] = true
		if a[name] != first || b[name] != second {
			t.Errorf("%s is %q and %q, wanted %q and %q", name, a[name], b[name], first, second)
		}
		for _, v := range []string{first, second} {
			if err := policy.CheckAttribute(name, v); err != nil {
				t.Errorf("what a query says is not what the linter knows: %v", err)
			}
		}
	}
	for _, x := range policy.Attributes() {
		if !seen[x.Name] {
			t.Errorf("%s has no row here", x.Name)
		}
		delete(seen, x.Name)
	}
	if len(seen) > 0 || len(a) != len(policy.Attributes()) {
		t.Errorf("%d attributes in a query; no attributes: %v", len(a), seen)
	}
}

// TestEveryAlgorithm: whatever number is negotiated, the linter knows its name.
func TestEveryAlgorithm(t *testing.T) {
	for n := range 256 {
		q := query()
		q.Exchange = doi.Exchange(n)
		q.Identity.Type = doi.IDType(n)
		q.Protocols = []policy.Protocol{
			{Proto: doi.ProtoAH, ID: uint8(n), Auth: doi.AuthAlg(n)},
			{Proto: doi.ProtoESP, ID: uint8(n), Auth: doi.AuthAlg(n)},
			{Proto: doi.ProtoIPComp, ID: uint8(n)},
		}
		for name, v := range q.Attributes() {
			if err := policy.CheckAttribute(name, v); err != nil {
				t.Errorf("number %d: %v", n, err)
			}
		}
	}
	for _, x := range []struct {
		attribute, value string
		of               policy.Protocol
	}{
		{"esp_enc_alg", "3des", policy.Protocol{Proto: doi.ProtoESP, ID: uint8(doi.ESP3DES)}},
		{"esp_enc_mode", "gcm", policy.Protocol{Proto: doi.ProtoESP, ID: uint8(doi.ESPAESGCM16)}},
		{"esp_enc_mode", "ctr", policy.Protocol{Proto: doi.ProtoESP, ID: uint8(doi.ESPAESCTR)}},
		{"esp_enc_mode", "gmac", policy.Protocol{Proto: doi.ProtoESP, ID: uint8(doi.ESPNullAESGMAC)}},
		{"esp_enc_alg", "aes", policy.Protocol{Proto: doi.ProtoESP, ID: uint8(doi.ESPNullAESGMAC)}},
		{"esp_enc_alg", "null", policy.Protocol{Proto: doi.ProtoESP, ID: uint8(doi.ESPNull)}},
		{"ah_hash_alg", "ripemd", policy.Protocol{Proto: doi.ProtoAH, ID: uint8(doi.AHRIPEMD)}},
		{"ah_auth_alg", "kpdk", policy.Protocol{Proto: doi.ProtoAH, Auth: doi.AuthKPDK}},
		{"esp_auth_alg", "hmac-sha2-512", policy.Protocol{Proto: doi.ProtoESP, Auth: doi.AuthHMACSHA2512}},
		{"comp_alg", "deflate", policy.Protocol{Proto: doi.ProtoIPComp, ID: uint8(doi.IPCompDeflate)}},
		{"comp_alg", "v42bis", policy.Protocol{Proto: doi.ProtoIPComp, ID: 4}},
	} {
		q := query()
		q.Protocols = []policy.Protocol{x.of}
		if got := q.Attributes()[x.attribute]; got != x.value {
			t.Errorf("%+v: %s is %q, wanted %q", x.of, x.attribute, got, x.value)
		}
	}
}

func TestIdentities(t *testing.T) {
	p := makePKI()
	tagged := func(tag int, data []byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: tag == 4, Bytes: data})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	six := netip.MustParseAddr("2001:db8::ABCD").As16()
	for _, x := range []struct {
		of                       doi.IDType
		data                     []byte
		kind, text, lower, upper string
	}{
		{doi.IDIPv4Addr, []byte{10, 128, 1, 12}, "IPv4 address", "010.128.001.012", "010.128.001.012", "010.128.001.012"},
		{doi.IDIPv4Subnet, []byte{10, 1, 2, 3, 255, 255, 254, 0}, "IPv4 subnet", "010.001.002.000-010.001.003.255", "010.001.002.000", "010.001.003.255"},
		{doi.IDIPv4Range, []byte{10, 1, 2, 3, 10, 1, 2, 9}, "IPv4 range", "010.001.002.003-010.001.002.009", "010.001.002.003", "010.001.002.009"},
		{doi.IDIPv6Addr, six[:], "IPv6 address", "2001:0db8:0000:0000:0000:0000:0000:abcd", "2001:0db8:0000:0000:0000:0000:0000:abcd", "2001:0db8:0000:0000:0000:0000:0000:abcd"},
		{doi.IDFQDN, []byte("gw.worksite.se"), "FQDN", "gw.worksite.se", "", ""},
		{doi.IDKeyID, []byte("branch 7"), "Key ID", "branch 7", "", ""},
		{doi.IDKeyID, []byte{0xAB, 0, 'x'}, "Key ID", "ab0078", "", ""},
		{doi.IDASN1DN, p.gateway.cert.RawSubject, "ASN1 DN", "/C=SE/O=Worksite A/S/CN=gw.worksite.se", "", ""},
		{doi.IDASN1DN, []byte{1, 2, 3}, "ASN1 DN", "", "", ""},
		{doi.IDASN1GN, tagged(2, []byte("gw.worksite.se")), "ASN1 GN", "gw.worksite.se", "", ""},
		{doi.IDASN1GN, tagged(1, []byte("ann@worksite.se")), "ASN1 GN", "ann@worksite.se", "", ""},
		{doi.IDASN1GN, tagged(4, p.gateway.cert.RawSubject), "ASN1 GN", "/C=SE/O=Worksite A/S/CN=gw.worksite.se", "", ""},
		{doi.IDASN1GN, tagged(7, []byte{10, 0, 0, 1}), "ASN1 GN", "010.000.000.001", "", ""},
		{doi.IDASN1GN, []byte{0xFF}, "ASN1 GN", "ff", "", ""},
		{doi.IDIPv4Subnet, []byte{10, 1}, "IPv4 subnet", "", "", ""}, // no exchange lets it through
		{doi.IDIPv6Addr, []byte{10, 1, 2, 3}, "IPv6 address", "", "", ""},
		{99, []byte("?"), "", "?", "", ""},
	} {
		q := query()
		q.Identity = policy.ID{Type: x.of, Data: x.data}
		a := q.Attributes()
		if a["remote_id_type"] != x.kind || a["remote_id"] != x.text || a["remote_id_addr_lower"] != x.lower || a["remote_id_addr_upper"] != x.upper {
			t.Errorf("%v %x: %q %q %q %q", x.of, x.data, a["remote_id_type"], a["remote_id"], a["remote_id_addr_lower"], a["remote_id_addr_upper"])
		}
	}
}

func TestWithoutIDsInQuickModeItIsTheDaemonsThemselves(t *testing.T) {
	q := query()
	q.Local, q.Remote = policy.Filter{}, policy.Filter{}
	a := q.Attributes()
	if a["remote_filter_type"] != "IPv4 address" || a["remote_filter"] != "192.000.002.002" || a["local_filter"] != "192.000.002.001" {
		t.Errorf("%v %v %v", a["remote_filter_type"], a["remote_filter"], a["local_filter"])
	}
}

func TestNetworks(t *testing.T) {
	for prefix, want := range map[string][2]string{
		"10.1.2.3/32":     {"IPv4 address 010.001.002.003", "IPv4 range 010.001.002.003-010.001.002.003"},
		"10.1.2.0/30":     {"", "IPv4 range 010.001.002.000-010.001.002.003"},
		"2001:db8::1/128": {"IPv6 address 2001:0db8:0000:0000:0000:0000:0000:0001", ""},
		"2001:db8::/127":  {"", "IPv6 range 2001:0db8:0000:0000:0000:0000:0000:0000-2001:0db8:0000:0000:0000:0000:0000:0001"},
	} {
		p := netip.MustParsePrefix(prefix)
		for i, f := range []policy.Filter{policy.Network(p, true, 0, 0), policy.Range(p, 0, 0)} {
			q := query()
			q.Remote = f
			if a := q.Attributes(); want[i] != "" && a["remote_filter_type"]+" "+a["remote_filter"] != want[i] {
				t.Errorf("%s: %s %s", prefix, a["remote_filter_type"], a["remote_filter"])
			}
		}
	}
}

// TestTimeOfDay: the local clock is that of Now's location, through the night in
// which it is set back.
func TestTimeOfDay(t *testing.T) {
	stockholm, err := time.LoadLocation("Europe/Stockholm")
	if err != nil {
		t.Fatal(err)
	}
	p := load(t, `Authorizer: "POLICY"
Licensees: "passphrase:mekmitasdigoat"
Conditions: LocalTimeOfDay ~= "^........02" -> "true";
`)
	for utc, want := range map[string]struct {
		local string
		allow bool
	}{
		"2026-10-25T00:30:00Z": {"20261025023000", true}, // summer time
		"2026-10-25T01:30:00Z": {"20261025023000", true}, // the same hour again
		"2026-10-25T02:30:00Z": {"20261025033000", false},
		"2026-12-31T23:59:59Z": {"20270101005959", false},
	} {
		q := query()
		now, err := time.Parse(time.RFC3339, utc)
		if err != nil {
			t.Fatal(err)
		}
		q.Now = now.In(stockholm)
		a := q.Attributes()
		if a["LocalTimeOfDay"] != want.local || a["GMTTimeOfDay"] != now.Format("20060102150405") || p.Ask(q).Allow != want.allow {
			t.Errorf("%s: %s %s %v", utc, a["GMTTimeOfDay"], a["LocalTimeOfDay"], p.Ask(q).Allow)
		}
	}
}
