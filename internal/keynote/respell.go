package keynote

import (
	"slices"

	"oakley/internal/diag"
)

// Respell is a with the literals `from` read as `to` wherever its conditions
// compare them with an attribute, for an application whose users have learnt
// another spelling. What is signed is still the text. Each place is returned as a
// warning; without one, a itself is.
func (a *Assertion) Respell(attribute, from, to, summary, hint string) (*Assertion, diag.List) {
	var l diag.List
	b := *a
	b.conditions = respellAll(a.conditions, func(e *expr) *expr {
		for i, k := range e.kids {
			v, ok := k.constant()
			other := e.kids[1-i]
			if !ok || v != from || other.op != opAttribute || other.text != attribute {
				continue
			}
			l = append(l, a.doc.remark(diag.Warning, k.at, hint, summary))
			n := *e
			n.kids = slices.Clone(e.kids)
			n.kids[i] = &expr{op: opLiteral, text: to, at: k.at}
			return &n
		}
		return e
	})
	if len(l) == 0 {
		return a, nil
	}
	return &b, l
}

// respellAll maps the comparisons of strings in a program.
func respellAll(cs []*clause, change func(*expr) *expr) []*clause {
	out := make([]*clause, len(cs))
	for i, c := range cs {
		n := *c
		n.test = respell(c.test, change)
		n.nested = respellAll(c.nested, change)
		out[i] = &n
	}
	return out
}

func respell(e *expr, change func(*expr) *expr) *expr {
	switch e.op {
	case opAnd, opOr, opNot:
		n := *e
		n.kids = make([]*expr, len(e.kids))
		for i, k := range e.kids {
			n.kids[i] = respell(k, change)
		}
		return &n
	case opEqual, opUnequal, opLess, opMore, opAtMost, opAtLeast:
		return change(e)
	}
	return e
}
