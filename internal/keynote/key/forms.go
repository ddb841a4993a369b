package key

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// kind is what a key is, however it is written.
type kind int

const (
	rsaKey kind = iota
	dsaKey
	binaryID
	certificate // read alone: it turns into the kind of its key
	otherKey    // a SubjectPublicKeyInfo of no algorithm above
)

var kinds = [...]struct{ hexName, what string }{
	rsaKey:      {"rsa-hex", "an RSA key"},
	dsaKey:      {"dsa-hex", "a DSA key"},
	binaryID:    {"binary-hex", "a binary identifier"},
	certificate: {"x509-hex", "a certificate"},
	otherKey:    {"spki-hex", "a key that is neither RSA nor DSA"},
}

func (k kind) String() string  { return kinds[k].what }
func (k kind) hexName() string { return kinds[k].hexName }

// form is a way to write a key.
type form struct {
	kind  kind
	ascii ascii
}

// privatePrefix goes before the name of a form when the key is a private one.
const privatePrefix = "private-"

// keyForms are RFC 2792 section 6's names, and x509 and spki.
var keyForms = map[string]form{
	"rsa-hex":       {rsaKey, hexadecimal},
	"rsa-base64":    {rsaKey, base64},
	"dsa-hex":       {dsaKey, hexadecimal},
	"dsa-base64":    {dsaKey, base64},
	"binary-hex":    {binaryID, hexadecimal},
	"binary-base64": {binaryID, base64},
	"x509-hex":      {certificate, hexadecimal},
	"x509-base64":   {certificate, base64},
	"spki-hex":      {otherKey, hexadecimal},
	"spki-base64":   {otherKey, base64},
}

// keyForm finds a form by its name in any case, with or without its colon, and
// returns the name as it is written.
func keyForm(alg string) (string, form, error) {
	name := strings.ToLower(strings.TrimSuffix(alg, ":"))
	f, ok := keyForms[name]
	if !ok {
		return "", f, fmt.Errorf("%q is no way to write a key; there are %s", alg, names(keyForms))
	}
	return name, f, nil
}

// formFor is keyForm for a form in which k can be written.
func (k *parsed) formFor(alg string) (name string, f form, err error) {
	if name, f, err = keyForm(alg); err == nil && f.kind != k.form.kind {
		err = fmt.Errorf("%s: the key is %s, not %s", name, k.form.kind, f.kind)
	}
	return name, f, err
}

// names lists what a table has, for errors.
func names[T any](table map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}
