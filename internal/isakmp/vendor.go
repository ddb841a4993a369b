package isakmp

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"oakley/internal/doi"
)

// Vendor is the vendor ID payload (RFC 2408 section 3.16).
type Vendor struct{ Data []byte }

// Kind is doi.PayloadVendor.
func (*Vendor) Kind() doi.Payload { return doi.PayloadVendor }

// AppendBody appends the vendor ID.
func (v *Vendor) AppendBody(b []byte) []byte { return append(b, v.Data...) }

// String is the vendor ID's name, or its first bytes in hex.
func (v *Vendor) String() string { return "vendor(" + VendorName(v.Data) + ")" }

func parseVendor(body []byte, _ int) (Payload, error) { return &Vendor{Data: body}, nil }

// Vendor IDs that announce something which peers agree about.
var (
	VendorNATT        = unhex("4a131c81070358455c5728f20e95452f") // RFC 3947 section 3.1
	VendorNATTDraft3  = unhex("7d9419a65310ca6f2c179d9215529d56")
	VendorNATTDraft2N = unhex("90cb80913ebb696e086381b5ec427b1f") // hashed with a newline
	VendorNATTDraft2  = unhex("cd60464335df21f87cfdb2fc68b6a448")
	VendorDPD         = unhex("afcad71368a1f1c96b8696fc77570100") // RFC 3706 section 5.1
	VendorXAUTH       = unhex("09002689dfd6b712")
	VendorUnity       = unhex("12f5f28c457168a9702d9fe274cc0100")
	VendorFragment    = unhex("4048b7d56ebce88525e7de7f00d6c2d3")
)

// vendors names them; a vendor ID may go on after those that are prefixes.
var vendors = []struct {
	id     []byte
	name   string
	prefix bool
}{
	{VendorNATT, "RFC 3947", false},
	{VendorNATTDraft3, "NAT-T draft 03", false},
	{VendorNATTDraft2N, "NAT-T draft 02, newline", false},
	{VendorNATTDraft2, "NAT-T draft 02", false},
	{VendorDPD, "DPD RFC 3706", false},
	{VendorXAUTH, "XAUTH", false},
	{VendorUnity, "Cisco Unity", false},
	{VendorFragment, "FRAGMENTATION", true},
}

// vendorShown is how many bytes of an unknown vendor ID a trace shows.
const vendorShown = 20

// VendorName is the name of a vendor ID, or its first bytes in hex when it is
// not known.
func VendorName(id []byte) string {
	for _, v := range vendors {
		if bytes.Equal(id, v.id) || v.prefix && bytes.HasPrefix(id, v.id) {
			return v.name
		}
	}
	if len(id) > vendorShown {
		return fmt.Sprintf("%x... %d bytes", id[:vendorShown], len(id))
	}
	return fmt.Sprintf("%x", id)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
