package keynote

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of regular expressions. A match takes time in proportion to the size of
// the expression times the length of the string.
const (
	maxPattern     = 1 << 13 // bytes of a regular expression
	maxPatternSize = 1 << 13 // steps of its program, repetitions multiplied out
	maxPatterns    = 1 << 16 // the same of all those in an assertion
	maxRepeat      = 255     // in {n,m}: RE_DUP_MAX of POSIX
)

// Errors of regular expressions.
var (
	errPatternLong  = fmt.Errorf("the regular expression has more than %d bytes", maxPattern)
	errPatternLarge = errors.New("the regular expression is too large once its repetitions are multiplied out")
	errNothing      = errors.New("there is nothing before it that could be repeated, or an alternative is empty")
	errTwice        = errors.New("a repetition is repeated")
	errBackRef      = errors.New("references back to a group do not exist in extended regular expressions")
	errBracket      = errors.New("a [ is not closed")
	errOpen         = errors.New("a ( is not closed")
	errClose        = errors.New("a ) closes nothing; as a character it is written \\)")
	errUTF8         = errors.New("it has bytes that are not UTF-8")
	errRange        = errors.New("a range between [ and ] is none")
	errClass        = errors.New("there is no such class of characters")
	errEscape       = errors.New("it ends with a backslash")
	errRepeat       = fmt.Errorf("a repetition is not of the form {2}, {2,} or {2,5} with numbers up to %d", maxRepeat)
)

// compile makes a matcher of an extended regular expression of POSIX 1003.2, or
// says why it is none. The leftmost longest match counts, and groups have the
// parts of it that POSIX gives them, but for repetitions within repetitions, about
// which implementations of POSIX differ too.
func compile(posix string) *pattern {
	p := &pattern{}
	text, err := translate(posix)
	if err != nil {
		p.err = err
		return p
	}
	tree, err := syntax.Parse(text, syntax.Perl|syntax.DotNL)
	if err != nil {
		p.err = explainSyntax(err)
		return p
	}
	if p.size = steps(tree, maxPatternSize); p.size > maxPatternSize {
		p.err = errPatternLarge
		return p
	}
	re, err := regexp.Compile("(?s)" + text)
	if err != nil {
		p.err = explainSyntax(err)
		return p
	}
	re.Longest()
	p.re = re
	return p
}

func explainSyntax(err error) error {
	s, ok := errors.AsType[*syntax.Error](err)
	switch {
	case !ok:
		return err
	case s.Code == syntax.ErrInvalidRepeatSize || s.Code == syntax.ErrLarge || s.Code == syntax.ErrNestingDepth:
		return errPatternLarge
	}
	return errors.New(s.Code.String())
}

// steps is about how many instructions r compiles to; above limit it need not
// be exact.
func steps(r *syntax.Regexp, limit int) int {
	n := 1 + len(r.Rune)
	for _, s := range r.Sub {
		if n += steps(s, limit); n > limit {
			return n
		}
	}
	if r.Op == syntax.OpRepeat {
		n *= max(r.Max, r.Min, 1)
	}
	return n
}

// translate writes an extended regular expression of POSIX in the syntax of
// package regexp. Between brackets a backslash stands for itself; elsewhere it
// takes the meaning from the next character and never gives it one. A dot and an
// inverted set match the end of a line; ^ and $ match at the ends of the string
// alone.
func translate(posix string) (string, error) {
	switch {
	case len(posix) > maxPattern:
		return "", errPatternLong
	case !utf8.ValidString(posix):
		return "", errUTF8
	}
	t := &translator{in: posix, empty: true}
	for t.in != "" {
		if err := t.piece(); err != nil {
			return "", err
		}
	}
	switch {
	case t.depth > 0:
		return "", errOpen
	case t.empty:
		return "", errNothing
	}
	return t.out.String(), nil
}

type translator struct {
	in    string
	out   strings.Builder
	empty bool // nothing stands in this alternative yet
	again bool // the last piece was a repetition
	group bool // the last character opened a group
	caret bool // the last character was ^
	depth int  // of groups
}

func (t *translator) take(n int) string {
	s := t.in[:n]
	t.in = t.in[n:]
	return s
}

