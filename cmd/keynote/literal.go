package main

import (
	"errors"
	"fmt"
	"strings"
)

// scanner reads files of quoted strings: keys, and the attributes of a query.
// Blanks and comments may stand between what is in them.
type scanner struct {
	name string // of the file, for errors
	src  string
	off  int
}

func (s *scanner) errorf(format string, args ...any) error {
	line := 1 + strings.Count(s.src[:min(s.off, len(s.src))], "\n")
	return fmt.Errorf("%s:%d: %s", s.name, line, fmt.Sprintf(format, args...))
}

const blanks = " \t\r\n\v\f"

// skip passes blanks and comments, and tells whether anything follows.
func (s *scanner) skip() bool {
	for s.off < len(s.src) {
		switch c := s.src[s.off]; {
		case strings.IndexByte(blanks, c) >= 0:
			s.off++
		case c == '#':
			end := strings.IndexByte(s.src[s.off:], '\n')
			if end < 0 {
				end = len(s.src) - s.off
			}
			s.off += end
		default:
			return true
		}
	}
	return false
}

// word is a run of characters up to a blank, a comment or one of stops.
func (s *scanner) word(stops string) string {
	rest := s.src[s.off:]
	end := strings.IndexAny(rest, blanks+"#"+stops)
	if end < 0 {
		end = len(rest)
	}
	s.off += end
	return rest[:end]
}

// literal reads a quoted string (RFC 2704 section 4.3.1).
func (s *scanner) literal() (string, error) {
	if s.off >= len(s.src) || s.src[s.off] != '"' {
		return "", s.errorf("a string in quotes is wanted here")
	}
	var b strings.Builder
	for i := s.off + 1; i < len(s.src); {
		switch c := s.src[i]; c {
		case '"':
			s.off = i + 1
			return b.String(), nil
		case '\n':
			return "", s.errorf("the string does not end in its line; a backslash at the end of a line continues it")
		case '\\':
			i += escape(&b, s.src[i+1:]) + 1
		default:
			b.WriteByte(c)
			i++
		}
	}
	return "", s.errorf("the string does not end")
}

// escape writes what the text after a backslash stands for, and returns how much
// of the text that takes.
func escape(b *strings.Builder, rest string) int {
	if rest == "" {
		return 0
	}
	if rest[0] == '\n' || strings.HasPrefix(rest, "\r\n") {
		return len(rest) - len(strings.TrimLeft(rest, blanks))
	}
	if n, c := octal(rest); n > 0 {
		b.WriteByte(c)
		return n
	}
	c := rest[0]
	if i := strings.IndexByte("nrtf", c); i >= 0 {
		c = "\n\r\t\f"[i]
	}
	b.WriteByte(c)
	return 1
}

// octal reads 0o, 0oo and ooo as a character other than NUL, and returns how many
// digits they are.
func octal(rest string) (int, byte) {
	n, value := 0, 0
	for n < 3 && n < len(rest) && rest[n] >= '0' && rest[n] <= '7' {
		next := value*8 + int(rest[n]-'0')
		if next > 0xff {
			break
		}
		value = next
		n++
	}
	if value == 0 || rest[0] != '0' && n < 3 {
		return 0, 0
	}
	return n, byte(value)
}

// errEmpty is that a file has nothing in it.
var errEmpty = errors.New("the file is empty")

// onlyString reads a file that has one string in it, or one word without quotes.
func onlyString(name, src string) (string, error) {
	s := &scanner{name: name, src: src}
	if !s.skip() {
		return "", fmt.Errorf("%s: %w", name, errEmpty)
	}
	text, err := s.word(`"`), error(nil)
	if text == "" {
		text, err = s.literal()
	}
	if err == nil && s.skip() {
		err = s.errorf("one string is wanted, and something follows it")
	}
	return text, err
}
