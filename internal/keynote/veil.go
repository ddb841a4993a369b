package keynote

import (
	"strings"
	"unicode/utf8"
)

// veil stands for a literal that is not shown.
const veil = "***"

// publicPrefixes begin principals that are no secret: public keys and names.
var publicPrefixes = []string{"rsa", "dsa", "dh", "x509", "spki", "ecdsa", "ed25519", "dn", "binary", "elgamal", "pgp"}

// looksSecret tells whether a principal, as written, may be a passphrase. A key
// or a name says what it is before its colon; anything else is not shown unless
// it is known to be the name of a policy.
func looksSecret(principal string) bool {
	if principal == PolicyPrincipal || principal == "" {
		return false
	}
	kind, _, ok := strings.Cut(principal, ":")
	if !ok {
		return true
	}
	kind, _, _ = strings.Cut(strings.ToLower(kind), "-")
	for _, p := range publicPrefixes {
		if kind == p {
			return false
		}
	}
	return true
}

// veil notes which literals of an assertion are not to be shown in remarks:
// everything in the fields of principals that may be a passphrase, whether or not
// it can be parsed, and in lines of no field, which one may have been meant to be.
// from and end are those of its lines.
func (s *splitter) veil(a *Assertion, from, end int) {
	for _, f := range a.fields {
		s.veilLines(span{from, a.field[f].label.from})
		c := a.field[f].content
		if f != fieldComment {
			s.veilLiterals(c, f != fieldConditions && f != fieldSignature && f != fieldVersion)
		}
		from = c.end
	}
	s.veilLines(span{from, end})
}

// veilLines is for lines of no field. A quote that is not closed ends with its line.
func (s *splitter) veilLines(lines span) {
	for lines.from < lines.end {
		n := strings.IndexByte(s.doc.src[lines.from:lines.end], '\n') + 1
		if n == 0 {
			n = lines.end - lines.from
		}
		s.veilLiterals(span{lines.from, lines.from + n}, true)
		lines.from += n
	}
}

// veilLiterals looks at the literals in a piece of the text; principals tells
// whether they are any.
func (s *splitter) veilLiterals(c span, principals bool) {
	text := s.doc.src[:c.end]
	for i := c.from; i < c.end; i++ {
		from := i + 1
		switch r, n := utf8.DecodeRuneInString(text[i:]); {
		case r == '#':
			i = until(text, i, "\n")
			continue
		case r == '"':
			for i++; i < c.end && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case principals && strings.ContainsRune(otherQuotes, r): // a mistake, and what it quotes is no less secret
			from = i + n
			i = until(text, from, "\n"+otherQuotes)
		default:
			continue
		}
		in := text[from:min(i, c.end)]
		if principals && looksSecret(in) || strings.HasPrefix(strings.ToLower(in), "passphrase") {
			s.doc.secret = append(s.doc.secret, span{from, min(i, c.end)})
		}
	}
}

// until is where one of the characters comes next in a text, or its end.
func until(text string, from int, chars string) int {
	if n := strings.IndexAny(text[from:], chars); n >= 0 {
		return from + n
	}
	return len(text)
}
