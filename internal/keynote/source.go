package keynote

import (
	"fmt"
	"sort"
	"strings"

	"oakley/internal/diag"
)

// maxRemarks bounds how many remarks are kept about one text.
const maxRemarks = 500

// span is a piece of a text, as offsets in bytes.
type span struct{ from, end int }

// document is a text that assertions are read from, with what is needed to
// point into it.
type document struct {
	name   string
	src    string
	lines  []int  // where each line begins
	secret []span // insides of literals that may be passphrases, in order
}

func newDocument(name, src string) *document {
	d := &document{name: name, src: src, lines: []int{0}}
	for i := range len(src) {
		if src[i] == '\n' {
			d.lines = append(d.lines, i+1)
		}
	}
	return d
}

// pos is the place of an offset.
func (d *document) pos(off int) diag.Pos {
	n := sort.SearchInts(d.lines, off+1) - 1
	return diag.Pos{File: d.name, Line: n + 1, Col: off - d.lines[n] + 1}
}

// line is what stands in line n, counted from 0, without its end.
func (d *document) line(n int) string {
	end := len(d.src)
	if n+1 < len(d.lines) {
		end = d.lines[n+1] - 1
	}
	return strings.TrimSuffix(d.src[d.lines[n]:end], "\r")
}

// show is the range of s and the line it begins in. What may be a passphrase is
// starred letter by letter, so that columns are those of the file.
func (d *document) show(s span) (diag.Range, string) {
	at := diag.Range{Pos: d.pos(s.from)}
	start, line := d.lines[at.Line-1], []byte(d.line(at.Line-1))
	end := start + len(line)
	at.Len = max(min(s.end, end)-s.from, 1)
	i := sort.Search(len(d.secret), func(i int) bool { return d.secret[i].end > start })
	for ; i < len(d.secret) && d.secret[i].from < end; i++ {
		for k := max(d.secret[i].from, start); k < min(d.secret[i].end, end); k++ {
			line[k-start] = '*'
		}
	}
	return at, string(line)
}

// remark makes a diagnostic about a piece of the text.
func (d *document) remark(s diag.Severity, where span, hint, summary string) *diag.Diagnostic {
	at, line := d.show(where)
	return &diag.Diagnostic{Severity: s, Summary: summary, Hint: hint, Range: at, Snippet: line}
}

// remarks collects what there is to say about a text. The diagnostics are made
// at the end, when it is known which literals are secret.
type remarks struct {
	doc     *document
	found   []finding
	dropped int
}

type finding struct {
	severity      diag.Severity
	where         span
	hint, summary string
}

func (r *remarks) add(s diag.Severity, where span, hint, format string, args ...any) {
	if len(r.found) >= maxRemarks {
		r.dropped++
		return
	}
	r.found = append(r.found, finding{s, where, hint, fmt.Sprintf(format, args...)})
}

func (r *remarks) list() diag.List {
	var l diag.List
	for _, f := range r.found {
		l = append(l, r.doc.remark(f.severity, f.where, f.hint, f.summary))
	}
	l.Sort()
	if r.dropped > 0 {
		l = append(l, &diag.Diagnostic{
			Severity: diag.Error, Range: diag.Range{Pos: diag.Pos{File: r.doc.name}},
			Summary: fmt.Sprintf("there are %d remarks more; mend these first", r.dropped),
		})
	}
	return l
}
