package keynote

import (
	"strings"
)

// Bounds of an evaluation.
const (
	maxString = 1 << 16 // bytes of a string that an expression builds
	maxWork   = 1 << 20 // of one assertion: nodes, bytes of strings, steps of regular expressions
	maxTotal  = 1 << 20 // of all credentials of a query
)

// machine evaluates the expressions of one assertion for one query.
type machine struct {
	attrs     map[string]string
	special   *special
	constants map[string]string
	groups    []string // _0, _1, ...: of the last match in this clause
	keep      bool     // something asks for groups
	work      int      // for this assertion
	foreign   bool     // the assertion is a credential
	total     int      // for the credentials of this query
	err       error    // of the current test; what follows it does not count
}

// special are the attributes that the engine sets (RFC 2704 section 3).
type special struct{ min, max, values, authorizers string }

// Names of special attributes.
const (
	attrMin         = "_MIN_TRUST"
	attrMax         = "_MAX_TRUST"
	attrValues      = "_VALUES"
	attrAuthorizers = "_ACTION_AUTHORIZERS"
)

// enter prepares the machine for another assertion.
func (m *machine) enter(a *Assertion) {
	m.constants, m.groups, m.keep = a.constants, nil, a.groups
	m.foreign, m.work, m.err = a.source == Credential, 0, nil
}

func (m *machine) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// step charges n units of work and tells whether to go on.
func (m *machine) step(n int) bool {
	m.work += n
	if m.foreign {
		m.total += n
	}
	if m.work > maxWork || m.total > maxTotal {
		m.fail(errWork)
	}
	return m.err == nil
}

// lookup is the value of an attribute by name.
func (m *machine) lookup(name string) string {
	if name == "" || name[0] != '_' {
		return m.attrs[name]
	}
	switch name {
	case attrMin:
		return m.special.min
	case attrMax:
		return m.special.max
	case attrValues:
		return m.special.values
	case attrAuthorizers:
		return m.special.authorizers
	}
	return ""
}

func (m *machine) group(n int32) string {
	if int(n) < len(m.groups) {
		return m.groups[n]
	}
	return ""
}

// str evaluates a string.
func (m *machine) str(e *expr) string {
	if !m.step(1) {
		return ""
	}
	switch e.op {
	case opLiteral:
		return e.text
	case opAttribute:
		return m.lookup(e.text)
	case opGroup:
		return m.group(e.number)
	case opDeref:
		return m.deref(m.str(e.kids[0]))
	}
	return m.concat(e)
}

// deref is the attribute of a name that was calculated.
func (m *machine) deref(name string) string {
	if v, ok := m.constants[name]; ok {
		return v
	}
	if n, ok := groupNumber(name); ok {
		return m.group(n)
	}
	return m.lookup(name)
}

func (m *machine) concat(e *expr) string {
	var b strings.Builder
	for _, k := range e.kids {
		v := m.str(k)
		if b.Len()+len(v) > maxString {
			m.fail(errString)
		}
		if !m.step(len(v)) {
			return ""
		}
		b.WriteString(v)
	}
	return b.String()
}

// integer evaluates an integer.
func (m *machine) integer(e *expr) int32 {
	if !m.step(1) {
		return 0
	}
	var n int32
	var err error
	switch e.op {
	case opInt:
		return e.number
	case opToInt:
		n, err = toInt(m.number(e.kids[0]))
	case opNegate:
		n, err = calculate(opSub, 0, m.integer(e.kids[0]))
	default:
		a, b := m.integer(e.kids[0]), m.integer(e.kids[1])
		if m.err != nil {
			return 0
		}
		n, err = calculate(e.op, a, b)
	}
	if err != nil {
		m.fail(err)
	}
	return n
}

// number is the string behind @ or &.
func (m *machine) number(e *expr) string {
	s := m.str(e)
	m.step(len(s))
	return s
}

