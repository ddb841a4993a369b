package show

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

var (
	gwA   = netip.MustParseAddr("192.168.3.1")
	gwB   = netip.MustParseAddr("192.168.3.2")
	netA  = netip.MustParsePrefix("10.1.1.0/24")
	netB  = netip.MustParsePrefix("10.1.2.0/24")
	began = time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)
)

// pattern is a key of n bytes.
func pattern(n int, first byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// espSA is the SA that ipsec.conf's documentation shows.
func espSA() ipsec.SAState {
	return ipsec.SAState{
		SA: ipsec.SA{
			ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0xabd9da39, Dst: gwB}, Src: gwA,
			Cipher: ipsec.CipherAESCBC, Key: pattern(16, 0x10), Auth: ipsec.AuthHMACSHA256, AuthKey: pattern(32, 0x20),
			Selector: ipsec.Selector{Src: netA, Dst: netB}, Flow: "a-b/out", Owner: ipsec.OwnerIKE, Conn: "a-b", Replay: 64,
			Soft: ipsec.Lifetime{Time: 18 * time.Minute}, Hard: ipsec.Lifetime{Time: 20 * time.Minute, Bytes: 1 << 30},
			IDs: ipsec.IDs{LocalID: "a.example", RemoteID: "b.example"},
		},
		Added: began, LastUse: began.Add(90 * time.Second), Packets: 12, Bytes: 1440, Seq: 12,
	}
}

func flowPair() []ipsec.Flow {
	out := ipsec.Flow{
		ID: "a-b/out", Dir: ipsec.Out, Selector: ipsec.Selector{Src: netA, Dst: netB}, Order: 65536, Local: gwA, Remote: gwB,
		Proto: ipsec.ProtoESP, Owner: ipsec.OwnerIKE, Conn: "a-b", IDs: ipsec.IDs{LocalID: "a.example", RemoteID: "b.example"},
	}
	in := out
	in.ID, in.Dir, in.Selector = "a-b/in", ipsec.In, out.Selector.Reverse()
	return []ipsec.Flow{out, in}
}

// printed is what a function prints.
func printed(f func(w *strings.Builder)) string {
	var b strings.Builder
	f(&b)
	return b.String()
}

// same compares a text with what was wanted.
func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("printed\n%s\nwanted\n%s", got, want)
	}
}

func saText(s ipsec.SAState, o Options) string {
	return printed(func(w *strings.Builder) { SA(w, &s, o) })
}

func TestTheLineOfAnSA(t *testing.T) {
	same(t, saText(espSA(), Options{}), "esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth hmac-sha2-256 enc aes\n")
	for _, c := range []struct {
		change func(*ipsec.SA)
		want   string
	}{
		{func(s *ipsec.SA) { s.Mode = ipsec.Transport }, "esp transport from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth hmac-sha2-256 enc aes"},
		{func(s *ipsec.SA) { s.ID.SPI = 0x1001 }, "esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0x00001001 auth hmac-sha2-256 enc aes"},
		{func(s *ipsec.SA) { s.Auth = ipsec.AuthNone }, "esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth none enc aes"},
		{func(s *ipsec.SA) { s.Cipher, s.Auth = ipsec.CipherAESGCM16, ipsec.AuthNone }, "esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 enc aes-128-gcm"},
		{func(s *ipsec.SA) {
			s.ID.Proto, s.Cipher, s.Key, s.Auth = ipsec.ProtoAH, ipsec.CipherNone, nil, ipsec.AuthHMACSHA1
		}, "ah tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth hmac-sha1"},
		{func(s *ipsec.SA) {
			s.ID.Proto, s.ID.SPI, s.Cipher, s.Auth, s.Comp = ipsec.ProtoIPComp, 2, ipsec.CipherNone, ipsec.AuthNone, ipsec.CompDeflate
		}, "ipcomp tunnel from 192.168.3.1 to 192.168.3.2 spi 0x00000002 comp deflate"},
		{func(s *ipsec.SA) {
			s.ID.Proto, s.ID.SPI, s.Cipher, s.Auth = ipsec.ProtoIPIP, 0x100, ipsec.CipherNone, ipsec.AuthNone
		}, "ipip from 192.168.3.1 to 192.168.3.2 spi 0x00000100"},
		{func(s *ipsec.SA) {
			s.Src, s.ID.Dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1")
		}, "esp tunnel from 2001:db8::1 to 2001:db8:1::1 spi 0xabd9da39 auth hmac-sha2-256 enc aes"},
		{func(s *ipsec.SA) { *s = ipsec.SA{} }, "proto 0 tunnel from any to any spi 0x00000000"},
	} {
		s := espSA()
		c.change(&s.SA)
		same(t, saText(s, Options{}), c.want+"\n")
	}
}

