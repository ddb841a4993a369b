package vmtest

import (
	"regexp"
	"strings"
)

// selection is the -run pattern for the guest: the test by that name, and of its
// subtests those that the pattern we were started with chooses. Patterns are
// taken apart as package testing does: at every | outside of brackets, and what
// is between at every / outside of brackets.
func selection(pattern, test string) string {
	names := strings.Split(test, "/")
	whole := make([]string, len(names))
	for i, n := range names {
		whole[i] = "^" + regexp.QuoteMeta(n) + "$"
	}
	exact := strings.Join(whole, "/")
	if pattern == "" {
		return exact
	}
	var chosen []string
	for _, alternative := range cutOutside(pattern, '|') {
		parts := cutOutside(alternative, '/')
		if !matches(parts, names) {
			continue
		}
		if len(parts) <= len(names) {
			return exact // everything below it
		}
		chosen = append(chosen, exact+"/"+strings.Join(parts[len(names):], "/"))
	}
	if len(chosen) == 0 {
		return exact
	}
	return strings.Join(chosen, "|")
}

// matches says whether every part of a pattern matches the name at its level.
func matches(parts, names []string) bool {
	for i, name := range names {
		if i >= len(parts) {
			return true
		}
		re, err := regexp.Compile(strings.ReplaceAll(parts[i], " ", "_"))
		if err != nil || !re.MatchString(name) {
			return false
		}
	}
	return true
}

// cutOutside cuts a regular expression at a character where it stands neither
// in a class nor in a group.
func cutOutside(s string, at byte) []string {
	var parts []string
	class, group, start := 0, 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '[':
			class++
		case c == ']':
			class = max(0, class-1)
		case class > 0:
		case c == '(':
			group++
		case c == ')':
			group--
		case c == at && group == 0:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}
