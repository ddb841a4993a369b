package keynote_test

import (
	"errors"
	"strings"
	"testing"

	"oakley/internal/diag"
	"oakley/internal/keynote"
)

var vocabulary = &keynote.Vocabulary{
	Attributes: map[string]keynote.Attribute{
		"app_domain":      {Values: []string{"IPsec policy"}},
		"esp_present":     {Values: []string{"yes", "no"}},
		"esp_enc_alg":     {Values: []string{"des", "3des", "aes", "null"}},
		"esp_group_desc":  {Values: []string{"1", "2", "5", "14"}},
		"esp_key_length":  {Number: true},
		"remote_filter":   {Check: padded},
		"local_filter":    {Check: padded},
		"GMTTimeOfDay":    {},
		"remote_id":       {},
		"esp_life_kbytes": {},
	},
	Licensee: func(p string) *keynote.Advice {
		if strings.HasPrefix(p, "sub") {
			return &keynote.Advice{Summary: "it is the name of a policy", Hint: "write one"}
		}
		return nil
	},
}

func padded(v string) *keynote.Advice {
	if len(v) == len("010.001.002.003") {
		return nil
	}
	return &keynote.Advice{Summary: "addresses are padded with zeros", Hint: "write 010.001.002.003"}
}

// brokenKeys finds keys malformed that begin with rsa-hex:bad.
type brokenKeys struct{ exampleKeys }

func (brokenKeys) Canonical(p string) (string, error) {
	if strings.HasPrefix(p, "rsa-hex:bad") {
		return "", errors.New("not hexadecimal")
	}
	return exampleKeys{}.Canonical(p)
}

func lint(t *testing.T, text string) diag.List {
	t.Helper()
	as, l := keynote.Parse("policy", []byte(text), keynote.Policy)
	if l.HasErrors() {
		t.Fatalf("%s\n%s", text, l)
	}
	s, l := keynote.NewSet(brokenKeys{}, as)
	if len(l) > 0 {
		t.Fatal(l)
	}
	return s.Lint(vocabulary)
}

const named = "Authorizer: \"POLICY\"\nLicensees: \"DN:/CN=x\"\nConditions: "

