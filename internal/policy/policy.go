package policy

import (
	"slices"
	"strings"

	"oakley/internal/diag"
	"oakley/internal/keynote"
)

// Policy is a policy file and credentials that go with it. It does not change and
// may be asked from several goroutines.
type Policy struct {
	file string // what it is called
	set  *keynote.Set
}

// Load reads a policy file; file is what remarks call it. When there is an error
// among them, which includes a signature that does not hold, there is no Policy.
// The warnings are about what can be used and yet cannot be meant.
func Load(file string, src []byte) (*Policy, diag.List) {
	as, remarks := keynote.Parse(file, src, keynote.Policy)
	as, l := respell(as)
	remarks = append(remarks, l...)
	set, l := keynote.NewSet(keys{}, as)
	remarks = append(remarks, l...)
	if !remarks.HasErrors() {
		remarks = append(remarks, lint(file, set)...)
	}
	remarks.Sort()
	if remarks.HasErrors() {
		return nil, remarks
	}
	return &Policy{file, set}, remarks
}

// respell accepts the other spelling of app_domain's value.
func respell(as []*keynote.Assertion) ([]*keynote.Assertion, diag.List) {
	var remarks diag.List
	for i, a := range as {
		b, l := a.Respell(appDomainAttribute, otherAppDomain, appDomain,
			`"`+otherAppDomain+`" is read as "`+appDomain+`", which is how this attribute is spelt`, `write "`+appDomain+`"`)
		as[i] = b
		remarks = append(remarks, l...)
	}
	return as, remarks
}

// With is the policy with credentials added to it: signed assertions, which were
// parsed as keynote.Credential, from the credential directory or the peer, and
// what FromCertificates returns. Credentials whose signature does not hold are
// left out, and the list has an error for each. It costs what they cost, whatever
// the size of p, which stays as it is.
func (p *Policy) With(credentials []*keynote.Assertion) (*Policy, diag.List) {
	as, _ := respell(append([]*keynote.Assertion(nil), credentials...))
	set, l := p.set.With(as)
	return &Policy{p.file, set}, l
}

// Ask puts one proposal to the policy.
func (p *Policy) Ask(q *Query) *Decision { return p.AskAttributes(q.Requesters, q.Attributes()) }

// AskAttributes is Ask with the attributes as they are.
func (p *Policy) AskAttributes(requesters []string, attributes map[string]string) *Decision {
	requesters = slices.DeleteFunc(slices.Clone(requesters), func(r string) bool { return strings.IndexByte(r, 0) >= 0 })
	d := &Decision{policy: p, query: &keynote.Query{Requesters: requesters, Attributes: attributes}}
	r, err := p.set.Query(d.query)
	d.Allow, d.err = err == nil && r.Value == "true", err
	return d
}
