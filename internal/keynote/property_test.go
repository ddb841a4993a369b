package keynote_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"oakley/internal/keynote"
)

// compareWithNaive asks the engine and the naive evaluator the same.
func compareWithNaive(t *rapid.T) {
	m := &maker{t: t}
	var texts []string
	var naive []*naiveAssertion
	for range 1 + m.roll(10) {
		text, a := m.assertion()
		texts = append(texts, text)
		naive = append(naive, a)
	}
	q := &naiveQuery{
		requesters: rapid.SliceOfNDistinct(rapid.SampledFrom(principals), 1, 3, rapid.ID).Draw(t, "requesters"),
		values:     []string{"v0", "v1", "v2", "v3"}[:2+m.roll(3)],
		attrs:      map[string]string{"who": m.pick(principals...)},
	}
	for _, n := range []string{"a", "b", "num", "real", "name"} {
		if m.roll(5) > 0 {
			q.attrs[n] = m.pick(texts0...)
		}
	}
	of := q.principals(naive)
	ask := &keynote.Query{Requesters: q.requesters, Attributes: q.attrs, Values: q.values}
	want := q.values[of["POLICY"]]

	// All at once, and the first ones with the others put on top.
	all := parseAll(t, strings.Join(texts, "\n"))
	cut := m.roll(len(all) + 1)
	whole, l := keynote.NewSet(exampleKeys{}, all)
	below, l2 := keynote.NewSet(exampleKeys{}, all[:cut])
	half := cut + (len(all)-cut)/2
	between, l3 := below.With(all[cut:half])
	above, l4 := between.With(all[half:])
	if len(l)+len(l2)+len(l3)+len(l4) > 0 {
		t.Fatal(l, l2, l3, l4)
	}
	for name, s := range map[string]*keynote.Set{"whole": whole, "layered": above} {
		r, err := s.Query(ask)
		if err != nil || r.Value != want || r.Index != of["POLICY"] {
			t.Fatalf("%s: %v %v, the naive evaluator says %s\n%v\n%s", name, r, err, want, *q, strings.Join(texts, "\n"))
		}
		e, err := s.Explain(ask)
		if err != nil || e.Result != r {
			t.Fatalf("explained: %v %v", e.Result, err)
		}
		if e.Result.Index > 0 == (len(e.Granting) == 0) {
			t.Fatalf("%s by %v", e.Result.Value, e.Granting)
		}
		checkTree(t, e.Tree(), of, ask, strings.Join(texts, "\n"))
		if len(e.Brief()) == 0 {
			t.Fatal("nothing was explained")
		}
	}
	// What is there more can never take away (RFC 2704 section 7).
	if r, err := below.Query(ask); err != nil || r.Index > of["POLICY"] {
		t.Fatalf("a part gives %v, the whole %s", r, want)
	}
}

var texts0 = texts

func parseAll(t *rapid.T, text string) []*keynote.Assertion {
	as, l := keynote.Parse("policy", []byte(text), keynote.Policy)
	if l.HasErrors() {
		t.Fatalf("%s\n%s", text, l)
	}
	return as
}

// checkTree compares every principal's value in the tree.
func checkTree(t *rapid.T, n *keynote.Node, of map[string]int, q *keynote.Query, text string) {
	name := strings.Trim(n.Name, `"`)
	if slices.Contains(append(principals, "POLICY"), name) && n.Value.Index != of[name] {
		t.Fatalf("%s has %v in the tree, the naive evaluator says %d %v\n%s", name, n.Value, of[name], q, text)
	}
	for _, k := range n.Assertions {
		if k.Value.Index != min(k.Conditions.Index, k.Licensees.Index) || k.Value.Index > n.Value.Index {
			t.Fatalf("%s: %+v", name, k)
		}
		for _, p := range k.Principals {
			checkTree(t, p, of, q, text)
		}
	}
}

func TestEngineAgreesWithNaive(t *testing.T) { rapid.Check(t, compareWithNaive) }

func FuzzEngineAgainstNaive(f *testing.F) { f.Fuzz(rapid.MakeFuzz(compareWithNaive)) }

func TestQuoteIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		literal, ok := keynote.Quote(want)
		if ok == strings.Contains(want, "\x00") {
			t.Fatalf("%q: %v", want, ok)
		}
		if !ok {
			return
		}
		as := parseAll(t, "Authorizer: "+literal+"\n")
		if len(as) != 1 || as[0].Authorizer() != want {
			t.Fatalf("%q is read of %s", as[0].Authorizer(), literal)
		}
		if got, n, err := keynote.Unquote(literal + "\" || x"); err != nil || got != want || n != len(literal) {
			t.Fatalf("%q, %d, %v is read of %s", got, n, err, literal)
		}
	})
}
