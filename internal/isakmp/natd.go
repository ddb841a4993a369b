package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// NATD is the NAT-D payload: the hash of an address (RFC 3947 section 3.2).
type NATD struct{ Data []byte }

// Kind is doi.PayloadNATD.
func (*NATD) Kind() doi.Payload { return doi.PayloadNATD }

// AppendBody appends the hash.
func (n *NATD) AppendBody(b []byte) []byte { return append(b, n.Data...) }

func (n *NATD) String() string { return fmt.Sprintf("nat-d(%d bytes)", len(n.Data)) }

func parseNATD(body []byte, off int) (Payload, error) {
	if len(body) == 0 {
		return nil, bad(off, doi.PayloadNATD, doi.NotifyPayloadMalformed, "the hash is empty")
	}
	return &NATD{Data: body}, nil
}
