package keynote

import (
	"regexp"
	"slices"
	"strings"
)

// kind is the type of an expression. Every expression has one that is known
// when it is parsed.
type kind uint8

const (
	kindString kind = iota
	kindInt
	kindFloat
	kindBool
)

var kindNames = [...]string{"a string", "an integer", "a floating point number", "a test"}

func (k kind) String() string { return kindNames[k] }

// op is what an expression does with its operands.
type op uint8

const (
	opLiteral   op = iota // text: a string literal or a local constant
	opAttribute           // text: the name
	opGroup               // number: _0, _1 and so on
	opDeref               // $
	opConcat              // . of two or more
	opInt                 // number
	opFloat               // real
	opToInt               // @
	opToFloat             // &
	opNegate
	opAdd
	opSub
	opMul
	opDiv
	opMod
	opPow
	opTrue
	opFalse
	opNot
	opAnd // of two or more
	opOr  // of two or more
	opEqual
	opUnequal
	opLess
	opMore
	opAtMost
	opAtLeast
	opMatch
)

// expr is a node of a syntax tree.
type expr struct {
	op     op
	kind   kind
	kids   []*expr
	text   string
	name   string // of the local constant that text is the value of
	number int32
	real   float32
	match  *pattern // of opMatch, when the expression is a constant
	at     span
}

// pattern is a regular expression that was compiled when it was parsed, or why
// it cannot be.
type pattern struct {
	re   *regexp.Regexp
	size int
	err  error
}

// constant is the value of a string that depends on nothing.
func (e *expr) constant() (value string, ok bool) {
	if e == nil {
		return "", false
	}
	switch e.op {
	case opLiteral:
		return e.text, true
	case opConcat:
		var b strings.Builder
		for _, k := range e.kids {
			v, ok := k.constant()
			if !ok || b.Len()+len(v) > maxString {
				return "", false
			}
			b.WriteString(v)
		}
		return b.String(), true
	}
	return "", false
}

// clause is one clause of a conditions program (RFC 2704 section 4.6.5): a test
// and either nothing, a value or a program.
type clause struct {
	test   *expr
	value  *expr
	nested []*clause
	block  bool // a program follows, maybe an empty one
	at     span
}

// princ is a node of a licensees expression.
type princ struct {
	leaf *expr // a principal, or nil
	need int   // how many of kids must hold: K, or all for &&, or 1 for ||
	kids []*princ
}

// conjunction tells whether all principals in the expression are needed.
func (n *princ) conjunction() bool {
	return n == nil || n.leaf != nil || n.need == len(n.kids) && !slices.ContainsFunc(n.kids, func(k *princ) bool { return !k.conjunction() })
}

// gate is an inner node of a licensees expression as the solver wants it: it
// opens when need of what is below it hold, and then counts once for parent.
type gate struct{ need, parent int32 }

// root is the parent of what makes a whole licensees expression hold.
const root = -1

// leaf is a principal in a licensees expression and the gate it counts for.
type leaf struct {
	e    *expr
	gate int32
}
