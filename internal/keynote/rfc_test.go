package keynote_test

import (
	"strings"
	"testing"

	"oakley/internal/keynote"
)

// exampleKeys takes the fictitious keys of RFC 2704: the algorithm is written in
// any case, and every signature holds that names an algorithm.
type exampleKeys struct{}

func (exampleKeys) Canonical(p string) (string, error) {
	if kind, bits, ok := strings.Cut(p, ":"); ok {
		return strings.ToLower(kind) + ":" + bits, nil
	}
	return p, nil
}

func (exampleKeys) Verify(string, string, []byte) error { return nil }

// load reads a policy and credentials, all of which must be without a mistake.
func load(t testing.TB, policy string, credentials ...string) *keynote.Set {
	t.Helper()
	as, l := keynote.Parse("policy", []byte(policy), keynote.Policy)
	for _, c := range credentials {
		more, remarks := keynote.Parse("credential", []byte(c), keynote.Credential)
		as, l = append(as, more...), append(l, remarks...)
	}
	if l.HasErrors() {
		t.Fatal(l)
	}
	s, l := keynote.NewSet(exampleKeys{}, as)
	if len(l) > 0 {
		t.Fatal(l)
	}
	return s
}

// ask is the answer to a query.
func ask(t testing.TB, s *keynote.Set, requesters string, attrs map[string]string, values ...string) string {
	t.Helper()
	r, err := s.Query(&keynote.Query{Requesters: strings.Split(requesters, ","), Attributes: attrs, Values: values})
	if err != nil {
		t.Fatal(err)
	}
	return r.Value
}

// Examples A to D of RFC 2704 section 6.
const (
	exampleA = `Authorizer: "POLICY"
Licensees: "RSA:abc123"
`
	exampleB = `KeyNote-Version: 2
Local-Constants: Alice="DSA:4401ff92"  # Alice's key
                 Bob="RSA:d1234f"      # Bob's key
Authorizer: "RSA:abc123"
Licensees: Alice || Bob
Conditions: (app_domain == "RFC822-EMAIL") &&
            (address ~=   # only applies to one domain
              "^.*@keynote\\.research\\.att\\.com$");
Signature: "RSA-SHA1:213354f9"
`
	exampleC = `KeyNote-Version: 2
Authorizer: "DSA:4401ff92"  # the Alice CA
Licensees: "DSA:12340987"   # mab's key
Conditions: ((app_domain == "RFC822-EMAIL") &&
             (name == "M. Blaze" || name == "") &&
             (address == "mab@keynote.research.att.com"));
Signature: "DSA-SHA1:ab23487"
`
	exampleD = `KeyNote-Version: "2"
Authorizer: "DSA:4401ff92"   # the Alice CA
Licensees: "DSA:abc991" ||   # jf's DSA key
           "RSA:cde773" ||   # jf's RSA key
           "BFIK:fd091a"     # jf's BFIK key
Conditions: ((app_domain == "RFC822-EMAIL") &&
             (name == "J. Feigenbaum" || name == "") &&
             (address == "jf@keynote.research.att.com"));
Signature: "DSA-SHA1:8912aa"
`
)

