package isakmp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"oakley/internal/doi"
)

// Delete is the delete payload (RFC 2408 section 3.15). All SPIs have the same
// length.
type Delete struct {
	DOI      uint32
	Protocol doi.Protocol
	SPISize  uint8
	SPIs     [][]byte
}

// deleteFixed is DOI, protocol, SPI size and the number of SPIs.
const deleteFixed = 8

// Kind is doi.PayloadDelete.
func (*Delete) Kind() doi.Payload { return doi.PayloadDelete }

// AppendBody appends the fields and the SPIs.
func (d *Delete) AppendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, d.DOI)
	b = append(b, byte(d.Protocol), d.SPISize)
	b = binary.BigEndian.AppendUint16(b, uint16(len(d.SPIs)))
	for _, s := range d.SPIs {
		b = append(b, s...)
	}
	return b
}

// deleteShown is how many SPIs a trace shows.
const deleteShown = 8

func (d *Delete) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "delete(%s spi", protoName(d.Protocol))
	for _, s := range d.SPIs[:min(len(d.SPIs), deleteShown)] {
		b.WriteString(" " + spiString(s))
	}
	if more := len(d.SPIs) - deleteShown; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String() + ")"
}

// parseDelete demands that the number of SPIs and their size are exactly what
// the payload holds, and that the size is the protocol's. The same SPI many
// times is no fault here: the second time there is nothing to delete.
func parseDelete(body []byte, off int) (Payload, error) {
	if len(body) < deleteFixed {
		return nil, bad(off, doi.PayloadDelete, doi.NotifyPayloadMalformed, "%d bytes, a delete has at least %d", len(body), deleteFixed)
	}
	d := &Delete{
		DOI:      binary.BigEndian.Uint32(body),
		Protocol: doi.Protocol(body[4]),
		SPISize:  body[5],
	}
	n, size, have := int(binary.BigEndian.Uint16(body[6:])), int(d.SPISize), len(body)-deleteFixed
	switch {
	case d.DOI != doi.IPsec && d.DOI != doi.ISAKMP:
		return nil, bad(off, doi.PayloadDelete, doi.NotifyDOINotSupported, "DOI %d, only 0 (ISAKMP) and 1 (IPsec) are known", d.DOI)
	case d.Protocol < doi.ProtoISAKMP || d.Protocol > doi.ProtoIPComp:
		return nil, bad(off+4, doi.PayloadDelete, doi.NotifyInvalidProtocolID, "protocol %d is not known", uint8(d.Protocol))
	case !deleteSPISize(d.Protocol, size):
		return nil, bad(off+5, doi.PayloadDelete, doi.NotifyInvalidSPI, "SPIs of %d bytes are none of %s's", size, protoName(d.Protocol))
	case n == 0:
		return nil, bad(off+6, doi.PayloadDelete, doi.NotifyPayloadMalformed, "no SPI to delete")
	case n*size != have:
		return nil, bad(off+6, doi.PayloadDelete, doi.NotifyPayloadMalformed, "claims %d SPIs of %d bytes in %d bytes", n, size, have)
	case n > MaxSPIs:
		return nil, bad(off+6, doi.PayloadDelete, doi.NotifyPayloadMalformed, "%d SPIs, %d are the most", n, MaxSPIs)
	}
	d.SPIs = make([][]byte, n)
	for i := range d.SPIs {
		begin := deleteFixed + i*size
		d.SPIs[i] = clip(body, begin, begin+size)
	}
	return d, nil
}

// deleteSPISize tells whether SPIs of that size are the protocol's (RFC 2408
// section 3.15; RFC 3173 section 4 has two or four bytes for a CPI).
func deleteSPISize(p doi.Protocol, size int) bool {
	switch p {
	case doi.ProtoISAKMP:
		return size == MaxSPI
	case doi.ProtoIPComp:
		return size == 2 || size == 4
	}
	return size == 4
}
