package isakmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"oakley/internal/doi"
)

// malformed is a message that is refused, and how.
type malformed struct {
	name    string // attacks are named as in the list of attacks
	bytes   []byte
	payload doi.Payload
	notify  doi.Notify
	offset  int
	reason  string // part of the reason
}

// patch is b with some bytes replaced.
func patch(b []byte, off int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[off:], with)
	return b
}

// sized is b with the header's length corrected.
func sized(b []byte) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b[offLength:], uint32(len(b)))
	return b
}

func malformedHeaders() []malformed {
	good := firstMessage()
	at := func(name string, off int, v byte, n doi.Notify, reason string) malformed {
		return malformed{name, patch(good, off, v), doi.PayloadNone, n, off, reason}
	}
	length := func(name string, n uint32, reason string) malformed {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b[offLength:], n)
		return malformed{name, b, doi.PayloadNone, doi.NotifyUnequalPayloadLengths, offLength, reason}
	}
	return []malformed{
		{"A1 nothing", nil, doi.PayloadNone, doi.NotifyUnequalPayloadLengths, 0, "0 bytes, a header has 28"},
		{"A1 one byte short of a header", good[:27], doi.PayloadNone, doi.NotifyUnequalPayloadLengths, 27, "27 bytes"},
		{"no initiator cookie", patch(good, 0, make([]byte, 8)...), doi.PayloadNone, doi.NotifyInvalidCookie, 0, "cookie is zero"},
		at("no payload", offNextPayload, 0, doi.NotifyInvalidPayloadType, "begins with payload type 0"),
		at("a proposal first", offNextPayload, 2, doi.NotifyInvalidPayloadType, "begins with payload type 2"),
		at("a transform first", offNextPayload, 3, doi.NotifyInvalidPayloadType, "begins with payload type 3"),
		at("A2 IKEv2", offVersion, 0x20, doi.NotifyInvalidMajorVersion, "version 2.0"),
		at("version 0", offVersion, 0, doi.NotifyInvalidMajorVersion, "version 0.0"),
		at("version 1.1", offVersion, 0x11, doi.NotifyInvalidMinorVersion, "version 1.1"),
		at("no exchange", offExchange, 0, doi.NotifyInvalidExchangeType, "type 0 is reserved"),
		at("exchange 7", offExchange, 7, doi.NotifyInvalidExchangeType, "type 7 is reserved"),
		at("exchange 31", offExchange, 31, doi.NotifyInvalidExchangeType, "type 31 is reserved"),
		at("reserved flag", offFlags, 0x08, doi.NotifyInvalidFlags, "0x08"),
		at("all flags", offFlags, 0xff, doi.NotifyInvalidFlags, "0xf8"),
		at("encrypted where clear is expected", offFlags, 1, doi.NotifyInvalidFlags, "encrypted"),
		length("A1 length zero", 0, "length 0"),
		length("A1 length shorter than the header", 27, "length 27"),
		length("A1 length one short", uint32(len(good)-1), fmt.Sprintf("in a datagram of %d", len(good))),
		length("A1 length one long", uint32(len(good)+1), fmt.Sprintf("in a datagram of %d", len(good))),
		length("A1 length of 4 GB", 0xffffffff, "length 4294967295"),
	}
}