func TestKeys(t *testing.T) {
	s := espSA()
	same(t, saText(s, Options{Keys: true}), `esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth hmac-sha2-256 enc aes \
	authkey 0x202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f \
	enckey 0x101112131415161718191a1b1c1d1e1f
`)
	s.SA.Cipher, s.SA.Auth, s.SA.AuthKey, s.SA.Salt = ipsec.CipherAESGCM16, ipsec.AuthNone, nil, pattern(4, 0xf0)
	same(t, saText(s, Options{Keys: true}), `esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 enc aes-128-gcm \
	enckey 0x101112131415161718191a1b1c1d1e1ff0f1f2f3
`)
	// Without being asked for, not a byte of them, however much else is printed.
	for _, v := range []int{0, 1, 2, 9} {
		if got := saText(espSA(), Options{Verbose: v}); strings.Contains(got, "2021") || strings.Contains(got, "1011") {
			t.Errorf("keys in\n%s", got)
		}
	}
}

func TestWhatAnSAHasDone(t *testing.T) {
	s := espSA()
	same(t, saText(s, Options{Verbose: 1, Now: began.Add(5 * time.Minute)}), `esp tunnel from 192.168.3.1 to 192.168.3.2 spi 0xabd9da39 auth hmac-sha2-256 enc aes
	direction:      out
	identities:     srcid a.example dstid b.example
	connection:     a-b
	carries:        from 10.1.1.0/24 to 10.1.2.0/24
	made by:        isakmpd
	added:          2026-11-21 07:00:00 UTC, 5m0s ago
	last use:       2026-11-21 07:01:30 UTC, 3m30s ago
	soft lifetime:  18m0s
	hard lifetime:  20m0s, 1073741824 bytes
	traffic:        12 packets, 1440 bytes
	sequence:       12 last sent, of 32 bits
`)
	s.SA.ID.Dir, s.SA.Src, s.SA.ID.Dst, s.SA.Flow, s.SA.Conn = ipsec.In, gwB, gwA, "", ""
	s.SA.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(gwA, 4500), Remote: netip.MustParseAddrPort("203.0.113.9:61000")}
	s.SA.Selector = ipsec.Selector{Src: netip.PrefixFrom(gwB, 32), Dst: netip.PrefixFrom(gwA, 32), Proto: 6, DstPort: 80}
	s.SA.Bundle = ipsec.Place{ID: 7, Index: 0, Of: 2}
	s.SA.NATOA = ipsec.NATOA{Peer: gwB}
	s.SA.Soft, s.SA.Hard, s.SA.ESN, s.LastUse, s.Seq = ipsec.Lifetime{}, ipsec.Lifetime{}, true, time.Time{}, 1<<32
	s.Packets, s.Bytes = 1, 1
	s.Drops[ipsec.DropReplay], s.Drops[ipsec.DropAuth] = 3, 1
	same(t, saText(s, Options{Verbose: 1}), `esp tunnel from 192.168.3.2 to 192.168.3.1 spi 0xabd9da39 auth hmac-sha2-256 enc aes
	direction:      in
	identities:     srcid a.example dstid b.example
	udp:            from 192.168.3.1 port 4500 to 203.0.113.9 port 61000
	carries:        proto tcp from 192.168.3.2 to 192.168.3.1 port 80
	bundle:         7: number 1 of 2, counted from the plain packet
	made by:        isakmpd
	added:          2026-11-21 07:00:00 UTC
	last use:       never
	soft lifetime:  none
	hard lifetime:  none
	traffic:        1 packet, 1 byte
	sequence:       4294967296 highest received, of 64 bits
	replay window:  64 packets
	dropped:        3 replay
	                1 authentication
`)
	s.SA.Replay, s.SA.ESN, s.Seq, s.SA.Owner, s.SA.IDs = 0, false, 1<<32-3, ipsec.OwnerManual, ipsec.IDs{}
	got := saText(s, Options{Verbose: 2})
	for _, want := range []string{
		"\n\treplay window:  none: repeated packets are not noticed\n", "\n\tsequence:       4294967293 highest received, of 32 bits, 2 are left\n",
		"\n\tmade by:        hand\n", "\n\tflow:           those of its owner, protocol and far end\n",
		"\n\tbefore NAT:     peer 192.168.3.2, ours unknown\n", "3 replay\n\t                  " + reasons[ipsec.DropReplay],
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "identities") {
		t.Errorf("identities that nobody knows:\n%s", got)
	}
}

