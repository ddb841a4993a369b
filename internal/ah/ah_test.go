package ah

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"oakley/internal/ipsec"
)

func key(n int, step byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i+1) * step
	}
	return b
}

func testSA(a ipsec.Auth, esn bool) *ipsec.SA {
	sa := &ipsec.SA{
		ID:   ipsec.SAID{Proto: ipsec.ProtoAH, SPI: 0xc0ffee01, Dst: netip.MustParseAddr("192.0.2.1")},
		Auth: a, AuthKey: key(a.Info().Key, 3), ESN: esn,
	}
	if a == ipsec.AuthAESGMAC {
		sa.Salt = key(4, 7)
	}
	return sa
}

func transform(t testing.TB, a ipsec.Auth, esn bool) *Transform {
	t.Helper()
	tr, err := New(testSA(a, esn))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

// ipv4 makes a packet with options.
func ipv4(options, payload []byte) []byte {
	p := append(unhex("45b80000 1234 4000 3e11 0000 0a010002 0a020002"), options...)
	p[0] = 0x40 | byte(len(p)/4)
	p = append(p, payload...)
	setLength4(p)
	return p
}

// setLength4 is written anew here, so that the package's own is checked.
func setLength4(p []byte) {
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[10], p[11] = 0, 0
	sum := uint64(0)
	for i := 0; i < int(p[0]&15)*4; i += 2 {
		sum += uint64(p[i])<<8 | uint64(p[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[10:], uint16(^sum))
}

// ipv6 makes a packet whose extension headers are given with their types; their
// own next-header bytes are filled in.
func ipv6(exts []ext, proto byte, payload []byte) []byte {
	p := unhex("6db12345 0000 00 40 20010db8000000010000000000000002 20010db8000000020000000000000002")
	next := 6
	for _, e := range exts {
		p[next] = e.kind
		next = len(p)
		p = append(append(p, 0, byte((len(e.data)+2)/8-1)), e.data...)
	}
	p[next] = proto
	p = append(p, payload...)
	binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	return p
}

type ext struct {
	kind byte
	data []byte // without next header and length
}

var payload = []byte("some bytes of UDP or whatever")

// packets are those of the tests: with every kind of option and header.
func packets() map[string][]byte {
	segments := append([]byte{0, 1, 0, 0, 0, 0}, unhex("20010db8000000020000000000000099")...)
	return map[string][]byte{
		"IPv4":                  ipv4(nil, payload),
		"IPv4, no payload":      ipv4(nil, nil),
		"IPv4, router alert":    ipv4(unhex("94040000"), payload),
		"IPv4, record route":    ipv4(unhex("07070 4 0a0000 01 01"), payload),
		"IPv4, timestamp":       ipv4(unhex("44080500 00000000"), payload),
		"IPv4, loose route":     ipv4(unhex("83070 4 c0000201 00"), payload),
		"IPv4, many":            ipv4(unhex("01 94040000 82040000 07070404040404 01 00 00 00"), payload),
		"IPv4, lying option":    ipv4(unhex("94ff0000"), payload),
		"IPv6":                  ipv6(nil, 17, payload),
		"IPv6, hop-by-hop":      ipv6([]ext{{0, unhex("050200000100")}}, 17, payload),
		"IPv6, mutable option":  ipv6([]ext{{0, unhex("3e04aabbccdd")}}, 17, payload),
		"IPv6, destination":     ipv6([]ext{{60, unhex("1e04aabbccdd")}}, 17, payload),
		"IPv6, both and route":  ipv6([]ext{{0, unhex("050200000100")}, {60, unhex("3e04aabbccdd")}, {43, segments}, {60, unhex("1e0401020304")}}, 17, payload),
		"IPv6, mobility header": ipv6(nil, 135, payload),
	}
}

func seal(t testing.TB, tr *Transform, plain []byte, seq uint64) []byte {
	t.Helper()
	head := tr.HeaderLen(plain[0]>>4 == 6)
	buf := append(make([]byte, head), plain...)
	pkt, err := tr.Seal(buf, head, len(plain), seq)
	if err != nil {
		t.Fatal(err)
	}
	return pkt
}

func TestRoundTrip(t *testing.T) {
	for name, plain := range packets() {
		for _, a := range Auths() {
			for _, esn := range []bool{false, true} {
				tr := transform(t, a, esn)
				seq := uint64(5)
				if esn {
					seq = 9<<32 + 5
				}
				pkt := seal(t, tr, bytes.Clone(plain), seq)
				if spi, low, ok := ParseHeader(pkt); !ok || spi != 0xc0ffee01 || low != 5 {
					t.Fatalf("%s, %s: header %v %d %t", name, a, spi, low, ok)
				}
				want := bytes.Clone(plain)
				if want[0]>>4 == 4 {
					setLength4(want)
				}
				got, drop := tr.Open(bytes.Clone(pkt), uint32(seq>>32))
				if drop != ipsec.DropNone || !bytes.Equal(got, want) {
					t.Fatalf("%s, %s, ESN %t: %v\n got %x\nwant %x", name, a, esn, drop, got, want)
				}
				if _, drop := tr.Open(bytes.Clone(pkt), uint32(seq>>32)+1); esn == (drop == ipsec.DropNone) {
					t.Errorf("%s, %s, ESN %t: another high half gives %v", name, a, esn, drop)
				}
			}
		}
	}
}

// By the book, with nothing but the standard library: what HMAC-MD5-96 covers of
// an IPv4 packet with options and of an IPv6 packet with headers is written down
// by hand.
func TestICVByTheBook(t *testing.T) {
	tr := transform(t, ipsec.AuthHMACMD5, false)
	ah := func(next string) string { return next + " 04 0000 c0ffee01 00000007 000000000000000000000000" }
	body := hex.EncodeToString([]byte("data"))
	for _, c := range []struct {
		name    string
		plain   []byte
		covered string
	}{
		{
			"IPv4", ipv4(unhex("94040000 07070404040404 00"), []byte("data")),
			// Version and length, total length, identification, protocol and
			// addresses stay; the router alert stays, the recorded route does not.
			"48 00 003c 1234 0000 00 33 0000 0a010002 0a020002 94040000 00000000000000 00" + ah("11") + body,
		},
		{
			"IPv4 with a source route", ipv4(unhex("83070 4 c0000201 00"), []byte("data")),
			"47 00 0038 1234 0000 00 33 0000 0a010002 c0000201 00000000000000 00" + ah("11") + body,
		},
		{
			"IPv6", ipv6([]ext{{0, unhex("3e04aabbccdd")}, {60, unhex("1e0401020304")}}, 17, []byte("data")),
			"60000000 002c 00 00 20010db8000000010000000000000002 20010db8000000020000000000000002" +
				"33 00 3e0400000000" + ah("3c") + "11 00 1e0401020304" + body,
		},
	} {
		pkt := seal(t, tr, c.plain, 7)
		m := hmac.New(md5.New, key(16, 3))
		m.Write(unhex(c.covered))
		want := m.Sum(nil)[:12]
		at, ok := find(pkt)
		if !ok || !bytes.Equal(pkt[at.offset+12:][:12], want) {
			t.Errorf("%s: sealed to %x, want the ICV %x", c.name, pkt, want)
		}
	}
}

// Routers change what they may, and nothing else passes.
func TestOnTheWay(t *testing.T) {
	tr := transform(t, ipsec.AuthHMACSHA1, false)
	for name, plain := range packets() {
		pkt := seal(t, tr, bytes.Clone(plain), 3)
		v6 := pkt[0]>>4 == 6
		changed, refused := 0, 0
		for i := range pkt {
			for _, x := range []byte{1, 0x80} {
				b := bytes.Clone(pkt)
				b[i] ^= x
				_, drop := tr.Open(b, 0)
				if drop == ipsec.DropNone {
					changed++
				} else {
					refused++
				}
				mutable := v6 && (i == 1 || i == 2 || i == 3 || i == 7 || i == 0 && x == 1) ||
					!v6 && (i == 1 || i == 6 && x == 0x80 || i == 8 || i == 10 || i == 11)
				if mutable && drop != ipsec.DropNone {
					t.Errorf("%s: byte %d ^ %#x, which routers change, gives %v", name, i, x, drop)
				}
				// On its way along a source route a packet has other destinations.
				mutable = mutable || name == "IPv4, loose route" && i >= 16 && i < 20
				inHeader := i < 20 || v6 && i < 40
				if !mutable && inHeader && drop == ipsec.DropNone {
					t.Errorf("%s: byte %d ^ %#x, which no router changes, passes", name, i, x)
				}
			}
		}
		if changed == 0 || refused == 0 {
			t.Errorf("%s: %d changes passed, %d did not", name, changed, refused)
		}
	}
}

func TestRoutingHeaderArrives(t *testing.T) {
	tr := transform(t, ipsec.AuthHMACSHA1, false)
	segments := append([]byte{0, 1, 0, 0, 0, 0}, unhex("20010db8000000020000000000000099")...)
	pkt := seal(t, tr, ipv6([]ext{{43, segments}}, 17, payload), 3)
	// The first router swaps destination and address, and counts down.
	dst, addr := pkt[24:40], pkt[48:64]
	for i := range dst {
		dst[i], addr[i] = addr[i], dst[i]
	}
	pkt[43]--
	if _, drop := tr.Open(pkt, 0); drop != ipsec.DropNone {
		t.Errorf("at its end: %v", drop)
	}
}

func TestTruncated(t *testing.T) {
	tr := transform(t, ipsec.AuthHMACSHA256, false)
	for name, plain := range packets() {
		pkt := seal(t, tr, bytes.Clone(plain), 3)
		for n := range pkt {
			for _, fix := range []bool{false, true} {
				b := bytes.Clone(pkt[:n])
				if fix && n >= 40 { // a header that agrees with what is left
					setLength(b)
				}
				if _, drop := tr.Open(b, 0); drop == ipsec.DropNone {
					t.Fatalf("%s: the first %d of %d bytes pass", name, n, len(pkt))
				}
				ParseHeader(b)
			}
		}
	}
}

func TestSealRefuses(t *testing.T) {
	tr := transform(t, ipsec.AuthHMACSHA1, false)
	whole := ipv4(nil, payload)
	fragment := bytes.Clone(whole)
	fragment[6] = 0x20
	fragment6 := ipv6([]ext{{44, make([]byte, 6)}}, 17, payload)
	for _, c := range []struct {
		name string
		pkt  []byte
		head int
		seq  uint64
		want error
	}{
		{"sequence 0", whole, 24, 0, ErrSequenceEnd},
		{"sequence end", whole, 24, 1 << 32, ErrSequenceEnd},
		{"no room", whole, 23, 1, ErrRoom},
		{"a fragment", fragment, 24, 1, ErrPacket},
		{"an IPv6 fragment", fragment6, 24, 1, ErrPacket},
		{"nothing", nil, 24, 1, ErrPacket},
		{"rubbish", []byte("no packet at all, but long"), 24, 1, ErrPacket},
		{"too long", ipv4(nil, make([]byte, 65500)), 24, 1, ErrRoom},
	} {
		buf := append(make([]byte, c.head), c.pkt...)
		if _, err := tr.Seal(buf, c.head, len(c.pkt), c.seq); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := tr.Seal(make([]byte, 10), 24, 100, 1); err != ErrRoom {
		t.Errorf("offsets outside: %v", err)
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		change func(*ipsec.SA)
		want   string
	}{
		{func(sa *ipsec.SA) { sa.ID.Proto = ipsec.ProtoESP }, "protocol is esp"},
		{func(sa *ipsec.SA) { sa.Cipher = ipsec.CipherDES }, "AH does not encrypt"},
		{func(sa *ipsec.SA) { sa.AuthKey = nil }, "takes a key of 20 bytes, this one has 0"},
		{func(sa *ipsec.SA) { sa.Salt = make([]byte, 4) }, "takes no salt"},
		{func(sa *ipsec.SA) { sa.Auth = ipsec.AuthAESGMAC }, "takes a key of 16, 24 or 32 bytes, this one has 20"},
		{func(sa *ipsec.SA) { sa.Auth, sa.AuthKey = ipsec.AuthAESGMAC, key(16, 1) }, "takes a salt of 4 bytes"},
	} {
		sa := testSA(ipsec.AuthHMACSHA1, false)
		c.change(sa)
		if _, err := New(sa); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "c0ffee01") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestHeaderLen(t *testing.T) {
	for a, want := range map[ipsec.Auth][2]int{
		ipsec.AuthHMACSHA1: {24, 24}, ipsec.AuthHMACSHA256: {28, 32}, ipsec.AuthHMACSHA384: {36, 40},
		ipsec.AuthHMACSHA512: {44, 48}, ipsec.AuthAESGMAC: {36, 40},
	} {
		tr := transform(t, a, false)
		if got := [2]int{tr.HeaderLen(false), tr.HeaderLen(true)}; got != want {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	tr := transform(f, ipsec.AuthHMACSHA1, true)
	for _, plain := range packets() {
		f.Add(seal(f, tr, bytes.Clone(plain), 3), uint32(0))
	}
	f.Fuzz(func(t *testing.T, pkt []byte, high uint32) {
		ParseHeader(pkt)
		// Whatever is a packet can be sealed, and comes back.
		head := tr.HeaderLen(true)
		buf := append(make([]byte, head), pkt...)
		if out, err := tr.Seal(buf, head, len(pkt), uint64(high)<<32+1); err == nil {
			got, drop := tr.Open(out, high)
			if drop != ipsec.DropNone || len(got) != len(pkt) {
				t.Fatalf("%x: %v, %x", pkt, drop, got)
			}
		}
		if got, drop := tr.Open(pkt, high); drop == ipsec.DropNone && len(got) == 0 {
			t.Fatal("an empty packet")
		}
	})
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("sync.Pool forgets on purpose under the race detector: nothing is counted")
		return
	}
	for _, a := range Auths() {
		for _, plain := range [][]byte{ipv4(nil, make([]byte, 1400)), ipv6(nil, 17, make([]byte, 1400))} {
			tr := transform(t, a, true)
			head := tr.HeaderLen(plain[0]>>4 == 6)
			buf := make([]byte, head+len(plain))
			n := testing.AllocsPerRun(50, func() {
				copy(buf[head:], plain)
				pkt, err := tr.Seal(buf, head, len(plain), 7)
				if err != nil {
					t.Fatal(err)
				}
				if _, drop := tr.Open(pkt, 0); drop != ipsec.DropNone {
					t.Fatal(drop)
				}
			})
			if n != 0 {
				t.Errorf("%s: %v allocations", a, n)
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, a := range []ipsec.Auth{ipsec.AuthHMACSHA1, ipsec.AuthHMACSHA256, ipsec.AuthAESGMAC} {
		b.Run(fmt.Sprint(a), func(b *testing.B) {
			tr := transform(b, a, false)
			plain := ipv4(nil, make([]byte, 1380))
			head := tr.HeaderLen(false)
			buf := make([]byte, head+len(plain))
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for seq := uint64(1); b.Loop(); seq++ {
				copy(buf[head:], plain)
				if _, err := tr.Seal(buf, head, len(plain), seq); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
