package keynote_test

import (
	"fmt"
	"strings"
	"testing"

	"oakley/internal/keynote"
)

// office is a policy as large organisations have it: n assertions, four of which
// lead from POLICY to a region, an office, its gateways and one gateway's key;
// the others are the other offices.
func office(n int) string {
	var b strings.Builder
	b.WriteString("Authorizer: \"POLICY\"\nLicensees: \"region\"\nConditions: app_domain == \"IPsec policy\" -> \"true\";\n\n" +
		"Authorizer: \"region\"\nLicensees: \"office\" || \"office2\" || \"office3\"\nConditions: esp_present == \"yes\" && esp_enc_alg != \"null\" -> \"true\";\n\n" +
		"Authorizer: \"office\"\nLicensees: \"gateways\"\nConditions: remote_filter ~= \"^010\\\\.\" -> \"true\";\n\n" +
		"Authorizer: \"gateways\"\nLicensees: \"CA\"\nConditions: @esp_key_length >= 128 -> \"true\";\n\n" +
		"Authorizer: \"CA\"\nLicensees: \"DN:/CN=gw\"\nConditions: remote_id == \"gw.worksite.se\" -> \"true\";\n\n")
	for i := 5; i < n; i++ {
		fmt.Fprintf(&b, "Comment: office %d\nAuthorizer: \"POLICY\"\nLicensees: \"DN:/CN=gw%d\" || \"passphrase:secret%d\"\n"+
			"Conditions: app_domain == \"IPsec policy\" && esp_present == \"yes\" &&\n  remote_filter == \"010.%03d.%03d.000\" -> \"true\";\n\n", i, i, i, i/256, i%256)
	}
	return b.String()
}

var officeAttrs = map[string]string{
	"app_domain": "IPsec policy", "esp_present": "yes", "esp_enc_alg": "aes", "esp_key_length": "256",
	"remote_filter": "010.000.000.000", "remote_id": "gw.worksite.se", "doi": "ipsec", "pfs": "yes", "phase_1": "main",
}

func offices(b *testing.B, n int) *keynote.Set {
	b.Helper()
	s := load(b, office(n))
	if got := ask(b, s, "DN:/CN=gw", officeAttrs); got != "true" {
		b.Fatal(got)
	}
	return s
}

var sizes = []int{10, 100, 1000, 10000}

func BenchmarkQuery(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := offices(b, n)
			q := &keynote.Query{Requesters: []string{"DN:/CN=gw", "rsa-hex:3081"}, Attributes: officeAttrs}
			b.ReportAllocs()
			for b.Loop() {
				if r, err := s.Query(q); err != nil || r.Value != "true" {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// BenchmarkRefuse asks for what nobody may have.
func BenchmarkRefuse(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := offices(b, n)
			q := &keynote.Query{Requesters: []string{"DN:/CN=gw"}, Attributes: map[string]string{"app_domain": "IPsec policy"}}
			for b.Loop() {
				if r, err := s.Query(q); err != nil || r.Value != "false" {
					b.Fatal(r, err)
				}
			}
		})
	}
}

func BenchmarkExplain(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := offices(b, n)
			q := &keynote.Query{Requesters: []string{"DN:/CN=gw"}, Attributes: map[string]string{"app_domain": "IPsec policy"}}
			for b.Loop() {
				if e, err := s.Explain(q); err != nil || len(e.Brief()) < 2 {
					b.Fatal(e, err)
				}
			}
		})
	}
}

// BenchmarkWith puts two credentials on top of a policy.
func BenchmarkWith(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := offices(b, n)
			as, _ := keynote.Parse("peer", []byte(exampleC+"\n"+exampleD), keynote.Credential)
			for b.Loop() {
				if _, l := s.With(as); len(l) > 0 {
					b.Fatal(l)
				}
			}
		})
	}
}

// BenchmarkLoad is what a reload costs: Parse and NewSet.
func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			text := []byte(office(n))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				as, l := keynote.Parse("policy", text, keynote.Policy)
				if s, m := keynote.NewSet(exampleKeys{}, as); len(l)+len(m) > 0 || s == nil {
					b.Fatal(l, m)
				}
			}
		})
	}
}

func BenchmarkLint(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := offices(b, n)
			for b.Loop() {
				s.Lint(vocabulary)
			}
		})
	}
}
