package key

import (
	b64 "encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ascii is how bits are made text (RFC 2704 section 9.1).
type ascii int

const (
	hexadecimal ascii = iota
	base64
)

const blanks = " \t\r\n\v\f"

// decode takes the text after a name's colon. White space is of no meaning in it:
// keys are long, and what wraps them does not always know KeyNote's strings.
func (a ascii) decode(name, text string) ([]byte, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%s is followed by %d characters; %d are the most that any key or signature needs", name, len(text), MaxText)
	}
	if strings.ContainsAny(text, blanks) {
		text = strings.Map(func(r rune) rune {
			if strings.ContainsRune(blanks, r) {
				return -1
			}
			return r
		}, text)
	}
	if a == base64 {
		return decodeBase64(name, text)
	}
	return decodeHex(name, text)
}

func decodeHex(name, text string) ([]byte, error) {
	b, err := hex.DecodeString(text)
	var bad hex.InvalidByteError
	switch {
	case errors.As(err, &bad):
		return nil, fmt.Errorf("%s: %q is no hexadecimal digit (character %d after the colon, white space not counted)", name, rune(bad), strings.IndexByte(text, byte(bad))+1)
	case err != nil:
		return nil, fmt.Errorf("%s: %d hexadecimal digits are an odd number; is the end cut off?", name, len(text))
	}
	return b, nil
}

func decodeBase64(name, text string) ([]byte, error) {
	b, err := b64.StdEncoding.DecodeString(text)
	var bad b64.CorruptInputError
	switch {
	case errors.As(err, &bad) && len(text)%4 == 0 && int(bad) < len(text):
		return nil, fmt.Errorf("%s: %q is not base64 here (character %d after the colon, white space not counted)", name, text[bad], bad+1)
	case err != nil:
		return nil, fmt.Errorf("%s: %d characters of base64 are no multiple of four; is the end cut off?", name, len(text))
	}
	return b, nil
}

func (a ascii) encode(bits []byte) string {
	if a == base64 {
		return b64.StdEncoding.EncodeToString(bits)
	}
	return hex.EncodeToString(bits)
}