func TestLintConditions(t *testing.T) {
	for test, want := range map[string]string{
		`esp_present == "yes" && esp_enc_alg != "null"`:   "",
		`app_domain == "IPsec policy" -> "true"`:          "",
		`@esp_key_length > 128`:                           "",
		`esp_enc_alg == ""`:                               "",
		`remote_filter == "010.001.002.003"`:              "",
		`esp_enc_alg ~= "^a"`:                             "",
		`true`:                                            "",
		`!(esp_enc_alg == "des")`:                         "",
		`_ACTION_AUTHORIZERS ~= "x" && $remote_id == "y"`: "",
		`esp_enc_algo == "aes"`:                           `3:13: there is no attribute esp_enc_algo, so it is always empty | did you mean esp_enc_alg?`,
		`colour == "red"`:                                 "3:13: there is no attribute colour, so it is always empty | look up what it is called, or put it in quotes if it is a value",
		`esp_present == "yes" -> true`:                    "3:37: there is no attribute true, so it is always empty | look up what it is called, or put it in quotes if it is a value",
		`esp_present == yes`:                              `3:28: there is no attribute yes, so it is always empty | a value stands in quotes: "yes"`,
		`esp_enc_alg == "aes-256"`:                        `3:13: this test never holds: esp_enc_alg is never "aes-256" | did you mean "aes"? its values are des, 3des, aes, null`,
		`esp_enc_alg != "nul"`:                            `3:13: this test always holds: esp_enc_alg is never "nul" | did you mean "null"? its values are des, 3des, aes, null`,
		`app_domain == "IPSEC"`:                           `3:13: this test never holds: app_domain is never "IPSEC" | did you mean "IPsec policy"? it is always "IPsec policy"`,
		`esp_enc_alg ~= "^z"`:                             `3:13: this test never holds: no value of esp_enc_alg matches | its values are des, 3des, aes, null`,
		`@esp_group_desc > 20`:                            `3:13: this test never holds | its values are 1, 2, 5, 14`,
		`esp_key_length == "128"`:                         "",
		`esp_key_length >= "128"`:                         `3:31: this comparison does not do what it says: this compares text, in which 900 is above 1200 | write @esp_key_length, and the number without quotes`,
		`remote_filter == "10.1.2.3"`:                     `3:30: this test never holds: addresses are padded with zeros | write 010.001.002.003`,
		`"10.1.2.3" <= local_filter`:                      `3:13: this comparison does not do what it says: addresses are padded with zeros | write 010.001.002.003`,
		`"esp_present" == "yes"`:                          `3:13: both sides are constants, so this test is always false | write esp_present without quotes to mean the attribute`,
		`1 / 0 == 1`:                                      `3:13: this test is always false: division by zero | `,
		`esp_enc_alg == "aes" && esp_enc_alg == "3des"`:   `3:37: these tests never hold together: esp_enc_alg cannot be both "aes" and "3des" | join alternatives with || and put parentheses around them`,
		`remote_id ~= "a\.b"`:                             "3:28: this backslash is removed before the regular expression is read, so `.` keeps its special meaning | write \\\\.",
		`esp_present == "yes" -> "yes"`:                   `3:37: "yes" is no compliance value and counts as false | the values are false, true`,
		`esp_present == "yes" -> "True"`:                  `3:37: "True" is no compliance value and counts as false | did you mean "true"?`,
		`esp_present == "no" -> "false"`:                  `3:36: this clause changes nothing: false is the value without it, and takes nothing back | conditions can only allow: to refuse something, test for its opposite in the clauses that allow`,
		`true -> { esp_present == "maybe"; }`:             `3:23: this test never holds: esp_present is never "maybe" | its values are yes, no`,
	} {
		l := lint(t, named+test+";\n")
		got := make([]string, len(l))
		for i, d := range l {
			got[i] = strings.TrimPrefix(d.Range.Pos.String(), "policy:") + ": " + d.Summary + " | " + d.Hint
		}
		want = strings.ReplaceAll(want, `"true"?`, `true?`)
		if strings.Join(got, "\n") != want {
			t.Errorf("%s:\n%s\nwanted\n%s", test, strings.Join(got, "\n"), want)
		}
	}
}

func TestLintGraph(t *testing.T) {
	for text, want := range map[string]string{
		"Authorizer: \"POLICY\"\n":                                                                                                    "this policy lets everybody in: everybody who authenticates may have everything",
		"Authorizer: \"POLICY\"\nConditions: esp_present == \"yes\";\n":                                                               "there is no Licensees field: everybody who authenticates may have what the conditions allow",
		"Authorizer: \"policy\"\nLicensees: \"DN:x\"\n":                                                                               "no assertion is by POLICY, so everything is refused\nthis authorizer is not POLICY, which is written in capitals",
		"Authorizer: \"POLICY\"\nLicensees: \"sub1\"\n\nAuthorizer: \"sub1\"\n":                                                       "there is no Licensees field: everybody who authenticates has all that this authorizer may give",
		"Authorizer: \"POLICY\"\nLicensees: \"subpolcy\"\n\nAuthorizer: \"subpolicy\"\nLicensees: \"DN:x\"\n":                         "no assertion is by this licensee\nnothing leads from POLICY to this assertion, so it never counts",
		"Local-Constants: esp_present=\"yes\" x=\"DN:x\"\nAuthorizer: \"POLICY\"\nLicensees: x\nConditions: esp_present == \"no\";\n": "the constant esp_present hides the attribute of this name, which is then never asked about\nboth sides are constants, so this test is always false",
		"Authorizer: \"POLICY\"\nLicensees: \"sub\"\n":                                                                                "nobody can be this licensee: it is the name of a policy",
		"Authorizer: \"POLICY\"\nLicensees: \"rsa-hex:bad\"\n":                                                                        "nobody can be this licensee: not hexadecimal",
		"Authorizer: \"POLICY\"\nLicensees: \"POLICY\"\n":                                                                             "POLICY asks for nothing, so nobody can be this licensee",
		"Authorizer: \"POLICY\"\nLicensees: \"secret\"\n":                                                                             "",
	} {
		var got []string
		for _, d := range lint(t, text) {
			got = append(got, d.Summary)
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s:\n%s\nwanted\n%s", text, strings.Join(got, "\n"), want)
		}
	}
}