func malformedChains() []malformed {
	good := message(&KE{Data: make([]byte, 16)}, &Nonce{Data: make([]byte, 16)})
	second := HeaderLen + GenericLen + 16
	var many []Payload
	for range MaxPayloads + 1 {
		many = append(many, &Vendor{Data: []byte{1}})
	}
	bad := doi.NotifyPayloadMalformed
	return []malformed{
		{"A1 payload of length 0", patch(good, HeaderLen+2, 0, 0), doi.PayloadKE, bad, HeaderLen + 2, "length 0"},
		{"A1 payload of length 3", patch(good, HeaderLen+2, 0, 3), doi.PayloadKE, bad, HeaderLen + 2, "length 3"},
		{"A1 payload longer than the message", patch(good, second+2, 0, 21), doi.PayloadNonce, bad, second + 2, "length 21, but 20 bytes are left"},
		{"A1 payload of length 65535", patch(good, HeaderLen+2, 0xff, 0xff), doi.PayloadKE, bad, HeaderLen + 2, "length 65535"},
		{"A1 payload shorter than the message", patch(good, second+2, 0, 19), doi.PayloadNonce, doi.NotifyUnequalPayloadLengths, second + 19, "1 bytes follow"},
		{"a chain that goes on behind the end", patch(good, second, 13), doi.PayloadVendor, bad, len(good), "0 bytes are left"},
		{"a chain that ends early", patch(good, HeaderLen, 0), doi.PayloadKE, doi.NotifyUnequalPayloadLengths, second, "20 bytes follow"},
		{"reserved byte", patch(good, second+1, 0x80), doi.PayloadNonce, bad, second + 1, "0x80"},
		{"a proposal outside an SA", patch(good, HeaderLen, 2), doi.PayloadKE, doi.NotifyInvalidPayloadType, HeaderLen, "type 2 follows"},
		{"a transform outside an SA", patch(good, HeaderLen, 3), doi.PayloadKE, doi.NotifyInvalidPayloadType, HeaderLen, "type 3 follows"},
		{"A10 65 payloads", message(many...), doi.PayloadVendor, bad, HeaderLen + 64*5, "more than 64 payloads"},
		{"bytes behind the last payload", sized(append(bytes.Clone(good), 0)), doi.PayloadNonce, doi.NotifyUnequalPayloadLengths, len(good), "1 bytes follow"},
		{"half a generic header", sized(append(patch(good, second, 13), 0, 0, 0)), doi.PayloadVendor, bad, len(good), "3 bytes are left"},
	}
}

// offsets into a message whose one payload is a phase 1 SA of one transform.
const (
	saAt        = HeaderLen + GenericLen
	proposalAt  = saAt + saFixed
	transformAt = proposalAt + GenericLen + proposalFixed
	attributeAt = transformAt + GenericLen + transformFixed
)

// one is a message with one SA payload of these proposals.
func one(ps ...Proposal) []byte {
	return message(&SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: ps})
}

func phase1(ts ...Transform) Proposal {
	return Proposal{Number: 1, Protocol: doi.ProtoISAKMP, Transforms: ts}
}

func with(as ...Attribute) Transform {
	return Transform{Number: 1, ID: 1, Attributes: as}
}

