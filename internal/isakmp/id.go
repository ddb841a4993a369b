package isakmp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"oakley/internal/doi"
)

// ID is the identification payload (RFC 2407 section 4.6.2).
type ID struct {
	Type     doi.IDType
	Protocol uint8
	Port     uint16
	Data     []byte
}

// idFixed is type, protocol and port.
const idFixed = 4

// Kind is doi.PayloadID.
func (*ID) Kind() doi.Payload { return doi.PayloadID }

// AppendBody appends the fields and the data.
func (id *ID) AppendBody(b []byte) []byte {
	b = append(b, byte(id.Type), id.Protocol)
	b = binary.BigEndian.AppendUint16(b, id.Port)
	return append(b, id.Data...)
}

func parseID(body []byte, off int) (Payload, error) {
	if len(body) < idFixed {
		return nil, bad(off, doi.PayloadID, doi.NotifyPayloadMalformed, "%d bytes, an ID has at least %d", len(body), idFixed)
	}
	id := &ID{
		Type:     doi.IDType(body[0]),
		Protocol: body[1],
		Port:     binary.BigEndian.Uint16(body[2:]),
		Data:     clip(body, idFixed, len(body)),
	}
	if err := id.Check(); err != nil {
		return nil, bad(off+idFixed, doi.PayloadID, doi.NotifyInvalidIDInformation, "%s", err)
	}
	return id, nil
}

// MaxName is the longest FQDN or user FQDN that is taken, in bytes: a domain
// name has at most 255 (RFC 1035 section 2.3.4), a user before it as many.
const MaxName = 511

// addrLen is the length of one address of the types that are made of addresses,
// and how many there are.
var addrLen = map[doi.IDType]struct{ size, n int }{
	doi.IDIPv4Addr:   {4, 1},
	doi.IDIPv6Addr:   {16, 1},
	doi.IDIPv4Subnet: {4, 2},
	doi.IDIPv6Subnet: {16, 2},
	doi.IDIPv4Range:  {4, 2},
	doi.IDIPv6Range:  {16, 2},
}

// Check refuses an ID whose data cannot be what its type says (RFC 2407 section
// 4.6.2): addresses of the wrong length, masks with holes, ranges that end
// before they begin, empty names, types that no RFC has. Parse refuses them
// too.
func (id *ID) Check() error {
	if l, ok := addrLen[id.Type]; ok {
		if want := l.size * l.n; len(id.Data) != want {
			return fmt.Errorf("%s of %d bytes, it has %d", id.Type, len(id.Data), want)
		}
		first, second := id.Data[:l.size], id.Data[len(id.Data)-l.size:]
		switch id.Type {
		case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
			if _, ok := maskBits(second); !ok {
				return fmt.Errorf("%s with a mask that has holes: %x", id.Type, second)
			}
		case doi.IDIPv4Range, doi.IDIPv6Range:
			if bytes.Compare(first, second) > 0 {
				return fmt.Errorf("%s that ends before it begins: %s", id.Type, id.addresses())
			}
		}
		return nil
	}
	switch id.Type {
	case doi.IDFQDN, doi.IDUserFQDN:
		if len(id.Data) > MaxName {
			return fmt.Errorf("%s of %d bytes, %d are the most", id.Type, len(id.Data), MaxName)
		}
	case doi.IDASN1DN, doi.IDASN1GN, doi.IDKeyID:
	default:
		return fmt.Errorf("ID type %d is not known", uint8(id.Type))
	}
	if len(id.Data) == 0 {
		return fmt.Errorf("%s is empty", id.Type)
	}
	return nil
}

// maskBits is the length of the prefix that a mask stands for; false when the
// mask has holes.
func maskBits(mask []byte) (int, bool) {
	n := 0
	for n < len(mask) && mask[n] == 0xff {
		n++
	}
	if n == len(mask) {
		return 8 * n, true
	}
	ones := bits.LeadingZeros8(^mask[n])
	if mask[n] != ^byte(0)<<(8-ones) {
		return 0, false
	}
	for _, b := range mask[n+1:] {
		if b != 0 {
			return 0, false
		}
	}
	return 8*n + ones, true
}

// Prefix is the set of addresses that the ID stands for. It is false for names,
// for data that Check refuses, and for ranges that are no prefix. Bits of the
// address behind the mask are cleared.
func (id *ID) Prefix() (netip.Prefix, bool) {
	l, ok := addrLen[id.Type]
	if !ok || len(id.Data) != l.size*l.n {
		return netip.Prefix{}, false
	}
	addr, _ := netip.AddrFromSlice(id.Data[:l.size])
	second := id.Data[len(id.Data)-l.size:]
	ones := 8 * l.size
	switch id.Type {
	case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		if ones, ok = maskBits(second); !ok {
			return netip.Prefix{}, false
		}
	case doi.IDIPv4Range, doi.IDIPv6Range:
		if ones, ok = rangeBits(id.Data[:l.size], second); !ok {
			return netip.Prefix{}, false
		}
	}
	return netip.PrefixFrom(addr, ones).Masked(), true
}

