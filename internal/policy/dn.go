package policy

import (
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

// dnPrefix begins a principal that is a distinguished name.
const dnPrefix = "DN:"

// attributeTypes are the short names of what distinguished names are made of (RFC
// 4519, PKCS #9), as OpenSSL prints them.
var attributeTypes = map[string]string{
	"2.5.4.3":                    "CN",
	"2.5.4.4":                    "SN",
	"2.5.4.5":                    "serialNumber",
	"2.5.4.6":                    "C",
	"2.5.4.7":                    "L",
	"2.5.4.8":                    "ST",
	"2.5.4.9":                    "street",
	"2.5.4.10":                   "O",
	"2.5.4.11":                   "OU",
	"2.5.4.12":                   "title",
	"2.5.4.13":                   "description",
	"2.5.4.15":                   "businessCategory",
	"2.5.4.17":                   "postalCode",
	"2.5.4.41":                   "name",
	"2.5.4.42":                   "GN",
	"2.5.4.43":                   "initials",
	"2.5.4.44":                   "generationQualifier",
	"2.5.4.45":                   "x500UniqueIdentifier",
	"2.5.4.46":                   "dnQualifier",
	"2.5.4.65":                   "pseudonym",
	"2.5.4.97":                   "organizationIdentifier",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1":       "emailAddress",
	"1.2.840.113549.1.9.2":       "unstructuredName",
}

// maxRDNs is the most parts that a name may have.
const maxRDNs = 64

// dnText writes a distinguished name in DER as /C=SE/O=Mysite/CN=gw.mysite.se. A
// byte that does not print becomes \xHH, and so does one that would let a value
// be taken for something else: a slash that begins what looks like the next part,
// a backslash that looks like the beginning of \xHH. Two names with one text are
// made of the same parts. What is no name is "".
func dnText(der []byte) string {
	var rdns []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 || len(rdns) > maxRDNs {
		return ""
	}
	var b strings.Builder
	for _, rdn := range rdns {
		if rdn.Class != asn1.ClassUniversal || rdn.Tag != asn1.TagSet {
			return ""
		}
		for rest := rdn.Bytes; len(rest) > 0; {
			var part struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			var err error
			if rest, err = asn1.Unmarshal(rest, &part); err != nil {
				return ""
			}
			name := part.Type.String()
			if short, ok := attributeTypes[name]; ok {
				name = short
			}
			b.WriteString("/" + name + "=" + dnValue(string(part.Value.Bytes)))
		}
	}
	return b.String()
}

// dnValue writes one value of a name.
func dnValue(v string) string {
	var b strings.Builder
	for i := range len(v) {
		c := v[i]
		if c < ' ' || c > '~' || c == '/' && beginsPart(v[i+1:]) || c == '\\' && isEscape(v[i:]) {
			fmt.Fprintf(&b, `\x%02X`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// beginsPart tells whether s looks like Type=...
func beginsPart(s string) bool {
	name, _, ok := strings.Cut(s, "=")
	return ok && name != "" && strings.IndexFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z') && r != '.'
	}) < 0
}

// isEscape tells whether s begins with \xHH.
func isEscape(s string) bool {
	if len(s) < 4 || s[1] != 'x' {
		return false
	}
	_, err := hex.DecodeString(s[2:4])
	return err == nil
}

// What OpenSSL called, long ago, an address of mail in a distinguished name, and
// what it calls it now.
const (
	oldMail = "/Email="
	newMail = "/emailAddress="
)

// canonicalDN makes one text of the ways in which a DN principal is written:
// letters beyond ASCII as they are or as \xHH, an address of mail under either of
// its names.
func canonicalDN(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\x%02X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return strings.ReplaceAll(b.String(), oldMail, newMail)
}

// Tags of GeneralName (RFC 5280 section 4.2.1.6).
const (
	tagMail      = 1
	tagDNS       = 2
	tagDirectory = 4
	tagURI       = 6
	tagIP        = 7
)

// generalName is the text of an ASN1 GN identification: the name or address in
// it, and hex digits where it has no text.
func generalName(der []byte) string {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	if err == nil && len(rest) == 0 && v.Class == asn1.ClassContextSpecific {
		switch v.Tag {
		case tagMail, tagDNS, tagURI:
			if printable(v.Bytes) {
				return string(v.Bytes)
			}
		case tagDirectory:
			if dn := dnText(v.Bytes); dn != "" {
				return dn
			}
		case tagIP:
			if a, ok := netip.AddrFromSlice(v.Bytes); ok {
				return pad(a)
			}
		}
	}
	return hex.EncodeToString(der)
}
