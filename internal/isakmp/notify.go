package isakmp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"oakley/internal/doi"
)

// Notify is the notification payload (RFC 2408 section 3.14).
type Notify struct {
	DOI      uint32
	Protocol doi.Protocol
	SPI      []byte
	Type     doi.Notify
	Data     []byte
}

// MaxSPI is the longest SPI: the pair of cookies (RFC 2408 section 3.5).
const MaxSPI = 16

// notifyFixed is DOI, protocol, SPI size and type.
const notifyFixed = 8

// Kind is doi.PayloadNotify.
func (*Notify) Kind() doi.Payload { return doi.PayloadNotify }

// AppendBody appends the fields and the data.
func (n *Notify) AppendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, n.DOI)
	b = append(b, byte(n.Protocol), byte(len(n.SPI)))
	b = binary.BigEndian.AppendUint16(b, uint16(n.Type))
	b = append(b, n.SPI...)
	return append(b, n.Data...)
}

func (n *Notify) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "notify(%s", n.Type)
	if n.Protocol != 0 {
		b.WriteString(" " + protoName(n.Protocol))
	}
	if len(n.SPI) > 0 {
		b.WriteString(" spi " + spiString(n.SPI))
	}
	b.WriteString(n.dataString())
	return b.String() + ")"
}

// dataString is the data of the notifications whose data is known, else its
// length.
func (n *Notify) dataString() string {
	if len(n.Data) == 0 {
		return ""
	}
	switch n.Type {
	case doi.NotifyResponderLifetime:
		if t, ok := parseAttributes(n.Data); ok {
			return " " + t.describeLife(n.Protocol)
		}
	case doi.NotifyDPDRUThere, doi.NotifyDPDRUThereAck, doi.NotifyReplayStatus:
		if len(n.Data) == 4 {
			return fmt.Sprintf(" %d", binary.BigEndian.Uint32(n.Data))
		}
	}
	return fmt.Sprintf(" data %d bytes", len(n.Data))
}

// parseNotify is no stricter than the layout: a notification in clear is a hint
// at most, and peers disagree about DOI, protocol and SPI of many.
func parseNotify(body []byte, off int) (Payload, error) {
	if len(body) < notifyFixed {
		return nil, bad(off, doi.PayloadNotify, doi.NotifyPayloadMalformed, "%d bytes, a notification has at least %d", len(body), notifyFixed)
	}
	n := &Notify{
		DOI:      binary.BigEndian.Uint32(body),
		Protocol: doi.Protocol(body[4]),
		Type:     doi.Notify(binary.BigEndian.Uint16(body[6:])),
	}
	size := int(body[5])
	if n.DOI != doi.IPsec && n.DOI != doi.ISAKMP {
		return nil, bad(off, doi.PayloadNotify, doi.NotifyDOINotSupported, "DOI %d, only 0 (ISAKMP) and 1 (IPsec) are known", n.DOI)
	}
	if size > MaxSPI {
		return nil, bad(off+5, doi.PayloadNotify, doi.NotifyInvalidSPI, "an SPI of %d bytes, %d are the most", size, MaxSPI)
	}
	if size > len(body)-notifyFixed {
		return nil, bad(off+5, doi.PayloadNotify, doi.NotifyPayloadMalformed, "an SPI of %d bytes, but %d are left", size, len(body)-notifyFixed)
	}
	if n.Type == 0 {
		return nil, bad(off+6, doi.PayloadNotify, doi.NotifyPayloadMalformed, "the type is zero")
	}
	n.SPI = clip(body, notifyFixed, notifyFixed+size)
	n.Data = clip(body, notifyFixed+size, len(body))
	return n, nil
}

// spiString is tcpdump's form of an SPI: hex.
func spiString(spi []byte) string {
	if len(spi) == MaxSPI {
		return fmt.Sprintf("%x-%x", spi[:8], spi[8:])
	}
	return fmt.Sprintf("0x%x", spi)
}

// protoName is a protocol in the words of one-line traces.
func protoName(p doi.Protocol) string {
	switch p {
	case doi.ProtoISAKMP:
		return "isakmp"
	case doi.ProtoAH:
		return "ah"
	case doi.ProtoESP:
		return "esp"
	case doi.ProtoIPComp:
		return "ipcomp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}