// rangeBits is the length of the prefix that begins with the address first and
// ends with last; false when the range is none.
func rangeBits(first, last []byte) (int, bool) {
	mask := make([]byte, len(first))
	for i := range first {
		mask[i] = ^(first[i] ^ last[i])
		if first[i]&^mask[i] != 0 { // else last[i] is first[i] with all bits behind the mask set
			return 0, false
		}
	}
	return maskBits(mask)
}

// IDFromPrefix is the subnet p as an ID, also when it is a single address. Zero
// proto and port stand for all.
func IDFromPrefix(p netip.Prefix, proto uint8, port uint16) *ID {
	p = p.Masked()
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range mask {
		mask[i] = ^byte(0) << (8 - min(8, max(0, p.Bits()-8*i)))
	}
	id := &ID{Type: doi.IDIPv6Subnet, Protocol: proto, Port: port}
	if p.Addr().Is4() {
		id.Type = doi.IDIPv4Subnet
	}
	id.Data = append(p.Addr().AsSlice(), mask...)
	return id
}

// IDFromAddr is the single address a as an ID. Zero proto and port stand for
// all. An IPv4 address mapped into IPv6 is the IPv4 address.
func IDFromAddr(a netip.Addr, proto uint8, port uint16) *ID {
	a = a.Unmap()
	id := &ID{Type: doi.IDIPv6Addr, Protocol: proto, Port: port, Data: a.AsSlice()}
	if a.Is4() {
		id.Type = doi.IDIPv4Addr
	}
	return id
}

// Equal tells whether both IDs are the same, byte for byte.
func (id *ID) Equal(o *ID) bool {
	return id.Type == o.Type && id.Protocol == o.Protocol && id.Port == o.Port && bytes.Equal(id.Data, o.Data)
}

// String is the ID in words: "10.0.0.1", "10.1.0.0/24", "10.1.0.0/24 proto 6
// port 80", "fqdn gw.example.org", "user@example.org", "key-id sales", in hex
// what is not printable. Control bytes from the network never appear.
func (id *ID) String() string {
	var b strings.Builder
	b.WriteString(id.name())
	if id.Protocol != 0 {
		fmt.Fprintf(&b, " proto %d", id.Protocol)
	}
	if id.Port != 0 {
		fmt.Fprintf(&b, " port %d", id.Port)
	}
	return b.String()
}

// Bare is the ID without its type, protocol and port, as srcid and dstid of
// ipsec.conf(5) have it: an address, a network, a name.
func (id *ID) Bare() string {
	switch id.Type {
	case doi.IDFQDN, doi.IDUserFQDN, doi.IDKeyID:
		return safe(id.Data)
	}
	return id.name()
}

func (id *ID) name() string {
	if id.Check() != nil {
		return fmt.Sprintf("%s %s", id.Type, safe(id.Data))
	}
	switch id.Type {
	case doi.IDIPv4Addr, doi.IDIPv6Addr, doi.IDIPv4Range, doi.IDIPv6Range:
		return id.addresses()
	case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		p, _ := id.Prefix()
		return p.String()
	case doi.IDFQDN:
		return "fqdn " + safe(id.Data)
	case doi.IDUserFQDN:
		if !bytes.ContainsRune(id.Data, '@') {
			return "user-fqdn " + safe(id.Data)
		}
		return safe(id.Data)
	case doi.IDKeyID:
		return "key-id " + safe(id.Data)
	}
	return fmt.Sprintf("%s %s", id.Type, shortHex(id.Data))
}

// addresses is the address, or both ends of the range.
func (id *ID) addresses() string {
	l := addrLen[id.Type]
	first, _ := netip.AddrFromSlice(id.Data[:l.size])
	if l.n == 1 {
		return first.String()
	}
	last, _ := netip.AddrFromSlice(id.Data[l.size:])
	return first.String() + "-" + last.String()
}

// shown is how many bytes of a name from the network are shown.
const shown = 128

// safe is text from the network made fit for a log: as it is when it looks like
// a name, quoted when it is printable ASCII otherwise (a name with spaces could
// be read as something that it is not), else in hex.
func safe(b []byte) string {
	quoted := len(b) == 0
	for _, c := range b {
		if c < ' ' || c > '~' {
			return shortHex(b)
		}
		quoted = quoted || c == ' ' || c == '"' || c == '\\' || c == ','
	}
	s, tail := string(b), ""
	if len(b) > shown {
		s, tail = s[:shown], fmt.Sprintf("...(%d bytes)", len(b))
	}
	if quoted {
		s = strconv.Quote(s)
	}
	return s + tail
}

func shortHex(b []byte) string {
	if len(b) > shown/2 {
		return fmt.Sprintf("0x%x...(%d bytes)", b[:shown/2], len(b))
	}
	return fmt.Sprintf("0x%x", b)
}
