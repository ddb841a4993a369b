package isakmp

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"oakley/internal/doi"
)

func firstMessage() []byte {
	return message(samples()[0].payload, &Vendor{Data: VendorNATT}, &Vendor{Data: VendorDPD})
}

func TestMainModeFirstMessage(t *testing.T) {
	b := fromHex(`0011223344556677 0000000000000000 01 10 02 00 00000000 00000080
		0d000038 00000001 00000001 0000002c 01010001 00000024 01010000
		80010005 80020002 80030001 80040002 800b0001 000c0004 00000e10
		0d000014 4a131c81070358455c5728f20e95452f
		00000018 afcad71368a1f1c96b8696fc77570100 deadbeef`)
	binary.BigEndian.PutUint32(b[offLength:], uint32(len(b)))
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	const want = "I 0011223344556677 R 0000000000000000 phase 1 ID_PROT: " +
		"sa(doi ipsec, proposal 1 isakmp: 3DES_CBC SHA PRE_SHARED MODP_1024 life 3600s), " +
		"vendor(RFC 3947), vendor(afcad71368a1f1c96b8696fc77570100deadbeef)"
	if m.String() != want {
		t.Errorf("in words\n%s, expected\n%s", m, want)
	}
	if got := m.Append(nil); !bytes.Equal(got, b) {
		t.Errorf("appended\n%x, expected\n%x", got, b)
	}
	if got := m.Body(0); !bytes.Equal(got, b[HeaderLen+4:HeaderLen+0x38]) {
		t.Errorf("SAi_b is %x", got)
	}
	if got := m.Raw(1); !bytes.Equal(got, b[HeaderLen+0x38:HeaderLen+0x38+0x14]) {
		t.Errorf("payload 1 is %x", got)
	}
	if got := m.After(0); !bytes.Equal(got, b[HeaderLen+0x38:]) {
		t.Errorf("after payload 0 come %x", got)
	}
	if got := m.After(2); len(got) != 0 {
		t.Errorf("after the last payload come %x", got)
	}
}

func TestHeaderBytes(t *testing.T) {
	b := fromHex(`0011223344556677 8899aabbccddeeff 08 10 20 03 deadbeef 0000005c`)
	h, err := ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	want := Header{
		Initiator: Cookie(b[:8]), Responder: Cookie(b[8:16]), NextPayload: doi.PayloadHash, Version: Version,
		Exchange: doi.ExchangeQuick, Flags: FlagEncrypted | FlagCommit, MessageID: 0xdeadbeef, Length: 0x5c,
	}
	if h != want {
		t.Errorf("parsed %+v", h)
	}
	if got := AppendHeader([]byte{1}, h); !bytes.Equal(got[1:], b) {
		t.Errorf("appended %x", got)
	}
	if s := h.String(); s != "I 0011223344556677 R 8899aabbccddeeff phase 2 QUICK_MODE[EC] msgid deadbeef" {
		t.Errorf("in words %s", s)
	}
	if err := h.CheckLength(0x5c); err != nil {
		t.Error(err)
	}
	if err := h.CheckLength(0x5b); err == nil {
		t.Error("a datagram one byte short was taken")
	}
}

func TestEveryPrefixOfAGoodMessageIsRefused(t *testing.T) {
	var ps []Payload
	for _, s := range samples() {
		ps = append(ps, s.payload)
	}
	whole := message(ps...)
	if _, err := Parse(whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		cut := bytes.Clone(whole[:n])
		_, err := Parse(cut)
		if err == nil {
			t.Fatalf("%d of %d bytes were taken for a message", n, len(whole))
		}
		wellPlaced(t, err, len(whole))
		if n < HeaderLen {
			continue
		}
		// The same with a header that owns up to it: the payloads are short now.
		binary.BigEndian.PutUint32(cut[offLength:], uint32(n))
		if _, err := Parse(cut); err == nil {
			t.Fatalf("%d of %d bytes were taken for a message of that length", n, len(whole))
		}
		h, err := ParseHeader(cut)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseDecrypted(h, cut[HeaderLen:]); err == nil {
			t.Fatalf("%d of %d bytes were taken for a decrypted message", n, len(whole))
		}
	}
}

func TestPaddingIsNoPartOfAMessage(t *testing.T) {
	ps := []Payload{&Hash{Data: []byte("hash")}, &Nonce{Data: []byte("a nonce, 16 long")}, samples()[3].payload}
	plain := AppendPayloads(nil, ps)
	h := someHeader()
	h.NextPayload, h.Flags, h.Exchange, h.MessageID = doi.PayloadHash, FlagEncrypted, doi.ExchangeQuick, 7
	for _, n := range []int{0, 1, 7, 15, 255} {
		for _, fill := range []byte{0, 0xff, byte(n)} {
			padding := bytes.Repeat([]byte{fill}, n)
			m, err := ParseDecrypted(h, append(bytes.Clone(plain), padding...))
			if err != nil {
				t.Fatalf("%d bytes of padding: %v", n, err)
			}
			if !bytes.Equal(m.After(0), plain[GenericLen+4:]) {
				t.Errorf("%d bytes of padding: after the hash come %x", n, m.After(0))
			}
			if !bytes.Equal(m.Raw(2), plain[len(plain)-len(m.Raw(2)):]) || len(m.Body(2)) != 8 {
				t.Errorf("%d bytes of padding: the last payload is %x", n, m.Raw(2))
			}
		}
	}
	_, err := ParseDecrypted(h, append(bytes.Clone(plain), make([]byte, 256)...))
	if err == nil {
		t.Error("256 bytes of padding were taken")
	}
	h.NextPayload = doi.PayloadNone
	if _, err := ParseDecrypted(h, make([]byte, 16)); err == nil {
		t.Error("a body of padding alone was taken")
	}
}

