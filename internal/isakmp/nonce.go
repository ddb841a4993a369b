package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// Nonce is the nonce payload (RFC 2408 section 3.13).
type Nonce struct{ Data []byte }

// The lengths that a nonce may have, in bytes (RFC 2409 section 5).
const (
	MinNonce = 8
	MaxNonce = 256
)

// Kind is doi.PayloadNonce.
func (*Nonce) Kind() doi.Payload { return doi.PayloadNonce }

// AppendBody appends the nonce.
func (n *Nonce) AppendBody(b []byte) []byte { return append(b, n.Data...) }

func (n *Nonce) String() string { return fmt.Sprintf("nonce(%d bytes)", len(n.Data)) }

func parseNonce(body []byte, off int) (Payload, error) {
	if len(body) < MinNonce || len(body) > MaxNonce {
		return nil, bad(off, doi.PayloadNonce, doi.NotifyPayloadMalformed, "%d bytes, a nonce has %d to %d", len(body), MinNonce, MaxNonce)
	}
	return &Nonce{Data: body}, nil
}
