package keynote

import "regexp"

// ViewExpr is an expression for the naive evaluator of the tests.
type ViewExpr struct {
	Op      string
	Kind    string
	Kids    []*ViewExpr
	Text    string
	Number  int32
	Real    float32
	Pattern *regexp.Regexp // of a constant one that is valid
	Invalid bool
}

// ViewClause is a clause.
type ViewClause struct {
	Test, Value *ViewExpr
	Nested      []ViewClause
	Block       bool
}

// ViewLicensee is a part of a licensees expression.
type ViewLicensee struct {
	Leaf *ViewExpr
	Need int
	Kids []*ViewLicensee
}

// View is an assertion.
type View struct {
	Constants     map[string]string
	Authorizer    *ViewExpr
	Licensees     *ViewLicensee
	HasLicensees  bool
	Conditions    []ViewClause
	HasConditions bool
}

var opNames = map[op]string{
	opLiteral: "literal", opAttribute: "attribute", opGroup: "group", opDeref: "$", opConcat: ".",
	opInt: "int", opFloat: "float", opToInt: "@", opToFloat: "&", opNegate: "neg",
	opAdd: "+", opSub: "-", opMul: "*", opDiv: "/", opMod: "%", opPow: "^",
	opTrue: "true", opFalse: "false", opNot: "!", opAnd: "&&", opOr: "||",
	opEqual: "==", opUnequal: "!=", opLess: "<", opMore: ">", opAtMost: "<=", opAtLeast: ">=", opMatch: "~=",
}

func viewExpr(e *expr) *ViewExpr {
	if e == nil {
		return nil
	}
	v := &ViewExpr{Op: opNames[e.op], Kind: e.kind.String(), Text: e.text, Number: e.number, Real: e.real}
	if e.match != nil {
		v.Pattern, v.Invalid = e.match.re, e.match.err != nil
	}
	for _, k := range e.kids {
		v.Kids = append(v.Kids, viewExpr(k))
	}
	return v
}

func viewClauses(cs []*clause) []ViewClause {
	var vs []ViewClause
	for _, c := range cs {
		vs = append(vs, ViewClause{viewExpr(c.test), viewExpr(c.value), viewClauses(c.nested), c.block})
	}
	return vs
}

func viewLicensee(p *princ) *ViewLicensee {
	if p == nil {
		return nil
	}
	v := &ViewLicensee{Leaf: viewExpr(p.leaf), Need: p.need}
	for _, k := range p.kids {
		v.Kids = append(v.Kids, viewLicensee(k))
	}
	return v
}

// View shows what Parse made of an assertion.
func (a *Assertion) View() View {
	return View{
		Constants: a.constants, Authorizer: viewExpr(a.authorizer),
		Licensees: viewLicensee(a.licensees), HasLicensees: a.field[fieldLicensees].present,
		Conditions: viewClauses(a.conditions), HasConditions: a.field[fieldConditions].present,
	}
}

// CompilePattern is what a query does with a pattern that depends on attributes.
func CompilePattern(text string) *regexp.Regexp { return compile(text).re }

// Clip shortens a text for a sentence.
func Clip(s string, most int) string { return clipTo(s, most) }
