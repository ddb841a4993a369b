package policy

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"oakley/internal/diag"
	"oakley/internal/keynote"
)

// vocabulary is what the linter knows of our queries.
var vocabulary = newVocabulary()

func newVocabulary() *keynote.Vocabulary {
	v := &keynote.Vocabulary{Attributes: map[string]keynote.Attribute{}, Licensee: licensee}
	for i := range attributes {
		a := &attributes[i]
		v.Attributes[a.Name] = keynote.Attribute{
			Values:  slices.DeleteFunc(slices.Clone(a.Values), func(s string) bool { return s == "" }),
			Check:   checks[a.Form],
			Number:  a.Form == FormNumber,
			Pattern: patterns[a.Form],
		}
	}
	// An identity may be a name, and then everything may be in it.
	identity := v.Attributes["remote_id"]
	identity.Pattern = nil
	v.Attributes["remote_id"] = identity
	return v
}

// CheckAttribute says what is wrong with an attribute that somebody typed: there is
// none of that name, or it never has that value. An empty value is always good.
func CheckAttribute(name, value string) error {
	a, ok := vocabulary.Attributes[name]
	if !ok {
		if near, ok := diag.Nearest(name, maps.Keys(vocabulary.Attributes)); ok {
			return fmt.Errorf("there is no attribute %q; did you mean %s?", clean(name), near)
		}
		return fmt.Errorf("there is no attribute %q; isakmpd.policy(5) lists them", clean(name))
	}
	if value == "" {
		return nil
	}
	if len(a.Values) > 0 && !slices.Contains(a.Values, value) {
		return fmt.Errorf("%s is never %q; its values are %s", name, clean(value), strings.Join(a.Values, ", "))
	}
	if a.Check != nil {
		if d := a.Check(value); d != nil {
			return fmt.Errorf("%s is never %q: %s; %s", name, clean(value), d.Summary, d.Hint)
		}
	}
	return nil
}

// lint says what in a policy cannot be meant.
func lint(file string, set *keynote.Set) diag.List {
	if len(set.Assertions()) > 0 {
		return set.Lint(vocabulary)
	}
	return diag.List{{
		Severity: diag.Warning, Range: diag.Range{Pos: diag.Pos{File: file}},
		Summary: "there is no assertion in this policy, so everything is refused",
		Hint:    `write what is allowed, as isakmpd.policy(5) says; it begins with Authorizer: "POLICY"`,
	}}
}

// hashes are the principals that are hashes of a pre-shared key, and how many
// hexadecimal digits they have.
var hashes = []struct {
	prefix string
	digits int
}{{md5Prefix, 32}, {sha1Prefix, 40}}

// kinds begin the principals that a requester may be.
var kinds = []string{
	passphrasePrefix, md5Prefix, sha1Prefix, dnPrefix, "rsa-hex:", "rsa-base64:", "dsa-hex:", "dsa-base64:",
	"x509-hex:", "x509-base64:", "spki-hex:", "spki-base64:", "binary-hex:", "binary-base64:",
}

// licensee judges a principal that made no assertion. Package key judges those
// that are keys. A text with nothing before it may be a pre-shared key.
func licensee(principal string) *keynote.Advice {
	for _, h := range hashes {
		if digits, ok := cutFold(principal, h.prefix); ok {
			return hash(digits, h.digits)
		}
	}
	if name, ok := cutFold(principal, dnPrefix); ok {
		return distinguishedName(name)
	}
	if k, ok := cutFold(principal, passphrasePrefix); ok && k == "" {
		return &keynote.Advice{Summary: "there is no passphrase behind the colon", Hint: `write "passphrase:" and the pre-shared key`}
	}
	kind, rest, ok := strings.Cut(principal, ":")
	if !ok || rest == "" || slices.ContainsFunc(kinds, func(k string) bool { return strings.EqualFold(k, kind+":") }) {
		return nil
	}
	if near, ok := diag.Nearest(kind+":", slices.Values(kinds)); ok {
		return &keynote.Advice{Summary: "no kind of principal is called " + clean(kind), Hint: "did you mean " + near + "?"}
	}
	return nil
}

func cutFold(s, prefix string) (rest string, ok bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

func hash(digits string, n int) *keynote.Advice {
	if _, err := hex.DecodeString(digits); err == nil && len(digits) == n {
		return nil
	}
	return &keynote.Advice{
		Summary: "the hash has not " + number(n) + " hexadecimal digits",
		Hint:    "printf %s 'the key' | md5sum, or sha1sum, prints it; echo without -n would hash a line feed too",
	}
}

func distinguishedName(name string) *keynote.Advice {
	hint := `write it as "DN:/C=SE/O=Mysite/CN=gw.mysite.se", in the order of the certificate; openssl x509 -noout -subject -nameopt compat prints it`
	switch {
	case !strings.HasPrefix(name, "/"):
		return &keynote.Advice{Summary: "a distinguished name begins with a slash here", Hint: hint}
	case !strings.Contains(name, "="):
		return &keynote.Advice{Summary: "there is no NAME=VALUE in this distinguished name", Hint: hint}
	case strings.HasSuffix(name, "/"):
		return &keynote.Advice{Summary: "a distinguished name does not end with a slash", Hint: hint}
	}
	return nil
}
