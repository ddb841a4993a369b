package policy_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"testing"

	"oakley/internal/doi"
	"oakley/internal/keynote"
	"oakley/internal/policy"
)

// TestPassphrase has the hashes of OpenBSD's manual page.
func TestPassphrase(t *testing.T) {
	for psk, want := range map[string][]string{
		"foobar": {
			"passphrase-md5-hex:3858f62230ac3c915f300c664312c63f",
			"passphrase-sha1-hex:8843d7f92416211de9ebb963ff4ce28125932878",
			"passphrase:foobar", "foobar",
		},
		"\x00malformed": {"", ""},
		"POLICY":        {"", "", "passphrase:POLICY"},
		"DN:/CN=boss":   {"", "", "passphrase:DN:/CN=boss"},
		"rsa-hex:30":    {"", "", "passphrase:rsa-hex:30"},
		"a:b":           {"", "", "passphrase:a:b", "a:b"},
	} {
		got := policy.Passphrase([]byte(psk))
		if len(got) != len(want) {
			t.Errorf("%q: %q", psk, got)
			continue
		}
		for i, w := range want {
			if i < 2 && psk != "foobar" {
				continue // the hash of something
			}
			if got[i] != w {
				t.Errorf("%q: %q, wanted %q", psk, got[i], w)
			}
		}
	}
}

func TestAPassphraseIsLicensedInAllItsForms(t *testing.T) {
	for licensee, want := range map[string]bool{
		"foobar": true, "passphrase:foobar": true, "PASSPHRASE:foobar": true, "passphrase:Foobar": false,
		"passphrase-md5-hex:3858f62230ac3c915f300c664312c63f":          true,
		"passphrase-md5-hex:3858F62230AC3C915F300C664312C63F":          true,
		"passphrase-sha1-hex:8843d7f92416211de9ebb963ff4ce28125932878": true,
		"passphrase-sha1-hex:8843d7f92416211de9ebb963ff4ce28125932879": false,
		"other": false,
	} {
		p := load(t, "Authorizer: \"POLICY\"\nLicensees: \""+licensee+"\"\n")
		q := query(policy.Passphrase([]byte("foobar"))...)
		if got := p.Ask(q).Allow; got != want {
			t.Errorf("%s: %v", licensee, got)
		}
	}
}

// TestCertificatePrincipals: by name and by key, however the policy writes them.
func TestCertificatePrincipals(t *testing.T) {
	p := makePKI()
	strange := issue(t, p.ca, func(c *x509.Certificate) {
		c.Subject = pkix.Name{
			Organization: []string{"Ö/CN=boss"}, CommonName: `a"\x41`,
			ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "ann@worksite.se"},
				{Type: asn1.ObjectIdentifier{1, 3, 9999, 1}, Value: "x"},
			},
		}
	})
	const dn = `DN:/O=\xC3\x96\x2FCN=boss/CN=a"\x5Cx41/emailAddress=ann@worksite.se/1.3.9999.1=x`
	who := policy.Certificate(strange.cert)
	if len(who) != 2 || who[0] != dn || !strings.HasPrefix(who[1], "rsa-hex:3082") {
		t.Fatalf("%q", who)
	}
	raw, err := policy.RawKey(strange.key.Public())
	if err != nil || !slices.Equal(raw, who[1:]) {
		t.Errorf("%q %v", raw, err)
	}
	if _, err := policy.RawKey("no key"); err == nil {
		t.Error("a string has a name in KeyNote")
	}
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(dn)
	for licensee, want := range map[string]bool{
		`"` + escaped + `"`: true,
		`"` + strings.Replace(escaped, "emailAddress", "Email", 1) + `"`: true,
		`"` + strings.Replace(escaped, `\\xC3\\x96`, "Ö", 1) + `"`:       true,
		`"dn:` + strings.TrimPrefix(escaped, "DN:") + `"`:                true,
		`"DN:/O=Ö/CN=boss"`: false,
		strange.licensee():  true,
		`"` + strings.ToUpper(who[1][:8]) + strings.ToUpper(who[1][8:]) + `"`: true,
		p.gateway.licensee():                          false,
		`"DN:/C=SE/O=Worksite A/S/CN=gw.worksite.se"`: false,
	} {
		pol := load(t, "Authorizer: \"POLICY\"\nLicensees: "+licensee+"\n")
		if got := pol.Ask(query(who...)).Allow; got != want {
			t.Errorf("%s: %v", licensee, got)
		}
	}
}

// TestNoPassphraseIsShown, whatever it looks like and wherever it comes up.
func TestNoPassphraseIsShown(t *testing.T) {
	for _, psk := range []string{
		"unguessable", "dh:unguessable", "ecdsa-x:unguessable", "DN:unguessable", "/CN=unguessable", "rsa-hex:unguessable",
		"PASSPHRASE:unguessable", "POLICY:unguessable", "a \"b\\ unguessable", "unguessable,x", "x\nunguessable", "\x00unguessable",
	} {
		literal, ok := keynote.Quote("passphrase:" + psk)
		if !ok {
			literal = `"passphrase:other"`
		}
		for _, text := range []string{
			"Authorizer: \"POLICY\"\n",
			"Authorizer: \"POLICY\"\nLicensees: " + literal + "\nConditions: esp_present == \"no\" || remote_id == _ACTION_AUTHORIZERS;\n",
			"Authorizer: \"POLICY\"\nLicensees: \"DN:/CN=x\" || " + literal + " && \"sub\"\n\nAuthorizer: \"sub\"\nConditions: _ACTION_AUTHORIZERS ~= remote_id . \"y\";\n",
			"Authorizer: \"sub\"\nLicensees: " + literal + "\n",
		} {
			p, l := policy.Load("isakmpd.policy", []byte(text))
			if p == nil {
				t.Fatalf("%s\n%s", text, l)
			}
			q := query(policy.Passphrase([]byte(psk))...)
			q.Identity = policy.ID{Type: doi.IDKeyID, Data: []byte(psk)}
			d := p.Ask(q)
			for _, said := range []string{l.String(), d.Tree(), strings.Join(d.Brief(), "\n")} {
				if strings.Contains(said, "unguessable") {
					t.Errorf("%q is shown:\n%s", psk, said)
				}
			}
		}
	}
}