// float evaluates a floating point number.
func (m *machine) float(e *expr) float32 {
	if !m.step(1) {
		return 0
	}
	var f float32
	var err error
	switch e.op {
	case opFloat:
		return e.real
	case opToFloat:
		f, err = toFloat(m.number(e.kids[0]))
	case opNegate:
		return -m.float(e.kids[0])
	default:
		a, b := m.float(e.kids[0]), m.float(e.kids[1])
		if m.err != nil {
			return 0
		}
		f, err = calculateFloat(e.op, a, b)
	}
	if err != nil {
		m.fail(err)
	}
	return f
}

// holds evaluates the test of a clause. An error in any part that had to be
// evaluated makes the whole test false.
func (m *machine) holds(e *expr) bool {
	m.err = nil
	return m.test(e) && m.err == nil
}

// test evaluates from left to right and no further than needed.
func (m *machine) test(e *expr) bool {
	if !m.step(1) {
		return false
	}
	switch e.op {
	case opTrue:
		return true
	case opFalse:
		return false
	case opNot:
		return !m.test(e.kids[0])
	case opAnd:
		for _, k := range e.kids {
			if !m.test(k) {
				return false
			}
		}
		return true
	case opOr:
		for _, k := range e.kids {
			if m.test(k) {
				return true
			}
		}
		return false
	case opMatch:
		return m.matches(e)
	}
	l, r := e.kids[0], e.kids[1]
	switch l.kind {
	case kindInt:
		return ordered(e.op, m.integer(l), m.integer(r))
	case kindFloat:
		return ordered(e.op, m.float(l), m.float(r))
	}
	a, b := m.str(l), m.str(r)
	m.step(min(len(a), len(b)) / 8)
	return ordered(e.op, a, b)
}

func ordered[T int32 | float32 | string](o op, a, b T) bool {
	switch o {
	case opEqual:
		return a == b
	case opUnequal:
		return a != b
	case opLess:
		return a < b
	case opMore:
		return a > b
	case opAtMost:
		return a <= b
	}
	return a >= b
}

// matches evaluates ~= and, where the clause asks for them, keeps what the
// groups matched (RFC 2704 section 5.3.4): _0 is how many groups there are and
// _N is empty where group N took no part. A match that fails leaves the groups of
// the one before.
func (m *machine) matches(e *expr) bool {
	s := m.str(e.kids[0])
	p := e.match
	if p == nil {
		text := m.str(e.kids[1])
		if m.err != nil || !m.step(len(text)*compileWork) {
			return false
		}
		p = compile(text)
		m.step(p.size * compileWork)
	}
	if p.err != nil {
		m.fail(p.err)
		return false
	}
	if m.err != nil || !m.step(p.size*(len(s)+1)) {
		return false
	}
	if !m.keep {
		return p.re.MatchString(s)
	}
	at := p.re.FindStringSubmatchIndex(s)
	if at == nil {
		return false
	}
	m.groups = make([]string, len(at)/2)
	m.groups[0] = itoa(len(at)/2 - 1)
	for i := 1; i < len(m.groups); i++ {
		if at[2*i] >= 0 {
			m.groups[i] = s[at[2*i]:at[2*i+1]]
		}
	}
	return true
}

// compileWork is how many steps of work it takes to compile one byte or one step
// of a regular expression while a query runs.
const compileWork = 64

// outcome is the Conditions Compliance Value of a (RFC 2704 section 5.3.4), as an
// index into the values of the query, whose highest is top.
func (m *machine) outcome(a *Assertion, ranks map[string]int, top int) int {
	if !a.field[fieldConditions].present {
		return top
	}
	m.enter(a)
	return m.program(a.conditions, ranks, top)
}

func (m *machine) program(cs []*clause, ranks map[string]int, top int) int {
	best := 0
	outer := m.groups
	for _, c := range cs {
		if best == top {
			break
		}
		m.groups = outer
		if m.holds(c.test) {
			best = max(best, m.worth(c, ranks, top))
		}
	}
	return best
}

// worth is the value of a clause whose test holds.
func (m *machine) worth(c *clause, ranks map[string]int, top int) int {
	switch {
	case c.block:
		return m.program(c.nested, ranks, top)
	case c.value == nil:
		return top
	}
	v := m.str(c.value)
	if m.err != nil {
		return 0
	}
	return ranks[v] // one that is not among them is the lowest
}
