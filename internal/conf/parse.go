package conf

import (
	"bytes"
	"fmt"
	"strings"

	"oakley/internal/diag"
)

// MaxSize is the size of the largest file that is read, in bytes.
const MaxSize = 1 << 20

// maxRemarks bounds how many remarks are kept about one file.
const maxRemarks = 500

// Parse reads the text into a tree and collects what is wrong with its lines: a
// tag before any section, a line that is neither, a bracket that is not closed.
// The tree holds everything that could be read.
func Parse(name string, src []byte) (*File, diag.List) {
	p := &parser{file: &File{Name: name, index: map[string]*Section{}, secret: map[int]bool{}}}
	if len(src) > MaxSize {
		p.add(diag.Error, diag.Range{Pos: diag.Pos{File: name}},
			"a configuration of some thousand tunnels is a tenth of that; is it the right file?",
			"the file has %d bytes, at most %d are read", len(src), MaxSize)
		return p.file, p.list
	}
	if rest, ok := bytes.CutPrefix(src, []byte("\xef\xbb\xbf")); ok {
		src = rest // editors of another system begin files with this mark
	}
	p.file.lines = strings.Split(string(src), "\n")
	for i, l := range p.file.lines {
		p.file.lines[i] = strings.TrimSuffix(l, "\r")
	}
	for n := 0; n < len(p.file.lines); {
		l := p.join(n)
		n += len(l.segs)
		p.line(l)
	}
	if p.dropped > 0 {
		p.list = append(p.list, p.file.remark(diag.Error, diag.Range{Pos: diag.Pos{File: name}}, "", fmt.Sprintf("there are %d remarks more about lines; mend these first", p.dropped)))
	}
	return p.file, p.list
}

type parser struct {
	file    *File
	list    diag.List
	dropped int
	section *Section
	lost    bool // after a broken section header: its tags belong nowhere
}

func (p *parser) add(s diag.Severity, at diag.Range, hint, format string, args ...any) {
	if len(p.list) >= maxRemarks {
		p.dropped++
		return
	}
	p.list = append(p.list, p.file.remark(s, at, hint, fmt.Sprintf(format, args...)))
}

// remark makes a diagnostic with the line it is about, secrets taken out.
func (f *File) remark(s diag.Severity, at diag.Range, hint, summary string) *diag.Diagnostic {
	line, at := f.show(at)
	return &diag.Diagnostic{Severity: s, Summary: summary, Hint: hint, Range: at, Snippet: line}
}

