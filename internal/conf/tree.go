package conf

import (
	"strings"

	"oakley/internal/diag"
)

// File is the text as a tree: sections in the order of the file, each with its
// tags. Names are kept as they were written and compared without regard to case.
type File struct {
	Name     string
	Sections []*Section

	index  map[string]*Section
	lines  []string     // physical lines, from 0
	secret map[int]bool // lines (from 1) that go on with a secret value
}

// Section is one [Section]. A section that is opened twice is one, with the tags
// of both.
type Section struct {
	Name string
	Tags []*Tag

	at    diag.Range // the name between its brackets
	index map[string]*Tag
	roles []*role // what it is used as

	likely  *role // what its tags look like, once guessed
	guessed bool
}

// Tag is one Tag=Value; Value is empty when nothing follows the "=".
type Tag struct {
	Name  string
	Value string

	at    diag.Range
	line  *logical
	start int // of the value in the line
}

// Pos is where the section's name stands.
func (s *Section) Pos() diag.Pos { return s.at.Pos }

// Pos is where the tag's name stands.
func (t *Tag) Pos() diag.Pos { return t.at.Pos }

// Section finds a section by name, nil when there is none.
func (f *File) Section(name string) *Section { return f.index[fold(name)] }

// Tag finds a tag by name, nil when there is none.
func (s *Section) Tag(name string) *Tag { return s.index[fold(name)] }

// span is the range of part [from, to) of the value.
func (t *Tag) span(from, to int) diag.Range { return t.line.span(t.start+from, t.start+to) }

// valueSpan is the range of the whole value, or of the tag when it has none.
func (t *Tag) valueSpan() diag.Range {
	if t.Value == "" {
		return t.at
	}
	return t.span(0, len(t.Value))
}

func fold(name string) string { return strings.ToLower(name) }

// logical is a line with those that continue it.
type logical struct {
	file string
	text string
	segs []segment
}

// segment is the part of a logical line that one physical line holds.
type segment struct {
	from int // offset in the logical text
	end  int
	line int // physical, from 1
}

// span translates offsets in the logical text into a place in the file. A range
// over several physical lines ends with its first.
func (l *logical) span(from, to int) diag.Range {
	s := l.segs[0]
	for _, next := range l.segs[1:] {
		if from < next.from {
			break
		}
		s = next
	}
	return diag.Range{
		Pos: diag.Pos{File: l.file, Line: s.line, Col: from - s.from + 1},
		Len: max(min(to, s.end)-from, 1),
	}
}
