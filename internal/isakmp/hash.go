package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// Hash is the hash payload (RFC 2408 section 3.11).
type Hash struct{ Data []byte }

// Kind is doi.PayloadHash.
func (*Hash) Kind() doi.Payload { return doi.PayloadHash }

// AppendBody appends the hash.
func (h *Hash) AppendBody(b []byte) []byte { return append(b, h.Data...) }

func (h *Hash) String() string { return fmt.Sprintf("hash(%d bytes)", len(h.Data)) }

func parseHash(body []byte, off int) (Payload, error) {
	if len(body) == 0 {
		return nil, bad(off, doi.PayloadHash, doi.NotifyInvalidHashInformation, "the hash is empty")
	}
	return &Hash{Data: body}, nil
}
