package keynote

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of one assertion.
const (
	maxDepth = 100     // of nested parentheses, braces and unary operators
	maxNodes = 1 << 15 // of all expressions together
)

// parser reads the fields of one assertion by recursive descent. After the first
// mistake in a field it sees the end of the text, so that everything unwinds.
type parser struct {
	b      *builder
	lex    lexer
	tok    token
	before span // of the token before tok
	depth  int
	broken bool
}

// begin points the parser at a field.
func (p *parser) begin(c span) {
	p.lex = lexer{src: p.b.a.doc.src, off: c.from, end: c.end}
	p.broken, p.depth = false, 0
	p.advance()
}

func (p *parser) advance() {
	if p.broken {
		return
	}
	p.before = p.tok.at
	if p.tok = p.lex.next(); p.tok.kind == tBad {
		p.fail(p.tok.at, "", "%s", p.tok.text)
	}
}

func (p *parser) fail(where span, hint, format string, args ...any) {
	if p.broken {
		return
	}
	p.broken = true
	p.tok = token{kind: tEnd, at: where}
	p.b.fail(where, hint, format, args...)
}

// what is the current token in a sentence.
func (p *parser) what() string {
	switch p.tok.kind {
	case tEnd:
		return "the end of the field"
	case tName, tInt, tFloat:
		return "`" + clip(p.tok.text) + "`"
	case tString:
		return "a string"
	}
	return "`" + string(p.tok.kind) + "`"
}

// here is the current token, or at the end of the field the last one before it.
func (p *parser) here() span {
	if p.tok.kind == tEnd && p.before.end > p.before.from {
		return p.before
	}
	return p.tok.at
}