func malformedSAs() []malformed {
	good := one(phase1(tripleDES(1)))
	two := one(phase1(with()), phase1(with()))
	pair := one(phase1(with(), Transform{Number: 2, ID: 1}))
	esp := one(Proposal{Number: 1, Protocol: doi.ProtoESP, SPI: []byte{1, 2, 3, 4}, Transforms: []Transform{with()}})
	const (
		malf   = doi.NotifyPayloadMalformed
		syntax = doi.NotifyBadProposalSyntax
		nextAt = proposalAt + GenericLen + proposalFixed + GenericLen + transformFixed // the second proposal of two
		sibAt  = transformAt + GenericLen + transformFixed                             // the second transform of pair
		prop   = doi.PayloadProposal
		tran   = doi.PayloadTransform
	)
	return []malformed{
		{"A2 DOI 0", patch(good, saAt, 0, 0, 0, 0), doi.PayloadSA, doi.NotifyDOINotSupported, saAt, "DOI 0"},
		{"A2 reserved DOI bits", patch(good, saAt, 0x80), doi.PayloadSA, doi.NotifyDOINotSupported, saAt, "DOI 2147483649"},
		{"A2 GDOI", patch(good, saAt+3, 2), doi.PayloadSA, doi.NotifyDOINotSupported, saAt, "DOI 2"},
		{"labelled situation", patch(good, saAt+7, 3), doi.PayloadSA, doi.NotifySituationNotSupported, saAt + 4, "0x3"},
		{"no situation", patch(good, saAt+7, 0), doi.PayloadSA, doi.NotifySituationNotSupported, saAt + 4, "0x0"},
		{"no proposal", one(), doi.PayloadSA, syntax, proposalAt, "no proposal"},
		{"half a proposal", around(doi.PayloadSA, fromHex(`0000000100000001 0000`)), prop, malf, proposalAt, "2 bytes are left"},
		{"an SA ends in a transform", patch(good, proposalAt, 3), prop, syntax, proposalAt, "type 3 follows a proposal"},
		{"a proposal promises another", patch(good, proposalAt, 2), prop, malf, len(good), "0 bytes are left"},
		{"a proposal hides another", patch(two, proposalAt, 0), prop, syntax, nextAt, "16 bytes follow the last proposal"},
		{"reserved byte of a proposal", patch(good, proposalAt+1, 1), prop, malf, proposalAt + 1, "0x01"},
		{"A1 proposal of length 0", patch(good, proposalAt+2, 0, 0), prop, malf, proposalAt + 2, "length 0"},
		{"A1 proposal longer than its SA", patch(good, proposalAt+3, 0x2d), prop, malf, proposalAt + 2, "length 45, but 44"},
		{"A1 proposal shorter than its transforms", patch(good, proposalAt+3, 0x2b), tran, malf, transformAt + 2, "length 36, but 35"},
		{"A1 proposal of a header alone", patch(good, proposalAt+3, 4), prop, malf, proposalAt + 4, "0 bytes, a proposal has at least 4"},
		{"protocol 0", patch(good, proposalAt+5, 0), prop, doi.NotifyInvalidProtocolID, proposalAt + 5, "zero"},
		{"no transform", patch(good, proposalAt+7, 0), prop, syntax, proposalAt + 7, "no transform"},
		{"claims more transforms than it has", patch(good, proposalAt+7, 2), prop, syntax, proposalAt + 7, "claims 2 transforms and has 1"},
		{"claims 255 transforms", patch(good, proposalAt+7, 255), prop, syntax, proposalAt + 7, "claims 255"},
		{"claims fewer transforms than it has", patch(pair, proposalAt+7, 1), prop, syntax, proposalAt + 7, "claims 1 transforms and has 2"},
		{"SPI of 17 bytes", patch(good, proposalAt+6, 17), prop, doi.NotifyInvalidSPI, proposalAt + 6, "17 bytes"},
		{"SPI longer than its proposal", around(doi.PayloadSA, fromHex(`0000000100000001 0000000c 01090801 11111111`)), prop, malf, proposalAt + 6, "8 bytes, but 4 are left"},
		{"ESP without SPI", patch(esp, proposalAt+6, 0), prop, doi.NotifyInvalidSPI, proposalAt + 6, "0 bytes is none of esp's"},
		{"ESP with cookies", patch(esp, proposalAt+6, 16), prop, doi.NotifyInvalidSPI, proposalAt + 6, "16 bytes"},
		{"reserved ESP SPI", patch(esp, proposalAt+8, 0, 0, 0, 255), prop, doi.NotifyInvalidSPI, proposalAt + 8, "0x000000ff is reserved"},
		{"ESP SPI 0", patch(esp, proposalAt+8, 0, 0, 0, 0), prop, doi.NotifyInvalidSPI, proposalAt + 8, "reserved"},
		{"proposal numbers fall", patch(two, proposalAt+4, 2), prop, syntax, nextAt + 4, "proposal 1 after proposal 2"},
		{"a transform is followed by a proposal", patch(good, transformAt, 2), tran, syntax, transformAt, "type 2 follows a transform"},
		{"a transform promises another", patch(good, transformAt, 3), tran, malf, len(good), "0 bytes are left"},
		{"a transform hides another", patch(pair, transformAt, 0), tran, syntax, sibAt, "8 bytes follow the last transform"},
		{"transform numbers repeat", patch(pair, sibAt+4, 1), tran, syntax, sibAt + 4, "transform 1 after transform 1"},
		{"transform ID 0", patch(good, transformAt+5, 0), tran, doi.NotifyInvalidTransformID, transformAt + 5, "reserved"},
		{"reserved byte of a transform", patch(good, transformAt+1, 1), tran, malf, transformAt + 1, "0x01"},
		{"reserved bytes of a transform", patch(good, transformAt+7, 1), tran, malf, transformAt + 6, "0x0001"},
		{"A1 transform of length 0", patch(good, transformAt+2, 0, 0), tran, malf, transformAt + 2, "length 0"},
		{"A1 transform of a header alone", patch(good, transformAt+2, 0, 4), tran, malf, transformAt + 4, "0 bytes, a transform"},
		{"A4 attribute of three bytes", patch(one(phase1(with(Variable(5, []byte{1, 2, 3})))), attributeAt, 0x80, 5, 0, 1), tran, malf, attributeAt + 4, "3 bytes are left"},
		{"A4 attribute longer than its transform", patch(good, attributeAt+5*4+2, 0, 5), tran, malf, attributeAt + 5*4 + 2, "claims 5 bytes, but 4"},
		{"A4 attribute of 65535 bytes", patch(good, attributeAt+5*4+2, 0xff, 0xff), tran, malf, attributeAt + 5*4 + 2, "claims 65535"},
		{"A4 two hashes", one(phase1(with(Basic(2, 1), Basic(2, 2)))), tran, doi.NotifyAttributesNotSupported, attributeAt, "two values of HASH_ALGORITHM"},
		{"A4 two key lengths, one of them long", one(phase1(with(Basic(14, 128), Variable(14, []byte{0, 0, 1, 0})))), tran, doi.NotifyAttributesNotSupported, attributeAt, "KEY_LENGTH"},
		{"A4 two groups for IPComp", one(Proposal{Number: 1, Protocol: doi.ProtoIPComp, SPI: []byte{1, 2}, Transforms: []Transform{with(Basic(3, 1), Basic(3, 2))}}), tran, doi.NotifyAttributesNotSupported, attributeAt + 2, "GROUP_DESCRIPTION"},
		{"A4 two lives in seconds", one(phase1(with(Basic(11, 1), Basic(12, 60), Basic(11, 1), Basic(12, 61)))), tran, doi.NotifyAttributesNotSupported, attributeAt, "LIFE_DURATION"},
		{"A10 33 attributes", one(phase1(with(attributes(33)...))), tran, syntax, attributeAt + 32*4, "more than 32 attributes"},
		{"A10 129 transforms", one(phase1(transforms(129)...)), tran, syntax, transformAt + 128*8, "more than 128 transforms"},
		{"A10 65 proposals", one(proposals(65)...), prop, syntax, proposalAt + 64*16, "more than 64 proposals"},
	}
}

