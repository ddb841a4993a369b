package keynote

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Query is a question (RFC 2704 section 5.1).
type Query struct {
	// Requesters are the principals that ask, at least one. POLICY cannot be
	// among them: one so named is passed over.
	Requesters []string
	// Attributes describe the action. Names are of letters, digits and _ and
	// begin with a letter; an attribute that is missing is the empty string.
	Attributes map[string]string
	// Values are the compliance values from the weakest to the strongest; none
	// at all stand for false and true.
	Values []string
}

// Result is an answer: a compliance value and its place among the values of the
// query.
type Result struct {
	Value string
	Index int
}

// pending is a principal that will have a value by an assertion.
type pending struct{ who, by int32 }

// booleans are the values of a query that names none.
var booleans = []string{"false", "true"}

// Bounds of a query.
const (
	maxValues     = 1 << 10
	maxRequesters = 1 << 10
)

// Errors of queries that cannot be answered.
var (
	ErrNoRequester = errors.New("keynote: a query needs at least one requester (RFC 2704 section 5.1.1)")
	ErrValues      = errors.New("keynote: the compliance values of a query must be different, and no more than 1024")
	ErrRequesters  = errors.New("keynote: a query has more than 1024 requesters")
)

// Query answers q: the compliance value of POLICY (RFC 2704 section 5.3). An
// error says that q itself is wrong, and then the Result is empty.
func (s *Set) Query(q *Query) (Result, error) {
	r, err := s.start(q)
	if err != nil {
		return Result{}, err
	}
	return r.result(r.solve(false)), nil
}

// run is the state of one query.
//
// Values are treated from the highest one down, as Dijkstra's algorithm treats
// distances: a principal that is reached while value v is treated has v and can
// never get more, so each place in a licensees expression is passed once, and
// what is true at v stays true below it. That makes the least fixed point of RFC
// 2704 section 5.3 in one pass, cycles or not.
type run struct {
	s      *Set
	x      *index // with the principals that this query alone has
	m      machine
	values []string
	ranks  map[string]int
	top    int

	requesters []string

	asked   []int32         // requesters by number
	authors map[int32]int32 // of assertions whose authorizer depends on attributes
	has     []int16         // 1 + the value of each principal; 0: not reached
	open    []int32         // how many below each gate hold
	done    []bool          // assertions whose licensees hold
	queue   []int32         // principals to be followed at this value
	waiting [][]pending     // by the lower value that principals will have

	// resolved are the licensees of assertions that depend on attributes, and
	// gave says by which assertion, + 1, a principal has its value: for Explain.
	resolved map[int32][]int32
	gave     []int32
}

func (s *Set) start(q *Query) (*run, error) {
	r := &run{s: s, values: q.Values, requesters: q.Requesters}
	if len(r.values) == 0 {
		r.values = booleans
	}
	r.top = len(r.values) - 1
	r.ranks = make(map[string]int, len(r.values))
	for i, v := range r.values {
		r.ranks[v] = i
	}
	switch {
	case len(q.Requesters) == 0:
		return nil, ErrNoRequester
	case len(q.Requesters) > maxRequesters:
		return nil, ErrRequesters
	case len(r.ranks) != len(r.values) || len(r.values) > maxValues:
		return nil, ErrValues
	}
	for name := range q.Attributes {
		if !validName(name) || name[0] == '_' {
			return nil, fmt.Errorf("keynote: %q cannot be the name of an attribute: it has letters, digits and _ and begins with a letter", name)
		}
	}
	r.m = machine{attrs: q.Attributes, special: &special{
		min: r.values[0], max: r.values[r.top],
		values:      strings.Join(r.values, ","),
		authorizers: strings.Join(q.Requesters, ","),
	}}
	r.x = s.top()
	r.vary()
	for _, p := range q.Requesters {
		name := s.canonical(p)
		if id, ok := r.x.find(name); ok && id != policyID && !strings.HasPrefix(name, malformed) {
			r.asked = append(r.asked, id)
		}
	}
	return r, nil
}

// vary resolves the principals that depend on attributes, into an index that
// lives as long as the query.
func (r *run) vary() {
	var own *index
	for x := r.x; x != nil; x = x.below {
		for i := range x.varying {
			if own == nil {
				own = newIndex(r.x)
				r.authors, r.resolved = map[int32]int32{}, map[int32][]int32{}
			}
			r.resolve(own, x.varying[i])
		}
	}
	if own != nil {
		r.x = own
	}
}

