package keynote

import (
	"slices"
	"strings"

	"oakley/internal/diag"
)

// Bounds of one call of Parse. A policy of ten thousand assertions with short
// names is two megabytes; what a peer sends travels in one datagram.
const (
	MaxPolicySize     = 16 << 20 // bytes of a text from Policy or Pseudo
	MaxCredentialSize = 256 << 10
	maxPolicies       = 1 << 17 // assertions in one text
	maxCredentials    = 256
	maxAssertion      = 256 << 10 // bytes of one assertion
)

// Parse reads assertions that are separated by blank lines. name is what remarks
// call the text. Assertions with mistakes in them are left out of the result and
// remarked upon as errors; the administrator's file should then not be used at
// all, while of a peer's credentials the others count.
func Parse(name string, src []byte, from Source) ([]*Assertion, diag.List) {
	whole := func(hint, summary string) diag.List {
		return diag.List{{Severity: diag.Error, Summary: summary, Hint: hint, Range: diag.Range{Pos: diag.Pos{File: name}}}}
	}
	limit, count := MaxPolicySize, maxPolicies
	if from == Credential {
		limit, count = MaxCredentialSize, maxCredentials
	}
	if len(src) > limit {
		return nil, whole("is it the right file?", sprintf("the text has %d bytes, at most %d are read", len(src), limit))
	}
	text := strings.TrimPrefix(string(src), "\xef\xbb\xbf") // editors of another system begin files with this mark
	s := &splitter{doc: newDocument(name, text), from: from}
	s.remarks.doc = s.doc
	if i := strings.IndexByte(text, 0); i >= 0 {
		s.remarks.add(diag.Error, span{i, i + 1}, "write the file anew as plain text", "there is a NUL character in the text")
		s.veilLines(span{0, len(text)})
		return nil, s.remarks.list()
	}
	for n := 0; n < len(s.doc.lines); {
		if s.blank(n) {
			n++
			continue
		}
		first := n
		for n < len(s.doc.lines) && !s.blank(n) {
			n++
		}
		if s.chunk(first, n); len(s.found) > count {
			return nil, whole("", sprintf("there are more than %d assertions in the text", count))
		}
	}
	return s.found, s.remarks.list()
}

type splitter struct {
	doc     *document
	from    Source
	found   []*Assertion
	remarks remarks
}

func (s *splitter) blank(n int) bool { return strings.Trim(s.doc.line(n), " \t\f\v") == "" }

// chunk reads lines first to end, which have no blank one among them.
func (s *splitter) chunk(first, end int) {
	a := &Assertion{doc: s.doc, source: s.from, body: span{from: -1}}
	b := &builder{a: a, remarks: &s.remarks}
	comments, last := true, end
	for n := first; n < end; n++ {
		if s.behindSignature(b, n) {
			end = n
			break
		}
		comments = s.assertionLine(b, n) && comments
	}
	if comments {
		return
	}
	a.body.end = s.lineEnd(end - 1)
	b.close(a.body.end)
	if a.body.from < 0 {
		a.body.from = s.doc.lines[first]
	}
	if a.body.end-a.body.from > maxAssertion {
		b.fail(span{a.body.from, a.body.from + 1}, "", "this assertion has %d bytes, at most %d are read", a.body.end-a.body.from, maxAssertion)
	}
	s.veil(a, s.doc.lines[first], s.lineEnd(last-1))
	if b.build(); !b.bad {
		s.found = append(s.found, a)
	}
}

// behindSignature tells whether line n stands behind the Signature field and does
// not continue it: then it and what follows it are no part of the assertion (RFC
// 2704 section 4.6.7).
func (s *splitter) behindSignature(b *builder, n int) bool {
	start, line := s.doc.lines[n], s.doc.line(n)
	if !b.a.field[fieldSignature].present || strings.IndexAny(line[:1], " \t#") == 0 {
		return false
	}
	b.warn(span{start, start + len(line)}, "write a blank line before it if it begins another assertion; what is to be signed belongs above the signature",
		"this line and those after it stand behind the signature and do not count")
	return true
}

// lineEnd is the offset behind line n and the character that ends it.
func (s *splitter) lineEnd(n int) int {
	if n+1 < len(s.doc.lines) {
		return s.doc.lines[n+1]
	}
	return len(s.doc.src)
}

// builder makes one assertion.
type builder struct {
	a       *Assertion
	remarks *remarks
	open    *field // that lines continue
	lost    bool   // after a line that belongs to no field
	bad     bool
	p       *parser
}

