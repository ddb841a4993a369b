package keynote

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oakley/internal/diag"
)

// Explanation is an answer with its reasons. Nothing in it shows a passphrase:
// where one may stand, there is "***".
type Explanation struct {
	Result     Result
	Values     []string // of the query, from the weakest
	Requesters []Requester
	// Granting are the assertions by which POLICY came to a value above the
	// lowest one, POLICY's own first.
	Granting []*Assertion
	// Reasons say what kept POLICY from the highest value, the nearest first:
	// what would grant if the least were different.
	Reasons []Reason

	set     *Set
	query   *Query
	trusted []string // some of those whom POLICY reaches, when it gives nothing
	more    int      // how many else
}

// Requester is one who asks.
type Requester struct {
	Name string
	// Licensed is whether some assertion names it.
	Licensed bool
	// Malformed is whether it claims to be a key and is none.
	Malformed bool
}

// ReasonKind says what an assertion lacks.
type ReasonKind uint8

// Kinds of reasons, the nearest first.
const (
	// ReasonConditions: the licensees ask, but the conditions do not hold.
	ReasonConditions ReasonKind = iota
	// ReasonLicensees: some of the licensees ask, but others are needed too.
	ReasonLicensees
	// ReasonUnreached: the licensees ask and the conditions may hold, but POLICY
	// trusts the authorizer with nothing.
	ReasonUnreached
)

// Reason is an assertion that could have granted something and did not.
type Reason struct {
	Kind      ReasonKind
	Assertion *Assertion
	// Value is what its conditions gave.
	Value Result
	// Failures are the tests that were false, the nearest first; of
	// ReasonConditions.
	Failures []Failure
	// Missing are the licensees that do not ask; of ReasonLicensees. When there
	// are many, the last one says how many.
	Missing []string
	// Some tells that not all of Missing have to ask: the licensees are no mere
	// conjunction.
	Some bool
}

// Failure is a test that was false, or a value that was given and is too low.
type Failure struct {
	At   diag.Pos
	Test string // as written, on one line
	// Negated tells that Test was true and had to be false.
	Negated bool
	// Operands are the values in the test that are not written in it.
	Operands []Operand
	// Err is why the test could not be evaluated, if it could not.
	Err error
	// Holds tells that Test is a clause whose test was true but whose value,
	// Gives, is not Wanted, the highest one.
	Holds         bool
	Gives, Wanted string

	progress int
	looked   int
}

// Operand is a part of a test and its value.
type Operand struct {
	Text  string
	Value string // in quotes if it is a string
	// Unset tells that it is an attribute that the query has not.
	Unset bool
}

// Bounds of an explanation.
const (
	maxFailures = 16
	maxOperands = 8
	maxTrusted  = 5
	maxMissing  = 8
	maxLooks    = 64  // at operands, the same one more than once included
	maxExcerpt  = 200 // bytes of a test that are shown
	maxValue    = 120 // bytes of a value or a name that are: two IPv6 addresses, most distinguished names
)

// Explain answers q as Query does, and says why.
func (s *Set) Explain(q *Query) (*Explanation, error) {
	r, err := s.start(q)
	if err != nil {
		return nil, err
	}
	r.gave = make([]int32, int(r.x.firstName)+len(r.x.names))
	e := &Explanation{Values: slices.Clone(r.values), set: s, query: &Query{slices.Clone(q.Requesters), maps.Clone(q.Attributes), slices.Clone(q.Values)}}
	e.Result = r.result(r.solve(false))
	for _, p := range q.Requesters {
		name := s.canonical(p)
		id, known := r.x.find(name)
		e.Requesters = append(e.Requesters, Requester{
			Name: r.show(p), Malformed: strings.HasPrefix(name, malformed),
			Licensed: known && id != policyID && r.x.isLicensed(id),
		})
	}
	r.m.total = 0 // explaining has a budget of its own
	if e.Result.Index > 0 {
		e.Granting = r.granting()
	}
	if e.Result.Index < r.top {
		e.Reasons = r.reasons()
	}
	if len(e.Reasons) == 0 && e.Result.Index == 0 {
		e.trusted, e.more = r.trusted()
	}
	return e, nil
}