func TestExamplesOfMail(t *testing.T) {
	s := load(t, exampleA, exampleB, exampleC, exampleD)
	const mab, jf = "mab@keynote.research.att.com", "jf@keynote.research.att.com"
	for _, x := range []struct{ who, address, name, want string }{
		{"dsa:12340987", mab, "", "true"},
		{"dsa:12340987", mab, "M. Blaze", "true"},
		{"dsa:12340987", "angelos@dsl.cis.upenn.edu", "", "false"},
		{"dsa:abc991", mab, "M. Blaze", "false"},
		{"dsa:12340987", mab, "J. Feigenbaum", "false"},
		{"dsa:abc991", jf, "J. Feigenbaum", "true"},
		{"rsa:cde773", jf, "", "true"},
		{"bfik:fd091a", jf, "", "true"},
	} {
		attrs := map[string]string{"app_domain": "RFC822-EMAIL", "address": x.address}
		if x.name != "" {
			attrs["name"] = x.name
		}
		if got := ask(t, s, x.who, attrs); got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
}

// Examples E to H of RFC 2704 section 6.
const (
	exampleE = `Authorizer: "POLICY"
Licensees: "RSA:dab212"  # the CFO's key
Conditions: (app_domain=="SPEND") && (@dollars < 10000);
`
	exampleF = `KeyNote-Version: 2
Comment: This credential specifies a spending policy
Authorizer: "RSA:dab212"        # the CFO
Licensees: "DSA:feed1234" &&    # The vice president
               ("RSA:abc123" || # middle manager #1
                "DSA:bcd987" || # middle manager #2
                "DSA:cde333" || # middle manager #3
                "DSA:def975" || # middle manager #4
                "DSA:978add")   # middle manager #5
Conditions: (app_domain=="SPEND")  # note nested clauses
              -> { (@(dollars) < 2500)
                     -> _MAX_TRUST;
                   (@(dollars) < 7500)
                     -> "ApproveAndLog";
                 };
Signature: "RSA-SHA1:9867a1"
`
	exampleG = `KeyNote-Version: 2
Authorizer: "POLICY"
Licensees: 2-of("DSA:feed1234", # The VP
                "RSA:abc123",   # Middle management clones
                "DSA:bcd987",
                "DSA:cde333",
                "DSA:def975",
                "DSA:978add")
Conditions: (app_domain=="SPEND") &&
            (@(dollars) < 1000);
`
	exampleH = `KeyNote-Version: 2
Comment: This one credential is equivalent to six separate
         credentials, one for each VP and middle manager.
         Individually, they can spend up to $500, but if
         it's $100 or more, we log it.
Authorizer: "RSA:dab212"      # From the CFO
Licensees: "DSA:feed1234" ||  # The VP
           "RSA:abc123" ||    # The middle management clones
           "DSA:bcd987" ||
           "DSA:cde333" ||
           "DSA:def975" ||
           "DSA:978add"
Conditions: (app_domain="SPEND")  # nested clauses
              -> { (@(dollars) < 100) -> _MAX_TRUST;
                   (@(dollars) < 500) -> "ApproveAndLog";
                 };
Signature: "RSA-SHA1:186123"
`
)

func TestExamplesOfSpending(t *testing.T) {
	s := load(t, exampleE+"\n"+exampleG, exampleF, exampleH)
	for _, x := range []struct{ who, dollars, want string }{
		{"DSA:978add", "45", "Approve"},
		{"RSA:abc123,DSA:cde333", "550", "Approve"},
		{"DSA:feed1234,DSA:cde333", "5500", "ApproveAndLog"},
		{"DSA:cde333", "150", "ApproveAndLog"},
		{"DSA:def975", "550", "Reject"},
		{"DSA:cde333,DSA:978add", "5500", "Reject"},
	} {
		attrs := map[string]string{"app_domain": "SPEND", "dollars": x.dollars, "unmentioned_attribute": "whatever"}
		if got := ask(t, s, x.who, attrs, "Reject", "ApproveAndLog", "Approve"); got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
}

// exampleMail is the first example of RFC 2704, in section 2.
const exampleMail = `KeyNote-Version: 2
Comment: A simple, if contrived, email certificate for user mab
Local-Constants:  ATT_CA_key = "RSA:acdfa1df1011bbac"
                  mab_key = "DSA:deadbeefcafe001a"
Authorizer: ATT_CA_key
Licensees: mab_key
Conditions: ((app_domain == "email")  # valid for email only
          && (address == "mab@research.att.com"));
Signature: "RSA-SHA1:f00f2244"
`

func TestFirstExample(t *testing.T) {
	s := load(t, "Authorizer: \"POLICY\"\nLicensees: \"RSA:acdfa1df1011bbac\"\n", exampleMail)
	for _, x := range []struct{ who, domain, address, want string }{
		{"DSA:deadbeefcafe001a", "email", "mab@research.att.com", "true"},
		{"dsa:deadbeefcafe001a", "email", "mab@research.att.com", "true"},
		{"DSA:deadbeefcafe001b", "email", "mab@research.att.com", "false"},
		{"DSA:deadbeefcafe001a", "Email", "mab@research.att.com", "false"},
		{"DSA:deadbeefcafe001a", "email", "angelos@dsl.cis.upenn.edu", "false"},
		{"RSA:acdfa1df1011bbac", "", "", "true"},
	} {
		if got := ask(t, s, x.who, map[string]string{"app_domain": x.domain, "address": x.address}); got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
}

// TestEqualStrings are the four literals of section 4.3.1.
func TestEqualStrings(t *testing.T) {
	const want = "this string contains a newline\n followed by one space."
	for _, literal := range []string{
		`"this string contains a newline\n followed by one space."`,
		"\"this string contains a newline\\n \\\n     followed by one space.\"",
		"\"this str\\\n        ing contains a \\\n          newline\\n followed by one space.\"",
		`"this string contains a newline\012\040followed by one space."`,
	} {
		s := load(t, "Authorizer: \"POLICY\"\nConditions: text == "+literal+";\n")
		if ask(t, s, "x", map[string]string{"text": want}) != "true" {
			t.Error(literal)
		}
	}
}

// TestHowTo is the policy of the how-to as it was meant: without the two lines
// that it tells to delete, and with its last line indented.
func TestHowTo(t *testing.T) {
	as, l := keynote.Parse("isakmpd.policy", []byte(`KeyNote-Version: 2
Comment: This policy accepts ESP SAs from a remote that uses the right password
Authoriser: "POLICY"
Licensees: "mekmitasdigoat"
Conditions: app_domain == "IPSec policy" &&
 esp_present == "yes" -> "true";
`), keynote.Policy)
	if l.HasErrors() || len(l) != 1 || len(as) != 1 {
		t.Fatal(l)
	}
	meant, l := as[0].Respell("app_domain", "IPSec policy", "IPsec policy", "it is written otherwise", "write it so")
	s, l2 := keynote.NewSet(exampleKeys{}, []*keynote.Assertion{meant})
	if len(l) != 1 || len(l2) > 0 {
		t.Fatal(l, l2)
	}
	for _, x := range []struct{ who, esp, want string }{
		{"mekmitasdigoat", "yes", "true"}, {"mekmitasdigoat", "no", "false"}, {"other", "yes", "false"},
	} {
		if got := ask(t, s, x.who, map[string]string{"app_domain": "IPsec policy", "esp_present": x.esp}); got != x.want {
			t.Errorf("%+v: %s", x, got)
		}
	}
}

// TestHowLinesEnd: files from other systems mean the same, and a line that holds
// nothing but blanks separates assertions.
func TestHowLinesEnd(t *testing.T) {
	const text = "KeyNote-Version: 2\nAuthorizer: \"POLICY\" # the root\nLicensees: \"a\" ||\n\t\"b\"\n\nAuthorizer: \"a\"\nLicensees: \"c\"\nConditions: x == \"on\\\n\te\";\n"
	for name, text := range map[string]string{
		"as it is": text,
		"CRLF":     strings.ReplaceAll(text, "\n", "\r\n"),
		"BOM":      "\xef\xbb\xbf" + text,
		"no end":   strings.TrimSuffix(text, "\n"),
		"blanks":   "\n\n" + strings.ReplaceAll(text, "\n\n", "\n \t \n# a remark\n\n\n"),
		"remarks":  "# first\n" + strings.ReplaceAll(text, "Licensees", "# one more\n # and more\nLicensees"),
	} {
		s := load(t, text)
		if len(s.Assertions()) != 2 || ask(t, s, "c", map[string]string{"x": "one"}) != "true" || ask(t, s, "c", nil) != "false" {
			t.Errorf("%s: %q", name, text)
		}
	}
}
