package policy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"oakley/internal/doi"
	"oakley/internal/policy"
)

const page = "../../docs/man/isakmpd.policy.5"

func manual(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheManualHasTheTable: every attribute, with every value that it can have.
func TestTheManualHasTheTable(t *testing.T) {
	_, text, _ := strings.Cut(manual(t), ".Ss Attributes\n")
	text, _, ok := strings.Cut(text, ".Sh ")
	if !ok {
		t.Fatal("there is no section of attributes")
	}
	about := map[string]string{} // what is said about each
	var names []string
	open := true
	for line := range strings.Lines(text) {
		if item, ok := strings.CutPrefix(line, ".It Va "); ok {
			if !open {
				names = nil
			}
			names, open = append(names, strings.FieldsFunc(item, func(r rune) bool { return strings.ContainsRune(" ,\n", r) })...), true
			continue
		}
		open = false
		for _, n := range names {
			about[n] += line
		}
	}
	for _, a := range policy.Attributes() {
		for _, v := range a.Values {
			if v != "" && !regexp.MustCompile(`(?m)^\.Qq `+regexp.QuoteMeta(v)+`( |$)`).MatchString(about[a.Name]) {
				t.Errorf("%s: %q is not in isakmpd.policy(5)", a.Name, v)
			}
		}
		if about[a.Name] == "" {
			t.Errorf("%s is not in isakmpd.policy(5)", a.Name)
		}
		delete(about, a.Name)
	}
	if len(about) > 0 {
		t.Errorf("isakmpd.policy(5) has attributes that there are not: %v", about)
	}
}

// displays are the literal texts of a section of the manual.
func displays(t *testing.T, section string) []string {
	t.Helper()
	_, text, _ := strings.Cut(manual(t), ".Sh "+section+"\n")
	text, _, _ = strings.Cut(text, "\n.Sh ")
	var found []string
	for _, rest := range strings.Split(text+"\n", ".Bd -literal -offset indent\n")[1:] {
		one, _, _ := strings.Cut(rest, ".Ed\n")
		found = append(found, one)
	}
	return found
}

func TestTheManualsExamplesAreGoodPolicies(t *testing.T) {
	examples := displays(t, "EXAMPLES")
	if len(examples) != 4 {
		t.Fatalf("%d examples", len(examples))
	}
	for i, text := range examples {
		p, l := policy.Load("example", []byte(text))
		if p == nil || len(l) > 0 && (i > 0 || !strings.Contains(l.String(), "lets everybody in")) {
			t.Errorf("%s\n%s", text, l)
		}
	}
}

// TestTheManualsRefusals are what is really said; -update writes them.
func TestTheManualsRefusals(t *testing.T) {
	shown := displays(t, "WHEN A TUNNEL IS REFUSED")
	if len(shown) != 3 {
		t.Fatalf("%d texts", len(shown))
	}
	p, l := policy.Load("/etc/isakmpd/isakmpd.policy", []byte(shown[0]))
	if p == nil || len(l) > 0 {
		t.Fatal(l)
	}
	text := manual(t)
	for i, x := range []struct {
		mark   string
		change func(*policy.Query)
	}{{"3des", esp(doi.ESP3DES, 0)}, {"another key", key("another key")}} {
		q := query()
		x.change(q)
		got := fold(p.Ask(q).Brief())
		if *update {
			mark := ".\\\" refusal: " + x.mark + "\n.Bd -literal -offset indent\n"
			text = strings.Replace(text, mark+shown[i+1]+".Ed", mark+got+".Ed", 1)
			continue
		}
		if got != shown[i+1] {
			t.Errorf("%s: isakmpd.policy(5) has\n%sand it is\n%s", x.mark, shown[i+1], got)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fold breaks lines for a page, all but the first line of each indented.
func fold(lines []string) string {
	const width = 68
	var b strings.Builder
	for _, line := range lines {
		n := 0
		for _, w := range strings.Split(line, " ") {
			if n > 0 && n+1+len(w) > width {
				b.WriteString("\n   ")
				n = 3
			}
			if n > 0 {
				b.WriteByte(' ')
				n++
			}
			b.WriteString(w)
			n += len(w)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
