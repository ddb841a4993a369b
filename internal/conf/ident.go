package conf

import (
	"fmt"
	"net/netip"
	"strings"

	"oakley/internal/doi"
)

var phase1IDs = []choice[doi.IDType]{
	{"IPV4_ADDR", doi.IDIPv4Addr},
	{"IPV4_ADDR_SUBNET", doi.IDIPv4Subnet},
	{"IPV6_ADDR", doi.IDIPv6Addr},
	{"IPV6_ADDR_SUBNET", doi.IDIPv6Subnet},
	{"FQDN", doi.IDFQDN},
	{"USER_FQDN", doi.IDUserFQDN},
	{"KEY_ID", doi.IDKeyID},
	{"ASN1_DN", doi.IDASN1DN},
}

// phase1ID reads a Phase1-ID section.
func (l *loader) phase1ID(ref value) *ID {
	v, ok := l.open(rolePhase1ID, ref)
	if !ok {
		return nil
	}
	if id, ok := l.ids[fold(v.name)]; ok {
		return id
	}
	id := &ID{Section: v.name}
	l.ids[fold(v.name)] = id
	x, ok := l.need(v, "ID-type", "write ID-type=FQDN, or another type, and what it needs")
	if !ok {
		return id
	}
	if id.Type, ok = oneOf(l, x, "ID-type of phase 1", phase1IDs); !ok {
		return id
	}
	switch id.Type {
	case doi.IDIPv4Addr, doi.IDIPv6Addr:
		if x, ok := l.need(v, "Address", "write Address= with the address"); ok {
			if a, ok := l.address(x, "Address"); ok && l.family(x, a, id.Type) {
				id.Prefix = netip.PrefixFrom(a, a.BitLen())
			}
		}
	case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		id.Prefix = l.network(v, id.Type)
	case doi.IDASN1DN:
		id.Name = v.get("Name").text
	default:
		if x, ok := l.need(v, "Name", "write Name= with the name"); ok {
			id.Name = x.text
			l.checkName(x, id.Type)
		}
	}
	return id
}

func (l *loader) checkName(x value, t doi.IDType) {
	const longest = 511
	at := strings.Contains(x.text, "@")
	switch {
	case len(x.text) > longest:
		l.fail(x, "", "a name of %d bytes; peers take at most %d", len(x.text), longest)
	case t == doi.IDUserFQDN && !at:
		l.warn(x, "write user@domain, or take ID-type=FQDN", "this USER_FQDN has no @")
	case t == doi.IDFQDN && at:
		l.warn(x, "take ID-type=USER_FQDN", "this FQDN has an @")
	case t == doi.IDFQDN && isAddress(x.text):
		l.warn(x, "take ID-type=IPV4_ADDR or IPV6_ADDR, and Address=", "this FQDN is an address")
	}
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// is4 tells whether an ID type is one of IPv4.
func is4(t doi.IDType) bool { return t == doi.IDIPv4Addr || t == doi.IDIPv4Subnet }

// family checks that an address is of the family that the ID-type says.
func (l *loader) family(x value, a netip.Addr, t doi.IDType) bool {
	if a.Is4() == is4(t) {
		return true
	}
	hint := "take ID-type=" + strings.Replace(t.String(), "IPV4", "IPV6", 1)
	if a.Is4() {
		hint = "take ID-type=" + strings.Replace(t.String(), "IPV6", "IPV4", 1)
	}
	l.fail(x, hint, "%s is no address for ID-type %s", a, t)
	return false
}

// network reads Network and Netmask.
func (l *loader) network(v view, t doi.IDType) netip.Prefix {
	x, hasNet := l.need(v, "Network", "write Network= and Netmask=")
	m, hasMask := l.need(v, "Netmask", "write Netmask=, as in 255.255.255.0")
	var a netip.Addr
	okNet := false
	if hasNet {
		if addr, bits, cut := strings.Cut(x.text, "/"); cut && isAddress(addr) {
			l.fail(x, "write Network="+addr+" and the length as Netmask=", "Network takes no length (/%s)", clip(bits))
		} else if a, okNet = l.address(x, "Network"); okNet {
			okNet = l.family(x, a, t)
		}
	}
	if !hasMask {
		return netip.Prefix{}
	}
	bits, okMask := l.netmask(m, is4(t))
	if !okNet || !okMask {
		return netip.Prefix{}
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if p.Addr() != a {
		l.warn(x, fmt.Sprintf("write Network=%s", p.Addr()), "%s is an address in the network %s; the network is taken", a, p)
	}
	return p
}

// netmask reads a mask of ones and then zeros.
func (l *loader) netmask(x value, v4 bool) (bits int, ok bool) {
	example := "255.255.255.0"
	if !v4 {
		example = "ffff:ffff:ffff:ffff::"
	}
	m, err := netip.ParseAddr(x.text)
	switch {
	case err != nil || m.Zone() != "":
		l.fail(x, "write it as "+example, "Netmask %s is no netmask", quote(x.text))
		return 0, false
	case m.Is4() != v4:
		l.fail(x, "write it as "+example, "Netmask %s is of the other address family", m)
		return 0, false
	}
	if bits, ok = maskBits(m.AsSlice()); !ok {
		l.fail(x, "ones first, then zeros: "+example, "Netmask %s has holes", m)
	}
	return bits, ok
}

// maskBits counts the leading ones of a mask; ok is false when ones follow a
// zero.
func maskBits(mask []byte) (bits int, ok bool) {
	zero := false
	for _, b := range mask {
		for i := 7; i >= 0; i-- {
			one := b>>i&1 == 1
			if one && zero {
				return 0, false
			}
			if !one {
				zero = true
				continue
			}
			bits++
		}
	}
	return bits, true
}

// Data is the body of the identification payload after its port (RFC 2407
// section 4.6.2.2 and the next ones): the address, address and mask, or the
// name. It is nil for an ASN1_DN, whose bytes are the certificate's.
func (id *ID) Data() []byte {
	switch id.Type {
	case doi.IDIPv4Addr, doi.IDIPv6Addr:
		return id.Prefix.Addr().AsSlice()
	case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		mask := make([]byte, id.Prefix.Addr().BitLen()/8)
		for i := range id.Prefix.Bits() {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		return append(id.Prefix.Addr().AsSlice(), mask...)
	case doi.IDASN1DN:
		return nil
	}
	return []byte(id.Name)
}

// String is the ID for people: its type and its value.
func (id *ID) String() string {
	switch {
	case id == nil:
		return "any"
	case id.Prefix.IsValid() && id.Prefix.IsSingleIP():
		return fmt.Sprintf("%s %s", id.Type, id.Prefix.Addr())
	case id.Prefix.IsValid():
		return fmt.Sprintf("%s %s", id.Type, id.Prefix)
	case id.Name == "":
		return id.Type.String()
	}
	return fmt.Sprintf("%s %s", id.Type, id.Name)
}