func TestFlows(t *testing.T) {
	flows := flowPair()
	SortFlows(flows)
	same(t, printed(func(w *strings.Builder) {
		for i := range flows {
			Flow(w, &flows[i], Options{})
		}
	}), `flow esp in from 10.1.2.0/24 to 10.1.1.0/24 peer 192.168.3.2 srcid a.example dstid b.example type require
flow esp out from 10.1.1.0/24 to 10.1.2.0/24 peer 192.168.3.2 srcid a.example dstid b.example type require
`)
	same(t, printed(func(w *strings.Builder) { Flow(w, &flows[1], Options{Verbose: 2}) }), `flow esp out from 10.1.1.0/24 to 10.1.2.0/24 peer 192.168.3.2 srcid a.example dstid b.example type require
	order:          65536
	local:          192.168.3.1
	mode:           tunnel
	connection:     a-b
	made by:        isakmpd
	name:           a-b/out
`)
	f := ipsec.Flow{
		ID: "x", Type: ipsec.FlowBypass, Owner: ipsec.OwnerManual,
		Selector: ipsec.Selector{Src: netip.MustParsePrefix("0.0.0.0/0"), Dst: netip.PrefixFrom(gwB, 32), Proto: 17, SrcPort: 68, DstPort: 67},
	}
	same(t, printed(func(w *strings.Builder) { Flow(w, &f, Options{Verbose: 1}) }), `flow out proto udp from 0.0.0.0/0 port 68 to 192.168.3.2 port 67 type bypass
	order:          0
	made by:        hand
`)
}

// What a peer has chosen cannot move a cursor or make a second line.
func TestNothingThatATerminalObeys(t *testing.T) {
	nasty := "evil\x1b[2J\r\nflow esp in from any to any type bypass \"\u202e"
	s, f := espSA(), flowPair()[0]
	s.SA.IDs, s.SA.Conn, s.SA.Flow = ipsec.IDs{LocalID: nasty, RemoteID: nasty}, nasty, ipsec.FlowID(nasty)
	f.IDs, f.Conn, f.ID = s.SA.IDs, nasty, ipsec.FlowID(nasty)
	got := saText(s, Options{Verbose: 2}) + printed(func(w *strings.Builder) {
		Flow(w, &f, Options{Verbose: 2})
		Message(w, dataplane.Message{Action: dataplane.Action(nasty), Error: nasty, Flow: &f})
		Message(w, dataplane.Message{Action: dataplane.ActionDeleteFlow, Flow: &ipsec.Flow{ID: ipsec.FlowID(nasty)}})
	})
	if strings.ContainsAny(got, "\x1b\r\u202e") || strings.Contains(got, "\nflow esp in") {
		t.Errorf("%q", got)
	}
	if want := `srcid "evil\x1b[2J\r\nflow`; !strings.Contains(got, want) {
		t.Errorf("no %s in\n%s", want, got)
	}
}
