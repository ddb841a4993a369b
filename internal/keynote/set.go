package keynote

import (
	"fmt"

	"oakley/internal/diag"
)

// Keys knows the principals that are cryptographic keys.
type Keys interface {
	// Canonical is the one name by which a principal is compared (RFC 2704
	// section 5.2). An opaque name is its own; an error says that the principal
	// claims to be a key and is none.
	Canonical(principal string) (string, error)
	// Verify checks that authorizer, a principal, made signature, a string of
	// the form algorithm:bits, over message.
	Verify(authorizer, signature string, message []byte) error
}

// Set is a collection of assertions that can be asked. It does not change and
// may be used from several goroutines.
type Set struct {
	keys Keys
	base *index // shared by every Set that With made
	over *index // what With added, or nil
}

// index says who is licensed where. Principals, assertions and gates are
// numbered on from those of the index below it.
type index struct {
	below      *index
	ids        map[string]int32 // of principals by canonical name
	spelled    map[string]int32 // the same as they are written, while the index is filled
	names      []string         // canonical, by id
	as         []*placed
	firstName  int32
	firstA     int32
	firstGate  int32
	gates      []gate           // parents counted over all
	licensed   map[int32][]spot // where a principal stands in licensees
	authored   map[int32][]int32
	sources    []int32        // assertions without a Licensees field
	varying    []int32        // assertions with principals that depend on attributes
	reached    map[int32]bool // principals that POLICY may ask, directly or not
	everything bool           // anybody may be reached
}

// placed is an assertion with its place in an index.
type placed struct {
	*Assertion
	gate       int32 // number of its first gate
	authorizer int32 // unknown when it depends on attributes
	licensees  []int32
}

// spot is one place in a licensees expression.
type spot struct{ assertion, gate int32 }

// unknown is the principal of an expression that depends on attributes.
const unknown int32 = -1

// policyID is the number of POLICY in every index.
const policyID int32 = 0

// NewSet makes a Set of assertions. Those with a signature that does not hold
// are left out and remarked upon, whatever their source.
func NewSet(keys Keys, as []*Assertion) (*Set, diag.List) {
	s := &Set{keys: keys, base: newIndex(nil)}
	l := s.fill(s.base, nil, as)
	s.base.reach()
	return s, l
}

// With is the Set with more assertions in it, such as a peer's credentials. It
// costs what they cost, whatever s holds.
func (s *Set) With(as []*Assertion) (*Set, diag.List) {
	n := &Set{keys: s.keys, base: s.base, over: newIndex(s.base)}
	var before []*placed // their signatures held
	if s.over != nil {
		before = s.over.as
	}
	l := n.fill(n.over, before, as)
	n.over.reach()
	return n, l
}

// Assertions are all of s.
func (s *Set) Assertions() []*Assertion {
	var all []*Assertion
	for x := s.top(); x != nil; x = x.below {
		for _, a := range x.as {
			all = append(all, a.Assertion)
		}
	}
	return all
}

func (s *Set) top() *index {
	if s.over != nil {
		return s.over
	}
	return s.base
}

func newIndex(below *index) *index {
	x := &index{
		below: below, ids: map[string]int32{},
		licensed: map[int32][]spot{}, authored: map[int32][]int32{}, reached: map[int32]bool{},
	}
	if below == nil {
		x.id(PolicyPrincipal)
		return x
	}
	x.firstName = below.firstName + int32(len(below.names))
	x.firstA = below.firstA + int32(len(below.as))
	x.firstGate = below.firstGate + int32(len(below.gates))
	x.everything = below.everything
	return x
}

// find is the number of a canonical name.
func (x *index) find(name string) (int32, bool) {
	for ; x != nil; x = x.below {
		if id, ok := x.ids[name]; ok {
			return id, true
		}
	}
	return 0, false
}

func (x *index) id(name string) int32 {
	if id, ok := x.find(name); ok {
		return id
	}
	id := x.firstName + int32(len(x.names))
	x.ids[name] = id
	x.names = append(x.names, name)
	return id
}

func (x *index) assertion(n int32) *placed {
	for ; n < x.firstA; x = x.below {
	}
	return x.as[n-x.firstA]
}

func (x *index) gate(n int32) gate {
	for ; n < x.firstGate; x = x.below {
	}
	return x.gates[n-x.firstGate]
}

