package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// CertReq is the certificate request payload (RFC 2408 section 3.10). Empty
// data asks for a certificate of any authority.
type CertReq struct {
	Encoding doi.CertEncoding
	Data     []byte
}

// Kind is doi.PayloadCertReq.
func (*CertReq) Kind() doi.Payload { return doi.PayloadCertReq }

// AppendBody appends encoding and authority.
func (c *CertReq) AppendBody(b []byte) []byte { return append(append(b, byte(c.Encoding)), c.Data...) }

func (c *CertReq) String() string {
	if len(c.Data) == 0 {
		return fmt.Sprintf("cert-req(%s, any authority)", c.Encoding)
	}
	return fmt.Sprintf("cert-req(%s, authority of %d bytes)", c.Encoding, len(c.Data))
}

func parseCertReq(body []byte, off int) (Payload, error) {
	if len(body) == 0 {
		return nil, bad(off, doi.PayloadCertReq, doi.NotifyPayloadMalformed, "the encoding is missing")
	}
	return &CertReq{Encoding: doi.CertEncoding(body[0]), Data: clip(body, 1, len(body))}, nil
}
