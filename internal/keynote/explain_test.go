package keynote_test

import (
	"slices"
	"strings"
	"testing"

	"oakley/internal/keynote"
)

const sub = `KeyNote-Version: 2
Comment: hand on to the two halves
Authorizer: "POLICY"
Licensees: "subpolicy1" || "subpolicy2"

Comment: the branch offices
Authorizer: "subpolicy1"
Licensees: "passphrase:mekmitasdigoat" || "mekmitasdigoat"
Conditions: app_domain == "IPsec policy" && esp_present == "yes" &&
            esp_enc_alg == "aes" && !(pfs == "no") -> "true";

Authorizer: "subpolicy2"
Licensees: "DN:/CN=gw" && "DN:/CN=other"

Authorizer: "nobody"
Licensees: "passphrase:mekmitasdigoat"
`

func explain(t *testing.T, s *keynote.Set, attrs map[string]string, who ...string) *keynote.Explanation {
	t.Helper()
	e, err := s.Explain(&keynote.Query{Requesters: who, Attributes: attrs})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestBriefNamesTheNearestReasonFirst(t *testing.T) {
	s := load(t, sub)
	for _, x := range []struct {
		enc, who string
		want     []string
	}{
		{"3des", "passphrase:mekmitasdigoat mekmitasdigoat", []string{
			`POLICY gives "false" to passphrase:***, ***`,
			`policy:6 (the branch offices): line 10: esp_enc_alg == "aes" is false: esp_enc_alg is "3des"`,
			`policy:15: names the requester, but nothing from POLICY leads to its authorizer "nobody"`,
		}},
		{"", "mekmitasdigoat", []string{
			`POLICY gives "false" to ***`,
			`policy:6 (the branch offices): line 10: esp_enc_alg == "aes" is false: esp_enc_alg is not set`,
		}},
		{"aes", "mekmitasdigoat", []string{
			`POLICY gives "true" to ***, by policy:1 (hand on to the two halves), policy:6 (the branch offices)`,
		}},
		{"aes", "DN:/CN=gw", []string{
			`POLICY gives "false" to DN:/CN=gw`,
			`policy:12: needs also DN:/CN=other`,
		}},
		{"aes", "DN:/CN=x", []string{
			`POLICY gives "false" to DN:/CN=x`,
			`no assertion that POLICY reaches has one of these among its licensees; it trusts passphrase:***, "***", DN:/CN=gw, DN:/CN=other`,
		}},
	} {
		attrs := map[string]string{"app_domain": "IPsec policy", "esp_present": "yes"}
		if x.enc != "" {
			attrs["esp_enc_alg"] = x.enc
		}
		got := explain(t, s, attrs, strings.Fields(x.who)...).Brief()
		if !slices.Equal(got, x.want) {
			t.Errorf("%s %s:\n%s\nwanted\n%s", x.who, x.enc, strings.Join(got, "\n"), strings.Join(x.want, "\n"))
		}
	}
}

func TestWholeTree(t *testing.T) {
	const want = `POLICY: "false"
  policy:1 (hand on to the two halves) gives "false": conditions "true", licensees "false"
    subpolicy1: "false"
      policy:6 (the branch offices) gives "false": conditions "false", licensees "true"
        line 10: esp_enc_alg == "aes" is false: esp_enc_alg is "3des"
        passphrase:***: "true", asks
        "***": "true", asks
    subpolicy2: "false"
      policy:12 gives "false": conditions "true", licensees "false"
        DN:/CN=gw: "false", does not ask, and no assertion is by it
        DN:/CN=other: "false", does not ask, and no assertion is by it
`
	attrs := map[string]string{"app_domain": "IPsec policy", "esp_present": "yes", "esp_enc_alg": "3des"}
	var b strings.Builder
	if _, err := explain(t, load(t, sub), attrs, "passphrase:mekmitasdigoat", "mekmitasdigoat").WriteTo(&b); err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// TestFailures shows how a test that is false reads.
func TestFailures(t *testing.T) {
	attrs := map[string]string{"a": "1", "b": "x", "name": "b", "_": ""}
	delete(attrs, "_")
	for test, want := range map[string]string{
		`a == "2"`:                        `line 2: a == "2" is false: a is "1"`,
		`@a > 5`:                          `line 2: @a > 5 is false: @a is 1`,
		`&a + 0.5 > 5.0`:                  `line 2: &a + 0.5 > 5.0 is false: &a + 0.5 is 1.5`,
		`@a / 0 == 1`:                     `line 2: @a / 0 == 1 cannot be evaluated: division by zero: @a is 1`,
		`!(b == "x")`:                     `line 2: b == "x" holds and must not: b is "x"`,
		`$name == "y"`:                    `line 2: $name == "y" is false: $name is "x"`,
		`missing == "y"`:                  `line 2: missing == "y" is false: missing is not set`,
		`b == "p" || b == "q"`:            `line 2: b == "p" || b == "q" is false: b is "x"`,
		`b == "x" -> "maybe"`:             `line 2: b == "x" -> "maybe" gives "maybe" and not "true"`,
		`false`:                           `line 2: false is false`,
		`_ACTION_AUTHORIZERS == "x"`:      `line 2: _ACTION_AUTHORIZERS == "x" is false: _ACTION_AUTHORIZERS is "***"`,
		`b ~= "^y" # why` + "\n && true":  `line 2: b ~= "^y" is false: b is "x"`,
		`b == "x" -> { a == "7"; }`:       `line 2: a == "7" is false: a is "1"`,
		`(a == "1" && b == "z") || false`: `line 2: b == "z" is false: b is "x"`,
	} {
		s := load(t, "Authorizer: \"POLICY\"\nConditions: "+test+";\n")
		e := explain(t, s, attrs, "secret")
		if len(e.Reasons) != 1 || len(e.Reasons[0].Failures) == 0 || e.Reasons[0].Failures[0].String() != want {
			t.Errorf("%s: %+v", test, e.Brief())
		}
	}
}

// TestLongNamesAndValues: what tells two of them apart is still there.
func TestLongNamesAndValues(t *testing.T) {
	const (
		dn      = "DN:/C=SE/O=A Company With Many Branch Offices AB/OU=Networks/CN=gw17.worksite.se"
		network = "2001:0db8:0000:0000:0000:0000:0000:0000-2001:0db8:0000:ffff:ffff:ffff:ffff:ffff"
	)
	s := load(t, "Authorizer: \"POLICY\"\nLicensees: \""+dn+"\"\nConditions: remote_filter == \"x\";\n")
	got := explain(t, s, map[string]string{"remote_filter": network}, dn).Brief()
	if len(got) != 2 || !strings.HasSuffix(got[0], dn) || !strings.HasSuffix(got[1], `remote_filter is "`+network+`"`) {
		t.Error(got)
	}
	got = explain(t, s, map[string]string{"remote_filter": strings.Repeat("ä", 1000)}, "rsa-hex:"+strings.Repeat("ab", 500)).Brief()
	if len(got) != 2 || !strings.HasSuffix(got[0], " rsa-hex:"+strings.Repeat("ab", 16)+"...") {
		t.Error(got)
	}
	if s := keynote.Clip("aä", 2); s != "a..." {
		t.Error(s)
	}
}

// TestSomeMissing: who is needed too, and who would be one of several.
func TestSomeMissing(t *testing.T) {
	for licensees, want := range map[string]string{
		`"DN:a" && "DN:b"`:                       `policy:1: needs also DN:b`,
		`"DN:a" && ("DN:b" && "DN:c")`:           `policy:1: needs also DN:b, DN:c`,
		`3-of("DN:a", "DN:b", "DN:c")`:           `policy:1: needs also DN:b, DN:c`,
		`2-of("DN:a", "DN:b", "DN:c")`:           `policy:1: needs more of its licensees: DN:b, DN:c`,
		`"DN:a" && ("DN:b" || "DN:c")`:           `policy:1: needs more of its licensees: DN:b, DN:c`,
		`("DN:a" && "DN:b") || "DN:c" && "DN:d"`: `policy:1: needs more of its licensees: DN:b, DN:c, DN:d`,
	} {
		s := load(t, "Authorizer: \"POLICY\"\nLicensees: "+licensees+"\n")
		if got := explain(t, s, nil, "DN:a").Brief(); len(got) != 2 || got[1] != want {
			t.Errorf("%s: %q", licensees, got)
		}
	}
}

// TestManyMissing: what is logged about one refusal is short, however many
// licensees an assertion names.
func TestManyMissing(t *testing.T) {
	s := load(t, "Authorizer: \"POLICY\"\nLicensees: \"DN:/CN=gw\""+strings.Repeat(" && \"DN:/CN=x\"", 3000)+"\n")
	got := explain(t, s, nil, "DN:/CN=gw").Brief()
	if len(got) != 2 || !strings.HasSuffix(got[1], ", DN:/CN=x, 2992 more") {
		t.Error(got)
	}
}
