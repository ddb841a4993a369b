package keynote

import "errors"

// Quote writes s as a string literal of KeyNote (RFC 2704 section 4.3.1). ok is
// false when that cannot be done, because there is a NUL character in s.
func Quote(s string) (literal string, ok bool) {
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0:
			return "", false
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"')), true
}

// Unquote reads the string literal that src begins with: what it stands for, and
// how many bytes of src it takes. It is the inverse of Quote and takes everything
// that RFC 2704 section 4.3.1 has.
func Unquote(src string) (value string, length int, err error) {
	if src == "" || src[0] != '"' {
		return "", 0, errors.New("a string in quotes is wanted here")
	}
	l := lexer{src: src, end: len(src)}
	t := l.literal()
	if t.kind == tBad {
		return "", 0, errors.New(t.text)
	}
	return t.text, t.at.end, nil
}
