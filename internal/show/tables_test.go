package show

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

func TestEveryAlgorithmHasAName(t *testing.T) {
	for c := ipsec.CipherNull; c.Info().Name != "unknown"; c++ {
		if n := Cipher(c, 0); strings.HasPrefix(n, "cipher-") {
			t.Errorf("%s is %s", c, n)
		}
	}
	for a := ipsec.AuthNone; a.Info().Name != "unknown"; a++ {
		if n := Auth(a); strings.HasPrefix(n, "auth-") {
			t.Errorf("%s is %s", a, n)
		}
	}
	for _, c := range []struct {
		cipher ipsec.Cipher
		bits   int
		want   string
	}{
		{ipsec.CipherDES, 64, "des"},
		{ipsec.Cipher3DES, 192, "3des-cbc"},
		{ipsec.CipherCAST, 128, "cast128"},
		{ipsec.CipherBlowfish, 160, "blowfish"},
		{ipsec.CipherSkipjack, 80, "skipjack"},
		{ipsec.CipherNull, 0, "null"},
		{ipsec.CipherAESCBC, 0, "aes"},
		{ipsec.CipherAESCBC, 128, "aes"},
		{ipsec.CipherAESCBC, 192, "aes-192"},
		{ipsec.CipherAESCBC, 256, "aes-256"},
		{ipsec.CipherAESCTR, 128, "aesctr"},
		{ipsec.CipherAESCTR, 256, "aes-256-ctr"},
		{ipsec.CipherAESGCM16, 0, "aes-gcm"},
		{ipsec.CipherAESGCM16, 256, "aes-256-gcm"},
		{ipsec.CipherAESGCM8, 128, "aes-128-gcm-8"},
		{ipsec.CipherAESGMAC, 192, "aes-192-gmac"},
		{ipsec.CipherChaCha20Poly1305, 256, "chacha20-poly1305"},
		{200, 0, "cipher-200"},
	} {
		if got := Cipher(c.cipher, c.bits/8); got != c.want {
			t.Errorf("%s of %d bits is %s, want %s", c.cipher, c.bits, got, c.want)
		}
	}
	if Auth(200) != "auth-200" {
		t.Error(Auth(200))
	}
}

func TestEveryReasonHasASentence(t *testing.T) {
	for d := ipsec.DropNone + 1; d < ipsec.DropEnd; d++ {
		if len(reasons[d]) < 20 {
			t.Errorf("%s: %q", d, reasons[d])
		}
	}
}

func TestEncap(t *testing.T) {
	a, b := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	near, far := netip.MustParsePrefix("192.168.10.0/24"), netip.MustParsePrefix("192.168.20.0/24")
	flow := ipsec.Flow{ID: "f/out", Selector: ipsec.Selector{Src: near, Dst: far}, Remote: b, Proto: ipsec.ProtoESP, Owner: ipsec.OwnerManual}
	back := flow
	back.ID, back.Dir, back.Selector = "f/in", ipsec.In, flow.Selector.Reverse()
	sa := func(d ipsec.Direction, spi ipsec.SPI, src, dst netip.Addr, age time.Duration) ipsec.SAState {
		return ipsec.SAState{SA: ipsec.SA{ID: ipsec.SAID{Dir: d, Proto: ipsec.ProtoESP, SPI: spi, Dst: dst}, Src: src, Owner: ipsec.OwnerManual}, Added: began.Add(-age)}
	}
	sas := []ipsec.SAState{
		sa(ipsec.Out, 0xc0ffee01, a, b, 0), sa(ipsec.In, 0xc0ffee02, b, a, 0),
		sa(ipsec.Out, 0xdead, a, b, time.Hour), sa(ipsec.In, 0xdead, b, a, time.Hour), // older
		sa(ipsec.Out, 0xbeef, a, a, -time.Hour), // for another
	}
	outer := sa(ipsec.Out, 0xbad, a, b, -time.Hour) // the outside of a bundle
	outer.SA.Bundle = ipsec.Place{ID: 1, Index: 1, Of: 2}
	part := sa(ipsec.In, 0xabad, b, a, -time.Hour) // newer, and its other half is missing
	part.SA.Bundle = ipsec.Place{ID: 2, Index: 0, Of: 2}
	sas = append(sas, outer, part)
	const head = `Routing tables

Encap:
Source             Port  Destination        Port  Proto SA(Address/SPI/Proto/Type/Direction)
`
	table := func(flows []ipsec.Flow, sas []ipsec.SAState) string {
		return printed(func(w *strings.Builder) { Encap(w, flows, sas) })
	}
	same(t, table([]ipsec.Flow{flow, back}, sas), head+
		`192.168.20.0/24    0     192.168.10.0/24    0     0     203.0.113.2/c0ffee02/50/require/in
192.168.10.0/24    0     192.168.20.0/24    0     0     203.0.113.2/c0ffee01/50/require/out
`)
	same(t, table(nil, sas), head)
	named := sa(ipsec.Out, 0x1234, a, b, 2*time.Hour) // older, but the flow's own
	named.SA.Flow = "f/out"
	deny := ipsec.Flow{ID: "no", Type: ipsec.FlowDeny, Order: 9, Selector: ipsec.Selector{Src: near, Dst: far, Proto: 6, DstPort: 25}}
	roaming := back
	roaming.ID, roaming.Remote, roaming.Type, roaming.Order = "any", netip.Addr{}, ipsec.FlowUse, 10
	none := flow
	none.ID, none.Owner, none.Type, none.Order = "none", ipsec.OwnerIKE, ipsec.FlowAcquire, 11
	same(t, table([]ipsec.Flow{none, roaming, flow, deny}, append(sas, named)), head+
		`192.168.10.0/24    0     192.168.20.0/24    0     0     203.0.113.2/00001234/50/require/out
192.168.10.0/24    0     192.168.20.0/24    25    6     none/00000000/0/deny/out
192.168.20.0/24    0     192.168.10.0/24    0     0     any/c0ffee02/50/use/in
192.168.10.0/24    0     192.168.20.0/24    0     0     203.0.113.2/00000000/50/acquire/out
`)
	other := part
	other.SA.ID.SPI, other.SA.ID.Proto, other.SA.Bundle.Index = 0xbad2, ipsec.ProtoAH, 1
	same(t, table([]ipsec.Flow{back}, append(sas, other)), head+
		`192.168.20.0/24    0     192.168.10.0/24    0     0     203.0.113.2/0000abad/50/require/in
`)
	wide := flow
	wide.Selector = ipsec.Selector{Src: netip.MustParsePrefix("2001:db8:1111:2222::/64"), Dst: netip.MustParsePrefix("::/0")}
	wide.Owner = ipsec.OwnerIKE
	same(t, table([]ipsec.Flow{wide}, nil), `Routing tables

Encap:
Source                  Port  Destination        Port  Proto SA(Address/SPI/Proto/Type/Direction)
2001:db8:1111:2222::/64 0     ::/0               0     0     203.0.113.2/00000000/50/require/out
`)
}

