package conf

import (
	"slices"
	"strings"
)

// masked stands for a secret in a snippet. Its length says nothing.
const masked = "********"

// notSecret are the tags that only look like one that holds a secret.
var notSecret = []string{"authentication_method", "authentication_algorithm"}

// secretWords mark a line that may hold a key, however its tag is spelled: a
// misspelled Authentication is shown as a mistake, and its value must not be.
var secretWords = []string{"auth", "uthen", "hentic", "psk", "secret", "passw", "passphrase", "shared"}

// isSecret tells whether a line may hold a key.
func isSecret(line string) bool {
	if line = strings.TrimLeft(line, " \t"); strings.HasPrefix(line, "[") && strings.Contains(line, "]") {
		return false // a section's name
	}
	tag, _, found := strings.Cut(line, "=")
	if !found {
		tag = line
	}
	tag = fold(strings.Trim(tag, " \t[]"))
	if found && slices.Contains(notSecret, tag) || tag == "shared-sadb" {
		return false
	}
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(tag, w) })
}

// snippet is physical line n (from 1) as it may be shown.
func (f *File) snippet(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	line := f.lines[n-1]
	if f.secret[n] {
		return masked
	}
	if !isSecret(line) {
		return line
	}
	if tag, value, ok := strings.Cut(line, "="); ok {
		gap := len(value) - len(strings.TrimLeft(value, " \t"))
		return tag + "=" + value[:gap] + masked
	}
	word := strings.TrimLeft(line, " \t")
	indent := len(line) - len(word)
	if i := strings.IndexAny(word, " \t:"); i >= 0 {
		return line[:indent+i+1] + masked
	}
	return line[:indent] + masked
}
