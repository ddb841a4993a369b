package conf

import (
	"net/netip"
	"strconv"
	"strings"

	"oakley/internal/doi"
)

var netIDs = []choice[doi.IDType]{
	{"IPV4_ADDR", doi.IDIPv4Addr},
	{"IPV4_ADDR_SUBNET", doi.IDIPv4Subnet},
	{"IPV6_ADDR", doi.IDIPv6Addr},
	{"IPV6_ADDR_SUBNET", doi.IDIPv6Subnet},
}

// net reads an IPsec-ID section.
func (l *loader) net(ref value) *Net {
	v, ok := l.open(roleNet, ref)
	if !ok {
		return nil
	}
	if n, ok := l.nets[fold(v.name)]; ok {
		return n
	}
	n := &Net{Name: v.name}
	l.nets[fold(v.name)] = n
	if x, ok := l.need(v, "ID-type", "write ID-type=IPV4_ADDR_SUBNET, Network= and Netmask="); ok {
		if t, ok := oneOf(l, x, "ID-type of a connection", netIDs); ok {
			l.readEnds(n, v, t)
		}
	}
	l.readSelector(n, v)
	return n
}

func (l *loader) readEnds(n *Net, v view, t doi.IDType) {
	if t == doi.IDIPv4Addr || t == doi.IDIPv6Addr {
		n.Addr = true
		x, ok := l.need(v, "Address", "write Address= with an address, an interface's name or default")
		if !ok {
			return
		}
		if isInterface(x.text) {
			if p, ok := l.resolve(n, x, t); ok {
				n.Prefix = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
			}
		} else if a, ok := l.address(x, "Address"); ok && l.family(x, a, t) {
			n.Prefix = netip.PrefixFrom(a, a.BitLen())
		}
		return
	}
	x, ok := l.need(v, "Network", "write Network= with a network, an interface's name or default")
	m := v.get("Netmask")
	if !ok || !isInterface(x.text) {
		if isInterface(m.text) {
			l.netFromMask(n, x, m, t)
			return
		}
		n.Prefix = l.network(v, t)
		return
	}
	p, found := l.resolve(n, x, t)
	bits := p.Bits()
	if m.text != "" && !isInterface(m.text) {
		b, ok := l.netmask(m, is4(t))
		if bits = b; !ok {
			return
		}
	}
	if found {
		n.Prefix = netip.PrefixFrom(p.Addr(), bits).Masked()
	}
}

// netFromMask takes the length of the network from an interface.
func (l *loader) netFromMask(n *Net, x, m value, t doi.IDType) {
	a, ok := l.address(x, "Network")
	if !ok || !l.family(x, a, t) {
		return
	}
	if p, ok := l.resolve(n, m, t); ok {
		n.Prefix = netip.PrefixFrom(a, p.Bits()).Masked()
	}
}

// isInterface tells whether a text can be an interface's name, or default,
// rather than an address that is written wrongly.
func isInterface(s string) bool {
	if s == "" || len(s) > maxInterface || isAddress(s) || strings.ContainsAny(s, "/: \t") {
		return false
	}
	digits := strings.Trim(s, "0123456789.")
	return digits != ""
}

// resolve asks the machine for the address of an interface.
func (l *loader) resolve(n *Net, x value, t doi.IDType) (netip.Prefix, bool) {
	n.Interface = x.text
	if l.resolver == nil {
		return netip.Prefix{}, false
	}
	name := x.text
	if strings.EqualFold(name, "default") {
		found, err := l.resolver.DefaultInterface(!is4(t))
		if err != nil {
			l.fail(x, "write an address, or bring the route up first", "no interface has the default route: %v", err)
			return netip.Prefix{}, false
		}
		name = found
	}
	addrs, err := l.resolver.InterfaceAddrs(name)
	if err != nil {
		l.fail(x, "write an address, the name of an interface of this host, or default", "%s is neither an address nor an interface: %v", quote(name), err)
		return netip.Prefix{}, false
	}
	for _, p := range addrs {
		if p.Addr().Is4() == is4(t) && !p.Addr().IsLinkLocalUnicast() {
			return p, true
		}
	}
	l.fail(x, "give the interface one, or write the address here", "interface %s has no address for ID-type %s", name, t)
	return netip.Prefix{}, false
}

// protocolNames are those of the IP protocols that people name.
var protocolNames = []choice[uint8]{
	{"any", 0},
	{"icmp", 1},
	{"igmp", 2},
	{"ipencap", 4},
	{"tcp", 6},
	{"egp", 8},
	{"udp", 17},
	{"ipv6", 41},
	{"rsvp", 46},
	{"gre", 47},
	{"esp", 50},
	{"ah", 51},
	{"ipv6-icmp", 58},
	{"icmp6", 58},
	{"eigrp", 88},
	{"ospf", 89},
	{"etherip", 97},
	{"pim", 103},
	{"ipcomp", 108},
	{"vrrp", 112},
	{"carp", 112},
	{"l2tp", 115},
	{"sctp", 132},
	{"udplite", 136},
}

// portNames are those of the services that people name.
var portNames = []choice[int]{
	{"ftp", 21},
	{"ssh", 22},
	{"telnet", 23},
	{"smtp", 25},
	{"domain", 53},
	{"tftp", 69},
	{"http", 80},
	{"www", 80},
	{"kerberos", 88},
	{"pop3", 110},
	{"sunrpc", 111},
	{"ntp", 123},
	{"imap", 143},
	{"snmp", 161},
	{"bgp", 179},
	{"ldap", 389},
	{"https", 443},
	{"isakmp", 500},
	{"syslog", 514},
	{"printer", 515},
	{"ldaps", 636},
	{"imaps", 993},
	{"l2tp", 1701},
	{"l2f", 1701},
	{"nfs", 2049},
	{"jetdirect", 9100},
}

// readSelector reads Protocol and Port.
func (l *loader) readSelector(n *Net, v view) {
	proto, port := v.get("Protocol"), v.get("Port")
	known := true
	if proto.text != "" {
		if u, err := strconv.ParseUint(proto.text, 10, 8); err == nil {
			n.Proto = uint8(u)
		} else {
			n.Proto, known = oneOf(l, proto, "protocol, nor a number up to 255", protocolNames)
		}
	}
	if port.text == "" {
		return
	}
	if u, err := strconv.ParseUint(port.text, 10, 16); err == nil {
		n.Port = uint16(u)
	} else if s, ok := oneOf(l, port, "port, nor a number up to 65535", portNames); ok {
		n.Port = uint16(s)
	}
	hasPorts := n.Proto == 6 || n.Proto == 17 || n.Proto == 132 || n.Proto == 136
	if known && n.Port != 0 && !hasPorts {
		l.fail(port, "write Protocol=tcp or Protocol=udp beside it", "[%s] has a Port and no Protocol that has ports", clip(n.Name))
	}
}
