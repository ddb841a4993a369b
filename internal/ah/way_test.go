package ah

import (
	"bytes"
	"fmt"
	"testing"

	"oakley/internal/ipsec"
)

// Every option of the table in RFC 4302 appendix A1, and one that it does not
// know: the last byte of its data is changed on the way.
func TestEveryOptionOfIPv4(t *testing.T) {
	tr := transform(t, ipsec.AuthHMACSHA1, false)
	for _, c := range []struct {
		name    string
		option  string
		mutable bool
	}{
		{"security", "8204 0001", false},
		{"extended security", "8504 0001", false},
		{"commercial security", "8604 0001", false},
		{"router alert", "9404 0000", false},
		{"sender directed delivery", "9504 0001", false},
		{"record route", "0707 04 00000000 01", true},
		{"timestamp", "4408 0500 00000000", true},
		{"traceroute", "520c 0000 0000 0000 0a000001", true},
		{"stream identifier", "8804 0001", true},
		{"MTU probe", "0b04 05dc", true},
		{"MTU reply", "0c04 05dc", true},
		{"experimental flow", "cd04 0001", true},
		{"unknown", "5e04 0001", true},
	} {
		o := unhex(c.option)
		last := 20 + int(o[1]) - 1
		for len(o)%4 != 0 {
			o = append(o, 1)
		}
		pkt := seal(t, tr, ipv4(o, payload), 3)
		pkt[last] ^= 0x40
		if _, drop := tr.Open(pkt, 0); (drop == ipsec.DropNone) != c.mutable {
			t.Errorf("%s, mutable %t, was changed: %v", c.name, c.mutable, drop)
		}
	}
}

// A source route of two stops, at each of them: the router swaps the next address
// with its own and moves the pointer on (RFC 791 section 3.1).
func TestSourceRouteOnItsWay(t *testing.T) {
	for _, kind := range []string{"83", "89"} {
		tr := transform(t, ipsec.AuthHMACSHA1, false)
		pkt := seal(t, tr, ipv4(unhex(kind+"0b04 c0000201 c0000202 00"), payload), 3)
		for stop := range 2 {
			dst, addr := pkt[16:20], pkt[23+4*stop:][:4]
			copy(dst, addr)
			copy(addr, []byte{10, 9, 9, byte(stop)})
			pkt[22] += 4
		}
		if pkt[19] != 2 {
			t.Fatalf("option %s ends at %x", kind, pkt[16:20])
		}
		if _, drop := tr.Open(bytes.Clone(pkt), 0); drop != ipsec.DropNone {
			t.Errorf("option %s at its end: %v", kind, drop)
		}
		pkt[19] ^= 1
		if _, drop := tr.Open(pkt, 0); drop != ipsec.DropAuth {
			t.Errorf("option %s at another end: %v", kind, drop)
		}
	}
}

// A routing header with three stops (RFC 2460 section 4.4).
func TestRoutingHeaderOfThreeStops(t *testing.T) {
	tr := transform(t, ipsec.AuthHMACSHA1, false)
	segments := []byte{0, 3, 0, 0, 0, 0}
	for i := range 3 {
		segments = append(segments, unhex(fmt.Sprintf("20010db80000000000000000000000%02x", 0xa1+i))...)
	}
	pkt := seal(t, tr, ipv6([]ext{{43, segments}}, 17, payload), 3)
	for stop := range 3 {
		dst, addr := pkt[24:40], pkt[48+16*stop:][:16]
		for i := range dst {
			dst[i], addr[i] = addr[i], dst[i]
		}
		pkt[43]--
		if _, drop := tr.Open(bytes.Clone(pkt), 0); drop != ipsec.DropNone {
			t.Errorf("stop %d: %v", stop+1, drop)
		}
	}
	pkt[48] ^= 1
	if _, drop := tr.Open(pkt, 0); drop != ipsec.DropAuth {
		t.Errorf("by another way: %v", drop)
	}
}

// What is refused is as it was.
func TestRefusedIsUnchanged(t *testing.T) {
	for _, a := range Auths() {
		tr := transform(t, a, true)
		for name, plain := range packets() {
			pkt := seal(t, tr, bytes.Clone(plain), 3)
			before := bytes.Clone(pkt)
			if _, drop := tr.Open(pkt, 1); drop != ipsec.DropAuth || !bytes.Equal(pkt, before) {
				t.Errorf("%s, %s: %v\nafter  %x\nbefore %x", a, name, drop, pkt, before)
			}
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, a := range []ipsec.Auth{ipsec.AuthHMACSHA1, ipsec.AuthHMACSHA256, ipsec.AuthAESGMAC} {
		b.Run(fmt.Sprint(a), func(b *testing.B) {
			tr := transform(b, a, false)
			pkt := seal(b, tr, ipv4(nil, make([]byte, 1380)), 1)
			work := make([]byte, len(pkt))
			b.SetBytes(int64(len(pkt)))
			b.ReportAllocs()
			for b.Loop() {
				copy(work, pkt)
				if _, drop := tr.Open(work, 0); drop != ipsec.DropNone {
					b.Fatal(drop)
				}
			}
		})
	}
}