// However the entries come, they are printed in one order.
func TestTheOrderIsStable(t *testing.T) {
	var flows []ipsec.Flow
	var sas []ipsec.SAState
	for i := range 40 {
		for _, f := range flowPair() {
			f.ID += ipsec.FlowID(rune('a' + i%7))
			f.Order = uint32(i % 3)
			f.Selector.Proto = uint8(i % 2)
			f.Selector.DstPort = uint16(i)
			flows = append(flows, f)
		}
		s := espSA()
		s.Added = began.Add(time.Duration(i%4) * time.Second)
		s.SA.ID.SPI = ipsec.SPI(1000 + i)
		sas = append(sas, s)
	}
	SortFlows(flows)
	SortSAs(sas)
	for range 10 {
		f, s := slices.Clone(flows), slices.Clone(sas)
		rand.Shuffle(len(f), func(i, j int) { f[i], f[j] = f[j], f[i] })
		rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		SortFlows(f)
		SortSAs(s)
		for i := range f {
			if f[i] != flows[i] {
				t.Fatalf("flow %d is %v, was %v", i, f[i], flows[i])
			}
		}
		for i := range s {
			if s[i].SA.ID != sas[i].SA.ID {
				t.Fatalf("SA %d is %v, was %v", i, s[i].SA.ID, sas[i].SA.ID)
			}
		}
	}
}

func TestTotals(t *testing.T) {
	all := dataplane.Totals{Since: began, Protos: []dataplane.ProtoTotals{
		{Proto: ipsec.ProtoESP, SAs: 2, In: dataplane.Traffic{Packets: 1204, Bytes: 1400200}, Out: dataplane.Traffic{Packets: 1, Bytes: 84}},
		{Proto: ipsec.ProtoAH},
	}}
	same(t, printed(func(w *strings.Builder) { Totals(w, all, Options{}) }), `since 2026-11-21 07:00:00 UTC
esp:
	2 SAs
	1204 packets received (1400200 bytes)
	1 packet sent (84 bytes)
ah:
	0 SAs
	0 packets received (0 bytes)
	0 packets sent (0 bytes)
packets of no SA:
	none dropped
`)
	all.Protos = all.Protos[:1]
	all.Protos[0].DropsIn[ipsec.DropReplay] = 3
	all.Protos[0].DropsOut[ipsec.DropSequenceEnd] = 1
	all.Drops[ipsec.DropUnknownSPI] = 12
	same(t, printed(func(w *strings.Builder) { Totals(w, all, Options{}) }), `since 2026-11-21 07:00:00 UTC
esp:
	2 SAs
	1204 packets received (1400200 bytes)
	1 packet sent (84 bytes)
	3 packets received and dropped: replay
		`+reasons[ipsec.DropReplay]+`
	1 packet dropped instead of sent: sequence end
		`+reasons[ipsec.DropSequenceEnd]+`
packets of no SA:
	12 packets dropped: unknown SPI
		`+reasons[ipsec.DropUnknownSPI]+`
`)
	rest := func(s dataplane.State) string {
		return printed(func(w *strings.Builder) { Rest(w, &s, Options{Verbose: 1}) })
	}
	same(t, rest(dataplane.State{Drops: all.Drops, Off: []ipsec.Proto{ipsec.ProtoAH}}), "packets of no SA\n\tdropped:        12 unknown SPI\nah is switched off\n")
	same(t, rest(dataplane.State{}), "")
}

