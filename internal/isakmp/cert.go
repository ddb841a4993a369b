package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// Cert is the certificate payload (RFC 2408 section 3.9).
type Cert struct {
	Encoding doi.CertEncoding
	Data     []byte
}

// Kind is doi.PayloadCert.
func (*Cert) Kind() doi.Payload { return doi.PayloadCert }

// AppendBody appends encoding and data.
func (c *Cert) AppendBody(b []byte) []byte { return append(append(b, byte(c.Encoding)), c.Data...) }

func (c *Cert) String() string { return fmt.Sprintf("cert(%s, %d bytes)", c.Encoding, len(c.Data)) }

func parseCert(body []byte, off int) (Payload, error) {
	if len(body) == 0 {
		return nil, bad(off, doi.PayloadCert, doi.NotifyPayloadMalformed, "the encoding is missing")
	}
	if len(body) == 1 {
		return nil, bad(off+1, doi.PayloadCert, doi.NotifyInvalidCertificate, "the certificate is empty")
	}
	return &Cert{Encoding: doi.CertEncoding(body[0]), Data: clip(body, 1, len(body))}, nil
}
