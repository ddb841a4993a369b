package isakmp

import (
	"fmt"
	"strings"

	"oakley/internal/doi"
)

// Unknown is a payload that this package does not know, kept raw.
type Unknown struct {
	Type doi.Payload
	Data []byte
}

// Kind is the payload's number.
func (u *Unknown) Kind() doi.Payload { return u.Type }

// AppendBody appends the data.
func (u *Unknown) AppendBody(b []byte) []byte { return append(b, u.Data...) }

func (u *Unknown) String() string {
	return fmt.Sprintf("%s(%d bytes)", strings.ToLower(u.Type.String()), len(u.Data))
}
