package isakmp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"oakley/internal/doi"
)

// Message is a parsed message. Its payloads point into the bytes it was parsed
// from.
type Message struct {
	Header   Header
	Payloads []Payload

	// raw is the run of payloads, without header and padding; bounds[i] is
	// where payload i begins in it, with one more at the end. Both are nil in
	// a message that was not parsed.
	raw    []byte
	bounds []int
}

// maxPadding is how many bytes may follow the last payload of a decrypted
// message. Padding to the block is at most 15 bytes, but peers may pad up to a
// count that fits the last byte (RFC 2409 appendix B).
const maxPadding = 255

// Parse reads a message in clear. The header's Length must be len(b), and the
// payloads must end where b ends. Errors are *Error.
func Parse(b []byte) (*Message, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Flags&FlagEncrypted != 0 {
		return nil, bad(offFlags, doi.PayloadNone, doi.NotifyInvalidFlags, "the message is encrypted, one in clear is expected")
	}
	if err := h.CheckLength(len(b)); err != nil {
		return nil, err
	}
	return parse(h, b[HeaderLen:], 0)
}

// ParseDecrypted reads the payloads of a message that was encrypted: h is its
// header, body what decryption made of the bytes after the header. Padding
// after the last payload, up to 255 bytes of any value, is ignored. Errors are
// *Error.
func ParseDecrypted(h Header, body []byte) (*Message, error) {
	return parse(h, body, maxPadding)
}

func parse(h Header, body []byte, padding int) (*Message, error) {
	n, err := walk(h.NextPayload, body, padding)
	if err != nil {
		return nil, err
	}
	bounds := measure(body, n)
	m := &Message{Header: h, Payloads: make([]Payload, n), raw: clip(body, 0, bounds[n]), bounds: bounds}
	kind := h.NextPayload
	for i := range m.Payloads {
		begin := bounds[i] + GenericLen
		p, err := parsePayload(kind, clip(body, begin, bounds[i+1]), HeaderLen+begin)
		if err != nil {
			return nil, err
		}
		m.Payloads[i] = p
		kind = doi.Payload(body[bounds[i]])
	}
	return m, nil
}

// clip is b[from:to] with no room behind it, so that appending to a payload's
// data never writes over the next one.
func clip(b []byte, from, to int) []byte { return b[from:to:to] }

// walk follows the chain of payloads from the first one's type to its end and
// counts them. No more than padding bytes may follow the last payload.
func walk(next doi.Payload, body []byte, padding int) (int, error) {
	if !topLevel(next) {
		return 0, bad(offNextPayload, doi.PayloadNone, doi.NotifyInvalidPayloadType, "no message begins with payload type %d", uint8(next))
	}
	count, off, last := 0, 0, next
	for next != doi.PayloadNone {
		if count == MaxPayloads {
			return 0, bad(HeaderLen+off, next, doi.NotifyPayloadMalformed, "more than %d payloads", MaxPayloads)
		}
		follow, n, err := generic(next, body[off:], HeaderLen+off)
		if err != nil {
			return 0, err
		}
		if follow != doi.PayloadNone && !topLevel(follow) {
			return 0, bad(HeaderLen+off, next, doi.NotifyInvalidPayloadType,
				"payload type %d follows, which stands in an SA payload alone", uint8(follow))
		}
		count, off, last, next = count+1, off+n, next, follow
	}
	if rest := len(body) - off; rest > padding {
		return 0, bad(HeaderLen+off, last, doi.NotifyUnequalPayloadLengths,
			"%d bytes follow it, the last payload; at most %d may", rest, padding)
	}
	return count, nil
}

// measure is where each of n payloads begins, with the end of the last one
// behind them; the chain was walked before.
func measure(chain []byte, n int) []int {
	bounds := make([]int, n+1)
	for i := range n {
		bounds[i+1] = bounds[i] + int(binary.BigEndian.Uint16(chain[bounds[i]+2:]))
	}
	return bounds
}

// generic reads the generic payload header (RFC 2408 section 3.2) of a payload
// of type p at the start of b, off bytes into the message. It returns the type
// of the next payload and this one's length, header included, which b has.
func generic(p doi.Payload, b []byte, off int) (next doi.Payload, n int, err error) {
	if len(b) < GenericLen {
		return 0, 0, bad(off, p, doi.NotifyPayloadMalformed, "%d bytes are left, its header has %d", len(b), GenericLen)
	}
	if b[1] != 0 {
		return 0, 0, bad(off+1, p, doi.NotifyPayloadMalformed, "the reserved byte is 0x%02x, not zero", b[1])
	}
	n = int(binary.BigEndian.Uint16(b[2:]))
	if n < GenericLen {
		return 0, 0, bad(off+2, p, doi.NotifyPayloadMalformed, "length %d, its header alone has %d", n, GenericLen)
	}
	if n > len(b) {
		return 0, 0, bad(off+2, p, doi.NotifyPayloadMalformed, "length %d, but %d bytes are left", n, len(b))
	}
	return doi.Payload(b[0]), n, nil
}

