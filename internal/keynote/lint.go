package keynote

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"oakley/internal/diag"
)

// Vocabulary is what an application says in its queries, for Lint.
type Vocabulary struct {
	// Attributes are all those that a query may have.
	Attributes map[string]Attribute
	// Values are the compliance values from the weakest; none at all stand for
	// false and true.
	Values []string
	// Licensee judges a licensee that made no assertion: nil says that a
	// requester may be it. It is asked about each principal as it is written and
	// may itself be nil.
	Licensee func(principal string) *Advice
}

// Attribute is what values an attribute may have.
type Attribute struct {
	// Values are all there are, but for the empty one of an attribute that is not
	// there. None at all: any that Check has nothing against.
	Values []string
	// Check judges a value that the attribute is compared with: nil says that it
	// may have it. It may itself be nil.
	Check func(value string) *Advice
	// Pattern judges a regular expression that the attribute is matched with: nil
	// says that it may match a value. It may itself be nil.
	Pattern func(expression string) *Advice
	// Number says that the values are integers, which text does not put into order.
	Number bool
}

// Advice is what is wrong with something, in one sentence without an end, and
// what to do.
type Advice struct{ Summary, Hint string }

// Lint says what in the assertions of s can be read and yet cannot be meant:
// conditions that never hold, licensees that nobody can be, assertions that
// nothing reaches from POLICY, and those that let everybody in. All of it are
// warnings.
func (s *Set) Lint(v *Vocabulary) diag.List {
	l := &linter{set: s, x: s.top(), v: v, values: v.Values}
	if len(l.values) == 0 {
		l.values = booleans
	}
	for x := l.x; x != nil; x = x.below {
		for _, a := range x.as {
			l.a = a.Assertion
			l.machine.enter(l.a)
			l.graph(a)
			l.overrides()
			l.licensees(a)
			l.program(l.a.conditions)
		}
	}
	l.policy()
	l.list.Sort()
	return l.list
}

// maxSought bounds how often a similar name is looked for: in a policy with more
// strange names than that each of them costs reading all the others.
const maxSought = 200

type linter struct {
	set     *Set
	x       *index
	v       *Vocabulary
	values  []string
	a       *Assertion
	list    diag.List
	machine machine
	authors []string // opaque authorizers
	sought  int      // how often a similar name was looked for
}

func (l *linter) warn(where span, hint, format string, args ...any) {
	if len(l.list) >= maxRemarks {
		return
	}
	l.list = append(l.list, l.a.doc.remark(diag.Warning, where, hint, fmt.Sprintf(format, args...)))
}

// graph looks at who made the assertion and whether that matters.
func (l *linter) graph(a *placed) {
	if a.authorizer == unknown {
		return
	}
	if !l.x.everything && !l.x.isReached(a.authorizer) {
		l.unreached(a)
		return
	}
	if a.field[fieldLicensees].present {
		return
	}
	at := a.field[fieldAuthorizer].label
	who := "everybody who authenticates"
	hint := "name the licensees, unless this is what you want"
	if a.authorizer != policyID {
		l.warn(at, hint, "there is no Licensees field: %s has all that this authorizer may give", who)
		return
	}
	if !a.field[fieldConditions].present {
		l.warn(at, hint, "this policy lets everybody in: %s may have everything", who)
		return
	}
	l.warn(at, hint, "there is no Licensees field: %s may have what the conditions allow", who)
}

// overrides reports constants that hide what the query says.
func (l *linter) overrides() {
	for _, name := range slices.Sorted(maps.Keys(l.a.constants)) {
		if _, ok := l.v.Attributes[name]; ok {
			l.warn(l.a.field[fieldConstants].label, "give the constant another name", "the constant %s hides the attribute of this name, which is then never asked about", name)
		}
	}
}

func (l *linter) unreached(a *placed) {
	name, _ := a.Assertion.authorizer.constant()
	where := a.Assertion.authorizer.at
	if strings.EqualFold(name, PolicyPrincipal) {
		l.warn(where, `write "POLICY"`, "this authorizer is not POLICY, which is written in capitals")
		return
	}
	hint := "name the authorizer among the licensees of an assertion that POLICY reaches, or delete this one"
	if near, ok := l.licenseeNear(name); ok {
		hint = "did you mean " + near + "?"
	}
	l.warn(where, hint, "nothing leads from POLICY to this assertion, so it never counts")
}

// licenseeNear is the licensee that an authorizer was likely meant to be: one that
// made no assertion and is no key, and no passphrase either, which the vocabulary
// alone can tell.
func (l *linter) licenseeNear(name string) (string, bool) {
	if l.sought++; l.sought > maxSought {
		return "", false
	}
	return diag.Nearest(name, func(yield func(string) bool) {
		for x := l.x; x != nil; x = x.below {
			for id := range x.licensed {
				open := l.x.name(id)
				if l.x.isReached(id) && !l.x.isAuthor(id) && !strings.Contains(open, ":") && l.advice(open) != nil && !yield(open) {
					return
				}
			}
		}
	})
}

func (x *index) name(id int32) string {
	for ; id < x.firstName; x = x.below {
	}
	return x.names[id-x.firstName]
}

func (l *linter) advice(licensee string) *Advice {
	if l.v.Licensee == nil {
		return nil
	}
	return l.v.Licensee(licensee)
}

