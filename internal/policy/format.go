package policy

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"oakley/internal/doi"
)

// pad writes an address so that text compares as addresses do: 010.128.001.012,
// or eight groups of four lower-case hex digits. It is "" for no address.
func pad(a netip.Addr) string {
	switch a = a.Unmap(); {
	case a.Is4():
		b := a.As4()
		return fmt.Sprintf("%03d.%03d.%03d.%03d", b[0], b[1], b[2], b[3])
	case a.Is6():
		return a.WithZone("").StringExpanded()
	}
	return ""
}

// stamp is YYYYMMDDHHmmSS.
func stamp(t time.Time) string { return t.Format("20060102150405") }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number[T ~uint8 | ~uint16 | ~uint64 | ~int](n T) string {
	return strconv.FormatUint(uint64(n), 10)
}

// upperProtocols have names; the others are numbers.
var upperProtocols = map[uint8]string{6: "tcp", 17: "udp", 97: "etherip"}

func upperProtocol(n uint8) string {
	if name, ok := upperProtocols[n]; ok {
		return name
	}
	return number(n)
}

// idTypeNames are the values of remote_id_type and its like.
var idTypeNames = map[doi.IDType]string{
	doi.IDIPv4Addr:   "IPv4 address",
	doi.IDIPv4Range:  "IPv4 range",
	doi.IDIPv4Subnet: "IPv4 subnet",
	doi.IDIPv6Addr:   "IPv6 address",
	doi.IDIPv6Range:  "IPv6 range",
	doi.IDIPv6Subnet: "IPv6 subnet",
	doi.IDFQDN:       "FQDN",
	doi.IDUserFQDN:   "User FQDN",
	doi.IDASN1DN:     "ASN1 DN",
	doi.IDASN1GN:     "ASN1 GN",
	doi.IDKeyID:      "Key ID",
}

// text is the value of remote_filter and its like.
func (f *Filter) text() string {
	switch f.Type {
	case doi.IDIPv4Addr, doi.IDIPv6Addr:
		return pad(f.Lower)
	case doi.IDIPv4Range, doi.IDIPv6Range, doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		if !f.Lower.IsValid() {
			return ""
		}
		return pad(f.Lower) + "-" + pad(f.Upper)
	case doi.IDASN1DN:
		return dnText(f.Name)
	case doi.IDASN1GN:
		return generalName(f.Name)
	case doi.IDKeyID:
		if !printable(f.Name) {
			return hex.EncodeToString(f.Name)
		}
	}
	return string(f.Name)
}

func printable(b []byte) bool {
	return strings.IndexFunc(string(b), func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
