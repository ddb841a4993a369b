package main

// readAttributes reads lines of NAME = "VALUE", in any layout and with comments
// between them, into a set of attributes. What is set twice has its last value.
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
		value, err := s.literal()
		if err != nil {
			return err
		}
		into[attribute] = value
	}
	return nil
}
