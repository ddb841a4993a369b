package keynote

import (
	"errors"
	"strings"
)

// Errors of Message.
var (
	ErrAlgorithm = errors.New("keynote: the signature algorithm must end with a colon, as sig-rsa-sha1-base64: does")
	ErrNoField   = errors.New("keynote: the text does not begin with a field of KeyNote")
)

// Message is what a signature over the text of one assertion covers (RFC 2704
// section 4.6.7, RFC 2792 section 4): everything from the name of the first field
// up to the name of the Signature field, the end of the line before it included,
// and then the name of the algorithm with its colon. A text without a Signature
// field is covered whole, as if its last line ended and the field followed.
func Message(assertion []byte, algorithm string) ([]byte, error) {
	if strings.IndexByte(algorithm, ':') != len(algorithm)-1 || len(algorithm) < 2 {
		return nil, ErrAlgorithm
	}
	text := string(assertion)
	start, end := -1, len(text)
	for off := 0; off < len(text) && end == len(text); {
		line, _, _ := strings.Cut(text[off:], "\n")
		f, _, known := lookupField(labelOf(line))
		switch {
		case start < 0 && known:
			start = off
		case start < 0 && line != "" && line[0] != '#' && strings.Trim(line, " \t\r") != "":
			return nil, ErrNoField
		}
		if known && f == fieldSignature {
			end = off
		}
		off += len(line) + 1
	}
	if start < 0 {
		return nil, ErrNoField
	}
	body := text[start:end]
	if !strings.HasSuffix(body, "\n") && body != "" {
		body += "\n"
	}
	return []byte(body + algorithm), nil
}

// Message is what the signature of a covers.
func (a *Assertion) Message() ([]byte, error) {
	algorithm, _, _ := strings.Cut(a.signature, ":")
	if algorithm == "" {
		return nil, ErrAlgorithm
	}
	return []byte(a.doc.src[a.body.from:a.field[fieldSignature].label.from] + algorithm + ":"), nil
}
