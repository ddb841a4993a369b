// Package isakmp is the wire format of RFC 2408: the header, the payloads and
// the attributes. It parses into typed values and appends them; it knows
// nothing of keys, time or state.
package isakmp

import (
	"fmt"

	"oakley/internal/doi"
)

// Cookie is an initiator's or responder's cookie (RFC 2408 section 2.5.3).
type Cookie [8]byte

// IsZero tells whether the cookie is not set yet.
func (c Cookie) IsZero() bool { return c == Cookie{} }

func (c Cookie) String() string { return fmt.Sprintf("%x", c[:]) }

// Flags of the header (RFC 2408 section 3.1).
type Flags uint8

// Header flags; the other five bits are reserved.
const (
	FlagEncrypted Flags = 1
	FlagCommit    Flags = 2
	FlagAuthOnly  Flags = 4
)

// Version is major 1, minor 0.
const Version uint8 = 0x10

// HeaderLen is the length of the header, and GenericLen that of the generic
// payload header, in bytes.
const (
	HeaderLen  = 28
	GenericLen = 4
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

// Header is the ISAKMP header (RFC 2408 section 3.1).
type Header struct {
	Initiator   Cookie
	Responder   Cookie
	NextPayload doi.Payload
	Version     uint8
	Exchange    doi.Exchange
	Flags       Flags
	MessageID   uint32
	Length      uint32 // of the whole message, header included
}

// Payload is one of the payload types of this package, a pointer.
type Payload interface {
	// Kind is the payload's number in the header before it.
	Kind() doi.Payload
	// AppendBody appends the payload without its generic header.
	AppendBody(b []byte) []byte
	String() string
}

// Message is a parsed message. Its payloads point into the bytes it was parsed
// from.
type Message struct {
	Header   Header
	Payloads []Payload

	// raw is the run of payloads, without header and padding; bounds[i] is
	// where payload i begins in it, with one more at the end.
	raw    []byte
	bounds []int
}

// SA is the security association payload (RFC 2408 section 3.4, RFC 2407
// section 4.6.1).
type SA struct {
	DOI       uint32
	Situation uint32
	Proposals []Proposal
}

// Proposal is a proposal payload (RFC 2408 section 3.5). Proposals with the
// same number are one offer: all of them together.
type Proposal struct {
	Number     uint8
	Protocol   doi.Protocol
	SPI        []byte
	Transforms []Transform
}

// Transform is a transform payload (RFC 2408 section 3.6).
type Transform struct {
	Number     uint8
	ID         uint8
	Attributes []Attribute
}

// Attribute is a data attribute (RFC 2408 section 3.3). Basic attributes are
// the two-byte encoding; the encoding is kept so that a chosen transform is
// echoed exactly.
type Attribute struct {
	Type  uint16
	Basic bool
	Value []byte // two bytes when Basic
}

// KE is the key exchange payload (RFC 2408 section 3.7).
type KE struct{ Data []byte }

// ID is the identification payload (RFC 2407 section 4.6.2).
type ID struct {
	Type     doi.IDType
	Protocol uint8
	Port     uint16
	Data     []byte
}

// Cert is the certificate payload (RFC 2408 section 3.9).
type Cert struct {
	Encoding doi.CertEncoding
	Data     []byte
}

// CertReq is the certificate request payload (RFC 2408 section 3.10).
type CertReq struct {
	Encoding doi.CertEncoding
	Data     []byte
}

// Hash is the hash payload (RFC 2408 section 3.11).
type Hash struct{ Data []byte }

// Sig is the signature payload (RFC 2408 section 3.12).
type Sig struct{ Data []byte }

// Nonce is the nonce payload (RFC 2408 section 3.13).
type Nonce struct{ Data []byte }

// Notify is the notification payload (RFC 2408 section 3.14).
type Notify struct {
	DOI      uint32
	Protocol doi.Protocol
	SPI      []byte
	Type     doi.Notify
	Data     []byte
}

// Delete is the delete payload (RFC 2408 section 3.15). All SPIs have the same
// length.
type Delete struct {
	DOI      uint32
	Protocol doi.Protocol
	SPISize  uint8
	SPIs     [][]byte
}

// Vendor is the vendor ID payload (RFC 2408 section 3.16).
type Vendor struct{ Data []byte }

// NATD is the NAT-D payload (RFC 3947 section 3.2).
type NATD struct{ Data []byte }

// NATOA is the NAT-OA payload (RFC 3947 section 5.2).
type NATOA struct {
	Type doi.IDType // IDIPv4Addr or IDIPv6Addr
	Data []byte
}

// Unknown is a payload that this package does not know, kept raw.
type Unknown struct {
	Type doi.Payload
	Data []byte
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
	return fmt.Sprintf("%s at byte %d: %s", where, e.Offset, e.Reason)
}
