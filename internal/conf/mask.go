package conf

import (
	"slices"
	"strings"

	"oakley/internal/diag"
)

// masked stands for a secret in a snippet. Its length says nothing.
const masked = "********"

// notSecret are the tags that only look like one that holds a secret.
var notSecret = []string{"authentication_method", "authentication_algorithm"}

// secretWords mark a line that may hold a key, however its tag is spelled: a
// misspelled Authentication is shown as a mistake, and its value must not be.
var secretWords = []string{"aut", "uthen", "hentic", "psk", "secret", "passw", "passphrase", "shared"}

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
	if _, near := diag.Nearest(tag, slices.Values([]string{"authentication"})); near {
		return true
	}
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(tag, w) })
}

// show is the line that a remark is about, as it may be shown, and the range in
// it. Where the line holds a secret, the range says nothing of its length.
func (f *File) show(at diag.Range) (string, diag.Range) {
	if at.Line < 1 || at.Line > len(f.lines) {
		return "", at
	}
	line := f.lines[at.Line-1]
	from := f.secretFrom(at.Line)
	if from < 0 {
		return line, at
	}
	if end := at.Col - 1 + at.Len; end > from {
		at.Col = min(at.Col, from+1)
		at.Len = from + len(masked) - (at.Col - 1)
	}
	return line[:from] + masked, at
}

// secretFrom is where the secret begins in physical line n (from 1), -1 when
// there is none.
func (f *File) secretFrom(n int) int {
	line := f.lines[n-1]
	if f.secret[n] {
		return 0
	}
	if !isSecret(line) {
		return -1
	}
	from := len(line) - len(strings.TrimLeft(line, " \t["))
	if i := strings.IndexAny(line[from:], "= \t:"); i >= 0 {
		from += i
	}
	for from < len(line) && (blank(line[from]) || line[from] == ':') {
		from++
	}
	if from < len(line) && line[from] == '=' {
		from++
	}
	for from < len(line) && blank(line[from]) {
		from++
	}
	return from
}

// tagName is a tag's name as it may be told: where the "=" was forgotten, and the
// key has one, the name holds half of the key.
func tagName(name string) string {
	if i := strings.IndexAny(name, " \t:"); i >= 0 && isSecret(name) {
		name = name[:i]
	}
	return clip(name)
}
