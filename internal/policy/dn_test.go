package policy_test

import (
	"encoding/asn1"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"oakley/internal/doi"
	"oakley/internal/policy"
)

// part is one of a distinguished name.
type part struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

func encode(t rapid.TB, parts []part) []byte {
	var rdns []asn1.RawValue
	for _, p := range parts {
		one, err := asn1.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		rdns = append(rdns, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: one})
	}
	der, err := asn1.Marshal(rdns)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestNoNameIsTakenForAnother: two distinguished names with one text have the same
// parts, whatever a CA was made to put into them.
func TestNoNameIsTakenForAnother(t *testing.T) {
	text := func(der []byte) string {
		q := query()
		q.Identity = policy.ID{Type: doi.IDASN1DN, Data: der}
		return q.Attributes()["remote_id"]
	}
	types := []asn1.ObjectIdentifier{{2, 5, 4, 3}, {2, 5, 4, 10}, {1, 3, 9999, 1}}
	value := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"/", "CN=", "O=", "1.3.9999.1=", "a", `\x2F`, `\`, "x2F", "\xC3", "="}), 0, 4), func(s []string) string { return strings.Join(s, "") })
	name := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) part {
		return part{rapid.SampledFrom(types).Draw(t, "type"), asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(value.Draw(t, "value"))}}
	}), 1, 3)
	seen := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		der := encode(t, name.Draw(t, "name"))
		s := text(der)
		if before, ok := seen[s]; ok && before != string(der) {
			t.Fatalf("%x and %x are both %s", before, der, s)
		}
		seen[s] = string(der)
		for _, r := range s {
			if r < ' ' || r > '~' {
				t.Fatalf("%q", s)
			}
		}
	})
}

// FuzzIdentity: nothing that a peer calls itself is more than a text.
func FuzzIdentity(f *testing.F) {
	p := makePKI()
	f.Add(uint8(doi.IDASN1DN), p.gateway.cert.RawSubject)
	f.Add(uint8(doi.IDASN1GN), append([]byte{0xA4, byte(len(p.gateway.cert.RawSubject))}, p.gateway.cert.RawSubject...))
	f.Add(uint8(doi.IDIPv4Subnet), []byte{10, 1, 2, 3, 255, 0, 255, 0})
	f.Add(uint8(doi.IDKeyID), []byte{0xFF})
	pol := load(f, "Authorizer: \"POLICY\"\nLicensees: \"DN:/CN=x\"\nConditions: remote_id == \"gw\";\n")
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		q := query("DN:/CN=x")
		q.Identity = policy.ID{Type: doi.IDType(kind), Data: data}
		q.Remote = q.Identity.Filter()
		a := q.Attributes()
		if len(a["remote_id"]) > 4*len(data)*20+80 {
			t.Errorf("%d bytes became %d", len(data), len(a["remote_id"]))
		}
		d := pol.Ask(q)
		if d.Allow != (a["remote_id"] == "gw") {
			t.Errorf("allowed is %v", d.Allow)
		}
		for _, line := range d.Brief() {
			if strings.ContainsAny(line, "\n\x1b") || len(line) > 2000 {
				t.Errorf("%q", line)
			}
		}
	})
}
