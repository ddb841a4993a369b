package ike

import (
	"net/netip"
	"testing"

	"oakley/internal/doi"
	"oakley/internal/isakmp"
)

// The policy is told how the peer said what it asks for.
func TestNetOfKeepsTheForm(t *testing.T) {
	for _, c := range []struct {
		kind doi.IDType
		data []byte
		want Net
	}{
		{doi.IDIPv4Addr, []byte{10, 2, 0, 7}, Net{Prefix: netip.MustParsePrefix("10.2.0.7/32"), Addr: true, Proto: 6, Port: 25}},
		{doi.IDIPv4Subnet, []byte{10, 2, 0, 0, 255, 255, 255, 0}, Net{Prefix: netip.MustParsePrefix("10.2.0.0/24"), Proto: 6, Port: 25}},
		{doi.IDIPv4Subnet, []byte{10, 2, 0, 7, 255, 255, 255, 255}, Net{Prefix: netip.MustParsePrefix("10.2.0.7/32"), Proto: 6, Port: 25}},
		{doi.IDIPv4Range, []byte{10, 2, 0, 0, 10, 2, 0, 255}, Net{Prefix: netip.MustParsePrefix("10.2.0.0/24"), Range: true, Proto: 6, Port: 25}},
		{doi.IDIPv6Addr, netip.MustParseAddr("2001:db8::7").AsSlice(), Net{Prefix: netip.MustParsePrefix("2001:db8::7/128"), Addr: true, Proto: 6, Port: 25}},
	} {
		n, rej := netOf(&isakmp.ID{Type: c.kind, Protocol: 6, Port: 25, Data: c.data})
		if rej != nil || n != c.want {
			t.Errorf("%s %x: %+v, want %+v (%v)", c.kind, c.data, n, c.want, rej)
		}
	}
}