func TestMessages(t *testing.T) {
	sa := espSA().SA
	sa.Key, sa.AuthKey = nil, nil
	flow := flowPair()[0]
	for _, c := range []struct {
		m    dataplane.Message
		want string
	}{
		{dataplane.Message{PID: 412, Action: dataplane.ActionGetSPI, ID: ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: 0x1001, Dst: gwA}}, "getspi in esp to 192.168.3.1 spi 0x00001001 (pid 412)"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionAdd, ID: sa.ID, SA: &sa}, "add out esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth hmac-sha2-256 enc aes (pid 412)"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionAdd, ID: sa.ID, SA: &sa, Error: "that is there already"}, "add out esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth hmac-sha2-256 enc aes (pid 412) refused: that is there already"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionDelete, ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0x1001, Dst: gwB, Port: 4500}}, "delete out esp to 192.168.3.2 spi 0x00001001 port 4500 (pid 412)"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionAddFlow, Flow: &flow}, "addflow flow esp out from 10.1.1.0/24 to 10.1.2.0/24 peer 192.168.3.2 srcid a.example dstid b.example type require (pid 412)"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionDeleteFlow, Flow: &ipsec.Flow{ID: "a-b/out"}}, "delflow flow a-b/out (pid 412)"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionFlush}, "flush all SAs and flows (pid 412)"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionFlush, Owner: ipsec.OwnerManual}, "flush SAs and flows made by hand (pid 412)"},
		{dataplane.Message{PID: 412, Action: dataplane.ActionSwitch, Proto: ipsec.ProtoAH}, "switch ah off (pid 412)"},
		{dataplane.Message{Action: dataplane.ActionSwitch, Proto: ipsec.ProtoAH, On: true}, "switch ah on"},
		{dataplane.Message{Action: dataplane.ActionAcquire, Flow: &flow, Packet: ipsec.Selector{Src: netip.MustParsePrefix("10.1.1.5/32"), Dst: netip.MustParsePrefix("10.1.2.9/32"), Proto: 6, DstPort: 9100}}, "acquire for a packet proto tcp from 10.1.1.5 to 10.1.2.9 port 9100: flow esp out from 10.1.1.0/24 to 10.1.2.0/24 peer 192.168.3.2 srcid a.example dstid b.example type require"},
		{dataplane.Message{Action: dataplane.ActionAcquire, Flow: &ipsec.Flow{ID: "a-b/out"}, Packet: ipsec.Selector{Src: netip.MustParsePrefix("10.1.1.5/32"), Dst: netip.MustParsePrefix("10.1.2.9/32"), Proto: 1}}, "acquire for a packet proto icmp from 10.1.1.5 to 10.1.2.9: flow a-b/out"},
		{dataplane.Message{PID: 1, Action: dataplane.ActionUpdate, ID: sa.ID, Remote: netip.MustParseAddrPort("203.0.113.9:61000")}, "update out esp to 192.168.3.2 spi 0xabd9da39, the peer is at 203.0.113.9 port 61000 now (pid 1)"},
		{dataplane.Message{Action: dataplane.ActionExpire, ID: sa.ID}, "expire soft, time for another: out esp to 192.168.3.2 spi 0xabd9da39"},
		{dataplane.Message{Action: dataplane.ActionExpire, ID: sa.ID, Hard: true}, "expire hard, it is gone: out esp to 192.168.3.2 spi 0xabd9da39"},
		{dataplane.Message{Action: dataplane.ActionMapping, ID: sa.ID, Remote: netip.MustParseAddrPort("203.0.113.9:61000")}, "mapping out esp to 192.168.3.2 spi 0xabd9da39, the peer is at 203.0.113.9 port 61000 now"},
		{dataplane.Message{Action: dataplane.ActionMissed, Missed: 1}, "missed 1 message came faster than they were read"},
		{dataplane.Message{Action: "news", PID: 3}, "news (pid 3)"},
	} {
		c.m.At = began.Add(1500 * time.Microsecond)
		same(t, printed(func(w *strings.Builder) { Message(w, c.m) }), "2026-11-21 07:00:00.001500 "+c.want+"\n")
	}
}

// A message whose fields are all missing is printed all the same.
func TestEmptyMessages(t *testing.T) {
	for a := range stories {
		got := printed(func(w *strings.Builder) { Message(w, dataplane.Message{Action: a}) })
		if strings.Count(got, "\n") != 1 || !strings.Contains(got, string(a)) {
			t.Errorf("%q", got)
		}
	}
}
