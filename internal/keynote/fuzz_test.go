package keynote_test

import (
	"cmp"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"oakley/internal/keynote"
)

// naiveStr and those below make of a parsed expression what the naive evaluator
// takes.
func naiveStr(e *keynote.ViewExpr) strFunc {
	switch e.Op {
	case "literal":
		return func(*scene) string { return e.Text }
	case "attribute":
		return func(s *scene) string { return s.attrs[e.Text] }
	case "group":
		return func(s *scene) string { return s.get("_" + strconv.Itoa(int(e.Number))) }
	case "$":
		f := naiveStr(e.Kids[0])
		return func(s *scene) string {
			name := f(s)
			if !attributeName(name) {
				return ""
			}
			return s.get(name)
		}
	}
	var fs []strFunc
	for _, k := range e.Kids {
		fs = append(fs, naiveStr(k))
	}
	return func(s *scene) string {
		var b strings.Builder
		for _, f := range fs {
			b.WriteString(f(s))
		}
		return b.String()
	}
}

func attributeName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && (s[0] < '0' || s[0] > '9')
}

const blanks = " \t\n\v\f\r"

func naiveInteger(e *keynote.ViewExpr) intFunc {
	switch e.Op {
	case "int":
		return func(*scene) *big.Int { return big.NewInt(int64(e.Number)) }
	case "@":
		f := naiveStr(e.Kids[0])
		return func(s *scene) *big.Int { return naiveToInt(strings.Trim(f(s), blanks)) }
	case "neg":
		f := naiveInteger(e.Kids[0])
		return func(s *scene) *big.Int { return inRange(new(big.Int).Neg(f(s))) }
	}
	f, g := naiveInteger(e.Kids[0]), naiveInteger(e.Kids[1])
	return func(s *scene) *big.Int { a := f(s); return naiveInt(e.Op, a, g(s)) }
}

func naiveReal(e *keynote.ViewExpr) floatFunc {
	switch e.Op {
	case "float":
		return func(*scene) float32 { return e.Real }
	case "&":
		f := naiveStr(e.Kids[0])
		return func(s *scene) float32 { return naiveToFloat(strings.Trim(f(s), blanks)) }
	case "neg":
		f := naiveReal(e.Kids[0])
		return func(s *scene) float32 { return -f(s) }
	}
	f, g := naiveReal(e.Kids[0]), naiveReal(e.Kids[1])
	return func(s *scene) float32 { a := f(s); return naiveFloat(e.Op, a, g(s)) }
}

func naiveTest(e *keynote.ViewExpr) boolFunc {
	switch e.Op {
	case "true", "false":
		return func(*scene) bool { return e.Op == "true" }
	case "!":
		f := naiveTest(e.Kids[0])
		return func(s *scene) bool { return !f(s) }
	case "&&", "||":
		var fs []boolFunc
		for _, k := range e.Kids {
			fs = append(fs, naiveTest(k))
		}
		return func(s *scene) bool {
			for _, f := range fs {
				if f(s) == (e.Op == "||") {
					return e.Op == "||"
				}
			}
			return e.Op == "&&"
		}
	case "~=":
		return naivePattern(e)
	}
	switch e.Kids[0].Kind {
	case "an integer":
		f, g := naiveInteger(e.Kids[0]), naiveInteger(e.Kids[1])
		return func(s *scene) bool { a := f(s); return naiveCompare(e.Op, a.Cmp(g(s))) }
	case "a floating point number":
		f, g := naiveReal(e.Kids[0]), naiveReal(e.Kids[1])
		return func(s *scene) bool { a := f(s); return naiveCompare(e.Op, cmp.Compare(a, g(s))) }
	}
	f, g := naiveStr(e.Kids[0]), naiveStr(e.Kids[1])
	return func(s *scene) bool { a := f(s); return naiveCompare(e.Op, strings.Compare(a, g(s))) }
}

