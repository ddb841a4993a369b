package userspace

// Room for what SAs put around a packet: an SA in tunnel mode takes 40 bytes of
// IPv6 header and 44 of AH at most in front, and 15+2+32 bytes of ESP behind.
const (
	maxLayers  = 8 // SAs that are applied to one packet
	layersHead = maxLayers * 96
	layersTail = maxLayers * 64
)

// packet is a whole IP packet in the middle of a buffer.
type packet struct {
	buf    []byte
	off, n int
}

func (c *packet) bytes() []byte { return c.buf[c.off:][:c.n] }

// outward is the outer class of a packet with this inner one: the normal mode of
// RFC 6040 section 4.1.
func outward(tos uint8) uint8 { return tos }

// versionNext is the protocol number of an IP packet in another.
func versionNext(pkt []byte) uint8 {
	if pkt[0]>>4 == 6 {
		return nextIPv6
	}
	return nextIPv4
}
