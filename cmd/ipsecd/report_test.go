package main

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
)

// The report has SAs, flows and totals, and no key.
func TestTheReport(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	b := null.New(null.Options{Now: func() time.Time { return now }})
	ctx := context.Background()
	must(t, b.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: ipsec.Flow{
		ID: "vpn/out", Selector: ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")},
		Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.2"), Proto: ipsec.ProtoESP,
	}}}))
	must(t, b.AddSA(ctx, &ipsec.SA{
		ID:  ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: 0xabcd1234, Dst: netip.MustParseAddr("192.0.2.1")},
		Src: netip.MustParseAddr("192.0.2.2"), Cipher: ipsec.CipherAESGCM16, Key: []byte("TOPSECRETTOPSECR"), Conn: "vpn",
	}))
	text, err := report(b, 3, now)
	must(t, err)
	for _, want := range []string{"ipsecd report of 2026-11-21T08:00:00Z", "clients: 3", "Flows: 1", "10.2.0.0/16", "SAs: 1", "0xabcd1234", "Totals since"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "TOPSECRET") || strings.Contains(string(text), "544f50534543524554") {
		t.Errorf("a key is in\n%s", text)
	}
	must(t, b.Close())
	if text, err := report(b, 0, now); err == nil {
		t.Errorf("a closed data plane is reported as\n%s", text)
	}
}
