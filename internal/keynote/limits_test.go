package keynote_test

import (
	"fmt"
	"strings"
	"testing"

	"oakley/internal/keynote"
)

// TestNestingIsBounded: however deep a text is nested, reading it takes little
// stack, and beyond the bound it is an error.
func TestNestingIsBounded(t *testing.T) {
	for _, x := range []struct{ field, open, inner, closing string }{
		{"Conditions: ", "(", "true", ")"},
		{"Conditions: ", "!", "true", ""},
		{"Conditions: ", "true -> {", "true;", "};"},
		{"Conditions: 1 == ", "-", "@a", ""},
		{"Conditions: \"\" == ", "$", "a", ""},
		{"Conditions: 1 == ", "(", "1", ")"},
		{"Licensees: ", "(", `"DN:a"`, ")"},
		{"Licensees: ", "$", `a`, ""},
		{"Licensees: ", "2-of(", `a`, ")"},
		{"Authorizer: ", "(", `a`, ")"},
	} {
		for _, depth := range []int{50, 101, 80000} {
			text := x.field + strings.Repeat(x.open, depth) + x.inner + strings.Repeat(x.closing, depth)
			if strings.HasPrefix(x.field, "Conditions") && !strings.HasSuffix(x.closing, ";") {
				text += ";"
			}
			if !strings.HasPrefix(x.field, "Authorizer") {
				text = "Authorizer: \"POLICY\"\n" + text
			}
			_, l := keynote.Parse("p", []byte(text+"\n"), keynote.Policy)
			if l.HasErrors() != (depth > 100 || strings.HasPrefix(x.open, "2-of")) {
				t.Errorf("%d times %q: %s", depth, x.open, l.Err())
			}
		}
	}
}

func TestSizeIsBounded(t *testing.T) {
	const policy = "Authorizer: \"POLICY\"\n"
	for _, x := range []struct {
		text string
		from keynote.Source
		want string
	}{
		{strings.Repeat(" ", keynote.MaxPolicySize+1), keynote.Policy, "bytes, at most"},
		{strings.Repeat(" ", keynote.MaxCredentialSize+1), keynote.Credential, "bytes, at most"},
		{strings.Repeat("Authorizer: \"a\"\nSignature: \"b:c\"\n\n", 300), keynote.Credential, "more than 256 assertions"},
		{policy + "Comment: " + strings.Repeat("x", 300<<10), keynote.Policy, "this assertion has"},
		{policy + "Conditions: " + strings.Repeat("true||", 40000) + "true;\n", keynote.Policy, "operands and operators"},
		{policy + "Conditions: a == \"\"" + strings.Repeat(".b", 40000) + ";\n", keynote.Policy, "operands and operators"},
		{policy + "Licensees: a" + strings.Repeat("||b", 40000) + "\n", keynote.Policy, "operands and operators"},
		{policy + "Conditions: " + strings.Repeat("a ~= \"(x{100}){10}\" || ", 50) + "true;\n", keynote.Policy, "too large together"},
		{strings.Repeat("?\n", 5000), keynote.Policy, "remarks more"},
	} {
		as, l := keynote.Parse("p", []byte(x.text), x.from)
		if len(as) > 0 || !strings.Contains(l.String(), x.want) || len(l) > 600 {
			t.Errorf("%q: %d assertions, %d remarks: %s", x.want, len(as), len(l), l.Err())
		}
	}
}

