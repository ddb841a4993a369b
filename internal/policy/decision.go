package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"oakley/internal/keynote"
)

// Decision is an answer, and how it came about.
type Decision struct {
	Allow bool

	policy *Policy
	query  *keynote.Query
	err    error // why the policy could not be asked
}

// Bounds of what Brief says.
const (
	maxReasons    = 3
	maxFailures   = 3  // of one assertion
	maxAttributes = 16 // that are listed
	maxText       = 200
	maxTest       = 400 // for a test that failed, whose values may be two IPv6 addresses each
)

// Brief says in a few lines, for a log, what was decided. For a refusal that is
// who asked, what the conditions that decided it asked about, which assertions
// came near to allowing it, where in them it failed, and what can be done. No
// line has a passphrase in it, or its hash.
func (d *Decision) Brief() []string { return d.brief().lines() }

// brief is what Brief says, in its parts.
func (d *Decision) brief() *account {
	a := d.account()
	if hide := d.hidden(); hide != nil {
		a.hide(hide)
	}
	return a
}

func (d *Decision) account() *account {
	e, err := d.explain()
	switch {
	case errors.Is(err, keynote.ErrNoRequester):
		return &account{answer: "refused: phase 1 gave no pre-shared key, certificate or key by which the policy could know the peer"}
	case err != nil:
		return &account{answer: fmt.Sprintf("refused: the policy cannot be asked: %v", err)}
	case d.Allow:
		return &account{answer: fmt.Sprintf("allowed to %s by %s", d.who(e), places(e.Granting))}
	}
	a := &account{answer: "refused to " + d.who(e)}
	var asked []string
	reasons := telling(e.Reasons)
	for i := range reasons {
		if i == maxReasons {
			break
		}
		w := &reasons[i]
		for _, name := range w.Assertion.Attributes() {
			if !slices.Contains(asked, name) {
				asked = append(asked, name)
			}
		}
		a.reasons = append(a.reasons, d.reason(w, &a.advice)...)
	}
	if more := len(reasons) - maxReasons; more > 0 {
		a.reasons = append(a.reasons, fmt.Sprintf("%d more assertions come near it", more))
	}
	if len(reasons) == 0 {
		a.reasons = append(a.reasons, d.unlicensed(&a.advice))
	}
	if len(asked) > 0 {
		a.reasons = append(a.reasons, "the conditions asked about "+d.values(asked))
	}
	return a
}

// explain asks again, for the reasons.
func (d *Decision) explain() (*keynote.Explanation, error) {
	if d.err != nil {
		return nil, d.err
	}
	return d.policy.set.Explain(d.query)
}

// reason says what one assertion lacked.
func (d *Decision) reason(w *keynote.Reason, advice *advices) []string {
	at := place(w.Assertion)
	switch w.Kind {
	case keynote.ReasonLicensees:
		missing := clean(strings.Join(w.Missing, ", "))
		if w.Some {
			advice.add("the assertion wants several to ask together: write a smaller number before -of, or || for &&, in its Licensees if fewer are enough")
			return []string{at + ": asked for by one of its licensees, it needs more of these: " + missing}
		}
		advice.add("the assertion wants several to ask together: replace && by || in its Licensees if one of them is enough")
		return []string{at + ": asked for by one of its licensees, it needs also " + missing}
	case keynote.ReasonUnreached:
		by := clean(w.Assertion.Authorizer())
		if !strings.HasPrefix(by, dnPrefix) {
			by = "its authorizer"
		}
		advice.add("if whoever " + by + " names may have the tunnel, name " + by + " among the licensees of an assertion by POLICY")
		return []string{at + ": it licenses who asks, but nothing leads from POLICY to " + by}
	}
	var lines []string
	for i := range w.Failures {
		if i == maxFailures {
			lines = append(lines, fmt.Sprintf("%s: and %d more tests", at, len(w.Failures)-maxFailures))
			break
		}
		f := &w.Failures[i]
		lines = append(lines, at+": "+cleanTo(f.String(), maxTest))
		advise(w.Assertion, f, advice)
	}
	if len(w.Failures) == 0 {
		lines = append(lines, at+": its conditions allow nothing")
	}
	return lines
}

// telling leaves out, where there is something better to tell, that a certificate
// was signed by somebody whom the policy does not know.
func telling(reasons []keynote.Reason) []keynote.Reason {
	last := func(keep func(*keynote.Reason) bool) []keynote.Reason {
		return slices.DeleteFunc(slices.Clone(reasons), func(w keynote.Reason) bool {
			return w.Kind == keynote.ReasonUnreached && w.Assertion.Source() == keynote.Pseudo && !keep(&w)
		})
	}
	if l := last(func(*keynote.Reason) bool { return false }); len(l) > 0 {
		return l
	}
	if l := last(func(w *keynote.Reason) bool { return strings.HasPrefix(w.Assertion.Authorizer(), dnPrefix) }); len(l) > 0 {
		return l
	}
	return reasons
}