func attributes(n int) (as []Attribute) {
	for i := range n {
		as = append(as, Basic(uint16(100+i), 1))
	}
	return as
}

func transforms(n int) (ts []Transform) {
	for i := range n {
		ts = append(ts, Transform{Number: uint8(i), ID: 1})
	}
	return ts
}

func proposals(n int) (ps []Proposal) {
	for i := range n {
		ps = append(ps, Proposal{Number: uint8(i), Protocol: doi.ProtoISAKMP, Transforms: transforms(1)})
	}
	return ps
}

func malformedOthers() []malformed {
	const malf = doi.NotifyPayloadMalformed
	body := func(name string, p doi.Payload, hex string, n doi.Notify, off int, reason string) malformed {
		return malformed{name, around(p, fromHex(hex)), p, n, HeaderLen + GenericLen + off, reason}
	}
	nonce := func(n int) malformed {
		return malformed{
			fmt.Sprintf("nonce of %d bytes", n), around(doi.PayloadNonce, make([]byte, n)), doi.PayloadNonce, malf,
			HeaderLen + GenericLen, "a nonce has 8 to 256",
		}
	}
	manySPIs := append(fromHex(`00000001 03 04 0081`), make([]byte, 129*4)...)
	id := doi.NotifyInvalidIDInformation
	return []malformed{
		body("A3 empty KE", doi.PayloadKE, "", doi.NotifyInvalidKeyInformation, 0, "empty"),
		body("empty hash", doi.PayloadHash, "", doi.NotifyInvalidHashInformation, 0, "empty"),
		body("empty signature", doi.PayloadSig, "", doi.NotifyInvalidSignature, 0, "empty"),
		nonce(0), nonce(7), nonce(257), nonce(60000),
		body("certificate without encoding", doi.PayloadCert, "", malf, 0, "encoding is missing"),
		body("empty certificate", doi.PayloadCert, "04", doi.NotifyInvalidCertificate, 1, "empty"),
		body("certificate request without encoding", doi.PayloadCertReq, "", malf, 0, "encoding is missing"),
		body("ID of three bytes", doi.PayloadID, "010000", malf, 0, "3 bytes"),
		body("ID without address", doi.PayloadID, "01000000", id, 4, "IPV4_ADDR of 0 bytes, it has 4"),
		body("IPv4 address of 5 bytes", doi.PayloadID, "01000000 0a00000100", id, 4, "of 5 bytes"),
		body("IPv6 address of 4 bytes", doi.PayloadID, "05000000 0a000001", id, 4, "it has 16"),
		body("subnet without mask", doi.PayloadID, "04000000 0a000000", id, 4, "it has 8"),
		body("mask with a hole", doi.PayloadID, "04000000 0a000000 ff00ff00", id, 4, "holes"),
		body("mask with a hole in a byte", doi.PayloadID, "04000000 0a000000 ffa00000", id, 4, "holes"),
		body("range backwards", doi.PayloadID, "07000000 0a000002 0a000001", id, 4, "10.0.0.2-10.0.0.1"),
		body("empty name", doi.PayloadID, "02000000", id, 4, "FQDN is empty"),
		body("empty DN", doi.PayloadID, "09000000", id, 4, "ASN1_DN is empty"),
		body("ID type 0", doi.PayloadID, "00000000 01", id, 4, "type 0 is not known"),
		body("ID type 12", doi.PayloadID, "0c000000 01", id, 4, "type 12 is not known"),
		{
			"name of 512 bytes", around(doi.PayloadID, append(fromHex("02000000"), make([]byte, 512)...)),
			doi.PayloadID, id, HeaderLen + GenericLen + 4, "512 bytes",
		},
		body("notification of 7 bytes", doi.PayloadNotify, "00000001 010000", malf, 0, "7 bytes"),
		body("notification of another DOI", doi.PayloadNotify, "00000002 0100000e", doi.NotifyDOINotSupported, 0, "DOI 2"),
		body("notification with an SPI of 17 bytes", doi.PayloadNotify, "00000001 0111000e"+strings.Repeat("11", 17), doi.NotifyInvalidSPI, 5, "17 bytes"),
		body("notification shorter than its SPI", doi.PayloadNotify, "00000001 0110000e 1111", malf, 5, "16 bytes, but 2 are left"),
		body("notification of type 0", doi.PayloadNotify, "00000001 01000000", malf, 6, "zero"),
		body("delete of 7 bytes", doi.PayloadDelete, "00000001 030400", malf, 0, "7 bytes"),
		body("delete of another DOI", doi.PayloadDelete, "80000001 03040001 01020304", doi.NotifyDOINotSupported, 0, "DOI 2147483649"),
		body("delete of protocol 0", doi.PayloadDelete, "00000001 00040001 01020304", doi.NotifyInvalidProtocolID, 4, "protocol 0"),
		body("delete of protocol 5", doi.PayloadDelete, "00000001 05040001 01020304", doi.NotifyInvalidProtocolID, 4, "protocol 5"),
		body("B3 SPIs of no bytes, 65535 of them", doi.PayloadDelete, "00000001 0300ffff", doi.NotifyInvalidSPI, 5, "0 bytes are none of esp's"),
		body("B3 65535 SPIs in four bytes", doi.PayloadDelete, "00000001 0304ffff 01020304", malf, 6, "claims 65535 SPIs of 4 bytes in 4"),
		body("B3 fewer SPIs than it has", doi.PayloadDelete, "00000001 03040001 01020304 05060708", malf, 6, "claims 1 SPIs of 4 bytes in 8"),
		body("B3 no SPI", doi.PayloadDelete, "00000001 03040000", malf, 6, "no SPI"),
		body("half an SPI", doi.PayloadDelete, "00000001 03040002 01020304 0506", malf, 6, "in 6"),
		body("ESP SPIs of 16 bytes", doi.PayloadDelete, "00000001 03100001 00112233445566778899aabbccddeeff", doi.NotifyInvalidSPI, 5, "16 bytes"),
		body("cookies of 8 bytes", doi.PayloadDelete, "00000001 01080001 0011223344556677", doi.NotifyInvalidSPI, 5, "8 bytes are none of isakmp's"),
		{"B3 129 SPIs", around(doi.PayloadDelete, manySPIs), doi.PayloadDelete, malf, HeaderLen + GenericLen + 6, "129 SPIs, 128 are the most"},
		body("empty NAT-D", doi.PayloadNATD, "", malf, 0, "empty"),
		body("NAT-OA of three bytes", doi.PayloadNATOA, "010000", malf, 0, "3 bytes"),
		body("NAT-OA with reserved byte 1", doi.PayloadNATOA, "01010000 0a000001", malf, 1, "010000"),
		body("NAT-OA with reserved byte 2", doi.PayloadNATOA, "01000100 0a000001", malf, 1, "000100"),
		body("NAT-OA with reserved byte 3", doi.PayloadNATOA, "01000001 0a000001", malf, 1, "000001"),
		body("NAT-OA without address", doi.PayloadNATOA, "01000000", malf, 4, "0 bytes as IPV4_ADDR"),
		body("NAT-OA of the other version's length", doi.PayloadNATOA, "05000000 0a000001", malf, 4, "4 bytes as IPV6_ADDR"),
		body("NAT-OA of a name", doi.PayloadNATOA, "02000000 0a000001", malf, 0, "FQDN is no address"),
		body("NAT-OA of 5 bytes", doi.PayloadNATOA, "01000000 0a00000100", malf, 4, "5 bytes as IPV4_ADDR"),
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	var all []malformed
	all = append(all, malformedHeaders()...)
	all = append(all, malformedChains()...)
	all = append(all, malformedSAs()...)
	all = append(all, malformedOthers()...)
	names := map[string]bool{}
	for _, c := range all {
		if names[c.name] {
			t.Fatalf("two cases are called %q", c.name)
		}
		names[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			m, err := Parse(c.bytes)
			if err == nil {
				t.Fatalf("taken for %s", m)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T: %v", err, err)
			}
			if e.Payload != c.payload || e.Notify != c.notify || e.Offset != c.offset || !strings.Contains(e.Reason, c.reason) {
				t.Errorf("refused with\n  %v\nexpected\n  %s at byte %d: ...%s... (%s)", e, c.payload, c.offset, c.reason, c.notify)
			}
			printable(t, err.Error())
		})
	}
	t.Logf("%d malformed messages", len(all))
}