// licensees looks for those that nobody can be.
func (l *linter) licensees(a *placed) {
	for i, id := range a.licensees {
		e := a.leaves[i].e
		name, ok := e.constant()
		switch {
		case !ok:
			l.attributes(e)
		case id == policyID:
			l.warn(e.at, "name somebody else", "POLICY asks for nothing, so nobody can be this licensee")
		case strings.HasPrefix(l.x.name(id), malformed):
			_, err := l.set.keys.Canonical(name)
			l.warn(e.at, "copy the key again", "nobody can be this licensee: %v", err)
		case l.x.isAuthor(id):
		default:
			if near, ok := l.authorNear(name); ok {
				l.warn(e.at, "did you mean "+near+"?", "no assertion is by this licensee")
			} else if d := l.advice(name); d != nil {
				l.warn(e.at, d.Hint, "nobody can be this licensee: %s", d.Summary)
			}
		}
	}
}

// authorNear is the opaque authorizer that a name was likely meant to be.
func (l *linter) authorNear(name string) (string, bool) {
	if l.sought++; strings.Contains(name, ":") || l.sought > maxSought {
		return "", false
	}
	if l.authors == nil {
		l.authors = []string{}
		for x := l.x; x != nil; x = x.below {
			for id := range x.authored {
				if n := l.x.name(id); !strings.Contains(n, ":") && id != policyID {
					l.authors = append(l.authors, n)
				}
			}
		}
		slices.Sort(l.authors)
	}
	return diag.Nearest(name, slices.Values(l.authors))
}

// policy looks at the whole: without an assertion by POLICY nothing is allowed.
func (l *linter) policy() {
	as := l.set.Assertions()
	if len(as) == 0 || len(l.x.reachable()) > 0 {
		return
	}
	for x := l.x; x != nil; x = x.below {
		if len(x.varying) > 0 {
			return
		}
	}
	first := as[0]
	l.list = append(l.list, &diag.Diagnostic{
		Severity: diag.Warning, Range: diag.Range{Pos: diag.Pos{File: first.doc.name}},
		Summary: "no assertion is by POLICY, so everything is refused",
		Hint:    `one assertion at least has Authorizer: "POLICY"`,
	})
}

// program looks at clauses.
func (l *linter) program(cs []*clause) {
	for _, c := range cs {
		l.test(c.test)
		l.conjunction(c.test)
		l.program(c.nested)
		if c.block && len(c.nested) == 0 {
			l.warn(c.at, "write a clause between the braces", "this clause gives nothing: there is none between its braces")
		}
		if c.value != nil {
			l.value(c.value)
		}
	}
}

func (l *linter) value(e *expr) {
	v, ok := e.constant()
	if !ok {
		l.attributes(e)
		return
	}
	switch i := slices.Index(l.values, v); {
	case i < 0:
		hint := "the values are " + strings.Join(l.values, ", ")
		if near, ok := diag.Nearest(v, slices.Values(l.values)); ok {
			hint = "did you mean " + near + "?"
		}
		l.warn(e.at, hint, "%q is no compliance value and counts as %s", clip(v), l.values[0])
	case i == 0:
		l.warn(e.at, "conditions can only allow: to refuse something, test for its opposite in the clauses that allow", "this clause changes nothing: %s is the value without it, and takes nothing back", v)
	}
}

// test looks at every comparison.
func (l *linter) test(e *expr) {
	switch e.op {
	case opTrue, opFalse:
		return
	case opAnd, opOr, opNot:
		for _, k := range e.kids {
			l.test(k)
		}
		return
	}
	if l.unknown(e) || l.constants(e) {
		return
	}
	l.backslash(e)
	if !l.finite(e) {
		l.format(e)
	}
}

// unknown reports attributes that no query has.
func (l *linter) unknown(e *expr) bool {
	found := false
	for i, k := range e.kids {
		other := e.kids[1-i]
		for _, x := range k.named(nil) {
			if l.known(x.text) {
				continue
			}
			found = true
			l.missing(x, other)
		}
	}
	return found
}

func (l *linter) known(name string) bool {
	switch name {
	case attrMin, attrMax, attrValues, attrAuthorizers:
		return true
	}
	_, ok := l.v.Attributes[name]
	return ok
}

// attributes reports unknown attributes where nothing is compared.
func (l *linter) attributes(e *expr) {
	for _, x := range e.named(nil) {
		if !l.known(x.text) {
			l.missing(x, nil)
		}
	}
}

func (l *linter) missing(x, other *expr) {
	hint := ""
	if other != nil {
		for _, o := range other.named(nil) {
			if slices.Contains(l.v.Attributes[o.text].Values, x.text) {
				hint = `a value stands in quotes: "` + x.text + `"`
			}
		}
	}
	if hint == "" {
		hint = "look up what it is called, or put it in quotes if it is a value"
		names := slices.Sorted(maps.Keys(l.v.Attributes))
		if near, ok := diag.Nearest(x.text, slices.Values(names)); ok {
			hint = "did you mean " + near + "?"
		}
	}
	l.warn(x.at, hint, "there is no attribute %s, so it is always empty", clip(x.text))
}

// named are the attributes in e that are written by their names.
func (e *expr) named(found []*expr) []*expr {
	if e.op == opAttribute {
		found = append(found, e)
	}
	for _, k := range e.kids {
		found = k.named(found)
	}
	return found
}
