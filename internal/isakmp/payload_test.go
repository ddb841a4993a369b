package isakmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"oakley/internal/doi"
)

func TestGoldenBytesOfEveryPayload(t *testing.T) {
	seen := map[doi.Payload]bool{}
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			if got := BodyOf(s.payload); !bytes.Equal(got, s.body()) {
				t.Fatalf("appended\n%x, expected\n%x", got, s.body())
			}
			m, err := Parse(around(s.payload.Kind(), s.body()))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Payload{s.payload}, m.Payloads); diff != "" && !sameButEmpty(s.payload, m.Payloads[0]) {
				t.Errorf("parsed differs (-expected +got):\n%s", diff)
			}
			if got := m.Payloads[0].String(); got != s.words {
				t.Errorf("in words\n%s, expected\n%s", got, s.words)
			}
		})
		seen[s.payload.Kind()] = true
	}
	for kind, parser := range parsers {
		if parser != nil && !seen[doi.Payload(kind)] {
			t.Errorf("%s has no golden bytes", doi.Payload(kind))
		}
	}
}

// sameButEmpty: nil and empty slices are the same thing on the wire.
func sameButEmpty(a, b Payload) bool {
	return cmp.Equal(a, b, cmp.Transformer("len", func(b []Attribute) []Attribute {
		return append([]Attribute{}, b...)
	}))
}

// TestEveryCutOfABody: a body cut anywhere, all lengths around it corrected, is
// refused or is another good payload; and what is refused is refused at a place
// in the message, with an error notification to answer it.
func TestEveryCutOfABody(t *testing.T) {
	for _, s := range samples() {
		body := s.body()
		for n := range body {
			b := around(s.payload.Kind(), body[:n])
			m, err := Parse(b)
			if err == nil {
				if got := m.Append(nil); !bytes.Equal(got, b) {
					t.Errorf("%s cut to %d bytes: parsed, but is appended as\n%x, not\n%x", s.name, n, got, b)
				}
				continue
			}
			wellPlaced(t, err, len(b))
		}
	}
}

// TestFixedPartsAreNeverOptional: no body shorter than the payload's fixed part
// is taken.
func TestFixedPartsAreNeverOptional(t *testing.T) {
	fixed := map[doi.Payload]int{
		doi.PayloadSA: saFixed + GenericLen + proposalFixed + GenericLen + transformFixed, doi.PayloadKE: 1,
		doi.PayloadID: idFixed + 1, doi.PayloadCert: 2, doi.PayloadCertReq: 1, doi.PayloadHash: 1, doi.PayloadSig: 1,
		doi.PayloadNonce: MinNonce, doi.PayloadNotify: notifyFixed, doi.PayloadDelete: deleteFixed + 4,
		doi.PayloadNATD: 1, doi.PayloadNATOA: natoaFixed + 4,
	}
	for _, s := range samples() {
		for n := range min(fixed[s.payload.Kind()], len(s.body())) {
			if m, err := Parse(around(s.payload.Kind(), s.body()[:n])); err == nil {
				t.Errorf("%s: %d bytes were taken for %s", s.name, n, m.Payloads[0])
			}
		}
	}
}

func wellPlaced(t *testing.T, err error, size int) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T, not *Error: %v", err, err)
	}
	if e.Offset < 0 || e.Offset > size || !e.Notify.IsError() || e.Reason == "" {
		t.Errorf("an error at byte %d of %d, notification %s: %q", e.Offset, size, e.Notify, e.Reason)
	}
}

// TestParsedPayloadsDoNotRunOver: appending to a parsed field leaves the bytes
// behind it alone.
func TestParsedPayloadsDoNotRunOver(t *testing.T) {
	var ps []Payload
	for _, s := range samples() {
		ps = append(ps, s.payload)
	}
	b := message(ps...)
	before := bytes.Clone(b)
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	scribble := func(field []byte) { _ = append(field, 0xee, 0xee) }
	for i, p := range m.Payloads {
		scribble(m.Raw(i))
		scribble(m.Body(i))
		scribble(m.After(i))
		switch p := p.(type) {
		case *SA:
			for _, pr := range p.Proposals {
				scribble(pr.SPI)
				_ = append(pr.Transforms, Transform{Number: 0xee})
				for _, tr := range pr.Transforms {
					_ = append(tr.Attributes, Basic(0x6e, 0xeeee))
					for _, a := range tr.Attributes {
						scribble(a.Value)
					}
				}
			}
		case *KE:
			scribble(p.Data)
		case *ID:
			scribble(p.Data)
		case *Cert:
			scribble(p.Data)
		case *CertReq:
			scribble(p.Data)
		case *Hash:
			scribble(p.Data)
		case *Sig:
			scribble(p.Data)
		case *Nonce:
			scribble(p.Data)
		case *Notify:
			scribble(p.SPI)
			scribble(p.Data)
		case *Delete:
			for _, s := range p.SPIs {
				scribble(s)
			}
		case *Vendor:
			scribble(p.Data)
		case *NATD:
			scribble(p.Data)
		case *NATOA:
			scribble(p.Data)
		case *Unknown:
			scribble(p.Data)
		default:
			t.Fatalf("%T is not looked at", p)
		}
	}
	if !bytes.Equal(b, before) {
		t.Error("appending to a parsed field wrote into the datagram")
	}
	if got := m.Append(nil); !bytes.Equal(got, before) {
		t.Error("appending to a parsed field changed the message")
	}
}

