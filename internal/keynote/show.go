package keynote

import (
	"cmp"
	"slices"
	"strings"
)

// show is a principal without what may be a passphrase.
func (r *run) show(principal string) string {
	if !looksSecret(principal) {
		return shorten(principal)
	}
	if id, ok := r.x.find(r.s.canonical(principal)); ok && r.x.isAuthor(id) {
		return shorten(principal)
	}
	if kind, _, ok := strings.Cut(principal, ":"); ok && strings.HasPrefix(strings.ToLower(kind), "passphrase") {
		return kind + ":" + veil
	}
	return veil
}

// shorten is a principal for a sentence: the beginning of a key tells it from
// others, while of a distinguished name that is the end.
func shorten(principal string) string {
	kind, _, ok := strings.Cut(principal, ":")
	if ok && !strings.EqualFold(kind, "dn") {
		return clip(principal)
	}
	return clipTo(principal, maxValue)
}

// showLeaf is licensee number i of a for the reader.
func (r *run) showLeaf(a *Assertion, i int) string {
	e := a.leaves[i].e
	if v, ok := e.constant(); ok {
		if s := r.show(v); s != veil {
			return s
		}
	}
	if e.name != "" {
		return e.name
	}
	return a.doc.excerpt(e.at)
}

// excerpt is a piece of the text on one line, passphrases veiled.
func (d *document) excerpt(s span) string {
	var b strings.Builder
	off := s.from
	i, _ := slices.BinarySearchFunc(d.secret, s.from, func(h span, off int) int { return cmp.Compare(h.end, off) })
	for ; i < len(d.secret) && d.secret[i].end <= s.end; i++ {
		if h := d.secret[i]; h.from >= off {
			b.WriteString(d.src[off:h.from] + veil)
			off = h.end
		}
	}
	b.WriteString(d.src[off:s.end])
	text := oneLine(b.String())
	if len(text) > maxExcerpt {
		text = text[:maxExcerpt] + "..."
	}
	return text
}

// oneLine removes comments and makes every gap one blank, but for those in
// literals.
func oneLine(s string) string {
	var b strings.Builder
	l := lexer{src: s, end: len(s)}
	for {
		gap := l.off
		l.skip()
		if l.off >= l.end || b.Len() > maxExcerpt {
			return b.String()
		}
		if l.off > gap && b.Len() > 0 {
			b.WriteByte(' ')
		}
		t := l.next()
		b.WriteString(strings.Join(strings.FieldsFunc(s[t.at.from:t.at.end], func(r rune) bool { return r == '\n' || r == '\r' }), " "))
		if t.kind == tBad {
			return b.String()
		}
	}
}
