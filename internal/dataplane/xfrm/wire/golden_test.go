package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden is a message that ip(8) sent.
type golden struct {
	command string
	typ     string
	data    []byte
}

func goldens(t testing.TB) map[string]golden {
	t.Helper()
	text, err := os.ReadFile("testdata/iproute2.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]golden{}
	for i, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		if i == 0 {
			continue // what the file is
		}
		lines := strings.Split(block, "\n")
		if len(lines) < 3 {
			t.Fatalf("block %q of three lines at least", block)
		}
		data, err := hex.DecodeString(strings.Join(lines[2:], ""))
		if err != nil {
			t.Fatal(err)
		}
		typ, _, _ := strings.Cut(lines[1], " ")
		all[strings.TrimPrefix(lines[0], "ip xfrm ")] = golden{lines[0], typ, data}
	}
	return all
}

func seqBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

var (
	a4, b4 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	a6, b6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	net1   = netip.MustParsePrefix("10.1.0.0/24")
	net2   = netip.MustParsePrefix("10.2.0.0/24")
	any4   = netip.MustParsePrefix("0.0.0.0/0")
	esp    = uint8(50)
)

// anySel is the selector that ip(8) gives an SA without one.
func anySel() Selector { return Selector{} }

func sel(src, dst netip.Prefix) Selector {
	return Selector{Src: src, Dst: dst, Family: FamilyOf(src.Addr())}
}

func cbc() *Alg { return &Alg{"cbc(aes)", seqBytes(16)} }

func sha1() *AuthAlg { return &AuthAlg{"hmac(sha1)", seqBytes(20), 96} }

func gcm(bits uint32) *AEAD { return &AEAD{"rfc4106(gcm(aes))", seqBytes(20), bits} }

func espSA(spi, reqid uint32, f func(*SA)) *SA {
	s := &SA{Src: a4, Dst: b4, SPI: spi, Proto: esp, ReqID: reqid, Family: FamilyIPv4, Mode: ModeTunnel, Limits: NoLimits(), Sel: anySel()}
	f(s)
	return s
}

type appender interface{ Append([]byte) []byte }

type flush uint8

func (f flush) Append(b []byte) []byte { return AppendFlush(b, uint8(f)) }

func u8(v uint8) *uint8 { return &v }

