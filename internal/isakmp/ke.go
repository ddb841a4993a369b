package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// KE is the key exchange payload (RFC 2408 section 3.7). Its length and value
// are checked against the group by whoever knows the group.
type KE struct{ Data []byte }

// Kind is doi.PayloadKE.
func (*KE) Kind() doi.Payload { return doi.PayloadKE }

// AppendBody appends the public value.
func (k *KE) AppendBody(b []byte) []byte { return append(b, k.Data...) }

func (k *KE) String() string { return fmt.Sprintf("ke(%d bytes)", len(k.Data)) }

func parseKE(body []byte, off int) (Payload, error) {
	if len(body) == 0 {
		return nil, bad(off, doi.PayloadKE, doi.NotifyInvalidKeyInformation, "the public value is empty")
	}
	return &KE{Data: body}, nil
}