// TestOddMessagesThatAreRight: what looks odd, and a peer may send.
func TestOddMessagesThatAreRight(t *testing.T) {
	key := Variable(14, []byte{0, 0, 0, 128})
	for name, b := range map[string][]byte{
		"A10 vendor ID of no bytes":          around(doi.PayloadVendor, nil),
		"A10 vendor ID of a byte":            around(doi.PayloadVendor, []byte{1}),
		"A10 vendor ID of 60 000 bytes":      around(doi.PayloadVendor, make([]byte, 60000)),
		"A2 IKEv2 SA payload":                around(33, []byte{1, 2, 3}),
		"A2 encrypted fragment of IKEv2":     around(53, []byte{1, 2, 3}),
		"A2 private payload":                 around(128, []byte{1}),
		"nonce of 8 bytes":                   around(doi.PayloadNonce, make([]byte, MinNonce)),
		"nonce of 256 bytes":                 around(doi.PayloadNonce, make([]byte, MaxNonce)),
		"128 SPIs":                           around(doi.PayloadDelete, append(fromHex(`00000001 03040080`), make([]byte, 128*4)...)),
		"the first ESP SPI":                  one(Proposal{Number: 1, Protocol: doi.ProtoESP, SPI: []byte{0, 0, 1, 0}, Transforms: []Transform{with()}}),
		"fragment":                           around(doi.PayloadFragment, []byte{0, 1, 1, 1, 0}),
		"mode-config payload":                around(doi.PayloadAttributes, []byte{1, 0, 0, 1}),
		"B3 the same SPI twice":              around(doi.PayloadDelete, fromHex(`00000001 03040002 01020304 01020304`)),
		"delete of an ISAKMP SA":             around(doi.PayloadDelete, fromHex(`00000000 01100001 00112233445566778899aabbccddeeff`)),
		"delete of a CPI of two bytes":       around(doi.PayloadDelete, fromHex(`00000001 04020001 0102`)),
		"proposal 0":                         one(Proposal{Number: 0, Protocol: doi.ProtoISAKMP, Transforms: []Transform{with()}}),
		"ISAKMP proposal with cookies":       one(Proposal{Number: 1, Protocol: doi.ProtoISAKMP, SPI: make([]byte, 16), Transforms: []Transform{with()}}),
		"unknown protocol":                   one(Proposal{Number: 1, Protocol: 9, SPI: make([]byte, 7), Transforms: []Transform{with(Basic(1, 1), Basic(1, 2))}}),
		"the same attribute twice":           one(phase1(with(Basic(14, 128), key))),
		"seconds and kilobytes":              one(phase1(with(Basic(11, 1), Basic(12, 60), Basic(11, 2), Basic(12, 61)))),
		"attributes 64 apart":                one(phase1(with(Basic(1, 1), Basic(65, 2)))),
		"64 proposals":                       one(proposals(MaxProposals)...),
		"128 transforms":                     one(phase1(transforms(MaxTransforms)...)),
		"32 attributes":                      one(phase1(with(attributes(MaxAttributes)...))),
		"A4 key length 0: nobody chooses it": one(phase1(with(Basic(14, 0)))),
		"a chosen transform with its number": one(Proposal{Number: 7, Protocol: doi.ProtoISAKMP, Transforms: []Transform{tripleDES(9)}}),
		"authentication only and commit":     patch(around(doi.PayloadVendor, []byte{1}), offFlags, byte(FlagCommit|FlagAuthOnly)),
		"an exchange of a DOI":               patch(around(doi.PayloadVendor, []byte{1}), offExchange, 200),
		"whole IPv4":                         around(doi.PayloadID, fromHex(`04000000 00000000 00000000`)),
	} {
		m, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%s: appended again it is\n%x, it was\n%x", name, got, b)
		}
		printable(t, m.String())
	}
}