func (b *builder) fail(where span, hint, format string, args ...any) {
	b.bad = true
	b.remarks.add(diag.Error, where, hint, format, args...)
}

func (b *builder) warn(where span, hint, format string, args ...any) {
	b.remarks.add(diag.Warning, where, hint, format, args...)
}

// close ends the open field before offset end.
func (b *builder) close(end int) {
	if b.open != nil {
		b.open.content.end = end
	}
	b.open = nil
}

// assertionLine takes one line; comment tells whether it is nothing but one.
func (s *splitter) assertionLine(b *builder, n int) (comment bool) {
	start, line := s.doc.lines[n], s.doc.line(n)
	where := span{start, start + len(line)}
	if line[0] == '#' || strings.TrimLeft(line, " \t")[0] == '#' && b.open == nil {
		return true
	}
	if line[0] == ' ' || line[0] == '\t' {
		if b.open == nil && !b.lost {
			b.fail(where, s.beginHint(n), "this line is indented, but there is no field that it continues")
			b.lost = true
		}
		return false
	}
	label := labelOf(line)
	if f, other, ok := lookupField(label); ok && label != "" {
		b.field(f, other, span{start, start + len(label)}, start+strings.IndexByte(line, ':')+1)
		return false
	}
	if isVersionControl(line, label) {
		b.close(start)
		b.lost = true
		b.fail(where, "delete the line, or write # before it",
			"this line is a mark of a version control system and not KeyNote")
		return false
	}
	if label != "" {
		b.close(start)
		b.lost = true
		hint := "the fields are " + strings.Join(fieldNames[:], ", ")
		if near, ok := diag.Nearest(label, slices.Values(fieldNames[:])); ok {
			hint = "did you mean " + near + "?"
		}
		b.fail(span{start, start + len(label)}, hint, "there is no field %q in KeyNote", label)
		return false
	}
	summary, hint := "this line continues the field above it, but it is not indented", "begin it with a blank or a tab"
	if b.open == nil && !b.lost {
		summary, hint = "this line is no field, and there is none that it continues", s.beginHint(n)
		b.lost = true
	}
	word := line[:len(line)-len(strings.TrimLeft(line, letters))]
	if near, ok := diag.Nearest(word, slices.Values(fieldNames[:])); ok && len(word) > 4 {
		hint = "did you mean " + near + ": with a colon? A line that continues the field above begins with a blank"
		b.close(start)
		b.lost = true
	}
	b.fail(where, hint, "%s", summary)
	return false
}

// beginHint is how to mend a line that begins an assertion and is no field.
func (s *splitter) beginHint(n int) string {
	if n > 0 && s.blank(n-1) {
		return "the blank line above it ends an assertion: delete that one if this line continues what is above, or else begin with the name of a field in the first column"
	}
	return "an assertion begins with the name of a field in the first column"
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-"

// labelOf is the word before the colon that a line begins with.
func labelOf(line string) string {
	rest := strings.TrimLeft(line, letters)
	label := line[:len(line)-len(rest)]
	if !strings.HasPrefix(strings.TrimLeft(rest, " \t"), ":") {
		return ""
	}
	return label
}

// isVersionControl knows the marks that CVS leaves in files, with and without
// the dollar sign before them.
func isVersionControl(line, label string) bool {
	if rest, ok := strings.CutPrefix(line, "$"); ok {
		return labelOf(rest) != "" || strings.HasSuffix(strings.TrimRight(rest, " \t"), "$")
	}
	return slices.ContainsFunc([]string{"OpenBSD", "NetBSD", "FreeBSD", "EOM", "Id", "Header"}, func(m string) bool {
		return strings.EqualFold(label, m)
	})
}

// field begins a field; its name stands at label and its content at content.
func (b *builder) field(f fieldName, other bool, label span, content int) {
	b.close(label.from)
	b.lost = false
	a := b.a
	if a.body.from < 0 {
		a.body.from = label.from
	}
	if other {
		b.warn(label, "write Authorizer:", "%s is read as Authorizer, which is how RFC 2704 spells it", otherSpelling)
	}
	to := &a.field[f]
	if to.present {
		b.fail(label, "a blank line begins the next assertion", "there is a second %s field in this assertion; the first one is in line %d", f, a.doc.pos(to.label.from).Line)
		b.lost = true
		return
	}
	if f == fieldVersion && len(a.fields) > 0 {
		b.warn(label, "move it to the top", "KeyNote-Version is not the first field (RFC 2704 section 4.1)")
	}
	*to = field{present: true, label: label, content: span{content, content}}
	a.fields = append(a.fields, f)
	b.open = to
}