func (p *parser) accept(k tok) bool {
	if p.tok.kind != k || p.broken {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expect(k tok, hint string) {
	if !p.accept(k) {
		p.fail(p.here(), hint, "`%s` was expected here, not %s", string(k), p.what())
	}
}

// end checks that the field has been read to its end.
func (p *parser) end(hint string) {
	if p.tok.kind != tEnd {
		p.fail(p.tok.at, hint, "the field should end before %s", p.what())
	}
}

// deeper counts nesting; it is undone by p.depth--.
func (p *parser) deeper() bool {
	if p.depth++; p.depth > maxDepth {
		p.fail(p.tok.at, "", "expressions are nested deeper than %d levels", maxDepth)
	}
	return !p.broken
}

func (p *parser) node(e expr) *expr {
	if p.b.a.nodes++; p.b.a.nodes > maxNodes {
		p.fail(e.at, "divide it into several assertions", "this assertion has more than %d operands and operators", maxNodes)
	}
	return &e
}

// clip shortens what came from a text, for a sentence.
func clip(s string) string { return clipTo(s, 40) }

func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for !utf8.RuneStart(s[most]) && most > 0 {
		most--
	}
	return s[:most] + "..."
}

// or reads an expression of any kind.
func (p *parser) or() *expr { return p.several("||", opOr, p.and) }

func (p *parser) and() *expr { return p.several("&&", opAnd, p.not) }

func (p *parser) several(sign tok, o op, below func() *expr) *expr {
	e := below()
	if p.tok.kind != sign {
		return e
	}
	kids := []*expr{p.test(e)}
	for p.accept(sign) {
		kids = append(kids, p.test(below()))
	}
	return p.node(expr{op: o, kind: kindBool, kids: kids, at: span{e.at.from, kids[len(kids)-1].at.end}})
}

func (p *parser) not() *expr {
	at := p.tok.at
	if !p.accept("!") {
		return p.relation()
	}
	defer func() { p.depth-- }()
	if !p.deeper() {
		return p.node(expr{kind: kindBool, at: at})
	}
	k := p.test(p.not())
	return p.node(expr{op: opNot, kind: kindBool, kids: []*expr{k}, at: span{at.from, k.at.end}})
}

// test makes e a test: the names true and false are tests where one is expected.
func (p *parser) test(e *expr) *expr {
	if e.kind == kindBool || p.broken {
		return e
	}
	if e.op == opAttribute || e.name != "" {
		for name, o := range map[string]op{"true": opTrue, "false": opFalse} {
			if strings.EqualFold(p.b.a.doc.src[e.at.from:e.at.end], name) {
				return p.node(expr{op: o, kind: kindBool, at: e.at})
			}
		}
	}
	hint := "compare it with something"
	switch sign, word := wordSigns[strings.ToLower(e.text)]; {
	case e.op != opAttribute:
	case word:
		hint = clip(e.text) + " is written " + sign + " here"
	case e.kind == kindString:
		hint = "write " + clip(e.text) + ` == "yes", for example`
	}
	p.fail(e.at, hint, "this is %s where a test is expected", e.kind)
	return e
}

// wordSigns are operators that other languages have words for.
var wordSigns = map[string]string{"not": "!", "and": "&&", "or": "||"}

var relations = map[tok]op{
	"==": opEqual, "=": opEqual, "!=": opUnequal, "<": opLess, ">": opMore,
	"<=": opAtMost, ">=": opAtLeast, "~=": opMatch,
}

func (p *parser) relation() *expr {
	left := p.sum()
	o, ok := relations[p.tok.kind]
	if !ok || p.broken {
		return left
	}
	sign := p.tok
	if sign.kind == "=" { // an example of RFC 2704 section 6 writes it so
		p.b.warn(sign.at, "write ==", "`=` is read as `==`")
	}
	p.advance()
	right := p.sum()
	e := p.node(expr{op: o, kind: kindBool, kids: []*expr{left, right}, at: span{left.at.from, right.at.end}})
	p.comparable(e, sign)
	if _, again := relations[p.tok.kind]; again {
		p.fail(p.tok.at, "write two comparisons with && between them", "comparisons cannot be chained")
	}
	if o == opMatch && !p.broken {
		p.pattern(e)
	}
	return e
}

// comparable checks the kinds on both sides of a relation.
func (p *parser) comparable(e *expr, sign token) {
	l, r := e.kids[0], e.kids[1]
	switch {
	case p.broken:
	case l.kind == kindBool || r.kind == kindBool:
		p.fail(sign.at, "combine tests with &&, || and !", "tests cannot be compared")
	case l.kind != r.kind:
		p.fail(e.at, p.sameKind(l, r), "this compares %s with %s", l.kind, r.kind)
	case e.op == opMatch && l.kind != kindString:
		p.fail(e.at, "use ~= with strings", "a regular expression is compared with %s", l.kind)
	case l.kind == kindFloat && (e.op == opEqual || e.op == opUnequal):
		p.fail(sign.at, "use < and >, or compare integers (@)", "KeyNote does not test floating point numbers for equality")
	}
}

// sameKind is what to do about two operands of different kinds.
func (p *parser) sameKind(l, r *expr) string {
	if l.kind == kindString {
		l, r = r, l
	}
	switch {
	case r.kind == kindString && l.kind == kindInt:
		return "write @ before the string to read it as an integer, or quote the number"
	case r.kind == kindString && l.kind == kindFloat:
		return "write & before the string to read it as a floating point number, or quote the number"
	case l.kind == kindBool || r.kind == kindBool:
		return ""
	}
	return "write an integer literal as 1.0, and & instead of @, to calculate with floating point numbers"
}

func (p *parser) sum() *expr {
	return p.binary(p.product, map[tok]op{"+": opAdd, "-": opSub, ".": opConcat})
}

func (p *parser) product() *expr {
	return p.binary(p.power, map[tok]op{"*": opMul, "/": opDiv, "%": opMod})
}

// power is left-associative like every operator of RFC 2704 section 4.6.5.
func (p *parser) power() *expr { return p.binary(p.unary, map[tok]op{"^": opPow}) }

func (p *parser) binary(below func() *expr, ops map[tok]op) *expr {
	left := below()
	for {
		o, ok := ops[p.tok.kind]
		if !ok || p.broken {
			return left
		}
		sign := p.tok
		p.advance()
		right := below()
		if p.broken {
			return left
		}
		left = p.operation(o, sign, left, right)
	}
}

func (p *parser) operation(o op, sign token, l, r *expr) *expr {
	at := span{l.at.from, r.at.end}
	text := l.kind == kindString && r.kind == kindString
	switch {
	case o == opConcat && !text:
		p.fail(at, "numbers cannot be joined to strings", "`.` joins two strings, here it has %s and %s", l.kind, r.kind)
	case o != opConcat && text && o == opAdd:
		p.fail(at, "strings are joined with a dot", "`+` adds numbers, here it has two strings")
	case o != opConcat && (l.kind == kindBool || r.kind == kindBool || text):
		p.fail(at, "write @ or & before a string to read it as a number", "`%s` calculates with numbers, here it has %s and %s", sign.text, l.kind, r.kind)
	case o != opConcat && l.kind != r.kind:
		p.fail(at, p.sameKind(l, r), "`%s` has %s and %s", sign.text, l.kind, r.kind)
	case o == opMod && l.kind == kindFloat:
		p.fail(sign.at, "use @ instead of &", "`%%` is for integers alone")
	case o == opConcat && l.op == opConcat: // one node for a chain: it is built at once
		l.kids = append(l.kids, r)
		l.at = at
		return l
	}
	return p.node(expr{op: o, kind: l.kind, kids: []*expr{l, r}, at: at})
}

var unaries = map[tok]op{"-": opNegate, "@": opToInt, "&": opToFloat, "$": opDeref}

func (p *parser) unary() *expr {
	o, ok := unaries[p.tok.kind]
	if !ok || p.broken {
		return p.primary()
	}
	sign := p.tok
	p.advance()
	if o == opNegate && p.tok.kind == tInt {
		return p.integer("-", sign.at.from)
	}
	defer func() { p.depth-- }()
	if !p.deeper() {
		return p.node(expr{at: sign.at})
	}
	k := p.unary()
	at := span{sign.at.from, k.at.end}
	if o == opNegate {
		if k.kind != kindInt && k.kind != kindFloat {
			p.fail(at, "write @ or & before a string to read it as a number", "`-` negates a number, here it has %s", k.kind)
		}
		return p.node(expr{op: o, kind: k.kind, kids: []*expr{k}, at: at})
	}
	if k.kind != kindString {
		p.fail(at, "", "`%s` needs a string, here it has %s", sign.text, k.kind)
	}
	if o == opDeref {
		return p.deref(k, at)
	}
	return p.node(expr{op: o, kind: map[op]kind{opToInt: kindInt, opToFloat: kindFloat}[o], kids: []*expr{k}, at: at})
}

// deref is the attribute that k names; when k is a constant it is known by now.
func (p *parser) deref(k *expr, at span) *expr {
	name, ok := k.constant()
	if !ok {
		p.b.a.groups = true
		return p.node(expr{op: opDeref, kids: []*expr{k}, at: at})
	}
	if !validName(name) {
		return p.node(expr{op: opLiteral, at: at})
	}
	return p.attribute(name, at)
}

// attribute is a name outside of quotes: a local constant, what a group of a
// regular expression matched, or an attribute of the query.
func (p *parser) attribute(name string, at span) *expr {
	if v, ok := p.b.a.constants[name]; ok {
		return p.node(expr{op: opLiteral, text: v, name: name, at: at})
	}
	if n, ok := groupNumber(name); ok {
		p.b.a.groups = true
		return p.node(expr{op: opGroup, number: n, at: at})
	}
	return p.node(expr{op: opAttribute, text: name, at: at})
}

// validName tells whether s is an <AttributeID> (RFC 2704 section 3).
func validName(s string) bool {
	if s == "" || !isNameStart(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isName(s[i]) {
			return false
		}
	}
	return true
}

// groupNumber is the N of _N.
func groupNumber(name string) (int32, bool) {
	digits, ok := strings.CutPrefix(name, "_")
	if !ok || digits == "" || len(digits) > 4 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, _ := strconv.Atoi(digits) // four digits at most
	return int32(n), len(digits) == 1 || digits[0] != '0'
}

// hintMissing is what to do where a token stands instead of a value.
var hintMissing = map[tok]string{
	tEnd: "a string stands in quotes, an attribute without; ( and { need ) and }",
	";":  "a string stands in quotes, an attribute without",
}

func (p *parser) primary() *expr {
	t := p.tok
	switch t.kind {
	case tString:
		p.advance()
		return p.node(expr{op: opLiteral, text: t.text, at: t.at})
	case tName:
		p.advance()
		return p.attribute(t.text, t.at)
	case tInt:
		return p.integer("", t.at.from)
	case tFloat:
		p.advance()
		f, err := strconv.ParseFloat(t.text, 32)
		if err != nil {
			p.fail(t.at, "", "floating point numbers end at 3.40282347E+38")
		}
		return p.node(expr{op: opFloat, kind: kindFloat, real: float32(f), at: t.at})
	case "(":
		p.advance()
		defer func() { p.depth-- }()
		if !p.deeper() {
			break
		}
		e := p.or()
		p.expect(")", "close what is opened in "+p.b.a.doc.pos(t.at.from).String())
		return e
	}
	p.fail(p.here(), hintMissing[p.tok.kind], "a value is missing: there is %s instead", p.what())
	return p.node(expr{at: t.at})
}

// integer reads a literal that begins at from. A sign is read with it: the lowest
// integer is none without.
func (p *parser) integer(sign string, from int) *expr {
	t := p.tok
	p.advance()
	n, err := strconv.ParseInt(sign+t.text, 10, 32)
	if err != nil {
		p.fail(t.at, "compare long numbers, such as times, as strings in quotes", "integers go from -2147483648 to 2147483647")
	}
	return p.node(expr{op: opInt, kind: kindInt, number: int32(n), at: span{from, t.at.end}})
}