func TestErrorsSayWhere(t *testing.T) {
	for want, b := range map[string][]byte{
		"header at byte 17: version 2.0, this is version 1.0 (INVALID-MAJOR-VERSION)":                 patch(firstMessage(), offVersion, 0x20),
		"NONCE payload at byte 32: 7 bytes, a nonce has 8 to 256 (PAYLOAD-MALFORMED)":                 around(doi.PayloadNonce, make([]byte, 7)),
		"PROPOSAL payload at byte 47: claims 9 transforms and has 1 (BAD-PROPOSAL-SYNTAX)":            patch(one(phase1(with())), proposalAt+7, 9),
		"ID payload at byte 36: IPV4_ADDR of 3 bytes, it has 4 (INVALID-ID-INFORMATION)":              around(doi.PayloadID, fromHex(`01000000 0a0000`)),
		"header at byte 24: length 56 in a datagram of 53 bytes (UNEQUAL-PAYLOAD-LENGTHS)":            append(one(phase1(with()))[:52:52], 0),
		"TRANSFORM payload at byte 56: two values of ENCRYPTION_ALGORITHM (ATTRIBUTES-NOT-SUPPORTED)": one(phase1(with(Basic(1, 1), Basic(1, 2)))),
	} {
		_, err := Parse(b)
		if err == nil || err.Error() != want {
			t.Errorf("%v\nexpected %s", err, want)
		}
	}
}
