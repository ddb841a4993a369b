package keynote

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// why are the tests that kept the conditions of a from the highest value, those
// first that were reached through the most others.
func (r *run) why(a *Assertion) []Failure {
	r.m.enter(a)
	w := why{r: r, a: a}
	if a.field[fieldConditions].present {
		w.program(a.conditions, 0)
	}
	slices.SortStableFunc(w.found, func(a, b Failure) int { return -cmp.Compare(a.progress, b.progress) })
	return w.found
}

// why evaluates as machine does and notes what it sees.
type why struct {
	r     *run
	a     *Assertion
	found []Failure
}

func (w *why) add(f Failure) {
	if len(w.found) < maxFailures {
		w.found = append(w.found, f)
	}
}

func (w *why) program(cs []*clause, progress int) {
	m := &w.r.m
	outer := m.groups
	for _, c := range cs {
		m.groups = outer
		if !m.holds(c.test) {
			m.groups = outer
			w.test(c.test, progress)
			continue
		}
		switch {
		case c.block && len(c.nested) > 0:
			w.program(c.nested, progress+weight(c.test))
		case c.block:
			w.gives(c, "", progress)
		case c.value != nil:
			if v := m.str(c.value); m.err != nil || w.r.ranks[v] < w.r.top {
				w.gives(c, v, progress)
			}
		}
	}
}

func (w *why) gives(c *clause, v string, progress int) {
	w.add(Failure{
		At: w.a.doc.pos(c.at.from), Test: w.a.doc.excerpt(c.at), Holds: true, Gives: v, Wanted: w.r.values[w.r.top],
		Err: w.r.m.err, progress: progress + weight(c.test),
	})
}

// weight is how many comparisons are in a test.
func weight(e *expr) int {
	switch e.op {
	case opAnd:
		n := 0
		for _, k := range e.kids {
			n += weight(k)
		}
		return n
	}
	return 1
}

// test explains a test that is false.
func (w *why) test(e *expr, progress int) {
	m := &w.r.m
	m.err = nil
	switch e.op {
	case opAnd:
		for _, k := range e.kids {
			before := m.groups
			if !m.holds(k) {
				m.groups = before
				w.test(k, progress)
				return
			}
			progress += weight(k)
		}
	case opOr:
		if slices.ContainsFunc(e.kids, func(k *expr) bool { return k.op == opAnd || k.op == opOr || k.op == opNot }) {
			for _, k := range e.kids {
				w.test(k, progress)
			}
			return
		}
	case opNot:
		f := w.failure(e.kids[0], progress)
		f.Negated = f.Err == nil
		w.add(f)
		return
	}
	w.add(w.failure(e, progress))
}

// failure is a test with the values of what is in it.
func (w *why) failure(e *expr, progress int) Failure {
	f := Failure{At: w.a.doc.pos(e.at.from), Test: w.a.doc.excerpt(e.at), progress: progress}
	m := &w.r.m
	m.holds(e)
	f.Err = m.err
	w.operands(&f, e)
	m.err = nil
	return f
}

// operands notes both sides of every comparison in e that are not constants.
func (w *why) operands(f *Failure, e *expr) {
	if e.kind == kindBool {
		for _, k := range e.kids {
			w.operands(f, k)
		}
		return
	}
	if f.looked++; f.looked > maxLooks || len(f.Operands) == maxOperands || e.fixed() {
		return
	}
	o := Operand{Text: w.a.doc.excerpt(e.at)}
	m := &w.r.m
	m.err = nil
	switch e.kind {
	case kindInt:
		o.Value = strconv.Itoa(int(m.integer(e)))
	case kindFloat:
		o.Value = strconv.FormatFloat(float64(m.float(e)), 'g', -1, 32)
	default:
		v := m.str(e)
		if e.mayNameRequesters() {
			v = w.veiled(v)
		}
		o.Value = strconv.Quote(clipTo(v, maxValue))
	}
	if m.err != nil { // then what it is made of
		for _, k := range e.kids {
			w.operands(f, k)
		}
		return
	}
	if name, ok := e.single(); ok {
		_, set := m.attrs[name]
		o.Unset = !set && name[0] != '_'
	}
	if !slices.Contains(f.Operands, o) {
		f.Operands = append(f.Operands, o)
	}
}

// veiled takes out of a value the passphrase of who asks.
func (w *why) veiled(v string) string {
	for _, p := range w.r.requesters {
		if shown := w.r.show(p); p != "" && shown != shorten(p) {
			v = strings.ReplaceAll(v, p, shown)
		}
	}
	return v
}

// mayNameRequesters tells whether the value of e may come from the attribute that
// names who asks.
func (e *expr) mayNameRequesters() bool {
	switch e.op {
	case opDeref, opGroup:
		return true
	case opAttribute:
		return e.text == attrAuthorizers
	}
	return slices.ContainsFunc(e.kids, (*expr).mayNameRequesters)
}

// fixed tells whether e has the same value in every query.
func (e *expr) fixed() bool {
	switch e.op {
	case opAttribute, opGroup, opDeref:
		return false
	}
	return !slices.ContainsFunc(e.kids, func(k *expr) bool { return !k.fixed() })
}

// single is the attribute that e is, as a string or as a number.
func (e *expr) single() (name string, ok bool) {
	if e.op == opToInt || e.op == opToFloat {
		e = e.kids[0]
	}
	return e.text, e.op == opAttribute
}
