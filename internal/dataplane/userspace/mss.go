package userspace

import (
	"encoding/binary"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// clampMSS lowers the segment size that a TCP SYN offers to what fits the device,
// so that hosts behind a gateway whose ICMP is lost somewhere do not send what
// cannot pass (RFC 2923 section 2.1 has the trouble; RFC 6691 how the size
// counts: without options). It never raises it, and mends the checksum.
func clampMSS(pkt []byte, info *ipsec.PacketInfo, mtu int) {
	const protoTCP, flagSYN, optEnd, optNop, optMSS = 6, 2, 0, 1, 2
	if info.Proto != protoTCP || info.Fragment || info.TotalLen < info.HeaderLen+20 {
		return
	}
	tcp := pkt[info.HeaderLen:info.TotalLen]
	head := int(tcp[12]>>4) * 4
	if tcp[13]&flagSYN == 0 || head < 20 || head > len(tcp) {
		return
	}
	most := mtu - inet.HeaderLen(info.Version == 6) - 20
	for i := 20; i < head; {
		switch {
		case tcp[i] == optEnd:
			return
		case tcp[i] == optNop:
			i++
			continue
		case i+1 >= head || tcp[i+1] < 2 || i+int(tcp[i+1]) > head:
			return
		}
		if tcp[i] != optMSS || tcp[i+1] != 4 {
			i += int(tcp[i+1])
			continue
		}
		if int(binary.BigEndian.Uint16(tcp[i+2:])) <= most {
			return
		}
		was := inet.Fold(inet.Sum(tcp[i:][:4], 0))
		if i&1 == 1 {
			was = was<<8 | was>>8
		}
		binary.BigEndian.PutUint16(tcp[i+2:], uint16(most))
		is := inet.Fold(inet.Sum(tcp[i:][:4], 0))
		if i&1 == 1 {
			is = is<<8 | is>>8
		}
		s := inet.Fold(uint32(^binary.BigEndian.Uint16(tcp[16:])) + uint32(^was) + uint32(is))
		binary.BigEndian.PutUint16(tcp[16:], ^s)
		return
	}
}