// parsers read the body of a payload, off bytes into the message.
var parsers = [256]func(body []byte, off int) (Payload, error){
	doi.PayloadSA:      parseSA,
	doi.PayloadKE:      parseKE,
	doi.PayloadID:      parseID,
	doi.PayloadCert:    parseCert,
	doi.PayloadCertReq: parseCertReq,
	doi.PayloadHash:    parseHash,
	doi.PayloadSig:     parseSig,
	doi.PayloadNonce:   parseNonce,
	doi.PayloadNotify:  parseNotify,
	doi.PayloadDelete:  parseDelete,
	doi.PayloadVendor:  parseVendor,
	doi.PayloadNATD:    parseNATD,
	doi.PayloadNATOA:   parseNATOA,
}

func parsePayload(p doi.Payload, body []byte, off int) (Payload, error) {
	if parser := parsers[p]; parser != nil {
		return parser(body, off)
	}
	return &Unknown{Type: p, Data: body}, nil
}

// Raw is payload i with its generic header.
func (m *Message) Raw(i int) []byte {
	raw, bounds := m.chain()
	return clip(raw, bounds[i], bounds[i+1])
}

// Body is payload i without its generic header: SAi_b and IDii_b of RFC 2409
// section 5 are this.
func (m *Message) Body(i int) []byte { return m.Raw(i)[GenericLen:] }

// After is all bytes of the payloads after payload i, padding excluded: what
// HASH(1) of RFC 2409 section 5.5 is computed over.
func (m *Message) After(i int) []byte {
	raw, bounds := m.chain()
	return clip(raw, bounds[i+1], len(raw))
}

// chain is the payloads as bytes; those of a message that was not parsed are
// appended anew.
func (m *Message) chain() ([]byte, []int) {
	if m.bounds != nil {
		return m.raw, m.bounds
	}
	raw := AppendPayloads(nil, m.Payloads)
	return raw, measure(raw, len(m.Payloads))
}

// Append appends the message in clear: the header with NextPayload and Length
// computed, then the payloads.
func (m *Message) Append(b []byte) []byte {
	begin := len(b)
	h := m.Header
	h.NextPayload = doi.PayloadNone
	if len(m.Payloads) > 0 {
		h.NextPayload = m.Payloads[0].Kind()
	}
	b = AppendHeader(b, h)
	b = AppendPayloads(b, m.Payloads)
	binary.BigEndian.PutUint32(b[begin+offLength:], uint32(len(b)-begin))
	return b
}

// AppendPayloads appends a chain of payloads; the last one's next payload is
// none. A payload of more than 65535 bytes cannot be said on the wire and is a
// mistake of the caller: it panics.
func AppendPayloads(b []byte, ps []Payload) []byte {
	for i, p := range ps {
		next := doi.PayloadNone
		if i+1 < len(ps) {
			next = ps[i+1].Kind()
		}
		begin := len(b)
		b = append(b, byte(next), 0, 0, 0)
		b = p.AppendBody(b)
		putLength(b, begin)
	}
	return b
}

// putLength writes the length of the payload that begins at begin and ends with
// b into its generic header.
func putLength(b []byte, begin int) {
	n := len(b) - begin
	if n > 0xffff {
		panic(fmt.Sprintf("isakmp: a payload of %d bytes, 65535 are the most", n))
	}
	binary.BigEndian.PutUint16(b[begin+2:], uint16(n))
}

// BodyOf is a payload without generic header.
func BodyOf(p Payload) []byte { return p.AppendBody(nil) }

// maxString is where a message's one-line form is cut, in bytes.
const maxString = 4096

// String is the message in one line of printable ASCII: the header, then each
// payload in words. Bytes that came from the network never appear as they are,
// and a message that is made to be long is cut.
func (m *Message) String() string {
	var b strings.Builder
	b.WriteString(m.Header.String())
	for i, p := range m.Payloads {
		b.WriteString(separator(i, ": ", ", "))
		b.WriteString(p.String())
		if b.Len() > maxString {
			return fmt.Sprintf("%s... (%d payloads)", b.String()[:maxString], len(m.Payloads))
		}
	}
	return b.String()
}

// separator is what stands before element i of a list.
func separator(i int, first, other string) string {
	if i == 0 {
		return first
	}
	return other
}
