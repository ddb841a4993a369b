package isakmp

import (
	"fmt"
	"net/netip"

	"oakley/internal/doi"
)

// NATOA is the NAT-OA payload (RFC 3947 section 5.2).
type NATOA struct {
	Type doi.IDType // IDIPv4Addr or IDIPv6Addr
	Data []byte
}

// natoaFixed is the type and three reserved bytes.
const natoaFixed = 4

// Kind is doi.PayloadNATOA.
func (*NATOA) Kind() doi.Payload { return doi.PayloadNATOA }

// AppendBody appends type and address.
func (n *NATOA) AppendBody(b []byte) []byte {
	return append(append(b, byte(n.Type), 0, 0, 0), n.Data...)
}

// Addr is the original address. It is false when the data is no address of the
// type.
func (n *NATOA) Addr() (netip.Addr, bool) {
	if n.Type == doi.IDIPv4Addr && len(n.Data) == 4 || n.Type == doi.IDIPv6Addr && len(n.Data) == 16 {
		return netip.AddrFromSlice(n.Data)
	}
	return netip.Addr{}, false
}

func (n *NATOA) String() string {
	if a, ok := n.Addr(); ok {
		return "nat-oa(" + a.String() + ")"
	}
	return fmt.Sprintf("nat-oa(%s, %d bytes)", n.Type, len(n.Data))
}

func parseNATOA(body []byte, off int) (Payload, error) {
	if len(body) < natoaFixed {
		return nil, bad(off, doi.PayloadNATOA, doi.NotifyPayloadMalformed, "%d bytes, the type and what is reserved have %d", len(body), natoaFixed)
	}
	if body[1] != 0 || body[2] != 0 || body[3] != 0 {
		return nil, bad(off+1, doi.PayloadNATOA, doi.NotifyPayloadMalformed, "the reserved bytes are %x, not zero", body[1:4])
	}
	n := &NATOA{Type: doi.IDType(body[0]), Data: clip(body, natoaFixed, len(body))}
	if n.Type != doi.IDIPv4Addr && n.Type != doi.IDIPv6Addr {
		return nil, bad(off, doi.PayloadNATOA, doi.NotifyPayloadMalformed, "%s is no address", n.Type)
	}
	if _, ok := n.Addr(); !ok {
		return nil, bad(off+natoaFixed, doi.PayloadNATOA, doi.NotifyPayloadMalformed, "an address of %d bytes as %s", len(n.Data), n.Type)
	}
	return n, nil
}
