package isakmp

import (
	"encoding/binary"
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

	flagsKnown = FlagEncrypted | FlagCommit | FlagAuthOnly
)

// String is tcpdump's: the letters E, C and A of the flags that are set.
func (f Flags) String() string {
	s := ""
	for _, l := range [...]struct {
		flag   Flags
		letter string
	}{{FlagEncrypted, "E"}, {FlagCommit, "C"}, {FlagAuthOnly, "A"}} {
		if f&l.flag != 0 {
			s += l.letter
		}
	}
	if rest := f &^ flagsKnown; rest != 0 {
		s += fmt.Sprintf("+0x%02x", uint8(rest))
	}
	return s
}

// Version is major 1, minor 0.
const Version uint8 = 0x10

// HeaderLen is the length of the header, and GenericLen that of the generic
// payload header, in bytes.
const (
	HeaderLen  = 28
	GenericLen = 4
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

// Offsets of the header's fields that errors point at.
const (
	offNextPayload = 16
	offVersion     = 17
	offExchange    = 18
	offFlags       = 19
	offLength      = 24
)

// ParseHeader reads the header at the start of b, which may be the whole
// datagram or no more than its first 28 bytes. It checks what RFC 2408 section
// 5.2 asks to be checked without knowing any state: the version, the first
// payload's type, the exchange type, reserved flags and a Length of at least
// the header's own. That Length is the datagram's is checked by Parse or
// CheckLength. Errors are *Error; the header that comes with one holds the
// fields as they were sent, so that the error can be answered and logged.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen {
		return Header{}, bad(len(b), doi.PayloadNone, doi.NotifyUnequalPayloadLengths,
			"%d bytes, a header has %d", len(b), HeaderLen)
	}
	h := Header{
		Initiator:   Cookie(b[0:8]),
		Responder:   Cookie(b[8:16]),
		NextPayload: doi.Payload(b[offNextPayload]),
		Version:     b[offVersion],
		Exchange:    doi.Exchange(b[offExchange]),
		Flags:       Flags(b[offFlags]),
		MessageID:   binary.BigEndian.Uint32(b[20:]),
		Length:      binary.BigEndian.Uint32(b[offLength:]),
	}
	return h, h.check()
}

// check is what a header can be checked for by itself. The version comes first:
// with another one the other fields may mean something else.
func (h Header) check() error {
	fault := func(off int, n doi.Notify, format string, args ...any) error {
		return bad(off, doi.PayloadNone, n, format, args...)
	}
	switch {
	case h.Version>>4 != Version>>4:
		return fault(offVersion, doi.NotifyInvalidMajorVersion, "version %d.%d, this is version 1.0", h.Version>>4, h.Version&15)
	case h.Version != Version:
		return fault(offVersion, doi.NotifyInvalidMinorVersion, "version %d.%d, this is version 1.0", h.Version>>4, h.Version&15)
	case h.Initiator.IsZero():
		return fault(0, doi.NotifyInvalidCookie, "the initiator's cookie is zero")
	case !topLevel(h.NextPayload):
		return fault(offNextPayload, doi.NotifyInvalidPayloadType, "no message begins with payload type %d", uint8(h.NextPayload))
	case h.Exchange == doi.ExchangeNone || h.Exchange > doi.ExchangeTransaction && h.Exchange < doi.ExchangeQuick:
		return fault(offExchange, doi.NotifyInvalidExchangeType, "exchange type %d is reserved", uint8(h.Exchange))
	case h.Flags&^flagsKnown != 0:
		return fault(offFlags, doi.NotifyInvalidFlags, "reserved flags 0x%02x are set", uint8(h.Flags&^flagsKnown))
	case h.Length < HeaderLen:
		return fault(offLength, doi.NotifyUnequalPayloadLengths, "length %d, the header alone has %d", h.Length, HeaderLen)
	}
	return nil
}

// CheckLength refuses a datagram of n bytes whose header claims another length
// (RFC 2408 section 5.1). Parse does it for clear messages; for an encrypted one
// it is to be done before decrypting.
func (h Header) CheckLength(n int) error {
	if uint64(h.Length) != uint64(n) {
		return bad(offLength, doi.PayloadNone, doi.NotifyUnequalPayloadLengths,
			"length %d in a datagram of %d bytes", h.Length, n)
	}
	return nil
}

// topLevel tells whether a payload of this type can stand in a message's chain:
// proposals and transforms stand inside an SA payload alone.
func topLevel(p doi.Payload) bool {
	return p != doi.PayloadNone && p != doi.PayloadProposal && p != doi.PayloadTransform
}

// AppendHeader appends h with its fields as they are, Length too.
func AppendHeader(b []byte, h Header) []byte {
	b = append(b, h.Initiator[:]...)
	b = append(b, h.Responder[:]...)
	b = append(b, byte(h.NextPayload), h.Version, byte(h.Exchange), byte(h.Flags))
	b = binary.BigEndian.AppendUint32(b, h.MessageID)
	return binary.BigEndian.AppendUint32(b, h.Length)
}

// Phase is 1 or 2. Phase 1 messages have the message ID zero; an informational
// exchange before phase 1 is done may have another (RFC 2409 section 5.7).
func (h Header) Phase() int {
	if h.MessageID == 0 {
		return 1
	}
	return 2
}

// String is what a one-line trace begins with: cookies, phase, exchange, flags
// and, in phase 2, the message ID.
func (h Header) String() string {
	s := fmt.Sprintf("I %s R %s phase %d %s", h.Initiator, h.Responder, h.Phase(), h.Exchange)
	if f := h.Flags.String(); f != "" {
		s += "[" + f + "]"
	}
	if h.MessageID != 0 {
		s += fmt.Sprintf(" msgid %08x", h.MessageID)
	}
	return s
}
