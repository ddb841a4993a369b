package keynote

import (
	"cmp"
	"slices"

	"oakley/internal/diag"
)

// Node is a principal in the tree of an Explanation.
type Node struct {
	Name string // passphrases veiled
	// At is the place in a Licensees field that names it; of POLICY there is none.
	At        diag.Pos
	Requester bool
	Value     Result
	// Assertions are those it made. A principal that stands in several places
	// has them in the first alone, and Repeated in the others.
	Assertions []*Link
	Repeated   bool
}

// Link is an assertion in the tree of an Explanation.
type Link struct {
	Assertion *Assertion
	// Value is the lower one of Conditions and Licensees (RFC 2704 section 5.3.3).
	Value, Conditions, Licensees Result
	// Failures are the tests that kept Conditions from the highest value.
	Failures []Failure
	// Principals are those that its Licensees field names, in order.
	Principals []*Node
	// Anybody tells that there is no Licensees field.
	Anybody bool
}

// Tree is everything that was looked at from POLICY down. It is as large as the
// part of the Set that POLICY reaches; the values come from a query of its own
// that looks at all of it.
func (e *Explanation) Tree() *Node {
	r, err := e.set.start(e.query)
	if err != nil { // it was answered before
		return &Node{Name: PolicyPrincipal}
	}
	r.solve(true)
	t := grower{r: r, made: map[int32][]int32{}, seen: map[int32]bool{}}
	for y := r.x; y != nil; y = y.below {
		for i := range y.as {
			n := y.firstA + int32(i)
			by := r.authorizer(n)
			t.made[by] = append(t.made[by], n)
		}
	}
	return t.grow(policyID, PolicyPrincipal, diag.Pos{})
}

// grower makes a tree.
type grower struct {
	r    *run
	made map[int32][]int32 // assertions by authorizer
	seen map[int32]bool
}

// grow makes the tree below a principal, breadth first, so that how long a chain
// is does not matter and a principal's assertions stand where it is nearest.
func (t *grower) grow(id int32, name string, at diag.Pos) *Node {
	type todo struct {
		id int32
		n  *Node
	}
	top := t.node(id, name, at)
	queue := []todo{{id, top}}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		if t.seen[next.id] {
			next.n.Repeated = len(t.made[next.id]) > 0
			continue
		}
		t.seen[next.id] = true
		as := t.made[next.id]
		slices.SortFunc(as, func(a, b int32) int {
			p, q := t.r.x.assertion(a).Pos(), t.r.x.assertion(b).Pos()
			return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line))
		})
		for _, n := range as {
			k, ids := t.link(n)
			next.n.Assertions = append(next.n.Assertions, k)
			for i, p := range k.Principals {
				queue = append(queue, todo{ids[i], p})
			}
		}
	}
	return top
}

func (t *grower) node(id int32, name string, at diag.Pos) *Node {
	return &Node{Name: name, At: at, Requester: slices.Contains(t.r.asked, id), Value: t.r.result(t.r.value(id))}
}

func (t *grower) link(n int32) (*Link, []int32) {
	r := t.r
	a := r.x.assertion(n).Assertion
	ids := r.licensees(n)
	r.m.total = 0 // the tree costs what it shows
	c := r.m.outcome(a, r.ranks, r.top)
	l := r.licenseesValue(a, ids)
	k := &Link{
		Assertion: a, Conditions: r.result(c), Licensees: r.result(l), Value: r.result(min(c, l)),
		Anybody: !a.field[fieldLicensees].present,
	}
	if c < r.top {
		k.Failures = r.why(a)
	}
	for i, id := range ids {
		k.Principals = append(k.Principals, t.node(id, r.showLeaf(a, i), a.doc.pos(a.leaves[i].e.at.from)))
	}
	return k, ids
}

// licenseesValue is the Licensee Compliance Value (RFC 2704 section 5.3.5).
func (r *run) licenseesValue(a *Assertion, ids []int32) int {
	switch {
	case !a.field[fieldLicensees].present:
		return r.top
	case a.licensees == nil:
		return 0
	}
	next := 0
	var value func(n *princ) int
	value = func(n *princ) int {
		if n.leaf != nil {
			next++
			return r.value(ids[next-1])
		}
		all := make([]int, len(n.kids))
		for i, k := range n.kids {
			all[i] = value(k)
		}
		slices.Sort(all)
		return all[len(all)-n.need]
	}
	return value(a.licensees)
}