// join makes a logical line of physical line n (from 0) and those that continue
// it. As in the original the backslash and the end of the line become blanks.
func (p *parser) join(n int) *logical {
	lines := p.file.lines
	l := &logical{file: p.file.Name}
	if !strings.HasSuffix(lines[n], `\`) {
		l.text = lines[n]
		l.segs = []segment{{from: 0, end: len(l.text), line: n + 1}}
		return l
	}
	var b strings.Builder
	for ; ; n++ {
		text, more := strings.CutSuffix(lines[n], `\`)
		l.segs = append(l.segs, segment{from: b.Len(), end: b.Len() + len(text), line: n + 1})
		b.WriteString(text)
		if !more || n+1 == len(lines) {
			break
		}
		b.WriteString("  ")
	}
	l.text = b.String()
	return l
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func (p *parser) line(l *logical) {
	start := 0
	for start < len(l.text) && blank(l.text[start]) {
		start++
	}
	end := len(strings.TrimRight(l.text, " \t"))
	if start >= end || l.text[start] == '#' || l.text[start] == ';' {
		return
	}
	if isSecret(l.text) {
		for _, s := range l.segs[1:] {
			p.file.secret[s.line] = true
		}
	}
	p.characters(l)
	if l.text[start] == '[' {
		p.header(l, start, end)
		return
	}
	p.tag(l, start, end)
}

// characters refuses what no editor shows: a file with control characters in it
// is not what its author believes.
func (p *parser) characters(l *logical) {
	for i := range len(l.text) {
		if c := l.text[i]; (c < ' ' && c != '\t') || c == 0x7f {
			p.add(diag.Error, l.span(i, i+1), "remove it, or write the file anew as plain text", "there is a control character (0x%02x) in this line", c)
			return
		}
	}
	if i := strings.LastIndexByte(l.text, '\\'); i >= 0 && i < len(l.text)-1 && strings.Trim(l.text[i+1:], " \t") == "" {
		p.add(diag.Warning, l.span(i, i+1), "remove the blanks after it", "this backslash does not continue the line: blanks follow it")
	}
}

func (p *parser) header(l *logical, start, end int) {
	close := strings.IndexByte(l.text[start:end], ']')
	if close < 0 {
		hint := "write ] after its name"
		if name := strings.TrimSpace(l.text[start+1 : end]); !isSecret(l.text) {
			hint = "write [" + clip(name) + "]"
		}
		p.add(diag.Error, l.span(start, end), hint, "this section has no closing bracket")
		p.section, p.lost = nil, true
		return
	}
	close += start
	if rest := strings.TrimLeft(l.text[close+1:end], " \t"); rest != "" {
		from := end - len(rest)
		p.add(diag.Warning, l.span(from, end), "put it on a line of its own", "what follows the bracket is ignored")
	}
	inner := l.text[start+1 : close]
	name := strings.Trim(inner, " \t")
	if name == "" {
		p.add(diag.Error, l.span(start, close+1), "write its name between the brackets", "this section has no name")
		p.section, p.lost = nil, true
		return
	}
	p.lost = false
	from := start + 1 + strings.Index(inner, name)
	at := l.span(from, from+len(name))
	if old := p.file.index[fold(name)]; old != nil {
		p.add(diag.Warning, at, "put the tags together in one place", "section [%s] was begun in line %d already; these tags are added to it", clip(name), old.at.Line)
		p.section = old
		return
	}
	p.section = &Section{Name: name, at: at, index: map[string]*Tag{}}
	p.file.index[fold(name)] = p.section
	p.file.Sections = append(p.file.Sections, p.section)
}

func (p *parser) tag(l *logical, start, end int) {
	eq := strings.IndexByte(l.text[start:end], '=')
	if eq < 0 {
		p.add(diag.Error, l.span(start, end), "write Tag=Value; a comment begins with # or ; as the first character of its line", "this line is neither a section nor Tag=Value")
		return
	}
	eq += start
	name := strings.TrimRight(l.text[start:eq], " \t")
	if name == "" {
		p.add(diag.Error, l.span(eq, eq+1), "write the tag before the =", "this value has no tag")
		return
	}
	at := l.span(start, start+len(name))
	if p.section == nil {
		if !p.lost {
			p.add(diag.Error, at, "begin with the section it belongs to, as [General]", "tag %s stands before any section", quote(tagName(name)))
		}
		return
	}
	value := eq + 1
	for value < end && blank(l.text[value]) {
		value++
	}
	t := &Tag{Name: name, Value: l.text[value:end], at: at, line: l, start: value}
	if old := p.section.index[fold(name)]; old != nil {
		p.add(diag.Warning, at, "remove the one that is not meant", "%s is in line %d already, and the first value wins: this one is ignored", tagName(name), old.at.Line)
		return
	}
	p.section.index[fold(name)] = t
	p.section.Tags = append(p.section.Tags, t)
	if t.Value == "" {
		p.add(diag.Warning, at, "give it one, or remove the line", "%s has no value and is ignored", tagName(name))
		return
	}
	if i := strings.Index(t.Value, " #"); i >= 0 {
		p.add(diag.Warning, t.span(i+1, len(t.Value)), "put the comment on a line of its own", "this is no comment: the # and what follows belong to the value")
	}
}

// quote is s in quotes for a sentence, clip is s alone; both cut what is long.
func quote(s string) string { return fmt.Sprintf("%q", clip(s)) }

func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
