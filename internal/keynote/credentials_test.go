package keynote_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"oakley/internal/keynote"
)

// countingKeys verify a signature whose bits are the length of the message.
type countingKeys struct{ exampleKeys }

func (countingKeys) Verify(by, signature string, message []byte) error {
	if kind, bits, _ := strings.Cut(signature, ":"); bits != fmt.Sprint(len(message)) || !strings.HasSuffix(string(message), "\n"+kind+":") {
		return errors.New(by + " did not sign this")
	}
	return nil
}

const unsigned = "keynote-version: 2\nComment: one\n two\nAUTHORIZER: \"rsa:1\"\nLicensees: \"dn:x\"\n"

// sign makes a credential for countingKeys.
func sign(t *testing.T, text string) string {
	t.Helper()
	m, err := keynote.Message([]byte(text), "sig-len:")
	if err != nil {
		t.Fatal(err)
	}
	return text + "Signature: \"sig-len:" + fmt.Sprint(len(m)) + "\"\n"
}

func TestMessage(t *testing.T) {
	want := unsigned + "sig-len:"
	for _, text := range []string{
		unsigned,
		strings.TrimSuffix(unsigned, "\n"),
		"# a comment above\n\n" + unsigned,
		unsigned + "Signature:\n",
		unsigned + "signature : \"sig-len:12\"\n# what follows is not signed\n",
	} {
		if m, err := keynote.Message([]byte(text), "sig-len:"); err != nil || string(m) != want {
			t.Errorf("%q: %q %v", text, m, err)
		}
	}
	for _, x := range []struct {
		text, algorithm string
		want            error
	}{
		{unsigned, "sig-len", keynote.ErrAlgorithm},
		{unsigned, ":", keynote.ErrAlgorithm},
		{unsigned, "a:b:", keynote.ErrAlgorithm},
		{"", "a:", keynote.ErrNoField},
		{"hello\n" + unsigned, "a:", keynote.ErrNoField},
	} {
		if m, err := keynote.Message([]byte(x.text), x.algorithm); !errors.Is(err, x.want) {
			t.Errorf("%q %v", m, err)
		}
	}
}

// TestParsedMessageIsTheSame: what Message says of a text and what an assertion
// says of itself are the same bytes, wherever it stands.
func TestParsedMessageIsTheSame(t *testing.T) {
	text := sign(t, unsigned)
	as, l := keynote.Parse("c", []byte("# first\n\n"+text+"\n\n# note\n"+text), keynote.Credential)
	if len(l) > 0 || len(as) != 2 {
		t.Fatal(l)
	}
	for _, a := range as {
		m, err := a.Message()
		if err != nil || string(m) != unsigned+"sig-len:" {
			t.Errorf("%q %v", m, err)
		}
		again, err := keynote.Message([]byte(a.Text()), "sig-len:")
		if err != nil || string(again) != string(m) {
			t.Errorf("%q %v", again, err)
		}
	}
}

func TestOnlyWhatHoldsCounts(t *testing.T) {
	const policy = "Authorizer: \"POLICY\"\nLicensees: \"rsa:1\"\n"
	good := sign(t, unsigned)
	for _, x := range []struct {
		name, text string
		from       keynote.Source
		count      int
		want       string
	}{
		{"signed", good, keynote.Credential, 1, "true"},
		{"changed", strings.Replace(good, "two", "three", 1), keynote.Credential, 0, "false"},
		{"unsigned", unsigned, keynote.Credential, 0, "false"},
		{"unsigned, made here", unsigned, keynote.Pseudo, 1, "true"},
		{"unsigned in the policy", unsigned, keynote.Policy, 1, "true"},
		{"changed in the policy", strings.Replace(good, "two", "three", 1), keynote.Policy, 0, "false"},
		{"by POLICY", sign(t, "Authorizer: \"POLICY\"\n"), keynote.Credential, 0, "false"},
		{"by POLICY, made here", "Authorizer: \"POLICY\"\n", keynote.Pseudo, 0, "false"},
		{"by an attribute that may be POLICY", sign(t, "Authorizer: who\n"), keynote.Credential, 0, "false"},
		{"by a constant that is POLICY", sign(t, "Local-Constants: who = \"POLICY\"\nAuthorizer: who\n"), keynote.Credential, 0, "false"},
		{"by a sum that is POLICY", sign(t, "Authorizer: \"POL\" . \"ICY\"\n"), keynote.Credential, 0, "false"},
		{"by an attribute, made here", "Authorizer: who\n", keynote.Pseudo, 0, "false"},
		{"something behind it", good + "Conditions: true;\n", keynote.Credential, 1, "true"},
		{"something behind it that is signed too", good + good, keynote.Credential, 1, "true"},
		{"one of two", good + "\n" + unsigned, keynote.Credential, 1, "true"},
	} {
		ps, l := keynote.Parse("policy", []byte(policy), keynote.Policy)
		base, l2 := keynote.NewSet(countingKeys{}, ps)
		if len(l)+len(l2) > 0 {
			t.Fatal(l, l2)
		}
		as, l := keynote.Parse("c", []byte(x.text), x.from)
		s, l2 := base.With(as)
		if got := len(s.Assertions()) - 1; got != x.count || x.count == 0 && !append(l, l2...).HasErrors() {
			t.Errorf("%s: %d assertions\n%s%s", x.name, got, l, l2)
		}
		if got := ask(t, s, "DN:x", map[string]string{"who": "POLICY"}); got != x.want {
			t.Errorf("%s: %s", x.name, got)
		}
		again, _ := s.With(nil)
		if got := ask(t, again, "dn:x", map[string]string{"who": "POLICY"}); got != x.want {
			t.Errorf("%s, With called twice: %s", x.name, got)
		}
		if got := ask(t, base, "dn:x", nil); got != "false" {
			t.Error("With changed the set below")
		}
	}
}

