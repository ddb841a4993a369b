package keynote_test

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// gap stands where blanks may be in the text that is made here.
const gap = "\x01"

// piece is the text of an expression with how tightly it binds: what binds less
// than its surroundings is put into parentheses.
type piece struct {
	text string
	tie  int
}

// How tightly operators bind, from RFC 2704 section 4.6.5.
const (
	tieOr = iota
	tieAnd
	tieNot
	tieRelation
	tieSum
	tieProduct
	tiePower
	tieUnary
	tiePrimary
)

// maker draws assertions and what they mean side by side.
type maker struct {
	t         *rapid.T
	constants map[string]string
}

func (m *maker) pick(of ...string) string { return rapid.SampledFrom(of).Draw(m.t, "pick") }

func (m *maker) roll(n int) int { return rapid.IntRange(0, n-1).Draw(m.t, "roll") }

// in is p where something of this tie is wanted, with parentheses that are not
// needed now and then.
func (m *maker) in(p piece, tie int) string {
	if p.tie < tie || m.roll(12) == 0 {
		return "(" + gap + p.text + gap + ")"
	}
	return p.text
}

var attributeNames = []string{"a", "b", "c", "num", "real", "who", "name"}

var texts = []string{"", "x", "xy", "3", "-2", "1.5", "-1.5", "a", "b", "num", "P1", "9999999999", "1e3", "POLICY", "_1", " 4x"}