// TestGoldenBytes: what we send is what ip(8) sends for the same wish, but for
// the order of attributes.
func TestGoldenBytes(t *testing.T) {
	all := goldens(t)
	v6prefix := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, 128) }
	fd1, fd2 := netip.MustParsePrefix("fd01::/64"), netip.MustParsePrefix("fd02::/64")
	cases := map[string]struct {
		typ Type
		msg appender
	}{
		"state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001 mode tunnel reqid 7 replay-window 32 enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213 96": {NewSA, espSA(0x1001, 7, func(s *SA) {
			s.Window, s.Crypt, s.Auth = 32, cbc(), sha1()
		})},
		"state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1002 mode tunnel reqid 8 flag af-unspec aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128 sel src 10.1.0.0/24 dst 10.2.0.0/24": {NewSA, espSA(0x1002, 8, func(s *SA) {
			s.Flags, s.AEAD, s.Sel = FlagAFUnspec, gcm(128), sel(net1, net2)
		})},
		"state add src 2001:db8::1 dst 2001:db8::2 proto esp spi 0x1003 mode transport reqid 9 replay-window 128 enc ecb(cipher_null) 0x auth-trunc hmac(sha256) 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128 sel src 2001:db8::1/128 dst 2001:db8::2/128 proto udp sport 1000 dport 2000": {NewSA, espSA(0x1003, 9, func(s *SA) {
			s.Src, s.Dst, s.Family, s.Mode = a6, b6, FamilyIPv6, ModeTransport
			s.Crypt, s.Auth = &Alg{Name: "ecb(cipher_null)"}, &AuthAlg{"hmac(sha256)", seqBytes(32), 128}
			s.ESN = &ReplayESN{Window: 128}
			s.Sel = sel(v6prefix(a6), v6prefix(b6))
			s.Sel.Proto, s.Sel.SrcPort, s.Sel.SrcMask, s.Sel.DstPort, s.Sel.DstMask = 17, 1000, 0xffff, 2000, 0xffff
		})},
		"state add src 192.0.2.1 dst 192.0.2.2 proto ah spi 0x1004 mode transport reqid 10 auth-trunc hmac(md5) 0x000102030405060708090a0b0c0d0e0f 96": {NewSA, espSA(0x1004, 10, func(s *SA) {
			s.Proto, s.Mode, s.Auth = 51, ModeTransport, &AuthAlg{"hmac(md5)", seqBytes(16), 96}
		})},
		"state add src 192.0.2.1 dst 192.0.2.2 proto comp spi 0x0100 mode tunnel reqid 11 comp deflate": {NewSA, espSA(0x100, 11, func(s *SA) {
			s.Proto, s.Comp = 108, &Alg{Name: "deflate"}
		})},
		"state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1005 mode tunnel reqid 12 flag esn replay-window 64 replay-oseq 5 replay-oseq-hi 1 aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 64": {NewSA, espSA(0x1005, 12, func(s *SA) {
			s.Flags, s.AEAD, s.ESN = FlagESN, gcm(64), &ReplayESN{Window: 64, Sent: 1<<32 + 5}
		})},
		"state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1006 mode tunnel reqid 13 enc cbc(des3_ede) 0x000102030405060708090a0b0c0d0e0f1011121314151617 auth-trunc hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213 96 encap espinudp 4500 1025 0.0.0.0": {NewSA, espSA(0x1006, 13, func(s *SA) {
			s.Crypt, s.Auth, s.Encap = &Alg{"cbc(des3_ede)", seqBytes(24)}, sha1(), &Encap{SrcPort: 4500, DstPort: 1025}
		})},
		"state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1007 mode tunnel mark 0x5 mask 0xff reqid 14 extra-flag dont-encap-dscp output-mark 0x7 mask 0xff if_id 42 enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213 96 limit byte-soft 1000 limit byte-hard 2000 limit time-soft 30 limit time-hard 60 limit packet-soft 10 limit packet-hard 20 limit time-use-soft 3 limit time-use-hard 4": {NewSA, espSA(0x1007, 14, func(s *SA) {
			s.Mark, s.OutMark, s.IfID, s.ExtraFlags = &Mark{5, 0xff}, &Mark{7, 0xff}, 42, ExtraDontEncapDSCP
			s.Crypt, s.Auth = cbc(), sha1()
			s.Limits = Limits{1000, 2000, 10, 20, 30, 60, 3, 4}
		})},
		"state update src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001 mode tunnel reqid 7 replay-window 32 replay-seq 9 enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f auth-trunc hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213 96": {UpdSA, espSA(0x1001, 7, func(s *SA) {
			s.Window, s.Crypt, s.Auth, s.Replay = 32, cbc(), sha1(), &Replay{Seen: 9}
		})},
		"state allocspi src 192.0.2.2 dst 192.0.2.1 proto esp mode tunnel reqid 15 min 0x1000 max 0x2000": {AllocSPI, &SPIRequest{SA: *espSA(0, 15, func(s *SA) {
			s.Src, s.Dst = b4, a4
			s.Limits = Limits{}
		}), Min: 0x1000, Max: 0x2000}},
		"state allocspi src 2001:db8::2 dst 2001:db8::1 proto comp mode transport reqid 16 min 256 max 61439": {AllocSPI, &SPIRequest{SA: *espSA(0, 16, func(s *SA) {
			s.Src, s.Dst, s.Family, s.Proto, s.Mode = b6, a6, FamilyIPv6, 108, ModeTransport
			s.Limits = Limits{}
		}), Min: 256, Max: 61439}},
		"state delete src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001":                    {DelSA, &ID{Dst: b4, Src: a4, SPI: 0x1001, Family: FamilyIPv4, Proto: esp}},
		"state get src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001":                       {GetSA, &ID{Dst: b4, Src: a4, SPI: 0x1001, Family: FamilyIPv4, Proto: esp}},
		"state delete src 2001:db8::1 dst 2001:db8::2 proto ah spi 0x1001 mark 5 mask 255": {DelSA, &ID{Dst: b6, Src: a6, SPI: 0x1001, Family: FamilyIPv6, Proto: 51, Mark: &Mark{5, 255}}},
		"state flush proto esp": {FlushSA, flush(esp)},
		"policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out priority 1000 tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 7 mode tunnel": {NewPolicy, &Policy{
			Sel: sel(net1, net2), Limits: NoLimits(), Priority: 1000, Dir: DirOut,
			Templates: []Template{{Src: a4, Dst: b4, Proto: esp, Family: FamilyIPv4, ReqID: 7, Mode: ModeTunnel}},
		}},
		"policy add src 10.2.0.0/24 dst 10.1.0.0/24 dir fwd index 18 ptype main priority 1001 if_id 42 mark 1 mask 3 flag icmp tmpl src 192.0.2.2 dst 192.0.2.1 proto comp reqid 8 mode tunnel level use tmpl src 0.0.0.0 dst 0.0.0.0 proto esp spi 0x1234 reqid 9 mode transport": {NewPolicy, &Policy{
			Sel: sel(net2, net1), Limits: NoLimits(), Priority: 1001, Dir: DirFwd, Index: 18, Flags: 2, IfID: 42, Mark: &Mark{1, 3}, Type: u8(0),
			Templates: []Template{
				{Src: b4, Dst: a4, Proto: 108, Family: FamilyIPv4, ReqID: 8, Mode: ModeTunnel, Optional: true},
				{Src: any4.Addr(), Dst: any4.Addr(), SPI: 0x1234, Proto: esp, Family: FamilyIPv4, ReqID: 9},
			},
		}},
		"policy add src fd01::/64 dst fd02::/64 proto tcp sport 1000 dport 22 dir in action block priority 2": {NewPolicy, &Policy{
			Sel:    Selector{Src: fd1, Dst: fd2, Family: FamilyIPv6, Proto: 6, SrcPort: 1000, SrcMask: 0xffff, DstPort: 22, DstMask: 0xffff},
			Limits: NoLimits(), Priority: 2, Dir: DirIn, Action: Block,
		}},
		"policy update src fd01::/64 dst fd02::/64 dir out priority 3":                 {UpdPolicy, &Policy{Sel: sel(fd1, fd2), Limits: NoLimits(), Priority: 3, Dir: DirOut}},
		"policy delete src 10.1.0.0/24 dst 10.2.0.0/24 dir out":                        {DelPolicy, &PolicyID{Sel: sel(net1, net2), Dir: DirOut}},
		"policy get src 10.1.0.0/24 dst 10.2.0.0/24 dir out":                           {GetPolicy, &PolicyID{Sel: sel(net1, net2), Dir: DirOut}},
		"policy delete src 10.1.0.0/24 dst 10.2.0.0/24 dir out if_id 42 mark 1 mask 3": {DelPolicy, &PolicyID{Sel: sel(net1, net2), Dir: DirOut, IfID: 42, Mark: &Mark{1, 3}}},
		"policy delete index 17 dir out":                                               {DelPolicy, &PolicyID{Sel: Selector{Family: FamilyIPv4}, Index: 17, Dir: DirOut}},
		"policy set hthresh4 24 16 hthresh6 64 48":                                     {NewSPDInfo, &SPDInfo{Thresholds4: &Thresholds{24, 16}, Thresholds6: &Thresholds{64, 48}}},
	}
	for name, g := range all {
		c, ok := cases[name]
		if !ok {
			t.Errorf("nothing is said about %q", name)
			continue
		}
		delete(cases, name)
		if g.typ != c.typ.String() {
			t.Errorf("%s: type %s, want %s", name, c.typ, g.typ)
		}
		if got, want := canonical(c.typ, c.msg.Append(nil)), canonical(c.typ, g.data); got != want {
			t.Errorf("%s: -ip(8) +ours\n%s", name, cmp.Diff(want, got))
		}
	}
	for name := range cases {
		t.Errorf("ip(8)'s %q is not in testdata", name)
	}
}

// fixedLen is how long a message is without its attributes.
var fixedLen = map[Type]int{
	NewSA: saSize, UpdSA: saSize, AllocSPI: saSize + 8, DelSA: said, GetSA: said, FlushSA: 1, NewPolicy: policySize,
	UpdPolicy: policySize, DelPolicy: policyIDLen, GetPolicy: policyIDLen, NewSPDInfo: 4,
}

// canonical prints a message with its attributes in an order of their own.
func canonical(t Type, b []byte) string {
	n := fixedLen[t]
	var lines []string
	if err := attributes(b[n:], func(t attr, v []byte) error {
		lines = append(lines, fmt.Sprintf("attribute %d: %x", t, v))
		return nil
	}); err != nil {
		lines = append(lines, err.Error())
	}
	slices.Sort(lines)
	var out bytes.Buffer
	for i := 0; i < n; i += 8 {
		fmt.Fprintf(&out, "%3d %x\n", i, b[i:min(i+8, n)])
	}
	return out.String() + strings.Join(lines, "\n")
}