func (r *run) resolve(own *index, n int32) {
	a := own.assertion(n)
	resolve := func(e *expr) int32 {
		r.m.enter(a.Assertion)
		name := r.m.str(e)
		if !r.m.step(len(name)) { // a name that is a key is decoded
			name = malformed
		} else {
			name = r.s.canonical(name)
		}
		return own.id(name)
	}
	if a.authorizer == unknown {
		id := resolve(a.Assertion.authorizer)
		r.authors[n] = id
	}
	ids := slices.Clone(a.licensees)
	for i, id := range ids {
		if id == unknown {
			ids[i] = resolve(a.leaves[i].e)
			own.licensed[ids[i]] = append(own.licensed[ids[i]], a.spot(n, a.leaves[i].gate))
		}
	}
	r.resolved[n] = ids
}

func (r *run) result(v int) Result { return Result{Value: r.values[v], Index: v} }

// solve computes the values of principals and returns that of POLICY. It stops
// as soon as that one is known, unless all are wanted.
func (r *run) solve(all bool) int {
	x := r.x
	r.has = make([]int16, int(x.firstName)+len(x.names))
	r.open = make([]int32, int(x.firstGate)+len(x.gates))
	r.done = make([]bool, int(x.firstA)+len(x.as))
	r.waiting = make([][]pending, r.top+1)
	for _, id := range r.asked {
		r.give(id, r.top, noAssertion)
	}
	for y := x; y != nil; y = y.below {
		for _, n := range y.sources {
			r.hold(n, r.top, all)
		}
	}
	for level := r.top; level > 0; level-- {
		for _, p := range r.waiting[level] {
			r.give(p.who, level, p.by)
		}
		for len(r.queue) > 0 && (all || r.has[policyID] == 0) {
			id := r.queue[len(r.queue)-1]
			r.queue = r.queue[:len(r.queue)-1]
			for y := x; y != nil; y = y.below {
				for _, at := range y.licensed[id] {
					r.count(at, level, all)
				}
			}
		}
		if !all && r.has[policyID] != 0 {
			break
		}
	}
	return r.value(policyID)
}

// value is the Principal Compliance Value (RFC 2704 section 5.3.1).
func (r *run) value(id int32) int { return int(max(r.has[id], 1)) - 1 }

// noAssertion is by which a requester has its value.
const noAssertion int32 = -1

// give lets a principal have a value. A requester has the highest one, the others
// what an assertion of theirs yields.
func (r *run) give(id int32, level int, by int32) {
	if r.has[id] == 0 {
		if r.gave != nil {
			r.gave[id] = by + 1
		}
		r.has[id] = int16(level + 1)
		r.queue = append(r.queue, id)
	}
}

// authorizer is who made assertion n.
func (r *run) authorizer(n int32) int32 {
	if id := r.x.assertion(n).authorizer; id != unknown {
		return id
	}
	return r.authors[n]
}

// useful tells whether it matters what a principal says.
func (r *run) useful(id int32) bool {
	return r.has[id] == 0 && (r.x.everything || r.x.isReached(id))
}

// count passes on that one place in a licensees expression holds at this value.
func (r *run) count(at spot, level int, all bool) {
	if r.done[at.assertion] || !all && !r.useful(r.authorizer(at.assertion)) {
		return
	}
	for n := at.gate; n != root; {
		g := r.x.gate(n)
		if r.open[n]++; r.open[n] != g.need {
			return
		}
		n = g.parent
	}
	r.hold(at.assertion, level, all)
}

// hold is called when the licensees of assertion n hold at this value.
func (r *run) hold(n int32, level int, all bool) {
	by := r.authorizer(n)
	if r.done[n] || !all && !r.useful(by) {
		return
	}
	r.done[n] = true
	if r.has[by] != 0 {
		return
	}
	v := r.m.outcome(r.x.assertion(n).Assertion, r.ranks, r.top)
	switch {
	case v >= level:
		r.give(by, level, n)
	case v > 0:
		r.waiting[v] = append(r.waiting[v], pending{by, n})
	}
}
