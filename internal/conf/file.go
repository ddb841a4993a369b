// Package conf reads isakmpd.conf: text into a tree of sections and tags, the
// tree with its generated names and defaults into a typed Config. It finds
// every mistake in one go and says where it is and what to do.
package conf

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"oakley/internal/diag"
)

// maxFile bounds what is read: more than any honest file has.
const maxFile = 4 << 20

// File is the text as a tree, in the order of the file.
type File struct {
	Name     string
	Sections []*Section
	byName   map[string]*Section
	lines    []string
}

// Section is one [Section] with its tags. A section that is written twice is
// one.
type Section struct {
	Name   string
	Pos    diag.Pos
	Tags   []*Tag
	byName map[string]*Tag
	used   bool
}

// Tag is one Tag=Value.
type Tag struct {
	Name     string
	Pos      diag.Pos
	Value    string
	ValuePos diag.Pos
	used     bool
}

// Parse reads the text. The rules are those of the original, save that what it
// passed over in silence is an error here: a tag before any section, a line
// without `=`, a `[` without `]`.
func Parse(name string, src []byte) (*File, diag.List) {
	f := &File{Name: name, byName: map[string]*Section{}}
	var l diag.List
	if len(src) > maxFile {
		return f, diag.List{{Severity: diag.Error, Range: diag.Range{Pos: diag.Pos{File: name}}, Summary: fmt.Sprintf("the file has %d bytes, at most %d are read", len(src), maxFile)}}
	}
	f.lines = strings.Split(string(src), "\n")
	var at *Section
	for i := 0; i < len(f.lines); i++ {
		first := i
		line := strings.TrimRight(f.lines[i], "\r")
		text := strings.TrimLeft(line, " \t")
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		for strings.HasSuffix(line, "\\") && i+1 < len(f.lines) {
			i++
			line = line[:len(line)-1] + strings.TrimRight(f.lines[i], "\r")
		}
		if !utf8.ValidString(line) {
			l = append(l, f.at(diag.Warning, first, 0, 1, "the line is not UTF-8 text", ""))
		}
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		text = line[indent:]
		if text[0] == '[' {
			end := strings.IndexByte(text, ']')
			if end < 0 {
				l = append(l, f.at(diag.Error, first, indent, len(text), "a section without its closing bracket", "write ["+strings.TrimSpace(text[1:])+"]"))
				at = &Section{byName: map[string]*Tag{}} // what follows belongs to it, and is no mistake of its own
				continue
			}
			if rest := strings.TrimSpace(text[end+1:]); rest != "" && rest[0] != '#' && rest[0] != ';' {
				l = append(l, f.at(diag.Warning, first, indent+end+1, len(text)-end-1, "what follows the section's bracket is ignored", ""))
			}
			at = f.section(strings.TrimSpace(text[1:end]), f.pos(first, indent+1))
			continue
		}
		eq := strings.IndexByte(text, '=')
		switch {
		case eq < 0:
			l = append(l, f.at(diag.Error, first, indent, len(text), "neither a section nor Tag=Value", "a comment begins with # or ; at the start of the line"))
		case at == nil:
			l = append(l, f.at(diag.Error, first, indent, eq, "a tag before any section", "put [General] or another section above it"))
		case strings.TrimSpace(text[:eq]) == "":
			l = append(l, f.at(diag.Error, first, indent, len(text), "a value without a tag", ""))
		default:
			l = append(l, f.tag(at, first, line, indent, indent+eq)...)
		}
	}
	return f, l
}

func (f *File) section(name string, pos diag.Pos) *Section {
	if s := f.byName[key(name)]; s != nil {
		return s
	}
	s := &Section{Name: name, Pos: pos, byName: map[string]*Tag{}}
	f.Sections = append(f.Sections, s)
	f.byName[key(name)] = s
	return s
}

// tag takes one Tag=Value: the first one wins.
func (f *File) tag(s *Section, line int, text string, indent, eq int) (l diag.List) {
	value := strings.TrimSpace(text[eq+1:])
	col := len(text) - len(strings.TrimLeft(text[eq+1:], " \t"))
	t := &Tag{
		Name: strings.TrimSpace(text[indent:eq]), Pos: f.pos(line, indent), Value: value, ValuePos: f.pos(line, col),
	}
	if old := s.byName[key(t.Name)]; old != nil {
		l = append(l, f.at(diag.Warning, line, indent, len(t.Name), fmt.Sprintf("%s was set in line %d already, and the first value wins", t.Name, old.Pos.Line), "remove one of the two"))
		return l
	}
	if i := strings.Index(value, " #"); i >= 0 {
		l = append(l, f.at(diag.Warning, line, col+i+1, len(value)-i-1, "the # belongs to the value; it begins no comment here", "put the comment on a line of its own"))
	}
	s.Tags = append(s.Tags, t)
	s.byName[key(t.Name)] = t
	return l
}

func key(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// pos makes a position of a line and a byte column, both from 0.
func (f *File) pos(line, col int) diag.Pos {
	return diag.Pos{File: f.Name, Line: line + 1, Col: col + 1}
}

func (f *File) at(s diag.Severity, line, col, width int, summary, hint string) *diag.Diagnostic {
	return &diag.Diagnostic{Severity: s, Range: diag.Range{Pos: f.pos(line, col), Len: width}, Summary: summary, Hint: hint, Snippet: f.line(line + 1)}
}

// line is a line for people: keys are nobody's to see.
func (f *File) line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	s := strings.TrimRight(f.lines[n-1], "\r")
	if tag, _, ok := strings.Cut(s, "="); ok && key(tag) == "authentication" {
		return tag + "= (not shown)"
	}
	return s
}
