package keynote

import (
	"slices"
	"strings"

	"oakley/internal/diag"
)

// maxCandidates bounds how many values of an attribute are tried.
const maxCandidates = 256

// evaluate is a test with the attributes that are given.
func (l *linter) evaluate(e *expr, attrs map[string]string) (holds bool, err error) {
	l.machine.attrs, l.machine.special = attrs, &special{}
	l.machine.work, l.machine.total = 0, 0
	holds = l.machine.holds(e)
	return holds, l.machine.err
}

// constants reports a comparison that has the same outcome in every query.
func (l *linter) constants(e *expr) bool {
	if !e.fixed() {
		return false
	}
	holds, err := l.evaluate(e, nil)
	if err != nil {
		if e.match == nil || e.match.err == nil { // an invalid expression was remarked upon when it was read
			l.warn(e.at, "", "this test is always false: %v", err)
		}
		return true
	}
	hint := "an attribute stands without quotes"
	for _, k := range e.kids {
		if v, ok := k.constant(); ok && l.known(v) {
			hint = "write " + v + " without quotes to mean the attribute"
		}
	}
	l.warn(e.at, hint, "both sides are constants, so this test is always %v", holds)
	return true
}

// finite tries all values of the one attribute in e, if there are few.
func (l *linter) finite(e *expr) (done bool) {
	names := e.named(nil)
	if len(names) != 1 || e.dynamic() {
		return false
	}
	name := names[0].text
	values := l.v.Attributes[name].Values
	if len(values) == 0 || len(values) > maxCandidates {
		return false
	}
	always := true
	for _, v := range append([]string{""}, values...) {
		holds, _ := l.evaluate(e, map[string]string{name: v})
		if holds && v == "" && e.op != opEqual {
			continue // an inequality that holds only for what is not there
		}
		if holds && e.op != opUnequal {
			return true
		}
		always = always && holds
	}
	if e.op == opUnequal && !always {
		return true
	}
	what := "this test never holds"
	if e.op == opUnequal {
		what = "this test always holds"
	}
	hint := "its values are " + strings.Join(values, ", ")
	if len(values) == 1 {
		hint = "it is always " + quoteClip(values[0])
	}
	for _, k := range e.kids {
		if v, ok := k.constant(); ok {
			what = what + ": " + name + " is never " + quoteClip(v)
			if near, ok := nearValue(v, values); ok {
				hint = "did you mean " + quoteClip(near) + "? " + hint
			}
		}
	}
	if e.op == opMatch {
		what = "this test never holds: no value of " + name + " matches"
	}
	l.warn(e.at, hint, "%s", what)
	return true
}

// nearValue is the value that v was likely meant to be: one like it, or else the
// longest that it begins with.
func nearValue(v string, values []string) (near string, ok bool) {
	if near, ok = diag.Nearest(v, slices.Values(values)); ok {
		return near, true
	}
	for _, x := range values {
		if len(x) > 2 && len(x) > len(near) && strings.HasPrefix(strings.ToLower(v), x) {
			near, ok = x, true
		}
	}
	return near, ok
}

func quoteClip(s string) string { return `"` + clip(s) + `"` }

// dynamic tells whether e depends on something that is not written in it.
func (e *expr) dynamic() bool {
	return e.op == opDeref || e.op == opGroup || slices.ContainsFunc(e.kids, (*expr).dynamic)
}

// format checks a constant against the attribute that it is compared with.
func (l *linter) format(e *expr) {
	if e.op == opMatch {
		l.pattern(e)
		return
	}
	for i, k := range e.kids {
		v, ok := k.constant()
		other := e.kids[1-i]
		if !ok || v == "" || other.op != opAttribute {
			continue
		}
		a := l.v.Attributes[other.text]
		var d *Advice
		if a.Check != nil {
			d = a.Check(v)
		}
		if d == nil && a.Number && e.op != opEqual && e.op != opUnequal {
			d = &Advice{"this compares text, in which 900 is above 1200", "write @" + other.text + ", and the number without quotes"}
		}
		if d == nil {
			continue
		}
		switch e.op {
		case opEqual:
			l.warn(k.at, d.Hint, "this test never holds: %s", d.Summary)
		case opUnequal:
			l.warn(k.at, d.Hint, "this test always holds: %s", d.Summary)
		default:
			l.warn(k.at, d.Hint, "this comparison does not do what it says: %s", d.Summary)
		}
	}
}

// pattern checks a regular expression against the attribute that it is for.
func (l *linter) pattern(e *expr) {
	v, ok := e.kids[1].constant()
	a := l.v.Attributes[e.kids[0].text]
	if !ok || e.kids[0].op != opAttribute || a.Pattern == nil {
		return
	}
	if d := a.Pattern(v); d != nil {
		l.warn(e.kids[1].at, d.Hint, "this regular expression does not match what it seems to: %s", d.Summary)
	}
}

// backslash reports a regular expression that has lost its backslashes: one is
// removed when the string is read, so a dot meant as a dot matches anything.
func (l *linter) backslash(e *expr) {
	if e.op != opMatch {
		return
	}
	at := e.kids[1].at
	text := l.a.doc.src[at.from:at.end]
	if e.kids[1].op != opLiteral || e.kids[1].name != "" {
		return
	}
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if i++; strings.IndexByte(".*+?()[]{}|^$", text[i]) >= 0 {
			l.warn(span{at.from + i - 1, at.from + i + 1}, `write \\`+text[i:i+1], "this backslash is removed before the regular expression is read, so `%c` keeps its special meaning", text[i])
			return
		}
	}
}

// conjunction reports an attribute that should have two values at once.
func (l *linter) conjunction(e *expr) {
	for _, k := range e.kids {
		if k.kind == kindBool {
			l.conjunction(k)
		}
	}
	if e.op != opAnd {
		return
	}
	equal := map[string]string{}
	for _, k := range e.kids {
		if k.op != opEqual {
			continue
		}
		for i, side := range k.kids {
			v, ok := k.kids[1-i].constant()
			if side.op != opAttribute || !ok {
				continue
			}
			if before, twice := equal[side.text]; twice && before != v {
				l.warn(k.at, "join alternatives with || and put parentheses around them", "these tests never hold together: %s cannot be both %s and %s", side.text, quoteClip(before), quoteClip(v))
			}
			equal[side.text] = v
		}
	}
}
