package main

import (
	"errors"
	"fmt"
	"strings"

	"oakley/internal/keynote"
)

// isSignature tells whether a line begins the Signature field. No other line of an
// assertion can look like it: what continues a field is indented.
func isSignature(line string) bool {
	label, _, found := strings.Cut(line, ":")
	return found && strings.EqualFold(strings.TrimRight(label, " \t"), "signature")
}

// signatureField finds where the line of the Signature field begins.
func signatureField(text string) (at int, ok bool) {
	for line := range strings.Lines(text) {
		if isSignature(line) {
			return at, true
		}
		at += len(line)
	}
	return len(text), false
}

// unsigned is an assertion that is to be signed.
type unsigned struct {
	authorizer string
	body       string // up to the Signature field
	commented  bool   // there are comments before the first field, which are not signed
}

// readUnsigned takes the text of one assertion, whose Signature field may be empty
// or hold a signature that is to be replaced.
func readUnsigned(name, text string) (*unsigned, error) {
	at, ok := signatureField(text)
	if !ok {
		return nil, fmt.Errorf("%s has no Signature field: end the assertion with a line \"Signature:\"", name)
	}
	// An engine that is asked for a credential wants it signed.
	signed := text[:at] + "Signature: \"sig-rsa-sha1-hex:00\"\n"
	found, remarks := keynote.Parse(name, []byte(signed), keynote.Credential)
	switch {
	case remarks.HasErrors():
		return nil, fmt.Errorf("the assertion has mistakes:\n%w", remarks.Err())
	case len(found) != 1:
		return nil, fmt.Errorf("%s has %d assertions before its first signature; one is signed at a time", name, len(found))
	case !blank(afterField(text[at:])):
		return nil, fmt.Errorf("%s has something after the Signature field; one assertion is signed at a time", name)
	}
	before := strings.TrimSuffix(signed, found[0].Text())
	return &unsigned{found[0].Authorizer(), text[:at], !blank(before)}, nil
}

// afterField is what follows a field and the lines that continue it.
func afterField(text string) string {
	first := true
	for line := range strings.Lines(text) {
		if !first && strings.IndexAny(line[:1], " \t#") != 0 {
			break
		}
		text, first = text[len(line):], false
	}
	return text
}

func blank(text string) bool { return strings.Trim(text, blanks) == "" }

// errNotAuthorizer is that a private key signs for somebody else.
var errNotAuthorizer = errors.New("the private key is not that of the assertion's Authorizer, so nobody would believe the signature")