// TestMalformedKeysAreNobody: two that are malformed alike are not the same.
func TestMalformedKeysAreNobody(t *testing.T) {
	as, l := keynote.Parse("p", []byte("Authorizer: \"POLICY\"\nLicensees: \"rsa-hex:bad\"\n"), keynote.Policy)
	s, l2 := keynote.NewSet(brokenKeys{}, as)
	if len(l)+len(l2) > 0 {
		t.Fatal(l, l2)
	}
	if got := ask(t, s, "rsa-hex:bad", nil); got != "false" {
		t.Error(got)
	}
	e := explain(t, s, nil, "rsa-hex:bad")
	if got := e.Brief(); len(got) != 2 || got[1] != "rsa-hex:bad is no key that can be read" || !e.Requesters[0].Malformed {
		t.Errorf("%q %+v", got, e.Requesters)
	}
}

func TestAssertionTellsAboutItself(t *testing.T) {
	as, l := keynote.Parse("c", []byte("\n"+sign(t, "Local-Constants: k = \"rsa:2\"\n"+strings.Replace(unsigned, "\"dn:x\"", "k || \"dn:x\" || other", 1))), keynote.Credential)
	if l.HasErrors() || len(as) != 1 {
		t.Fatal(l)
	}
	a := as[0]
	value, ok := a.Constant("k")
	if a.Authorizer() != "rsa:1" || strings.Join(a.Licensees(), " ") != "rsa:2 dn:x" || a.Comment() != "one two" || !a.Signed() ||
		!strings.HasPrefix(a.Signature(), "sig-len:") || a.Source() != keynote.Credential || a.Pos().String() != "c:2:1" || value != "rsa:2" || !ok {
		t.Errorf("%+v", a)
	}
}

// TestNoBeginningGivesMore: a policy or a credential that was cut off somewhere
// is read without harm, and never allows what the whole does not, but for what
// cannot be known: that another line would have followed.
func TestNoBeginningGivesMore(t *testing.T) {
	attrs := map[string]string{"app_domain": "SPEND", "dollars": "5500"}
	for _, text := range []string{exampleB, exampleC, exampleD, exampleF, exampleH, sub} {
		for n := range len(text) {
			as, _ := keynote.Parse("p", []byte(text[:n]), keynote.Policy)
			s, _ := keynote.NewSet(exampleKeys{}, as)
			_ = s.Lint(vocabulary)
			if e, err := s.Explain(&keynote.Query{Requesters: []string{"x"}, Attributes: attrs}); err != nil || len(e.Brief()) == 0 {
				t.Fatal(err)
			}
			if as, _ := keynote.Parse("p", []byte(text[:n]), keynote.Credential); len(as) > 0 && n < len(text)-1 {
				t.Errorf("a credential is read of %q", text[:n])
			}
		}
	}
	// Within the line of a condition nothing is cut without being noticed.
	const whole = "Authorizer: \"POLICY\"\nLicensees: \"x\"\nConditions: a == \"1\" && b == \"2\" -> \"true\";\n"
	for n := strings.Index(whole, "a ==") + 1; n < strings.Index(whole, ";"); n++ {
		if as, l := keynote.Parse("p", []byte(whole[:n]), keynote.Policy); len(as) > 0 || !l.HasErrors() {
			t.Errorf("%q is read", whole[:n])
		}
	}
}