func TestMessagesThatWereNotParsedHaveBytesToo(t *testing.T) {
	ps := []Payload{&Hash{Data: []byte("hash")}, &Nonce{Data: []byte("a nonce, 16 long")}}
	m := &Message{Header: someHeader(), Payloads: ps}
	parsed, err := Parse(m.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := range ps {
		if !bytes.Equal(m.Raw(i), parsed.Raw(i)) || !bytes.Equal(m.Body(i), parsed.Body(i)) || !bytes.Equal(m.After(i), parsed.After(i)) {
			t.Errorf("payload %d: %x, parsed %x", i, m.Raw(i), parsed.Raw(i))
		}
	}
}

func TestAMessageWithoutPayloadsIsAHeader(t *testing.T) {
	b := message()
	if len(b) != HeaderLen || b[offNextPayload] != 0 || b[offLength+3] != HeaderLen {
		t.Errorf("%x", b)
	}
}

func TestParseLeavesTheDatagramAlone(t *testing.T) {
	b := firstMessage()
	before := bytes.Clone(b)
	m, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = m.String()
	if !bytes.Equal(b, before) {
		t.Error("parsing changed the datagram")
	}
	b[len(b)-1] ^= 1
	if !bytes.Equal(m.Body(2), b[len(b)-16:]) {
		t.Error("payloads are copies; they are meant to point into the datagram")
	}
}

// TestControlBytesNeverAppearRaw is attack D5 at its source.
func TestControlBytesNeverAppearRaw(t *testing.T) {
	evil := []byte("a\x1b[31m\r\nroot@host\x00\x7f\xff\u202e")
	name := func(typ doi.IDType, data []byte) *ID { return &ID{Type: typ, Data: data} }
	m := &Message{Header: someHeader(), Payloads: []Payload{
		name(doi.IDFQDN, evil), name(doi.IDUserFQDN, evil), name(doi.IDKeyID, evil), name(doi.IDASN1DN, evil), name(200, evil),
		name(doi.IDIPv4Addr, evil), &Vendor{Data: evil}, &Unknown{Type: 222, Data: evil}, &Cert{Encoding: 99, Data: evil},
		&Notify{DOI: 1, Protocol: 77, SPI: evil[:8], Type: 5555, Data: evil},
		&Delete{Protocol: 77, SPIs: [][]byte{evil}}, &NATOA{Type: 99, Data: evil},
		&SA{DOI: 9, Situation: 9, Proposals: []Proposal{{Protocol: 9, SPI: evil, Transforms: []Transform{
			{ID: 99, Attributes: []Attribute{Variable(1, evil), Variable(9999, evil)}},
		}}}},
	}}
	printable(t, m.String())
	for _, p := range m.Payloads {
		printable(t, p.String())
	}
}

func printable(t *testing.T, s string) {
	t.Helper()
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			t.Fatalf("byte %#x raw in %q", s[i], s)
		}
	}
}

// TestNamesCannotPassForSomethingElse: a name that reads like another ID or
// like more of the log line is quoted or says its type.
func TestNamesCannotPassForSomethingElse(t *testing.T) {
	for want, id := range map[string]*ID{
		`user-fqdn 10.0.0.1`:        {Type: doi.IDUserFQDN, Data: []byte("10.0.0.1")},
		`fqdn 10.0.0.1`:             {Type: doi.IDFQDN, Data: []byte("10.0.0.1")},
		`"a@b proto 6"`:             {Type: doi.IDUserFQDN, Data: []byte("a@b proto 6")},
		`key-id "x, established"`:   {Type: doi.IDKeyID, Data: []byte("x, established")},
		`key-id "quo\"te"`:          {Type: doi.IDKeyID, Data: []byte(`quo"te`)},
		`key-id 0x00ff`:             {Type: doi.IDKeyID, Data: []byte{0, 0xff}},
		`key-id a~b`:                {Type: doi.IDKeyID, Data: []byte("a~b")},
		`user@example.org`:          {Type: doi.IDUserFQDN, Data: []byte("user@example.org")},
		`ASN1_DN 0x3000`:            {Type: doi.IDASN1DN, Data: []byte{0x30, 0}},
		`ID type 12 0x01`:           {Type: 12, Data: []byte{1}},
		`IPV4_ADDR_SUBNET 0x0a0000`: {Type: doi.IDIPv4Subnet, Data: []byte{10, 0, 0}},
	} {
		if got := id.String(); got != want {
			t.Errorf("%q, expected %q", got, want)
		}
	}
}

func TestLongMessagesHaveShortStrings(t *testing.T) {
	var ps []Payload
	for range MaxPayloads {
		ps = append(ps, &ID{Type: doi.IDFQDN, Data: bytes.Repeat([]byte("x"), MaxName)})
	}
	m, err := Parse(message(ps...))
	if err != nil {
		t.Fatal(err)
	}
	s := m.String()
	if len(s) > maxString+64 || !strings.HasSuffix(s, "... (64 payloads)") {
		t.Errorf("%d bytes, ending in %q", len(s), s[len(s)-40:])
	}
}