func TestAttributes(t *testing.T) {
	for _, c := range []struct {
		a    Attribute
		want uint64
		ok   bool
	}{
		{Basic(1, 0), 0, true},
		{Basic(1, 65535), 65535, true},
		{Uint(1, 65535), 65535, true},
		{Uint(1, 65536), 65536, true},
		{Uint(1, 1<<32), 1 << 32, true},
		{Uint(1, 1<<64-1), 1<<64 - 1, true},
		{Variable(1, []byte{7}), 7, true},
		{Variable(1, make([]byte, 100)), 0, true},
		{Variable(1, append(make([]byte, 100), 1, 0)), 256, true},
		{Variable(1, nil), 0, false},
		{Variable(1, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0}), 0, false},
	} {
		got, ok := c.a.Uint()
		if got != c.want || ok != c.ok {
			t.Errorf("%x is %d, %t; expected %d, %t", c.a.Value, got, ok, c.want, c.ok)
		}
	}
	for v, length := range map[uint64]int{0: 2, 65535: 2, 65536: 4, 1<<32 - 1: 4, 1 << 32: 8} {
		if a := Uint(5, v); len(a.Value) != length || a.Basic != (length == 2) {
			t.Errorf("Uint(%d) has %d bytes, basic %t; expected %d", v, len(a.Value), a.Basic, length)
		}
	}
	same := Variable(1, []byte{0, 0, 0, 5})
	for _, c := range []struct {
		a, b Attribute
		want bool
	}{
		{Basic(1, 5), same, true},
		{Basic(2, 5), same, false},
		{Basic(1, 6), same, false},
		{Variable(1, nil), Variable(1, []byte{}), true},
		{Variable(1, nil), Basic(1, 0), false},
		{Basic(1, 0), Variable(1, []byte{0}), true},
	} {
		if c.a.Equal(c.b) != c.want || c.b.Equal(c.a) != c.want {
			t.Errorf("%v and %v equal: expected %t", c.a, c.b, c.want)
		}
	}
}

func TestVendorNames(t *testing.T) {
	fragments := append(bytes.Clone(VendorFragment), 0x80, 0, 0, 0)
	for want, id := range map[string][]byte{
		"RFC 3947":                fromHex("4a131c81070358455c5728f20e95452f"),
		"NAT-T draft 03":          fromHex("7d9419a65310ca6f2c179d9215529d56"),
		"NAT-T draft 02, newline": fromHex("90cb80913ebb696e086381b5ec427b1f"),
		"NAT-T draft 02":          fromHex("cd60464335df21f87cfdb2fc68b6a448"),
		"DPD RFC 3706":            fromHex("afcad71368a1f1c96b8696fc77570100"),
		"XAUTH":                   fromHex("09002689dfd6b712"),
		"Cisco Unity":             fromHex("12f5f28c457168a9702d9fe274cc0100"),
		"FRAGMENTATION":           fragments,
		"09002689dfd6b713":        fromHex("09002689dfd6b713"),
		"":                        {},
		"0000000000000000000000000000000000000000... 60000 bytes": make([]byte, 60000),
	} {
		if got := VendorName(id); got != want {
			t.Errorf("vendor ID %.40x is %q, expected %q", id, got, want)
		}
	}
}

func TestLives(t *testing.T) {
	seconds := Transform{ID: 1, Attributes: []Attribute{Basic(uint16(doi.IKELifeDuration), 60)}}
	if diff := cmp.Diff([]Life{{doi.LifeSeconds, 60}}, seconds.Lives(doi.ProtoISAKMP)); diff != "" {
		t.Errorf("a duration without a unit:\n%s", diff)
	}
	if l := seconds.Lives(doi.ProtoESP); l != nil {
		t.Errorf("phase 1's numbers were read as phase 2's: %v", l)
	}
	odd := Transform{ID: 1, Attributes: []Attribute{Variable(uint16(doi.SALifeType), []byte{0, 1, 0, 1}), Basic(uint16(doi.SALifeDuration), 60)}}
	if diff := cmp.Diff([]Life{{0, 60}}, odd.Lives(doi.ProtoESP)); diff != "" {
		t.Errorf("a unit of 65537 is no unit:\n%s", diff)
	}
	n := &Notify{Protocol: doi.ProtoESP, Data: fromHex(`80010001 00020004 00015180 80010002 00020004 000186a0`)}
	want := []Life{{doi.LifeSeconds, 86400}, {doi.LifeKilobytes, 100000}}
	if diff := cmp.Diff(want, n.Lives()); diff != "" {
		t.Errorf("the example of RFC 2407 section 4.5.2:\n%s", diff)
	}
	n.Data = n.Data[:len(n.Data)-1]
	if l := n.Lives(); l != nil {
		t.Errorf("broken data has lifetimes %v", l)
	}
}

// TestPayloadsTooLongForTheWireAreOurMistake and never a wrong length.
func TestPayloadsTooLongForTheWireAreOurMistake(t *testing.T) {
	longest := message(&Vendor{Data: make([]byte, 0xffff-GenericLen)})
	if n := binary.BigEndian.Uint16(longest[HeaderLen+2:]); n != 0xffff {
		t.Errorf("the longest payload says %d", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("a payload of 65536 bytes was appended")
		}
	}()
	message(&Vendor{Data: make([]byte, 0x10000-GenericLen)})
}
