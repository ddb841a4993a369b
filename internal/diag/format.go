package diag

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// snippetWidth is how many columns of a long line are shown around the place
// that is meant.
const snippetWidth = 120

// paint is one terminal style; the empty one prints plainly.
type paint string

const (
	bold   paint = "\x1b[1m"
	red    paint = "\x1b[1;31m"
	yellow paint = "\x1b[1;33m"
	green  paint = "\x1b[32m"
	reset  paint = "\x1b[0m"
)

func (p paint) on(color bool, s string) string {
	if !color || s == "" {
		return s
	}
	return string(p) + s + string(reset)
}

// Format writes every remark with its line, the place underlined and the hint.
// With color it is painted for a terminal. What the file holds is printed
// without control characters, so that a file cannot paint the terminal itself.
func (l List) Format(w io.Writer, color bool) error {
	for _, d := range l {
		if err := d.Format(w, color); err != nil {
			return err
		}
	}
	return nil
}

// String is Format without colour.
func (l List) String() string {
	var b strings.Builder
	_ = l.Format(&b, false) // a Builder does not fail
	return b.String()
}

// Format writes one remark as List.Format does.
func (d *Diagnostic) Format(w io.Writer, color bool) error {
	style := yellow
	if d.Severity == Error {
		style = red
	}
	var b strings.Builder
	if d.Range.IsValid() {
		b.WriteString(bold.on(color, printable(d.Range.String())+":") + " ")
	}
	fmt.Fprintf(&b, "%s %s\n", style.on(color, d.Severity.String()+":"), bold.on(color, printable(d.Summary)))
	if d.Snippet != "" && d.Range.Line > 0 {
		text, under := excerpt(d.Snippet, d.Range.Col, d.Range.Len)
		fmt.Fprintf(&b, "%6d | %s\n", d.Range.Line, text)
		if under != "" {
			fmt.Fprintf(&b, "%6s | %s\n", "", style.on(color, under))
		}
	}
	if d.Hint != "" {
		fmt.Fprintf(&b, "    %s %s\n", green.on(color, "hint:"), printable(d.Hint))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// excerpt is the line as it is shown and the carets under bytes col to
// col+n of it. Tabs are kept in both, so that they line up on any terminal.
func excerpt(line string, col, n int) (text, under string) {
	start := min(max(col-1, 0), len(line))
	end := min(start+max(n, 1), len(line))
	from, to, dots := 0, len(line), [2]string{}
	if len(line) > snippetWidth {
		if start > snippetWidth/2 {
			from, dots[0] = runeStart(line, start-snippetWidth/2), "..."
		}
		if to > from+snippetWidth {
			to, dots[1] = runeStart(line, from+snippetWidth), "..."
		}
		end = max(min(end, to), start)
	}
	var t, u strings.Builder
	t.WriteString(dots[0])
	u.WriteString(strings.Repeat(" ", len(dots[0])))
	for i := from; i < to; {
		r, size := utf8.DecodeRuneInString(line[i:])
		shown := shownRune(r, line[i:i+size])
		t.WriteString(shown)
		mark := " "
		if i >= start && i < end {
			mark = "^"
		}
		switch {
		case r == '\t' && mark == " ":
			u.WriteByte('\t')
		case i < end:
			u.WriteString(strings.Repeat(mark, utf8.RuneCountInString(shown)))
		}
		i += size
	}
	if start >= to {
		u.WriteByte('^')
	}
	t.WriteString(dots[1])
	if col == 0 {
		return t.String(), ""
	}
	return t.String(), strings.TrimRight(u.String(), " \t")
}

// runeStart moves i back to the start of the rune that it points into.
func runeStart(s string, i int) int {
	for k := 0; k < utf8.UTFMax && i > 0 && !utf8.RuneStart(s[i]); k++ {
		i--
	}
	return i
}

func shownRune(r rune, raw string) string {
	if r == '\t' || unicode.IsPrint(r) && r != utf8.RuneError {
		return raw
	}
	if r == utf8.RuneError && len(raw) == 1 {
		return fmt.Sprintf(`\x%02x`, raw[0])
	}
	if r < 0x80 {
		return fmt.Sprintf(`\x%02x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// printable is s without anything that a terminal would act on.
func printable(s string) string {
	clean := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	if strings.IndexFunc(s, clean) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		b.WriteString(shownRune(r, s[i:i+size]))
		i += size
	}
	return strings.ReplaceAll(b.String(), "\t", " ")
}
