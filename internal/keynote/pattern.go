package keynote

import "strconv"

func itoa(n int) string { return strconv.Itoa(n) }

// pattern compiles the right side of ~= when it is a constant. One that is
// invalid makes the test false and no more than that (RFC 2704 section 5.3.4).
//
// Those of credentials are compiled when a query needs them, which it pays for:
// a few bytes of a peer's text can be a large program, and what a peer sends is
// kept.
func (p *parser) pattern(e *expr) {
	text, ok := e.kids[1].constant()
	if !ok || p.b.a.source == Credential {
		return
	}
	e.match = compile(text)
	if e.match.err != nil {
		p.b.warn(e.kids[1].at, "write an extended regular expression of POSIX; every backslash is written twice in a string", "this test is never true, its regular expression is invalid: %v", e.match.err)
	}
	if p.b.a.patterns += e.match.size; p.b.a.patterns > maxPatterns {
		p.fail(e.kids[1].at, "divide it into several assertions", "the regular expressions of this assertion are too large together")
	}
}
