package keynote

import (
	"fmt"
	"io"
	"strings"
)

// maxReasons is how many assertions a brief explanation names.
const maxReasons = 3

// Brief explains in a few lines, the nearest reason first.
func (e *Explanation) Brief() []string {
	who := e.who()
	if e.Result.Index == len(e.Values)-1 {
		return []string{fmt.Sprintf("POLICY gives %q to %s, by %s", e.Result.Value, who, places(e.Granting))}
	}
	head := fmt.Sprintf("POLICY gives %q to %s", e.Result.Value, who)
	if len(e.Granting) > 0 {
		head += ", by " + places(e.Granting)
	}
	lines := []string{head}
	for i := range min(len(e.Reasons), maxReasons) {
		lines = append(lines, e.Reasons[i].lines()...)
	}
	if more := len(e.Reasons) - maxReasons; more > 0 {
		lines = append(lines, fmt.Sprintf("%d more assertions come near it", more))
	}
	if len(e.Reasons) == 0 {
		lines = append(lines, e.nobody())
	}
	return lines
}

// who are the requesters in a sentence.
func (e *Explanation) who() string {
	var names []string
	seen := map[string]bool{}
	for _, r := range e.Requesters {
		if !seen[r.Name] {
			seen[r.Name] = true
			names = append(names, r.Name)
		}
	}
	return strings.Join(names, ", ")
}

// nobody explains a refusal that no assertion comes near to.
func (e *Explanation) nobody() string {
	for _, r := range e.Requesters {
		if r.Malformed {
			return r.Name + " is no key that can be read"
		}
	}
	if len(e.set.top().reachable()) == 0 {
		return `no assertion has Authorizer: "POLICY", so nothing is allowed`
	}
	s := "no assertion that POLICY reaches has one of these among its licensees"
	if len(e.trusted) > 0 {
		s += "; it trusts " + printable(strings.Join(e.trusted, ", "))
		if e.more > 0 {
			s += fmt.Sprintf(" and %d more", e.more)
		}
	}
	return s
}

// reachable are the assertions by POLICY itself.
func (x *index) reachable() []int32 {
	var found []int32
	for ; x != nil; x = x.below {
		found = append(found, x.authored[policyID]...)
	}
	return found
}

// places names assertions by file and line.
func places(as []*Assertion) string {
	const most = 6
	var names []string
	for i, a := range as {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(as)-most))
			break
		}
		names = append(names, a.place())
	}
	if len(names) == 0 {
		return "being the requester"
	}
	return strings.Join(names, ", ")
}

// place is where an assertion stands and what its comment says.
func (a *Assertion) place() string {
	p := a.Pos()
	s := fmt.Sprintf("%s:%d", p.File, p.Line)
	if a.comment != "" {
		s += " (" + printable(clip(a.comment)) + ")"
	}
	return s
}

func (w *Reason) lines() []string {
	place := w.Assertion.place()
	switch w.Kind {
	case ReasonLicensees:
		needs := ": needs also "
		if w.Some {
			needs = ": needs more of its licensees: "
		}
		return []string{place + needs + strings.Join(w.Missing, ", ")}
	case ReasonUnreached:
		return []string{fmt.Sprintf("%s: names the requester, but nothing from POLICY leads to its authorizer %s", place, printable(w.Assertion.shownAuthorizer()))}
	}
	if len(w.Failures) == 0 {
		return []string{place + ": its conditions allow nothing"}
	}
	var lines []string
	for i, f := range w.Failures {
		if i == maxReasons {
			lines = append(lines, fmt.Sprintf("%s: and %d more tests", place, len(w.Failures)-maxReasons))
			break
		}
		lines = append(lines, place+": "+f.String())
	}
	return lines
}

// shownAuthorizer is the authorizer as it may be shown: it is the name of a
// policy or a key.
func (a *Assertion) shownAuthorizer() string {
	v, ok := a.authorizer.constant()
	if !ok {
		return a.doc.excerpt(a.authorizer.at)
	}
	if kind, _, _ := strings.Cut(v, ":"); strings.HasPrefix(strings.ToLower(kind), "passphrase") {
		return kind + ":" + veil
	}
	return `"` + shorten(v) + `"`
}

// String is the failure in one sentence with its line.
func (f *Failure) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "line %d: %s", f.At.Line, printable(f.Test))
	switch {
	case f.Holds && f.Err != nil:
		fmt.Fprintf(&b, " has no value: %v", f.Err)
	case f.Holds:
		fmt.Fprintf(&b, " gives %q and not %q", f.Gives, f.Wanted)
	case f.Err != nil:
		fmt.Fprintf(&b, " cannot be evaluated: %v", f.Err)
	case f.Negated:
		b.WriteString(" holds and must not")
	default:
		b.WriteString(" is false")
	}
	for i, o := range f.Operands {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep + printable(o.Text))
		if o.Unset {
			b.WriteString(" is not set")
		} else {
			b.WriteString(" is " + printable(o.Value))
		}
	}
	return b.String()
}

// printable takes out what could paint a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// maxIndent is the depth beyond which the printed tree does not move right.
const maxIndent = 24

// WriteTo writes the whole tree: each principal with its value, the assertions
// it made and why they did not give more.
func (e *Explanation) WriteTo(w io.Writer) (int64, error) {
	p := printer{w: w}
	p.node(e.Tree(), 0)
	return p.n, p.err
}

type printer struct {
	w   io.Writer
	n   int64
	err error
}

func (p *printer) line(depth int, format string, args ...any) {
	if p.err != nil {
		return
	}
	n, err := fmt.Fprintf(p.w, "%s%s\n", strings.Repeat("  ", min(depth, maxIndent)), printable(fmt.Sprintf(format, args...)))
	p.n += int64(n)
	p.err = err
}

func (p *printer) node(n *Node, depth int) {
	s := fmt.Sprintf("%s: %q", n.Name, n.Value.Value)
	switch {
	case n.Requester:
		s += ", asks"
	case n.Repeated:
		s += ", see its assertions elsewhere"
	case len(n.Assertions) == 0:
		s += ", does not ask, and no assertion is by it"
	}
	p.line(depth, "%s", s)
	for _, k := range n.Assertions {
		p.link(k, depth+1)
	}
}

func (p *printer) link(k *Link, depth int) {
	p.line(depth, "%s gives %q: conditions %q, licensees %q", k.Assertion.place(), k.Value.Value, k.Conditions.Value, k.Licensees.Value)
	for i := range k.Failures {
		p.line(depth+1, "%s", k.Failures[i].String())
	}
	if k.Anybody {
		p.line(depth+1, "anybody: there is no Licensees field")
	}
	for _, n := range k.Principals {
		p.node(n, depth+1)
	}
}
