package isakmp

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"oakley/internal/doi"
)

func data(t *rapid.T, label string, least, most int) []byte {
	return rapid.SliceOfN(rapid.Byte(), least, most).Draw(t, label)
}

func drawAttributes(t *rapid.T) []Attribute {
	as := []Attribute{}
	types := rapid.SliceOfNDistinct(rapid.Uint16Range(0, 0x7fff), 0, 6, rapid.ID[uint16]).Draw(t, "attribute types")
	for _, typ := range types {
		if rapid.Bool().Draw(t, "basic") {
			as = append(as, Basic(typ, rapid.Uint16().Draw(t, "value")))
			continue
		}
		as = append(as, Variable(typ, data(t, "value", 0, 12)))
	}
	return as
}

func drawProposals(t *rapid.T) []Proposal {
	var ps []Proposal
	number := uint8(0)
	for range rapid.IntRange(1, 3).Draw(t, "proposals") {
		number += uint8(rapid.IntRange(0, 1).Draw(t, "next number"))
		p := Proposal{Number: number, Protocol: rapid.SampledFrom([]doi.Protocol{1, 2, 3, 4, 77}).Draw(t, "protocol")}
		p.SPI = []byte{1, 2, 3, 4}
		if p.Protocol == doi.ProtoISAKMP {
			p.SPI = data(t, "spi", 0, MaxSPI)
		}
		for i := range rapid.IntRange(1, 4).Draw(t, "transforms") {
			p.Transforms = append(p.Transforms, Transform{
				Number: uint8(i + 1), ID: uint8(rapid.IntRange(1, 255).Draw(t, "id")), Attributes: drawAttributes(t),
			})
		}
		ps = append(ps, p)
	}
	return ps
}

func drawDelete(t *rapid.T) Payload {
	d := &Delete{DOI: doi.IPsec, Protocol: rapid.SampledFrom([]doi.Protocol{1, 2, 3, 4}).Draw(t, "protocol"), SPISize: 4}
	if d.Protocol == doi.ProtoISAKMP {
		d.SPISize = MaxSPI
	}
	for range rapid.IntRange(1, 5).Draw(t, "SPIs") {
		d.SPIs = append(d.SPIs, data(t, "spi", int(d.SPISize), int(d.SPISize)))
	}
	return d
}

// drawPayload makes a payload that an honest peer could send.
func drawPayload(t *rapid.T) Payload {
	switch kind := rapid.SampledFrom([]doi.Payload{1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21, 33, 128}).Draw(t, "kind"); kind {
	case doi.PayloadSA:
		return &SA{DOI: doi.IPsec, Situation: doi.SituationIdentityOnly, Proposals: drawProposals(t)}
	case doi.PayloadKE:
		return &KE{Data: data(t, "public", 1, 256)}
	case doi.PayloadID:
		return &ID{
			Type: rapid.SampledFrom([]doi.IDType{doi.IDFQDN, doi.IDUserFQDN, doi.IDKeyID, doi.IDASN1DN, doi.IDASN1GN}).Draw(t, "type"),
			Data: data(t, "name", 1, 64), Protocol: rapid.Byte().Draw(t, "protocol"), Port: rapid.Uint16().Draw(t, "port"),
		}
	case doi.PayloadCert:
		return &Cert{Encoding: doi.CertEncoding(rapid.Byte().Draw(t, "encoding")), Data: data(t, "certificate", 1, 64)}
	case doi.PayloadCertReq:
		return &CertReq{Encoding: doi.CertEncoding(rapid.Byte().Draw(t, "encoding")), Data: data(t, "authority", 0, 64)}
	case doi.PayloadHash:
		return &Hash{Data: data(t, "hash", 1, 64)}
	case doi.PayloadSig:
		return &Sig{Data: data(t, "signature", 1, 64)}
	case doi.PayloadNonce:
		return &Nonce{Data: data(t, "nonce", MinNonce, MaxNonce)}
	case doi.PayloadNotify:
		return &Notify{
			DOI: rapid.Uint32Range(0, 1).Draw(t, "doi"), Protocol: doi.Protocol(rapid.Byte().Draw(t, "protocol")),
			SPI: data(t, "spi", 0, MaxSPI), Type: doi.Notify(rapid.Uint16Min(1).Draw(t, "type")), Data: data(t, "data", 0, 64),
		}
	case doi.PayloadDelete:
		return drawDelete(t)
	case doi.PayloadVendor:
		return &Vendor{Data: data(t, "vendor", 0, 64)}
	case doi.PayloadNATD:
		return &NATD{Data: data(t, "hash", 1, 64)}
	case doi.PayloadNATOA:
		return &NATOA{Type: doi.IDIPv6Addr, Data: data(t, "address", 16, 16)}
	default:
		return &Unknown{Type: kind, Data: data(t, "data", 0, 64)}
	}
}

// TestWhatIsAppendedIsParsedBack, in clear and decrypted, as values and as
// bytes.
func TestWhatIsAppendedIsParsedBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := someHeader()
		h.Exchange = rapid.SampledFrom([]doi.Exchange{1, 2, 4, 5, 6, 32, 33, 240}).Draw(t, "exchange")
		h.MessageID = rapid.Uint32().Draw(t, "message ID")
		ps := rapid.SliceOfN(rapid.Custom(drawPayload), 1, 6).Draw(t, "payloads")
		b := (&Message{Header: h, Payloads: ps}).Append(nil)
		m, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ps, m.Payloads); diff != "" {
			t.Fatalf("(-sent +parsed)\n%s", diff)
		}
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Fatalf("appended again it is\n%x, it was\n%x", got, b)
		}
		checkBytes(t, m, b[HeaderLen:])

		padded := append(bytes.Clone(b[HeaderLen:]), data(t, "padding", 0, maxPadding)...)
		d, err := ParseDecrypted(m.Header, padded)
		if err != nil {
			t.Fatal(err)
		}
		checkBytes(t, d, b[HeaderLen:])
	})
}

// checkBytes holds what every parsed message holds: its payloads' bytes put
// together are the chain that it came from, and so is what is appended.
func checkBytes(t interface{ Fatalf(string, ...any) }, m *Message, chain []byte) {
	var joined []byte
	for i, p := range m.Payloads {
		raw := m.Raw(i)
		if !bytes.Equal(raw[GenericLen:], m.Body(i)) || !bytes.Equal(BodyOf(p), m.Body(i)) {
			t.Fatalf("payload %d is %x, appended it is %x", i, m.Body(i), BodyOf(p))
		}
		joined = append(joined, raw...)
		if got := append(bytes.Clone(joined), m.After(i)...); !bytes.Equal(got, chain) {
			t.Fatalf("up to payload %d and after it are\n%x, not\n%x", i, got, chain)
		}
	}
	if got := AppendPayloads(nil, m.Payloads); !bytes.Equal(got, chain) {
		t.Fatalf("appended again the payloads are\n%x, they were\n%x", got, chain)
	}
}
