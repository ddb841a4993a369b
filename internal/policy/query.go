package policy

import (
	"net/netip"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// Query is one proposal of a phase 2, with whom and for what.
type Query struct {
	Initiator  bool         // we started this phase 2
	Exchange   doi.Exchange // of phase 1
	Group      doi.Group    // of phase 1
	Identity   ID           // the peer's, of phase 1
	Local      Filter       // what the SA carries at our end; zero: LocalAddr alone
	Remote     Filter       // and at the peer's; zero: RemoteAddr alone
	LocalAddr  netip.Addr   // of this daemon
	RemoteAddr netip.Addr   // of the peer's
	PFS        doi.Group    // of phase 2; 0: none
	Protocols  []Protocol   // of the proposal, one of each kind at most
	Now        time.Time    // in the location whose clock is the local time
	Requesters []string     // who authenticated phase 1: see Passphrase, Certificate, RawKey
}

// Protocol is one protocol of a proposal with one transform.
type Protocol struct {
	Proto     doi.Protocol
	ID        uint8 // the transform: a doi.ESP, doi.AH or doi.IPComp
	Mode      ipsec.Mode
	UDP       bool // in UDP, because of NAT
	Auth      doi.AuthAlg
	KeyBits   int // 0: not proposed
	Rounds    int // 0: not proposed
	Seconds   uint64
	Kilobytes uint64
	ECN       bool // the ECN tunnel attribute was there (RFC 3168 section 9.2.1)
	ESN       bool // 64 bit sequence numbers (RFC 4304)

	DictSize   int    // of IPComp: log2 of the dictionary's bytes
	PrivateAlg uint64 // of IPComp: the vendor's algorithm with transform OUI
}

// ID is an identification payload as it is on the wire (RFC 2407 section 4.6.2).
type ID struct {
	Type     doi.IDType
	Protocol uint8
	Port     uint16
	Data     []byte
}

// Filter is an end of the traffic, as an identification of quick mode says it.
type Filter struct {
	Type         doi.IDType
	Lower, Upper netip.Addr // of the types that are addresses: the first and the last one
	Name         []byte     // of the others: the data
	Protocol     uint8      // 0: any
	Port         uint16     // 0: any
}

// Network is the Filter of a prefix. A prefix of one address may have been sent as
// an address, or as a subnet.
func Network(p netip.Prefix, address bool, protocol uint8, port uint16) Filter {
	f := Filter{Type: doi.IDIPv4Subnet, Protocol: protocol, Port: port}
	v4 := p.Addr().Is4()
	switch {
	case v4 && address:
		f.Type = doi.IDIPv4Addr
	case address:
		f.Type = doi.IDIPv6Addr
	case !v4:
		f.Type = doi.IDIPv6Subnet
	}
	f.Lower, f.Upper = ends(p)
	return f
}

// Range is the Filter of a prefix that was sent as its first and its last address.
func Range(p netip.Prefix, protocol uint8, port uint16) Filter {
	f := Network(p, false, protocol, port)
	if f.Type = doi.IDIPv6Range; p.Addr().Is4() {
		f.Type = doi.IDIPv4Range
	}
	return f
}

// ends are the first and the last address of a prefix.
func ends(p netip.Prefix) (lower, upper netip.Addr) {
	if !p.IsValid() {
		return netip.Addr{}, netip.Addr{}
	}
	lower = p.Masked().Addr()
	last := lower.AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	upper, _ = netip.AddrFromSlice(last)
	return lower, upper
}

// host is the Filter of an address alone.
func host(a netip.Addr) Filter {
	a = a.Unmap()
	if !a.IsValid() {
		return Filter{}
	}
	return Network(netip.PrefixFrom(a, a.BitLen()), true, 0, 0)
}

// addressTypes say how the data of an identification is laid out: one address, or
// two, the second of which is a mask or the last one.
var addressTypes = map[doi.IDType]struct {
	bytes int
	two   bool
	mask  bool
}{
	doi.IDIPv4Addr:   {bytes: 4},
	doi.IDIPv4Subnet: {bytes: 4, two: true, mask: true},
	doi.IDIPv4Range:  {bytes: 4, two: true},
	doi.IDIPv6Addr:   {bytes: 16},
	doi.IDIPv6Subnet: {bytes: 16, two: true, mask: true},
	doi.IDIPv6Range:  {bytes: 16, two: true},
}

// Filter reads the data. Data of a wrong length, which no exchange lets through,
// is a filter without addresses.
func (id ID) Filter() Filter {
	f := Filter{Type: id.Type, Protocol: id.Protocol, Port: id.Port}
	form, address := addressTypes[id.Type]
	if !address {
		f.Name = id.Data
		return f
	}
	n := form.bytes
	want := n
	if form.two {
		want = 2 * n
	}
	if len(id.Data) != want {
		return f
	}
	lower := append([]byte(nil), id.Data[:n]...)
	upper := append([]byte(nil), id.Data[want-n:]...)
	if form.mask {
		for i, m := range id.Data[n:] {
			lower[i] &= m
			upper[i] = lower[i] | ^m
		}
	}
	f.Lower, _ = netip.AddrFromSlice(lower)
	f.Upper, _ = netip.AddrFromSlice(upper)
	return f
}