func (x *index) isLicensed(id int32) bool {
	for ; x != nil; x = x.below {
		if len(x.licensed[id]) > 0 {
			return true
		}
	}
	return false
}

// trusted are some of the licensees that POLICY reaches and that made no
// assertion, and how many others there are.
func (r *run) trusted() (names []string, more int) {
	seen := map[string]bool{}
	for x := r.x; x != nil; x = x.below {
		for n, a := range x.as {
			for i, id := range r.licensees(x.firstA + int32(n)) {
				if r.x.isAuthor(id) || !r.x.isReached(id) {
					continue
				}
				name := r.showLeaf(a.Assertion, i)
				switch {
				case seen[name]:
				case len(names) == maxTrusted:
					more++
				default:
					names = append(names, name)
				}
				seen[name] = true
			}
		}
	}
	return names, more
}

// isAuthor tells whether the principal made an assertion.
func (x *index) isAuthor(id int32) bool {
	for ; x != nil; x = x.below {
		if len(x.authored[id]) > 0 {
			return true
		}
	}
	return false
}

// granting are the assertions that POLICY's value came by.
func (r *run) granting() []*Assertion {
	var found []*Assertion
	seen := map[int32]bool{}
	queue := []int32{policyID}
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		n := r.gave[id] - 1
		if n < 0 || seen[id] {
			continue
		}
		seen[id] = true
		found = append(found, r.x.assertion(n).Assertion)
		for _, l := range r.licensees(n) {
			if r.value(l) >= r.value(id) {
				queue = append(queue, l)
			}
		}
	}
	return found
}

// licensees are the principals of assertion n, those that depend on attributes
// resolved.
func (r *run) licensees(n int32) []int32 {
	if ids, ok := r.resolved[n]; ok {
		return ids
	}
	return r.x.assertion(n).licensees
}

// reasons looks at every assertion that the query came to.
func (r *run) reasons() []Reason {
	var found []Reason
	progress := map[*Assertion]int{}
	seen := map[int32]bool{}
	add := func(n int32) {
		if seen[n] {
			return
		}
		seen[n] = true
		if w, ok := r.reason(n); ok {
			for _, f := range w.Failures {
				progress[w.Assertion] = max(progress[w.Assertion], f.progress)
			}
			found = append(found, w)
		}
	}
	for y := r.x; y != nil; y = y.below {
		for _, n := range y.sources {
			add(n)
		}
		for id, v := range r.has {
			if v > 0 {
				for _, at := range y.licensed[int32(id)] {
					add(at.assertion)
				}
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Reason) int {
		p, q := a.Assertion.Pos(), b.Assertion.Pos()
		return cmp.Or(
			cmp.Compare(a.Kind, b.Kind),
			-cmp.Compare(a.Value.Index, b.Value.Index),
			-cmp.Compare(progress[a.Assertion], progress[b.Assertion]),
			cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line),
		)
	})
	return found
}

func (r *run) reason(n int32) (w Reason, ok bool) {
	a := r.x.assertion(n)
	by := r.authorizer(n)
	w.Assertion = a.Assertion
	if r.value(by) == r.top {
		return w, false
	}
	if !r.x.everything && !r.x.isReached(by) {
		w.Kind = ReasonUnreached
		return w, true
	}
	v := r.m.outcome(a.Assertion, r.ranks, r.top)
	w.Value = r.result(v)
	if !r.done[n] {
		w.Kind = ReasonLicensees
		w.Missing, w.Some = r.missing(n), !a.Assertion.licensees.conjunction()
		return w, true
	}
	w.Failures = r.why(a.Assertion)
	return w, v < r.top
}

// missing are the licensees of assertion n that do not ask, the first few by name.
func (r *run) missing(n int32) []string {
	var names []string
	more := 0
	for i, id := range r.licensees(n) {
		switch {
		case r.has[id] != 0:
		case len(names) == maxMissing:
			more++
		default:
			names = append(names, r.showLeaf(r.x.assertion(n).Assertion, i))
		}
	}
	if more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return names
}
