package main

import (
	"errors"
	"fmt"
	"strings"

	"oakley/internal/keynote"
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
	return fmt.Errorf("%s:%d: %w", s.name, line, fmt.Errorf(format, args...))
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

// literal reads a quoted string.
func (s *scanner) literal() (string, error) {
	value, n, err := keynote.Unquote(s.src[s.off:])
	if err != nil {
		return "", s.errorf("%w", err)
	}
	s.off += n
	return value, nil
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