// TestWorkIsBounded: what would take too long or too much memory is false.
func TestWorkIsBounded(t *testing.T) {
	long := strings.Repeat("a", 2048)
	attrs := map[string]string{"a": long, "b": strings.Repeat("b", 60000), "re": strings.Repeat("(x{255})", 200), "many": strings.Repeat("a|", 1000) + "a"}
	for _, x := range []struct {
		test string
		want bool
	}{
		{`a ~= "(a{100}){10}" || false`, false},
		{`a ~= "(a{10}){10}"`, true},
		{`a . a . a == a . a . a`, true},
		{strings.Repeat("a.", 40) + `a != ""`, false},
		{`!(` + strings.Repeat("a.", 40) + `a == "")`, false},
		{`true -> ` + strings.Repeat("a.", 40) + `a`, false},
		{strings.Repeat(`b . "x" != "" && `, 10) + "true", true},
		{strings.Repeat(`b . "x" != "" && `, 2000) + "true", false},
		{`a ~= "^((((a*)*)*)*)*$"`, true},
		{`a ~= "^(a|a|a|a)*(a|aa|aaa)*b$" || true`, true},
		{`a ~= "((a{255}){255}){255}"`, false},
		{`b ~= "(b{100}){10}"`, false}, // its size times the length of b
		{`a ~= re`, false},
		{`"a" ~= many`, true},
		{`"gw7.branch.worksite.se" ~= "^(` + strings.Repeat(`gw0\\.branch\\.worksite\\.se|`, 250) + `gw7\\.branch\\.worksite\\.se)$"`, true},
		{strings.Repeat(`"a" ~= many && `, 100) + "true", false},
		{`@a == 0`, true},
	} {
		if got := holds(t, x.test, attrs); got != x.want {
			t.Errorf("%.60s: %v", x.test, got)
		}
	}
}

// TestOneAssertionCannotSpendTheWorkOfOthers: a hostile credential is false, and
// the policy around it goes on.
func TestOneAssertionCannotSpendTheWorkOfOthers(t *testing.T) {
	hostile := "Authorizer: \"a\"\nLicensees: \"x\"\nConditions: " + strings.Repeat(`b . "x" != "" && `, 2000) + "true;\nSignature: \"s:1\"\n"
	s := load(t, "Authorizer: \"POLICY\"\nLicensees: \"a\" || \"c\"\n\nAuthorizer: \"c\"\nLicensees: \"x\"\n", strings.Repeat(hostile+"\n", 5))
	attrs := map[string]string{"b": strings.Repeat("b", 60000)}
	if got := ask(t, s, "x", attrs); got != "true" {
		t.Error(got)
	}
}

// TestPolicyMayWorkLonger: what the administrator wrote is bounded one by one and
// not together.
func TestPolicyMayWorkLonger(t *testing.T) {
	text := "Authorizer: \"a\"\nLicensees: \"x\"\nConditions: " + strings.Repeat(`b . "x" != "" && `, 15)
	policy := "Authorizer: \"POLICY\"\nLicensees: \"a\"\n\n" + strings.Repeat(text+"false;\n\n", 12) + text + "true;\n"
	attrs := map[string]string{"b": strings.Repeat("b", 60000)}
	if got := ask(t, load(t, policy), "x", attrs); got != "true" {
		t.Error(got)
	}
	signed := strings.Repeat(text+"false;\nSignature: \"s:1\"\n\n", 12) + text + "true;\nSignature: \"s:1\"\n"
	if got := ask(t, load(t, "Authorizer: \"POLICY\"\nLicensees: \"a\"\n", signed), "x", attrs); got != "false" {
		t.Error("credentials together may work without end")
	}
}

// decoder counts how often a principal is decoded, and how long they are together.
type decoder struct {
	exampleKeys
	calls, bytes int
}

func (d *decoder) Canonical(p string) (string, error) {
	d.calls++
	d.bytes += len(p)
	return p, nil
}

