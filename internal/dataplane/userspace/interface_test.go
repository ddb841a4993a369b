package userspace_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// What belongs to an xfrm interface is the kernel's business, and said to be so.
func TestInterfacesAreTheKernels(t *testing.T) {
	b := site(t, netio.NewHub(), "a", "192.0.2.1", "2001:db8::1", false).Backend
	net := netip.MustParsePrefix("10.0.0.0/8")
	flow := b.ApplyFlows(t.Context(), []ipsec.FlowChange{{Flow: ipsec.Flow{
		ID: "c/out", Type: ipsec.FlowDeny, Selector: ipsec.Selector{Src: net, Dst: net}, Interface: 7,
	}}})
	sa := b.AddSA(t.Context(), &ipsec.SA{
		ID:  ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: 0x1001, Dst: netip.MustParseAddr("192.0.2.1")},
		Src: netip.MustParseAddr("192.0.2.2"), Cipher: ipsec.CipherAESGCM16, Key: make([]byte, 16), Salt: make([]byte, 4), Interface: 7,
	})
	for what, err := range map[string]error{"a flow": flow, "an SA": sa} {
		if !errors.Is(err, dataplane.ErrUnsupported) || !strings.Contains(err.Error(), "if_id 7 needs the kernel's IPsec") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