func literal(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

func (m *maker) str(depth int) (piece, strFunc) {
	kinds := 8
	if depth <= 0 {
		kinds = 5
	}
	switch m.roll(kinds) {
	case 0, 1:
		v := m.pick(texts...)
		return piece{literal(v), tiePrimary}, func(*scene) string { return v }
	case 2, 3:
		n := m.pick(attributeNames...)
		if len(m.constants) > 0 && m.roll(4) == 0 {
			n = m.pick("k1", "k2")
		}
		return piece{n, tiePrimary}, func(s *scene) string { return s.get(n) }
	case 4:
		n := m.pick("_MIN_TRUST", "_MAX_TRUST", "_VALUES", "_ACTION_AUTHORIZERS", "_0", "_1", "_2", "_9")
		return piece{n, tiePrimary}, func(s *scene) string { return s.get(n) }
	case 5:
		p, f := m.str(depth - 1)
		return piece{"$" + gap + m.in(p, tieUnary), tieUnary}, func(s *scene) string {
			if n := f(s); n != "" {
				return s.get(n)
			}
			return ""
		}
	}
	p, f := m.str(depth - 1)
	q, g := m.str(depth - 1)
	return piece{m.in(p, tieSum) + gap + "." + gap + m.in(q, tieProduct), tieSum}, func(s *scene) string { return f(s) + g(s) }
}

func (m *maker) operator() (string, int) {
	o := m.pick("+", "-", "*", "/", "%", "^")
	return o, map[string]int{"+": tieSum, "-": tieSum, "^": tiePower}[o] + map[string]int{"*": tieProduct, "/": tieProduct, "%": tieProduct}[o]
}

func (m *maker) integer(depth int) (piece, intFunc) {
	kinds := 6
	if depth <= 0 {
		kinds = 2
	}
	switch m.roll(kinds) {
	case 0:
		n := rapid.SampledFrom([]int64{0, 1, 2, 3, 7, 40, 65536, 2147483647}).Draw(m.t, "integer")
		return piece{fmt.Sprint(n), tiePrimary}, func(*scene) *big.Int { return big.NewInt(n) }
	case 1:
		p, f := m.str(depth - 1)
		return piece{"@" + gap + m.in(p, tieUnary), tieUnary}, func(s *scene) *big.Int { return naiveToInt(strings.TrimSpace(f(s))) }
	case 2:
		p, f := m.integer(depth - 1)
		return piece{"-" + gap + m.in(p, tieUnary), tieUnary}, func(s *scene) *big.Int { return inRange(new(big.Int).Neg(f(s))) }
	}
	o, tie := m.operator()
	p, f := m.integer(depth - 1)
	q, g := m.integer(depth - 1)
	return piece{m.in(p, tie) + gap + o + gap + m.in(q, tie+1), tie}, func(s *scene) *big.Int {
		a := f(s)
		return naiveInt(o, a, g(s))
	}
}

func (m *maker) float(depth int) (piece, floatFunc) {
	kinds := 6
	if depth <= 0 {
		kinds = 2
	}
	switch m.roll(kinds) {
	case 0:
		n := m.pick("0.0", "1.5", "2.25", "340000000000000000000000000000000000000.0", "0.001")
		return piece{n, tiePrimary}, func(*scene) float32 { return naiveToFloat(n) }
	case 1:
		p, f := m.str(depth - 1)
		return piece{"&" + gap + m.in(p, tieUnary), tieUnary}, func(s *scene) float32 { return naiveToFloat(strings.TrimSpace(f(s))) }
	case 2:
		p, f := m.float(depth - 1)
		return piece{"-" + gap + m.in(p, tieUnary), tieUnary}, func(s *scene) float32 { return -f(s) }
	}
	o, tie := m.operator()
	if o == "%" {
		o = "/"
	}
	p, f := m.float(depth - 1)
	q, g := m.float(depth - 1)
	return piece{m.in(p, tie) + gap + o + gap + m.in(q, tie+1), tie}, func(s *scene) float32 {
		a := f(s)
		return naiveFloat(o, a, g(s))
	}
}

var patterns = []string{"x", "^x", "y$", "(x)(y*)", "(x)|(y)", "^[0-9]+$", "(x|xy)(y?)", "(", "x{3,1}", "^(.*)1$", "[^x]", "[[:digit:]]"}

func (m *maker) relation(depth int) (piece, boolFunc) {
	orders := []string{"<", ">", "<=", ">="}
	all := append([]string{"==", "!="}, orders...)
	sides := func(a, b piece, o string) piece {
		return piece{m.in(a, tieSum) + gap + o + gap + m.in(b, tieSum), tieRelation}
	}
	switch m.roll(5) {
	case 0:
		o := m.pick(all...)
		p, f := m.integer(depth)
		q, g := m.integer(depth)
		return sides(p, q, o), func(s *scene) bool { a := f(s); return naiveCompare(o, a.Cmp(g(s))) }
	case 1:
		o := m.pick(orders...)
		p, f := m.float(depth)
		q, g := m.float(depth)
		return sides(p, q, o), func(s *scene) bool { a := f(s); return naiveCompare(o, cmp.Compare(a, g(s))) }
	case 2:
		p, f := m.str(depth)
		re := m.pick(patterns...)
		return piece{m.in(p, tieSum) + gap + "~=" + gap + literal(re), tieRelation}, func(s *scene) bool { return naiveMatch(s, f(s), re) }
	}
	o := m.pick(all...)
	p, f := m.str(depth)
	q, g := m.str(depth)
	return sides(p, q, o), func(s *scene) bool { a := f(s); return naiveCompare(o, strings.Compare(a, g(s))) }
}

func (m *maker) test(depth int) (piece, boolFunc) {
	kinds := 9
	if depth <= 0 {
		kinds = 5
	}
	switch m.roll(kinds) {
	case 0:
		return piece{m.pick("true", "TRUE", "True"), tiePrimary}, func(*scene) bool { return true }
	case 1:
		return piece{"false", tiePrimary}, func(*scene) bool { return false }
	case 5:
		p, f := m.test(depth - 1)
		return piece{"!" + gap + m.in(p, tieNot), tieNot}, func(s *scene) bool { return !f(s) }
	case 6:
		p, f := m.test(depth - 1)
		q, g := m.test(depth - 1)
		return piece{m.in(p, tieOr) + gap + "||" + gap + m.in(q, tieAnd), tieOr}, func(s *scene) bool { return f(s) || g(s) }
	case 7, 8:
		p, f := m.test(depth - 1)
		q, g := m.test(depth - 1)
		return piece{m.in(p, tieAnd) + gap + "&&" + gap + m.in(q, tieNot), tieAnd}, func(s *scene) bool { return f(s) && g(s) }
	}
	return m.relation(depth - 1)
}

func (m *maker) program(depth int) (string, []naiveClause) {
	var b strings.Builder
	var cs []naiveClause
	for range m.roll(4) {
		p, f := m.test(3)
		c := naiveClause{test: f}
		b.WriteString(gap + p.text + gap)
		switch m.roll(4) {
		case 0:
			if depth > 0 {
				text, nested := m.program(depth - 1)
				c.block, c.nested = true, nested
				b.WriteString("->" + gap + "{" + text + gap + "}")
			}
		case 1:
			v := m.pick("v0", "v1", "v2", "none")
			c.value = func(*scene) string { return v }
			b.WriteString("->" + gap + literal(v))
		case 2:
			p, f := m.str(1)
			c.value = f
			b.WriteString("->" + gap + p.text)
		}
		b.WriteString(gap + ";")
		cs = append(cs, c)
	}
	return b.String(), cs
}

var principals = []string{"P0", "P1", "P2", "P3", "P4", "P5"}

func (m *maker) principal() (string, strFunc) {
	switch m.roll(10) {
	case 0:
		return "who", func(s *scene) string { return s.get("who") }
	case 1:
		n := m.pick("1", "2")
		return `("P"` + gap + "." + gap + literal(n) + ")", func(*scene) string { return "P" + n }
	case 2:
		if len(m.constants) > 0 {
			return "k1", func(s *scene) string { return s.get("k1") }
		}
	}
	n := m.pick(principals...)
	return literal(n), func(*scene) string { return n }
}

func (m *maker) licensees(depth int) (piece, *naiveLicensee) {
	kinds := 8
	if depth <= 0 {
		kinds = 3
	}
	switch m.roll(kinds) {
	case 3, 4:
		p, f := m.licensees(depth - 1)
		q, g := m.licensees(depth - 1)
		return piece{m.in(p, tieOr) + gap + "||" + gap + m.in(q, tieAnd), tieOr}, &naiveLicensee{k: 1, kids: []*naiveLicensee{f, g}}
	case 5, 6:
		p, f := m.licensees(depth - 1)
		q, g := m.licensees(depth - 1)
		return piece{m.in(p, tieAnd) + gap + "&&" + gap + m.in(q, tiePrimary), tieAnd}, &naiveLicensee{k: 2, kids: []*naiveLicensee{f, g}}
	case 7:
		n := 1 + m.roll(4)
		l := &naiveLicensee{k: 1 + m.roll(n)}
		var names []string
		for range n {
			text, who := m.principal()
			names = append(names, text)
			l.kids = append(l.kids, &naiveLicensee{who: who})
		}
		return piece{fmt.Sprintf("%d-of(%s)", l.k, strings.Join(names, gap+","+gap)), tiePrimary}, l
	}
	text, who := m.principal()
	return piece{text, tiePrimary}, &naiveLicensee{who: who}
}

// assertion draws one, by POLICY or another.
func (m *maker) assertion() (string, *naiveAssertion) {
	a := &naiveAssertion{}
	m.constants = nil
	var fields []string
	if m.roll(4) == 0 {
		m.constants = map[string]string{"k1": m.pick(principals...), "k2": m.pick(texts...), "a": m.pick(texts...)}
		fields = append(fields, fmt.Sprintf("Local-Constants:k1=%s"+gap+"k2"+gap+"="+gap+"%s"+gap+"a=%s", literal(m.constants["k1"]), literal(m.constants["k2"]), literal(m.constants["a"])))
		a.constants = m.constants
	}
	by, who := literal("POLICY"), strFunc(func(*scene) string { return "POLICY" })
	if m.roll(5) > 1 {
		by, who = m.principal()
	}
	a.authorizer = who
	fields = append(fields, "Authorizer:"+gap+by)
	switch m.roll(12) {
	case 0:
	case 1:
		a.nobody = true
		fields = append(fields, "Licensees:")
	default:
		p, l := m.licensees(3)
		a.licensees = l
		fields = append(fields, "Licensees:"+gap+p.text)
	}
	if a.always = m.roll(4) == 0; !a.always {
		text, cs := m.program(2)
		a.conditions = cs
		fields = append(fields, "Conditions:"+text)
	}
	if m.roll(3) == 0 {
		fields = append(fields, "Comment: \"not ( closed")
	}
	fields = rapid.Permutation(fields).Draw(m.t, "fields")
	if m.roll(3) == 0 {
		fields = slices.Insert(fields, 0, "keynote-VERSION:"+gap+"2")
	}
	text := strings.Join(fields, "\n") + "\n"
	gaps := []string{" ", "", "\n ", "\t", " # a \" comment ;\n\t"}
	for strings.Contains(text, gap+gap) || strings.Contains(text, gap+"\n") { // no line may be blank
		text = strings.ReplaceAll(strings.ReplaceAll(text, gap+gap, gap), gap+"\n", "\n")
	}
	return strings.ReplaceAll(text, gap, gaps[m.roll(len(gaps))]), a
}