// TestPrincipalsAreBounded: a short text can name long principals, many times.
func TestPrincipalsAreBounded(t *testing.T) {
	long := "Authorizer: \"a\"\nLocal-Constants: k = \"binary-hex:" + strings.Repeat("ab", 10000) + "\"\nLicensees: \"x\""
	const end = "\nSignature: \"s:1\"\n"
	for _, x := range []struct {
		name, licensees string
		bytes           int // decoded while all is read and asked
	}{
		{"one name often", strings.Repeat("||k", 3000), 30 << 10},
		{"by a name that is calculated", strings.Repeat("||$(\"k\".u)", 3000), 1200 << 10},
		{"with a value", strings.Repeat("||k.u", 3000), 1200 << 10},
	} {
		d := &decoder{}
		as, l := keynote.Parse("p", []byte(long+x.licensees+end), keynote.Credential)
		s, bad := keynote.NewSet(d, as)
		if len(s.Assertions()) != 1 {
			t.Fatal(l, bad)
		}
		if _, err := s.Query(&keynote.Query{Requesters: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
		if d.bytes > x.bytes {
			t.Errorf("%s: %d bytes are decoded in %d calls", x.name, d.bytes, d.calls)
		}
	}
	as, l := keynote.Parse("p", []byte(long+strings.Repeat("||k.\"1\"", 10)+end), keynote.Credential)
	if len(as) > 0 || !strings.Contains(l.String(), "put together with dots") {
		t.Error(l)
	}
}

// TestPatternsOfCredentials are compiled by the queries that need them, and those
// pay for it.
func TestPatternsOfCredentials(t *testing.T) {
	text := "Authorizer: \"a\"\nLicensees: \"x\"\nConditions: " +
		strings.Repeat("a ~= \"(x{100}){9}\" || ", 200) + "a ~= \"^y(.)\" && _1 == \"z\";\nSignature: \"s:1\"\n"
	s := load(t, "Authorizer: \"POLICY\"\nLicensees: \"a\"\n", text)
	if got := ask(t, s, "x", map[string]string{"a": "yz"}); got != "false" {
		t.Error("a credential may compile without end")
	}
	s = load(t, "Authorizer: \"POLICY\"\nLicensees: \"a\"\n", strings.Replace(text, strings.Repeat("a ~= \"(x{100}){9}\" || ", 198), "", 1))
	if got := ask(t, s, "x", map[string]string{"a": "yz"}); got != "true" {
		t.Error("a credential may not compile anything")
	}
}

// TestLongChainsAndWideExpressions take time in proportion to their size: were
// it the square, this test would not end.
func TestLongChainsAndWideExpressions(t *testing.T) {
	const n = 10000
	var b strings.Builder
	b.WriteString("Authorizer: \"POLICY\"\nLicensees: \"p0\"")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, " &&\n \"p%d\"", i)
	}
	for i := range n {
		fmt.Fprintf(&b, "\n\nAuthorizer: \"p%d\"\nLicensees: \"p%d\"", i, i+1)
	}
	const last = "DN:/CN=last"
	fmt.Fprintf(&b, "\n\nAuthorizer: \"p%d\"\nLicensees: %q", n, last)
	s := load(t, b.String()+"\n")
	if got := ask(t, s, last, nil); got != "true" {
		t.Error(got)
	}
	if got := ask(t, s, "p1", nil); got != "false" {
		t.Error(got)
	}
	e := explain(t, s, nil, last)
	if len(e.Brief()) != 1 || e.Tree().Value.Value != "true" {
		t.Error(e.Brief())
	}
	if l := s.Lint(vocabulary); len(l) > 0 {
		t.Error(l)
	}
}

// TestTheSizeOfAPolicyDoesNotMatter: a query allocates the same number of times
// whatever else there is.
func TestTheSizeOfAPolicyDoesNotMatter(t *testing.T) {
	allocs := func(n int) float64 {
		s := load(t, office(n))
		q := &keynote.Query{Requesters: []string{"DN:/CN=gw"}, Attributes: officeAttrs}
		return testing.AllocsPerRun(20, func() {
			if r, err := s.Query(q); err != nil || r.Value != "true" {
				t.Error(r, err)
			}
		})
	}
	if few, many := allocs(10), allocs(3000); many > few+2 {
		t.Errorf("%v allocations with 10 assertions, %v with 3000", few, many)
	}
}
