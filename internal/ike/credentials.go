package ike

import (
	"bytes"

	"oakley/internal/doi"
	"oakley/internal/isakmp"
)

// maxCredentials bounds, in bytes, the KeyNote credentials that a peer brings: what
// is beyond it does not count.
const maxCredentials = 32 << 10

// credentials are the KeyNote assertions in the certificate payloads of a message.
// They speak for themselves by their signatures, and no hash of phase 1 covers
// them (RFC 2409 section 5).
func credentials(m *isakmp.Message) (all [][]byte) {
	room := maxCredentials
	for _, c := range payloads[*isakmp.Cert](m) {
		if c.Encoding != doi.CertKeyNote || len(c.Data) > room {
			continue
		}
		room -= len(c.Data)
		all = append(all, bytes.Clone(c.Data))
	}
	return all
}
