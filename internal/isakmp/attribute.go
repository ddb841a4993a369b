package isakmp

import (
	"bytes"
	"encoding/binary"

	"oakley/internal/doi"
)

// Attribute is a data attribute (RFC 2408 section 3.3). Basic attributes are
// the two-byte encoding; the encoding is kept so that a chosen transform is
// echoed exactly.
type Attribute struct {
	Type  uint16 // 15 bits
	Basic bool
	Value []byte // two bytes when Basic
}

// attributeFormat is the bit AF: set in the two-byte encoding.
const attributeFormat = 0x8000

// Basic is an attribute in the two-byte encoding.
func Basic(typ uint16, v uint16) Attribute {
	return Attribute{Type: typ, Basic: true, Value: binary.BigEndian.AppendUint16(nil, v)}
}

// Variable is an attribute in the encoding with a length; v is at most 65535
// bytes long.
func Variable(typ uint16, v []byte) Attribute {
	return Attribute{Type: typ, Value: v}
}

// Uint is a number as an attribute: basic when it fits 16 bits, else variable
// with four bytes, or eight when they are needed.
func Uint(typ uint16, v uint64) Attribute {
	switch {
	case v <= 0xffff:
		return Basic(typ, uint16(v))
	case v <= 0xffffffff:
		return Variable(typ, binary.BigEndian.AppendUint32(nil, uint32(v)))
	}
	return Variable(typ, binary.BigEndian.AppendUint64(nil, v))
}

// Uint is the value as a number, whatever the encoding. It is false for an
// empty value and for one that does not fit 64 bits.
func (a Attribute) Uint() (uint64, bool) {
	v := a.significant()
	if len(a.Value) == 0 || len(v) > 8 {
		return 0, false
	}
	var n uint64
	for _, c := range v {
		n = n<<8 | uint64(c)
	}
	return n, true
}

// significant is the value without leading zeros.
func (a Attribute) significant() []byte { return bytes.TrimLeft(a.Value, "\x00") }

// Equal tells whether both have the same type and, as numbers, the same value:
// the encoding and leading zeros do not matter. An empty value equals an empty
// one alone.
func (a Attribute) Equal(b Attribute) bool {
	return a.Type == b.Type &&
		(len(a.Value) == 0) == (len(b.Value) == 0) &&
		bytes.Equal(a.significant(), b.significant())
}

func appendAttribute(b []byte, a Attribute) []byte {
	if a.Basic {
		b = binary.BigEndian.AppendUint16(b, a.Type|attributeFormat)
		return append(b, a.Value[:2]...)
	}
	b = binary.BigEndian.AppendUint16(b, a.Type&^attributeFormat)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.Value)))
	return append(b, a.Value...)
}

// nextAttribute reads the attribute at the start of b, off bytes into the
// message and inside payload p, and tells how many bytes it took.
func nextAttribute(b []byte, off int, p doi.Payload) (Attribute, int, error) {
	if len(b) < 4 {
		return Attribute{}, 0, bad(off, p, doi.NotifyPayloadMalformed, "%d bytes are left, an attribute has at least 4", len(b))
	}
	typ := binary.BigEndian.Uint16(b)
	if typ&attributeFormat != 0 {
		return Attribute{Type: typ &^ attributeFormat, Basic: true, Value: clip(b, 2, 4)}, 4, nil
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b)-4 {
		return Attribute{}, 0, bad(off+2, p, doi.NotifyPayloadMalformed,
			"attribute %d claims %d bytes, but %d are left", typ, n, len(b)-4)
	}
	return Attribute{Type: typ, Value: clip(b, 4, 4+n)}, 4 + n, nil
}