// unlicensed explains a refusal to somebody whom no assertion names.
func (d *Decision) unlicensed(advice *advices) string {
	for _, a := range d.policy.set.Assertions() {
		if a.Authorizer() == keynote.PolicyPrincipal {
			advice.add(licenseAdvice(d.query.Requesters))
			return "in " + clean(d.policy.file) + " no assertion that POLICY leads to names it among its licensees"
		}
	}
	advice.add(`one assertion at least has Authorizer: "POLICY"`)
	return "in " + clean(d.policy.file) + " no assertion is by POLICY, so nothing is allowed to anybody"
}

// licenseAdvice is how to name who asks.
func licenseAdvice(requesters []string) string {
	for _, r := range requesters {
		if strings.HasPrefix(r, dnPrefix) {
			return "if it may have the tunnel, write Licensees: " + clean(quote(r)) + ", or name the CA that signed its certificate and put that CA's certificate into the CA directory"
		}
	}
	for _, r := range requesters {
		if isPassphrase(r) {
			return `if it may have the tunnel, write Licensees: "passphrase:..." with the key that Authentication= has in isakmpd.conf, or "passphrase-sha1-hex:..." with the hash of the key`
		}
	}
	return "if it may have the tunnel, name it among the licensees"
}

func isPassphrase(principal string) bool {
	_, ok := cutFold(principal, "passphrase")
	return ok
}

// who are the requesters in a sentence. The ways to write a pre-shared key are one.
func (d *Decision) who(e *keynote.Explanation) string {
	var names []string
	for i := range e.Requesters {
		name := clean(e.Requesters[i].Name)
		switch {
		case name == veil || isPassphrase(name):
			name = "the holder of the pre-shared key (" + passphrasePrefix + veil + ")"
		case strings.HasPrefix(d.query.Requesters[i], dnPrefix):
			name = clean(d.query.Requesters[i])
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// veil stands for what is not shown, as in package keynote.
const veil = "***"

// values lists attributes with their values.
func (d *Decision) values(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i == maxAttributes {
			fmt.Fprintf(&b, " and %d more", len(names)-maxAttributes)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		v, ok := d.query.Attributes[name]
		if !ok {
			b.WriteString(clean(name) + " (not set)")
			continue
		}
		fmt.Fprintf(&b, "%s=%q", name, clean(v))
	}
	return b.String()
}

func places(as []*keynote.Assertion) string {
	var names []string
	for i, a := range as {
		if i == maxReasons {
			names = append(names, fmt.Sprintf("%d more", len(as)-i))
			break
		}
		names = append(names, place(a))
	}
	return strings.Join(names, ", ")
}

// place is file:line of an assertion, and its comment.
func place(a *keynote.Assertion) string {
	if a.Source() == keynote.Pseudo {
		return clean("the " + a.Comment())
	}
	p := a.Pos()
	s := fmt.Sprintf("%s:%d", p.File, p.Line)
	if c := a.Comment(); c != "" {
		s += " (" + c + ")"
	}
	return clean(s)
}

// clean makes a text fit for one line of a log.
func clean(s string) string { return cleanTo(s, maxText) }

func cleanTo(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// Tree is everything: the attributes of the query, and each principal that POLICY
// leads to with the assertions it made and what they came to. It shows no
// passphrase either.
func (d *Decision) Tree() string {
	e, err := d.explain()
	var b strings.Builder
	for _, line := range d.account().lines() {
		b.WriteString(line + "\n")
	}
	if err != nil {
		return b.String()
	}
	b.WriteString("attributes:\n")
	for _, name := range d.names() {
		if v := d.query.Attributes[name]; v != "" {
			fmt.Fprintf(&b, "  %s=%q\n", name, clean(v))
		}
	}
	_, _ = e.WriteTo(&b) // a Builder never fails
	if hide := d.hidden(); hide != nil {
		return hide.Replace(b.String())
	}
	return b.String()
}

// names are the attributes of the query: those of the table in its order, then
// others by name.
func (d *Decision) names() []string {
	var names, others []string
	for i := range attributes {
		if _, ok := d.query.Attributes[attributes[i].Name]; ok {
			names = append(names, attributes[i].Name)
		}
	}
	for name := range d.query.Attributes {
		if !slices.Contains(names, name) {
			others = append(others, name)
		}
	}
	slices.Sort(others)
	return append(names, others...)
}
