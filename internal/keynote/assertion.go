package keynote

import (
	"strings"

	"oakley/internal/diag"
)

// PolicyPrincipal is the root of trust (RFC 2704 section 2).
const PolicyPrincipal = "POLICY"

// Source is the channel that an assertion came through (RFC 2704 section 5.4).
type Source uint8

// Sources. Only what is believed without a signature needs another than the
// first one.
const (
	// Credential is text from a peer or from a directory that others write to:
	// it counts only with a signature that holds.
	Credential Source = iota
	// Policy is the administrator's own file: believed as it stands.
	Policy
	// Pseudo is text that this program made itself from a certificate whose
	// signature was verified: believed as it stands, yet it can never speak for
	// POLICY.
	Pseudo
)

// Assertion is one parsed assertion. It does not change after Parse and may be
// used from several goroutines.
type Assertion struct {
	doc    *document
	source Source
	body   span // from the first field to the end of the text that belongs to it
	field  [numFields]field
	fields []fieldName // in the order of the text

	comment    string
	constants  map[string]string
	authorizer *expr
	licensees  *princ // nil when the field is missing
	gates      []gate
	leaves     []leaf
	rootless   bool // the licensees field is there and empty
	conditions []*clause
	nodes      int  // of all expressions
	patterns   int  // size of all constant regular expressions
	joined     int  // bytes of all principals that are concatenations of constants
	groups     bool // something refers to _0, _1 and so on, or may
	signature  string
}

// Source says which channel it came through.
func (a *Assertion) Source() Source { return a.source }

// Pos is where its first field begins.
func (a *Assertion) Pos() diag.Pos { return a.doc.pos(a.body.from) }

// Comment is the text of its Comment field with every gap made one blank.
func (a *Assertion) Comment() string { return a.comment }

// Authorizer is who made the assertion, as written; "" when it depends on
// attributes of the query.
func (a *Assertion) Authorizer() string {
	v, _ := a.authorizer.constant()
	return v
}

// Signed tells whether there is a Signature field.
func (a *Assertion) Signed() bool { return a.field[fieldSignature].present }

// Signature is the value of the Signature field, algorithm:bits.
func (a *Assertion) Signature() string { return a.signature }

// Text is the assertion as it was written, from its first field on.
func (a *Assertion) Text() string { return a.doc.src[a.body.from:a.body.end] }

// Licensees are the principals named in the Licensees field, as written and in
// its order, those left out that depend on attributes of the query.
func (a *Assertion) Licensees() []string {
	var names []string
	for i := range a.leaves {
		if v, ok := a.leaves[i].e.constant(); ok {
			names = append(names, v)
		}
	}
	return names
}

// Constant is the value of one of its Local-Constants.
func (a *Assertion) Constant(name string) (value string, ok bool) {
	value, ok = a.constants[name]
	return value, ok
}

// fieldName numbers the fields of RFC 2704 section 4.1.
type fieldName uint8

const (
	fieldVersion fieldName = iota
	fieldConstants
	fieldAuthorizer
	fieldLicensees
	fieldConditions
	fieldComment
	fieldSignature
	numFields
)

var fieldNames = [numFields]string{
	"KeyNote-Version", "Local-Constants", "Authorizer", "Licensees", "Conditions", "Comment", "Signature",
}

func (f fieldName) String() string { return fieldNames[f] }

// otherSpelling is accepted with a warning: a widely copied text writes it so.
const otherSpelling = "Authoriser"

func lookupField(label string) (f fieldName, other, ok bool) {
	for i, n := range fieldNames {
		if strings.EqualFold(label, n) {
			return fieldName(i), false, true
		}
	}
	return fieldAuthorizer, true, strings.EqualFold(label, otherSpelling)
}

// field is where a field stands in the text.
type field struct {
	present bool
	label   span // its name
	content span // what follows the colon, continuation lines included
}
