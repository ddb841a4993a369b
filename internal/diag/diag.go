// Package diag holds what a parser has to say to the person who wrote the file:
// a position, a severity, one sentence, the line itself with the place
// underlined, and a hint at what to do. A parser collects all of it and stops at
// nothing, so that one run shows every mistake.
package diag

import (
	"cmp"
	"fmt"
	"slices"
)

// Pos is a place in a file. Lines and columns count from 1, columns in bytes;
// line 0 is the file as a whole.
type Pos struct {
	File string
	Line int
	Col  int
}

// IsValid tells whether p names a file or a place in one.
func (p Pos) IsValid() bool { return p.File != "" || p.Line > 0 }

// String is file:line:col, as compilers print it and editors jump to it.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Range is a place and how many bytes of its line are meant.
type Range struct {
	Pos
	Len int
}

// Severity says whether the file can be used.
type Severity uint8

// Severities. A file with an Error is not used at all; a Warning is about
// something that works, though perhaps not as it was meant.
const (
	Warning Severity = iota
	Error
)

func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Diagnostic is one remark. Snippet is the line that Range points into, with
// secrets already taken out of it; it is empty when there is no line to show.
type Diagnostic struct {
	Severity Severity
	Summary  string
	Hint     string
	Range    Range
	Snippet  string
}

// Error is the position and the sentence on one line, for logs.
func (d *Diagnostic) Error() string {
	if !d.Range.IsValid() {
		return fmt.Sprintf("%s: %s", d.Severity, printable(d.Summary))
	}
	return printable(fmt.Sprintf("%s: %s: %s", d.Range.Pos, d.Severity, d.Summary))
}

// List is everything there is to say about a file.
type List []*Diagnostic

// Sort orders by line and column; remarks on the same place stay in the order
// in which they were made, errors first.
func (l List) Sort() {
	slices.SortStableFunc(l, func(a, b *Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Range.File, b.Range.File),
			cmp.Compare(a.Range.Line, b.Range.Line),
			cmp.Compare(a.Range.Col, b.Range.Col),
			-cmp.Compare(a.Severity, b.Severity),
		)
	})
}

// HasErrors tells whether one of them is an error.
func (l List) HasErrors() bool { return l.Count(Error) > 0 }

// Count is how many there are of a severity.
func (l List) Count(s Severity) int {
	n := 0
	for _, d := range l {
		if d.Severity == s {
			n++
		}
	}
	return n
}

// Err is nil when there is no error, else an error whose text is the first one
// and the number of the others.
func (l List) Err() error {
	n := l.Count(Error)
	if n == 0 {
		return nil
	}
	first := l[slices.IndexFunc(l, func(d *Diagnostic) bool { return d.Severity == Error })]
	if n == 1 {
		return first
	}
	return fmt.Errorf("%w (and %d more)", first, n-1)
}