// malformed begins the canonical name of what claims to be a key and is none. A
// NUL character is in no string of an assertion and in no requester.
const malformed = "\x00malformed "

func (s *Set) canonical(principal string) string {
	name, err := s.keys.Canonical(principal)
	if err != nil {
		return malformed + principal
	}
	return name
}

// number is the number of a principal as it is written. A long key that is written
// often is read once.
func (s *Set) number(x *index, principal string) int32 {
	id, ok := x.spelled[principal]
	if !ok {
		id = x.id(s.canonical(principal))
		x.spelled[principal] = id
	}
	return id
}

// fill adds assertions to an index: those of another index, and new ones.
func (s *Set) fill(x *index, known []*placed, as []*Assertion) diag.List {
	x.spelled = map[string]int32{}
	defer func() { x.spelled = nil }()
	for _, p := range known {
		s.place(x, p.Assertion)
	}
	var l diag.List
	for _, a := range as {
		if d := s.check(a); d != nil {
			l = append(l, d)
			continue
		}
		s.place(x, a)
	}
	return l
}

// check verifies the signature of an assertion.
func (s *Set) check(a *Assertion) *diag.Diagnostic {
	where := a.field[fieldAuthorizer].label
	if !a.Signed() {
		if a.source != Credential {
			return nil
		}
		return a.doc.remark(diag.Error, where, "sign it, or put it into the policy file", "this credential is not signed")
	}
	where = a.field[fieldSignature].label
	by, fixed := a.authorizer.constant()
	if !fixed {
		return a.doc.remark(diag.Error, where, "write the principal itself", "a signed assertion has an authorizer that depends on attributes")
	}
	message, err := a.Message()
	if err == nil {
		err = s.keys.Verify(by, a.signature, message)
	}
	if err != nil {
		return a.doc.remark(diag.Error, where, "sign it anew: it was changed, or another key made the signature",
			fmt.Sprintf("the signature of this assertion does not hold, and the assertion does not count: %v", err))
	}
	return nil
}

// place gives an assertion its numbers.
func (s *Set) place(x *index, a *Assertion) {
	n := x.firstA + int32(len(x.as))
	p := &placed{Assertion: a, gate: x.firstGate + int32(len(x.gates)), authorizer: unknown}
	x.as = append(x.as, p)
	for _, g := range a.gates {
		if g.parent != root {
			g.parent += p.gate
		}
		x.gates = append(x.gates, g)
	}
	varies := true
	if by, ok := a.authorizer.constant(); ok {
		p.authorizer = s.number(x, by)
		x.authored[p.authorizer] = append(x.authored[p.authorizer], n)
		varies = false
	}
	if !a.field[fieldLicensees].present {
		x.sources = append(x.sources, n)
	}
	for _, f := range a.leaves {
		who := unknown
		if name, ok := f.e.constant(); ok {
			who = s.number(x, name)
			x.licensed[who] = append(x.licensed[who], p.spot(n, f.gate))
		} else {
			varies = true
		}
		p.licensees = append(p.licensees, who)
	}
	if varies {
		x.varying = append(x.varying, n)
	}
}

func (p *placed) spot(n, gate int32) spot {
	if gate != root {
		gate += p.gate
	}
	return spot{n, gate}
}

// reach notes whom POLICY may come to ask. What others say need not be looked at.
func (x *index) reach() {
	var queue []int32
	push := func(id int32) {
		if !x.isReached(id) {
			x.reached[id] = true
			queue = append(queue, id)
		}
	}
	visit := func(n int32) {
		for _, id := range x.assertion(n).licensees {
			if id == unknown {
				x.everything = true
				continue
			}
			push(id)
		}
	}
	push(policyID)
	for i, p := range x.as { // of an index above another: those already reached have new things to say
		if p.authorizer == unknown || x.isReached(p.authorizer) {
			visit(x.firstA + int32(i))
		}
	}
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		for y := x; y != nil; y = y.below {
			for _, n := range y.authored[id] {
				visit(n)
			}
		}
	}
}

// isReached tells whether POLICY may come to ask the principal.
func (x *index) isReached(id int32) bool {
	for ; x != nil; x = x.below {
		if x.reached[id] {
			return true
		}
	}
	return false
}