func naivePattern(e *keynote.ViewExpr) boolFunc {
	f, g := naiveStr(e.Kids[0]), naiveStr(e.Kids[1])
	return func(s *scene) bool {
		text, re := f(s), e.Pattern
		if re == nil && !e.Invalid {
			re = keynote.CompilePattern(g(s))
		}
		if re == nil {
			panic(fault{})
		}
		m := re.FindStringSubmatch(text)
		if m == nil {
			return false
		}
		m[0] = strconv.Itoa(re.NumSubexp())
		s.groups = m
		return true
	}
}

func naiveClauses(vs []keynote.ViewClause) []naiveClause {
	var cs []naiveClause
	for _, v := range vs {
		c := naiveClause{test: naiveTest(v.Test), nested: naiveClauses(v.Nested), block: v.Block}
		if v.Value != nil {
			c.value = naiveStr(v.Value)
		}
		cs = append(cs, c)
	}
	return cs
}

func canonical(f strFunc) strFunc {
	return func(s *scene) string {
		name, _ := exampleKeys{}.Canonical(f(s))
		return name
	}
}

func naiveLicensees(v *keynote.ViewLicensee) *naiveLicensee {
	if v.Leaf != nil {
		return &naiveLicensee{who: canonical(naiveStr(v.Leaf))}
	}
	l := &naiveLicensee{k: v.Need}
	for _, k := range v.Kids {
		l.kids = append(l.kids, naiveLicensees(k))
	}
	return l
}

func naiveView(v keynote.View) *naiveAssertion {
	a := &naiveAssertion{
		constants: v.Constants, authorizer: canonical(naiveStr(v.Authorizer)),
		nobody: v.HasLicensees && v.Licensees == nil,
		always: !v.HasConditions, conditions: naiveClauses(v.Conditions),
	}
	if v.Licensees != nil {
		a.licensees = naiveLicensees(v.Licensees)
	}
	return a
}

// FuzzText reads any text as a policy and as credentials, asks, explains and
// lints. Whatever it is, it ends, and POLICY never gives more than the naive
// evaluator says; with short texts, for which no bound matters, it gives as much.
func FuzzText(f *testing.F) {
	for _, s := range []string{
		exampleA, exampleB, exampleC, exampleD, exampleE, exampleF, exampleG, exampleH, sub, office(7),
		"Authorizer: \"POLICY\"\nLicensees: 2-of(\"x\", \"y\", k) && $(\"a\")\nLocal-Constants: k=\"z\"\nConditions: a ~= \"(b)*\" && _1 == \"b\" -> { @c ^ 2 > 4 && &c < 5.5; } ;\n",
		"Authorizer: \"POLICY\"\nConditions: true == \"x\" || !($$a != \"y\\\n  z\") && -1 < @(c . \"2\") % 7; \"\\101\" == a -> \"maybe\";\n",
	} {
		f.Add(s, "x", "b", "3")
	}
	f.Fuzz(func(t *testing.T, text, who, a, c string) {
		if len(a)+len(c)+len(who) > 200 || strings.ContainsRune(a+c+who, 0) || who == "" || who == "POLICY" {
			return
		}
		_, _ = keynote.Parse("c", []byte(text), keynote.Credential)
		as, l := keynote.Parse("p", []byte(text), keynote.Policy)
		_ = l.String()
		s, _ := keynote.NewSet(exampleKeys{}, as)
		_ = s.Lint(vocabulary)
		who, _ = exampleKeys{}.Canonical(who)
		q := &keynote.Query{Requesters: []string{who}, Attributes: map[string]string{"a": a, "b": "yes", "c": c}, Values: []string{"false", "maybe", "true"}}
		e, err := s.Explain(q)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range e.Brief() {
			if strings.ContainsAny(line, "\n\x1b") {
				t.Fatalf("%q", line)
			}
		}
		_, _ = e.WriteTo(&strings.Builder{})
		var naive []*naiveAssertion
		for _, a := range as {
			naive = append(naive, naiveView(a.View()))
		}
		n := &naiveQuery{requesters: q.Requesters, attrs: q.Attributes, values: q.Values}
		want := n.principals(naive)["POLICY"]
		r, err := s.Query(q)
		if err != nil || r != e.Result || r.Index > want || len(text) < 600 && r.Index != want {
			t.Fatalf("%v, explained %v, the naive evaluator says %d (%v)", r, e.Result, want, err)
		}
	})
}
