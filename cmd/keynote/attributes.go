package main

import "strings"

// readAttributes reads lines of NAME = "VALUE", in any layout and with comments
// between them, into a set of attributes. What is set twice has its last value. One
// word that ends its line needs no quotes: the files of libkeynote's early releases,
// its own test's among them, are so.
func readAttributes(name, src string, into map[string]string) error {
	s := &scanner{name: name, src: src}
	for s.skip() {
		attribute := s.word(`="`)
		switch {
		case attribute == "":
			return s.errorf("an attribute is written NAME = \"VALUE\", and here its name is missing")
		case !s.skip() || s.src[s.off] != '=':
			return s.errorf("an = is wanted after the attribute's name %q", attribute)
		}
		s.off++
		s.skip()
		value, err := s.value()
		if err != nil {
			return err
		}
		into[attribute] = value
	}
	return nil
}

// value reads a quoted string, or one word that ends its line.
func (s *scanner) value() (string, error) {
	start := *s
	word := s.word(`"=`)
	rest, _, _ := strings.Cut(s.src[s.off:], "\n")
	if rest = strings.TrimLeft(rest, blanks); word != "" && (rest == "" || rest[0] == '#') {
		return word, nil
	}
	*s = start
	return s.literal()
}
