package keynote

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// tok is the kind of a token; operators are their own text.
type tok string

const (
	tEnd    tok = ""
	tString tok = "a string"
	tName   tok = "a name"
	tInt    tok = "an integer"
	tFloat  tok = "a number"
	tBad    tok = "?"
)

type token struct {
	kind tok
	text string // a string's value, a name, the digits of a number
	at   span
}

// operators, those first that begin with another.
var operators = []tok{
	"->", "==", "!=", "<=", ">=", "~=", "&&", "||",
	"(", ")", "{", "}", ";", ",", "=", "<", ">", "!", "+", "-", "*", "/", "%", "^", ".", "@", "&", "$",
}

// lexer makes tokens of a piece of a document.
type lexer struct {
	src      string
	off, end int
}

func isNameStart(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool     { return c >= '0' && c <= '9' }
func isName(c byte) bool      { return isNameStart(c) || isDigit(c) }
func isSpace(c byte) bool     { return c == ' ' || c >= '\t' && c <= '\r' }

// skip passes blanks and comments.
func (l *lexer) skip() {
	for l.off < l.end {
		switch c := l.src[l.off]; {
		case isSpace(c):
			l.off++
		case c == '#':
			for l.off < l.end && l.src[l.off] != '\n' {
				l.off++
			}
		default:
			return
		}
	}
}

// next is the next token. A tBad token has a text that says what is wrong.
func (l *lexer) next() token {
	l.skip()
	from := l.off
	if from >= l.end {
		return token{kind: tEnd, at: span{l.end, l.end}}
	}
	c := l.src[from]
	switch {
	case c == '"':
		return l.literal()
	case isNameStart(c):
		l.while(isName)
		return token{tName, l.src[from:l.off], span{from, l.off}}
	case isDigit(c):
		return l.number()
	}
	for _, op := range operators {
		if strings.HasPrefix(l.src[from:l.end], string(op)) {
			l.off += len(op)
			return token{op, string(op), span{from, l.off}}
		}
	}
	l.off = l.end
	r, n := utf8.DecodeRuneInString(l.src[from:])
	what := sprintf("the character %q has no meaning here", r)
	switch {
	case r == utf8.RuneError:
		what = sprintf("the byte %#x has no meaning here", c)
	case strings.ContainsRune(otherQuotes, r):
		what = sprintf(`strings stand between two of ", and this is %c`, r)
	}
	return token{tBad, what, span{from, from + n}}
}

// otherQuotes are those that word processors and web pages make of quotes.
const otherQuotes = "'\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e"

func (l *lexer) while(in func(byte) bool) {
	for l.off < l.end && in(l.src[l.off]) {
		l.off++
	}
}

func (l *lexer) number() token {
	from, kind := l.off, tInt
	l.while(isDigit)
	if l.off+1 < l.end && l.src[l.off] == '.' && isDigit(l.src[l.off+1]) {
		l.off++
		l.while(isDigit)
		kind = tFloat
	}
	if l.off < l.end && isNameStart(l.src[l.off]) {
		l.while(isName)
		at := span{from, l.off}
		l.off = l.end
		return token{tBad, "a name does not begin with a digit", at}
	}
	return token{kind, l.src[from:l.off], span{from, l.off}}
}

// escapes of RFC 2704 section 4.3.1 that stand for one character.
var escapes = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', 'f': '\f'}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }

// literal reads a quoted string.
func (l *lexer) literal() token {
	from := l.off
	var b strings.Builder
	for l.off++; l.off < l.end; {
		switch c := l.src[l.off]; c {
		case '"':
			l.off++
			return token{tString, b.String(), span{from, l.off}}
		case '\n', '\r':
			at := span{from, l.off}
			l.off = l.end
			return token{tBad, "this string does not end in its line; a backslash at the end of a line continues it", at}
		case '\\':
			l.off++
			l.escape(&b)
		default:
			b.WriteByte(c)
			l.off++
		}
	}
	return token{tBad, "this string does not end", span{from, min(from+1, l.end)}}
}

// escape reads what follows a backslash.
func (l *lexer) escape(b *strings.Builder) {
	if l.off >= l.end {
		return
	}
	c := l.src[l.off]
	if c == '\n' || c == '\r' && l.off+1 < l.end && l.src[l.off+1] == '\n' {
		l.while(isSpace)
		return
	}
	if isOctal(c) {
		l.octal(b)
		return
	}
	l.off++
	if e, ok := escapes[c]; ok {
		c = e
	}
	b.WriteByte(c)
}

// octal reads \0o, \0oo and \ooo. What would be the NUL character stands for its
// digits; a digit that begins none of these forms, or one beyond 255, for itself.
func (l *lexer) octal(b *strings.Builder) {
	digits := l.src[l.off:min(l.off+3, l.end)]
	for i := range len(digits) {
		if !isOctal(digits[i]) {
			digits = digits[:i]
			break
		}
	}
	value := 0
	for i := range len(digits) {
		value = value*8 + int(digits[i]-'0')
	}
	switch {
	case digits[0] != '0' && len(digits) < 3, value > 0xff: // like any other escaped character
		digits = digits[:1]
		b.WriteString(digits)
	case value == 0:
		b.WriteString(digits)
	default:
		b.WriteByte(byte(value))
	}
	l.off += len(digits)
}
