package keynote_test

import (
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The evaluator in this file is written from section 5 of RFC 2704 as it stands,
// to be compared with the engine. It knows neither its syntax trees nor its
// order: expressions are functions, and values of principals are computed over
// and over from all assertions until nothing changes.

// fault is a runtime error in a test.
type fault struct{}

// scene is what an expression may look at.
type scene struct {
	attrs  map[string]string // constants of the assertion have been put over them
	groups []string
}

func (s *scene) get(name string) string {
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "_")); err == nil && name[0] == '_' {
		if n < len(s.groups) {
			return s.groups[n]
		}
		return ""
	}
	return s.attrs[name]
}

type (
	strFunc   func(*scene) string
	intFunc   func(*scene) *big.Int
	floatFunc func(*scene) float32
	boolFunc  func(*scene) bool
)

// succeeds is whether the test of a clause does: an error makes it fail.
func succeeds(t boolFunc, s *scene) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(fault); !is {
				panic(r)
			}
			ok = false
		}
	}()
	return t(s)
}

func inRange(n *big.Int) *big.Int {
	if !n.IsInt64() || n.Int64() < math.MinInt32 || n.Int64() > math.MaxInt32 {
		panic(fault{})
	}
	return n
}

func finite(f float32) float32 {
	if math.IsInf(float64(f), 0) || math.IsNaN(float64(f)) {
		panic(fault{})
	}
	return f
}

func naiveInt(o string, a, b *big.Int) *big.Int {
	r := new(big.Int)
	switch o {
	case "+":
		r.Add(a, b)
	case "-":
		r.Sub(a, b)
	case "*":
		r.Mul(a, b)
	case "/", "%":
		if b.Sign() == 0 {
			panic(fault{})
		}
		if o == "/" {
			r.Quo(a, b)
		} else {
			r.Rem(a, b)
		}
	case "^":
		switch {
		case b.Sign() < 0:
			panic(fault{})
		case a.CmpAbs(big.NewInt(1)) > 0 && b.Cmp(big.NewInt(40)) > 0:
			panic(fault{})
		case b.Cmp(big.NewInt(40)) > 0: // of 0, 1 and -1
			b = new(big.Int).Add(big.NewInt(2), new(big.Int).And(b, big.NewInt(1)))
		}
		r.Exp(a, b, nil)
	}
	return inRange(r)
}

func naiveFloat(o string, a, b float32) float32 {
	switch o {
	case "+":
		return finite(a + b)
	case "-":
		return finite(a - b)
	case "*":
		return finite(a * b)
	case "/":
		if b == 0 {
			panic(fault{})
		}
		return finite(a / b)
	}
	return finite(float32(math.Pow(float64(a), float64(b))))
}

var (
	numeric    = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
	wholeFloor = func(s string) *big.Int {
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			panic(fault{})
		}
		q, m := new(big.Int).DivMod(r.Num(), r.Denom(), new(big.Int))
		_ = m
		return q
	}
)

func naiveToInt(s string) *big.Int {
	if !numeric.MatchString(s) {
		return new(big.Int)
	}
	return inRange(wholeFloor(s))
}

func naiveToFloat(s string) float32 {
	if !numeric.MatchString(s) {
		return 0
	}
	f, err := strconv.ParseFloat(s, 32)
	if err != nil {
		panic(fault{})
	}
	return float32(f)
}

func naiveCompare(o string, c int) bool {
	switch o {
	case "==":
		return c == 0
	case "!=":
		return c != 0
	case "<":
		return c < 0
	case ">":
		return c > 0
	case "<=":
		return c <= 0
	}
	return c >= 0
}

// naiveMatch is ~= for patterns that mean the same to POSIX and to Go.
func naiveMatch(s *scene, text, pattern string) bool {
	re, err := regexp.CompilePOSIX(pattern)
	if err != nil {
		panic(fault{})
	}
	m := re.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	m[0] = strconv.Itoa(re.NumSubexp())
	s.groups = m
	return true
}

// naiveClause is a clause: a test and a value or a program.
type naiveClause struct {
	test   boolFunc
	value  strFunc // nil: the highest
	nested []naiveClause
	block  bool
}

// naiveLicensee is a licensees expression: a principal, or K of others.
type naiveLicensee struct {
	who  strFunc
	k    int
	kids []*naiveLicensee
}

type naiveAssertion struct {
	constants  map[string]string
	authorizer strFunc
	licensees  *naiveLicensee
	nobody     bool // the field is there and empty
	conditions []naiveClause
	always     bool // there is no Conditions field
}

type naiveQuery struct {
	requesters []string
	attrs      map[string]string
	values     []string
}

func (q *naiveQuery) scene(a *naiveAssertion) *scene {
	s := &scene{attrs: map[string]string{
		"_MIN_TRUST": q.values[0], "_MAX_TRUST": q.values[len(q.values)-1],
		"_VALUES": strings.Join(q.values, ","), "_ACTION_AUTHORIZERS": strings.Join(q.requesters, ","),
	}}
	for n, v := range q.attrs {
		s.attrs[n] = v
	}
	for n, v := range a.constants {
		s.attrs[n] = v
	}
	return s
}

// conditions is the Conditions Compliance Value (section 5.3.4).
func (q *naiveQuery) conditions(a *naiveAssertion) int {
	if a.always {
		return len(q.values) - 1
	}
	return q.program(a.conditions, q.scene(a))
}

func (q *naiveQuery) program(cs []naiveClause, outer *scene) int {
	best := 0
	for _, c := range cs {
		s := &scene{attrs: outer.attrs, groups: outer.groups}
		if !succeeds(c.test, s) {
			continue
		}
		v := len(q.values) - 1
		switch {
		case c.block:
			v = q.program(c.nested, s)
		case c.value != nil:
			v = max(slices.Index(q.values, c.value(s)), 0)
		}
		best = max(best, v)
	}
	return best
}

// licensee is the Licensee Compliance Value (section 5.3.5).
func (q *naiveQuery) licensee(a *naiveAssertion, l *naiveLicensee, of map[string]int) int {
	if l.who != nil {
		return of[l.who(q.scene(a))]
	}
	var all []int
	for _, k := range l.kids {
		all = append(all, q.licensee(a, k, of))
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all[l.k-1]
}

func (q *naiveQuery) licensees(a *naiveAssertion, of map[string]int) int {
	switch {
	case a.nobody:
		return 0
	case a.licensees == nil:
		return len(q.values) - 1
	}
	return q.licensee(a, a.licensees, of)
}

// principals are the values of all (section 5.3.1): the least that agree with
// every assertion, found by beginning at the lowest.
func (q *naiveQuery) principals(as []*naiveAssertion) map[string]int {
	of := map[string]int{}
	for _, r := range q.requesters {
		of[r] = len(q.values) - 1
	}
	for changed := true; changed; {
		changed = false
		for _, a := range as {
			by := a.authorizer(q.scene(a))
			v := min(q.conditions(a), q.licensees(a, of))
			if v > of[by] {
				of[by], changed = v, true
			}
		}
	}
	return of
}