func (t *translator) piece() error {
	c := t.in[0]
	again, empty, group, caret := t.again, t.empty, t.group, t.caret
	t.again, t.empty, t.group, t.caret = false, false, false, c == '^'
	switch c {
	case '*', '+', '?':
		t.again = true
		t.out.WriteString(t.take(1))
		return repeatable(empty || caret, again)
	case '{':
		if len(t.in) > 1 && isDigit(t.in[1]) {
			t.again = true
			return cmp.Or(t.repeat(), repeatable(empty || caret, again))
		}
		t.out.WriteString(`\`)
	case '|':
		t.empty = true
		if empty {
			return errNothing
		}
	case '(':
		t.empty, t.group = true, true
		t.depth++
	case ')':
		switch t.depth--; {
		case t.depth < 0:
			return errClose
		case empty && !group: // () is a group that matches nothing
			return errNothing
		}
	case '[':
		return t.set()
	case '\\':
		return t.escape()
	case '}', ']':
		t.out.WriteString(`\`)
	}
	t.out.WriteString(t.take(1))
	return nil
}

func repeatable(empty, again bool) error {
	switch {
	case empty:
		return errNothing
	case again:
		return errTwice
	}
	return nil
}

func (t *translator) repeat() error {
	end := strings.IndexByte(t.in, '}')
	if end < 0 {
		return errRepeat
	}
	inner := t.in[1:end]
	low, high, more := strings.Cut(inner, ",")
	n, err := strconv.Atoi(low)
	m := n
	if err == nil && more && high != "" {
		m, err = strconv.Atoi(high)
	}
	if err != nil || strings.ContainsAny(inner, "+-") || n > m || m > maxRepeat {
		return errRepeat
	}
	t.out.WriteString(t.take(end + 1))
	return nil
}

func (t *translator) escape() error {
	if len(t.in) < 2 {
		return errEscape
	}
	c := t.in[1]
	switch {
	case c >= '1' && c <= '9':
		return errBackRef
	case isName(c):
		t.take(1)
		t.out.WriteString(t.take(1))
	case c < 0x80:
		t.out.WriteString(t.take(2))
	default: // of several bytes: it needs no backslash
		t.take(1)
	}
	return nil
}

// classes are those of POSIX.
var classes = []string{"alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"}

// set translates [...].
func (t *translator) set() error {
	t.out.WriteString(t.take(1))
	if strings.HasPrefix(t.in, "^") {
		t.out.WriteString(t.take(1))
	}
	for first := true; ; first = false {
		if t.in == "" {
			return errBracket
		}
		if t.in[0] == ']' && !first {
			t.out.WriteString(t.take(1))
			return nil
		}
		if strings.HasPrefix(t.in, "[:") {
			if err := t.class(); err != nil {
				return err
			}
			continue
		}
		if err := t.members(); err != nil {
			return err
		}
	}
}

func (t *translator) class() error {
	for _, c := range classes {
		if name := "[:" + c + ":]"; strings.HasPrefix(t.in, name) {
			t.out.WriteString(t.take(len(name)))
			return nil
		}
	}
	return errClass
}

// members translates a character between brackets, or a range of them.
func (t *translator) members() error {
	from, err := t.member()
	if err != nil {
		return err
	}
	t.quote(from)
	if len(t.in) < 2 || t.in[0] != '-' || t.in[1] == ']' {
		return nil
	}
	t.out.WriteString(t.take(1))
	to, err := t.member()
	if err != nil {
		return err
	}
	if to < from {
		return errRange
	}
	t.quote(to)
	return nil
}

func (t *translator) quote(r rune) {
	if r < 0x80 && !isName(byte(r)) && r > ' ' {
		t.out.WriteByte('\\')
	}
	t.out.WriteRune(r)
}

// member is one character: itself, [.x.] or [=x=].
func (t *translator) member() (rune, error) {
	for _, mark := range []string{".", "="} {
		if rest, ok := strings.CutPrefix(t.in, "["+mark); ok {
			inner, _, ok := strings.Cut(rest, mark+"]")
			r := []rune(inner)
			if !ok || len(r) != 1 {
				return 0, errClass
			}
			t.take(len(inner) + 4)
			return r[0], nil
		}
	}
	if t.in == "" {
		return 0, errBracket
	}
	r, n := utf8.DecodeRuneInString(t.in)
	t.take(n)
	return r, nil
}
