// Package isakmp is the wire format of RFC 2408: the header, the payloads and
// the attributes. It parses into typed values and appends them; it knows
// nothing of keys, time or state.
package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// Bounds of what is parsed: more than any honest peer sends, little enough that
// a hostile one costs nothing.
const (
	MaxPayloads   = 64
	MaxProposals  = 64
	MaxTransforms = 128 // in the whole SA payload
	MaxAttributes = 32  // in one transform
	MaxSPIs       = 128 // in one Delete payload
)

// Payload is one of the payload types of this package, a pointer.
type Payload interface {
	// Kind is the payload's number in the header before it.
	Kind() doi.Payload
	// AppendBody appends the payload without its generic header.
	AppendBody(b []byte) []byte
	String() string
}

// Error says what is wrong with a message, where, and which notification
// answers it (RFC 2408 section 5).
type Error struct {
	Offset  int         // from the start of the message or, in a decrypted body, of the header before it
	Payload doi.Payload // the payload in question; PayloadNone: the header
	Notify  doi.Notify
	Reason  string
}

func (e *Error) Error() string {
	where := "header"
	if e.Payload != doi.PayloadNone {
		where = e.Payload.String() + " payload"
	}
	return fmt.Sprintf("%s at byte %d: %s (%s)", where, e.Offset, e.Reason, e.Notify)
}

// bad makes an *Error.
func bad(offset int, p doi.Payload, n doi.Notify, format string, args ...any) error {
	return &Error{Offset: offset, Payload: p, Notify: n, Reason: fmt.Sprintf(format, args...)}
}
