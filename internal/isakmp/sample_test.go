package isakmp

import (
	"encoding/hex"
	"strings"

	"oakley/internal/doi"
)

// sample is a payload, its body as RFC 2408 section 3 lays it out, and its
// words.
type sample struct {
	name    string
	payload Payload
	hex     string // blanks are for the reader
	words   string
}

func (s sample) body() []byte { return fromHex(s.hex) }

func fromHex(s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		panic(err)
	}
	return b
}

func tripleDES(n uint8) Transform {
	return Transform{Number: n, ID: doi.IKETransformKEY, Attributes: []Attribute{
		Basic(uint16(doi.IKEEncryption), uint16(doi.Cipher3DES)),
		Basic(uint16(doi.IKEHash), uint16(doi.HashSHA1)),
		Basic(uint16(doi.IKEAuthMethod), uint16(doi.AuthPSK)),
		Basic(uint16(doi.IKEGroup), uint16(doi.GroupMODP1024)),
		Basic(uint16(doi.IKELifeType), uint16(doi.LifeSeconds)),
		Variable(uint16(doi.IKELifeDuration), []byte{0, 0, 0x0e, 0x10}),
	}}
}

const tripleDESHex = `80010005 80020002 80030001 80040002 800b0001 000c0004 00000e10`

// samples has every payload type at least once.
func samples() []sample {
	return []sample{
		{
			"phase 1 SA",
			&SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []Proposal{
				{Number: 1, Protocol: doi.ProtoISAKMP, SPI: []byte{}, Transforms: []Transform{tripleDES(1)}},
			}},
			`00000001 00000001  0000002c 01010001  00000024 01010000` +
				tripleDESHex,
			"sa(doi ipsec, proposal 1 isakmp: 3DES_CBC SHA PRE_SHARED MODP_1024 life 3600s)",
		},
		{
			"phase 2 SA, two offers, the first of two protocols",
			&SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: []Proposal{
				{Number: 1, Protocol: doi.ProtoESP, SPI: []byte{1, 2, 3, 4}, Transforms: []Transform{
					{Number: 1, ID: uint8(doi.ESPAES), Attributes: []Attribute{
						Basic(uint16(doi.SAEncapsulation), 1), Basic(uint16(doi.SAAuthentication), 2),
						Basic(uint16(doi.SAKeyLength), 256), Basic(uint16(doi.SAGroup), 14),
					}},
					{Number: 2, ID: uint8(doi.ESPNull)},
				}},
				{Number: 1, Protocol: doi.ProtoIPComp, SPI: []byte{0xab, 0xcd}, Transforms: []Transform{
					{Number: 1, ID: uint8(doi.IPCompDeflate)},
				}},
				{Number: 2, Protocol: doi.ProtoAH, SPI: []byte{5, 6, 7, 8}, Transforms: []Transform{
					{Number: 1, ID: uint8(doi.AHSHA1), Attributes: []Attribute{
						Basic(uint16(doi.SALifeType), 1), Basic(uint16(doi.SALifeDuration), 1200),
						Basic(uint16(doi.SALifeType), 2), Variable(uint16(doi.SALifeDuration), []byte{0, 1, 0x86, 0xa0}),
						Basic(uint16(doi.SAAuthentication), 2),
					}},
				}},
			}},
			`00000001 00000001
			 0200002c 01030402 01020304  03000018 010c0000 80040001 80050002 80060100 8003000e  00000008 020b0000
			 02000012 01040201 abcd      00000008 01020000
			 0000002c 02020401 05060708  00000020 01030000 80010001 800204b0 80010002 00020004 000186a0 80050002`,
			"sa(doi ipsec, proposal 1 esp spi 0x01020304: ESP_AES key 256 HMAC_SHA TUNNEL MODP_2048; ESP_NULL, " +
				"proposal 1 ipcomp spi 0xabcd: IPCOMP_DEFLATE, " +
				"proposal 2 ah spi 0x05060708: AH_SHA HMAC_SHA life 1200s 100000KB)",
		},
		{"KE", &KE{Data: []byte{1, 2, 3, 4}}, `01020304`, "ke(4 bytes)"},
		{
			"address ID",
			&ID{Type: doi.IDIPv4Addr, Protocol: 17, Port: 500, Data: []byte{10, 0, 0, 1}},
			`01 11 01f4 0a000001`, "10.0.0.1 proto 17 port 500",
		},
		{
			"subnet ID",
			&ID{Type: doi.IDIPv4Subnet, Data: []byte{10, 1, 0, 0, 255, 255, 255, 0}},
			`04 00 0000 0a010000 ffffff00`, "10.1.0.0/24",
		},
		{"name ID", &ID{Type: doi.IDFQDN, Data: []byte("gw.example.org")}, `02 00 0000 67772e6578616d706c652e6f7267`, "fqdn gw.example.org"},
		{"certificate", &Cert{Encoding: doi.CertX509Sig, Data: []byte{0x30, 0}}, `04 3000`, "cert(X509_SIG, 2 bytes)"},
		{"certificate request", &CertReq{Encoding: doi.CertX509Sig, Data: []byte{0x30, 0}}, `04 3000`, "cert-req(X509_SIG, authority of 2 bytes)"},
		{"certificate request for any", &CertReq{Encoding: doi.CertKeyNote, Data: []byte{}}, `10`, "cert-req(KEYNOTE, any authority)"},
		{"hash", &Hash{Data: []byte{1, 2}}, `0102`, "hash(2 bytes)"},
		{"signature", &Sig{Data: []byte{3, 4}}, `0304`, "sig(2 bytes)"},
		{"nonce", &Nonce{Data: []byte("12345678")}, `3132333435363738`, "nonce(8 bytes)"},
		{
			"INITIAL-CONTACT",
			&Notify{
				DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, Type: doi.NotifyInitialContact,
				SPI: fromHex(`0011223344556677 8899aabbccddeeff`), Data: []byte{},
			},
			`00000001 01 10 6002 0011223344556677 8899aabbccddeeff`,
			"notify(INITIAL-CONTACT isakmp spi 0011223344556677-8899aabbccddeeff)",
		},
		{
			"RESPONDER-LIFETIME",
			&Notify{
				DOI: doi.IPsec, Protocol: doi.ProtoESP, Type: doi.NotifyResponderLifetime,
				SPI: []byte{1, 2, 3, 4}, Data: fromHex(`80010001 800204b0`),
			},
			`00000001 03 04 6000 01020304 80010001 800204b0`,
			"notify(RESPONDER-LIFETIME esp spi 0x01020304 life 1200s)",
		},
		{
			"R-U-THERE",
			&Notify{
				DOI: doi.IPsec, Protocol: doi.ProtoISAKMP, Type: doi.NotifyDPDRUThere,
				SPI: fromHex(`0011223344556677 8899aabbccddeeff`), Data: []byte{0, 0, 1, 0},
			},
			`00000001 01 10 8d28 0011223344556677 8899aabbccddeeff 00000100`,
			"notify(R-U-THERE isakmp spi 0011223344556677-8899aabbccddeeff 256)",
		},
		{
			"delete",
			&Delete{DOI: doi.IPsec, Protocol: doi.ProtoESP, SPISize: 4, SPIs: [][]byte{{1, 2, 3, 4}, {5, 6, 7, 8}}},
			`00000001 03 04 0002 01020304 05060708`, "delete(esp spi 0x01020304 0x05060708)",
		},
		{"vendor ID", &Vendor{Data: VendorNATT}, `4a131c81070358455c5728f20e95452f`, "vendor(RFC 3947)"},
		{"NAT-D", &NATD{Data: []byte{9, 9}}, `0909`, "nat-d(2 bytes)"},
		{
			"NAT-OA", &NATOA{Type: doi.IDIPv4Addr, Data: []byte{192, 0, 2, 7}},
			`01 000000 c0000207`, "nat-oa(192.0.2.7)",
		},
		{"private payload", &Unknown{Type: 200, Data: []byte{1}}, `01`, "payload 200(1 bytes)"},
		{"IKEv2 payload", &Unknown{Type: 33, Data: []byte{1}}, `01`, "ikev2 payload 33(1 bytes)"},
		{"unassigned payload", &Unknown{Type: 99, Data: []byte{}}, ``, "payload 99(0 bytes)"},
		{"draft NAT-D", &Unknown{Type: 130, Data: []byte{1}}, `01`, "nat-d_draft(1 bytes)"},
	}
}

// someHeader is the header of a main mode message in clear.
func someHeader() Header {
	return Header{
		Initiator: Cookie(fromHex("0011223344556677")),
		Responder: Cookie(fromHex("8899aabbccddeeff")),
		Version:   Version,
		Exchange:  doi.ExchangeMain,
	}
}

// message is a message in clear with these payloads.
func message(ps ...Payload) []byte {
	return (&Message{Header: someHeader(), Payloads: ps}).Append(nil)
}

// around is a message in clear whose one payload has that body.
func around(kind doi.Payload, body []byte) []byte {
	return message(&Unknown{Type: kind, Data: body})
}
