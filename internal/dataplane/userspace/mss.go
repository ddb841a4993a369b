package userspace

import (
	"encoding/binary"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
)

// clampIn does the same with what came out of a tunnel: who reads it sends back
// through the SA of the flow the other way.
func (p *Plane) clampIn(pkt []byte, info *ipsec.PacketInfo) {
	if !isSYN(pkt, info) {
		return
	}
	mtu := p.dev.MTU()
	back := ipsec.PacketInfo{
		Dir: ipsec.Out, Version: info.Version, Src: info.Dst, Dst: info.Src, Proto: info.Proto,
		HasPorts: info.HasPorts, SrcPort: info.DstPort, DstPort: info.SrcPort,
	}
	if f := p.spd.Lookup(&back); f != nil {
		if sa := f.current.Load(); sa != nil {
			mtu = min(mtu, int(sa.most.Load()))
		}
	}
	clampMSS(pkt, info, mtu)
}

// isSYN tells whether a packet begins a TCP connection, or answers one that does.
func isSYN(pkt []byte, info *ipsec.PacketInfo) bool {
	const protoTCP, flagSYN = 6, 2
	return info.Proto == protoTCP && !info.Fragment && info.TotalLen >= info.HeaderLen+20 && pkt[info.HeaderLen+13]&flagSYN != 0
}

// clampMSS lowers the segment size that a TCP SYN offers to what fits the device,
// so that hosts behind a gateway whose ICMP is lost somewhere do not send what
// cannot pass (RFC 2923 section 2.1 has the trouble; RFC 6691 how the size
// counts: without options). It never raises it, and mends the checksum.
func clampMSS(pkt []byte, info *ipsec.PacketInfo, mtu int) {
	const optEnd, optNop, optMSS = 0, 1, 2
	if !isSYN(pkt, info) {
		return
	}
	tcp := pkt[info.HeaderLen:info.TotalLen]
	head := int(tcp[12]>>4) * 4
	if head < 20 || head > len(tcp) {
		return
	}
	most := max(mtu-inet.HeaderLen(info.Version == 6)-20, leastMSS)
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

// leastMSS is not gone below, however little fits (what is longer is fragmented
// outside): hosts take much smaller sizes for an attack.
const leastMSS = 512
