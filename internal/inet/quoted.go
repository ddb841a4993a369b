package inet

import (
	"encoding/binary"

	"oakley/internal/ipsec"
)

// Quoted reads, of the beginning of an IPv6 packet that an ICMP message brings
// back, the protocol behind its extension headers and, if that is ESP, AH or
// IPComp, the SPI. It is false when the packet was cut before that.
func Quoted(pkt []byte) (proto uint8, spi uint32, ok bool) {
	if len(pkt) < 40 || pkt[0]>>4 != 6 {
		return 0, 0, false
	}
	s := Spot{40, 6}
	for range maxHeaders {
		switch pkt[s.Next] {
		case HopByHop, Routing, DestOpts:
			if s, ok = skip(pkt, s); !ok {
				return 0, 0, false
			}
			continue
		case fragment:
			if len(pkt) < s.At+fragmentLen || binary.BigEndian.Uint16(pkt[s.At+2:])&^7 != 0 {
				return 0, 0, false
			}
			s = Spot{s.At + fragmentLen, s.At}
			continue
		}
		proto, pkt = pkt[s.Next], pkt[s.At:]
		if len(pkt) < 8 {
			return 0, 0, false
		}
		switch ipsec.Proto(proto) {
		case ipsec.ProtoESP:
			spi = binary.BigEndian.Uint32(pkt)
		case ipsec.ProtoAH:
			spi = binary.BigEndian.Uint32(pkt[4:])
		case ipsec.ProtoIPComp:
			spi = uint32(binary.BigEndian.Uint16(pkt[2:]))
		}
		return proto, spi, true
	}
	return 0, 0, false
}
