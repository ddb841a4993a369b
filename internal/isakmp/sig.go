package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// Sig is the signature payload (RFC 2408 section 3.12).
type Sig struct{ Data []byte }

// Kind is doi.PayloadSig.
func (*Sig) Kind() doi.Payload { return doi.PayloadSig }

// AppendBody appends the signature.
func (s *Sig) AppendBody(b []byte) []byte { return append(b, s.Data...) }

func (s *Sig) String() string { return fmt.Sprintf("sig(%d bytes)", len(s.Data)) }

func parseSig(body []byte, off int) (Payload, error) {
	if len(body) == 0 {
		return nil, bad(off, doi.PayloadSig, doi.NotifyInvalidSignature, "the signature is empty")
	}
	return &Sig{Data: body}, nil
}
