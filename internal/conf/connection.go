package conf

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// phase2 reads [Phase 2].
func (ld *loader) phase2() {
	v := ld.root("Phase 2", kindPhase2)
	seen := map[string]bool{}
	for _, list := range []string{"Connections", "Passive-connections"} {
		for _, x := range v.get(list).items() {
			if seen[key(x.text)] {
				ld.warn(x, "name it once", "connection %s is listed twice", x.text)
				continue
			}
			seen[key(x.text)] = true
			if c := ld.connection(x, false); c != nil {
				c.Active = list == "Connections"
				ld.cfg.Connections = append(ld.cfg.Connections, c)
			}
		}
	}
	if x := v.get("Default"); x.text != "" {
		ld.cfg.DefaultConnection = ld.connection(x, true)
	}
	ld.overlaps()
}

// connection reads an IPsec-connection section.
func (ld *loader) connection(ref value, generic bool) *Connection {
	v, ok := ld.open(kindConnection, ref)
	if !ok {
		return nil
	}
	c := &Connection{Name: v.name, Pos: v.head().pos, PFTag: v.get("PF-Tag").text, NATID: v.get("NAT-ID").text}
	if c.NATID != "" {
		ld.net(v.get("NAT-ID"))
	}
	ld.phase(v, "2")
	if x := v.get("ISAKMP-peer"); x.text != "" {
		c.Peer = ld.peer(x, netip.Addr{})
		if c.Peer != nil && c.Peer != ld.cfg.DefaultPeer && !c.Peer.Address.IsValid() {
			ld.fail(x, "list it under [Phase 1] as ADDRESS="+c.Peer.Name+", or give its section an Address=", "peer %s of connection %s has no address", c.Peer.Name, c.Name)
		}
	} else if !generic {
		ld.need(v, "ISAKMP-peer", "name the section of the peer")
	}
	for _, x := range v.get("Flags").items() {
		if !strings.EqualFold(x.text, "Active-only") {
			ld.fail(x, "known: Active-only", "connection %s has an unknown flag %q", c.Name, x.text)
			continue
		}
		c.ActiveOnly = true
	}
	if x := v.get("Local-ID"); x.text != "" {
		c.Local = ld.net(x)
	}
	if x := v.get("Remote-ID"); x.text != "" {
		c.Remote = ld.net(x)
	}
	if l, r := c.Local, c.Remote; l != nil && r != nil {
		if l.Prefix.IsValid() && r.Prefix.IsValid() && l.Prefix.Addr().Is4() != r.Prefix.Addr().Is4() {
			ld.fail(v.get("Remote-ID"), "", "Local-ID %s and Remote-ID %s of connection %s are of different families", l.Prefix, r.Prefix, c.Name)
		}
		if l.Proto != r.Proto {
			ld.fail(v.get("Remote-ID"), "give both IDs the same Protocol", "Local-ID and Remote-ID of connection %s have different protocols", c.Name)
		}
	}
	if x, ok := ld.need(v, "Configuration", "name an IPsec configuration"); ok {
		c.Suites = ld.phase2Config(x)
	}
	return c
}

// overlaps warns of connections between the same networks.
func (ld *loader) overlaps() {
	for i, a := range ld.cfg.Connections {
		for _, b := range ld.cfg.Connections[:i] {
			if a.Peer == b.Peer && a.Local != nil && b.Local != nil && a.Remote != nil && b.Remote != nil &&
				sameNet(a.Local, b.Local) && sameNet(a.Remote, b.Remote) {
				ld.warn(value{pos: a.Pos, width: len(a.Name)}, "remove one of the two", "connections %s and %s join the same networks with the same peer", b.Name, a.Name)
			}
		}
	}
}

func sameNet(a, b *Net) bool {
	return a.Prefix == b.Prefix && a.Proto == b.Proto && a.Port == b.Port && a.Iface == b.Iface
}

// net reads an IPsec-ID section.
func (ld *loader) net(ref value) *Net {
	if n, ok := ld.nets[key(ref.text)]; ok {
		return n
	}
	v, ok := ld.open(kindIPsecID, ref)
	ld.nets[key(ref.text)] = nil
	if !ok {
		return nil
	}
	n := &Net{Name: v.name}
	ld.nets[key(ref.text)] = n
	types := []string{"IPV4_ADDR", "IPV4_ADDR_SUBNET", "IPV6_ADDR", "IPV6_ADDR_SUBNET"}
	x, ok := ld.need(v, "ID-type", "known: "+strings.Join(types, ", "))
	if !ok {
		return n
	}
	t := word(ld, x, "ID type for networks", func(s string) (doi.IDType, bool) {
		t, ok := doi.ParseIDType(s)
		return t, ok && slices.Contains(types, t.String())
	}, types)
	switch t {
	case doi.IDIPv4Addr, doi.IDIPv6Addr:
		n.Addr = true
		if a, ok := ld.need(v, "Address", "an address, an interface or default"); ok {
			ld.netAddress(n, a, t)
		}
	case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		ld.netNetwork(n, v, t)
	}
	ld.netPort(n, v)
	return n
}

func (ld *loader) netAddress(n *Net, x value, t doi.IDType) {
	if a, err := netip.ParseAddr(x.text); err == nil {
		ld.family(x, t, a)
		n.Prefix = netip.PrefixFrom(a, a.BitLen())
		return
	}
	if p, ok := ld.iface(n, x, t); ok {
		n.Prefix = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
	}
}

func (ld *loader) netNetwork(n *Net, v view, t doi.IDType) {
	x, ok := ld.need(v, "Network", "a network, an interface or default")
	if !ok {
		return
	}
	if _, err := netip.ParseAddr(x.text); err == nil {
		n.Prefix = ld.network(v, t)
		return
	}
	if strings.ContainsAny(x.text, "./:") {
		ld.address(x, "Network")
		return
	}
	if p, ok := ld.iface(n, x, t); ok {
		n.Prefix = p.Masked()
	}
}

// iface looks up an interface, or the one of the default route.
func (ld *loader) iface(n *Net, x value, t doi.IDType) (netip.Prefix, bool) {
	n.Iface = x.text
	if ld.r == nil {
		return netip.Prefix{}, false
	}
	v6 := t == doi.IDIPv6Addr || t == doi.IDIPv6Subnet
	name := x.text
	if strings.EqualFold(name, "default") {
		var err error
		if name, err = ld.r.DefaultInterface(v6); err != nil {
			ld.fail(x, "", "there is no default route to take the interface from: %v", err)
			return netip.Prefix{}, false
		}
	}
	addrs, err := ld.r.InterfaceAddrs(name)
	if err != nil {
		ld.fail(x, "write an address, or the name of an interface of this host", "%q is neither an address nor an interface: %v", name, err)
		return netip.Prefix{}, false
	}
	for _, p := range addrs {
		if p.Addr().Is4() != v6 && !p.Addr().IsLinkLocalUnicast() {
			return p, true
		}
	}
	ld.fail(x, "", "interface %s has no address that fits %s", name, t)
	return netip.Prefix{}, false
}

var protocols = map[string]uint8{"icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmp6": 58, "ipv6-icmp": 58, "ospf": 89, "l2tp": 115, "sctp": 132}

func (ld *loader) netPort(n *Net, v view) {
	if x := v.get("Protocol"); x.text != "" {
		p, ok := protocols[strings.ToLower(x.text)]
		if !ok {
			u, err := strconv.ParseUint(x.text, 10, 8)
			if p = uint8(u); err != nil {
				ld.fail(x, "a number up to 255, or one of tcp, udp, icmp, gre, …", "%q is no protocol", x.text)
			}
		}
		n.Proto = p
	}
	if x := v.get("Port"); x.text != "" {
		n.Port = uint16(ld.number(x, "Port", 0, 65535))
		if n.Proto != 6 && n.Proto != 17 && n.Proto != 132 {
			ld.fail(x, "write Protocol=tcp or udp beside it", "a Port needs a Protocol that has ports")
		}
	}
}

// phase2Config reads an IPsec-configuration section.
func (ld *loader) phase2Config(ref value) []Suite {
	v, ok := ld.open(kindPhase2Config, ref)
	if !ok {
		return nil
	}
	ld.doi(v)
	if x := v.get("EXCHANGE_TYPE"); x.text != "" && !strings.EqualFold(x.text, "QUICK_MODE") {
		ld.fail(x, "write EXCHANGE_TYPE=QUICK_MODE", "EXCHANGE_TYPE %q is none of phase 2", x.text)
	}
	list, ok := ld.need(v, "Suites", "as Suites=QM-ESP-AES-128-SHA-PFS-SUITE")
	if !ok {
		return nil
	}
	var suites []Suite
	for _, x := range list.items() {
		if s := ld.suite(x); s != nil {
			suites = append(suites, *s)
		}
	}
	ld.oneGroup(list, suites)
	return suites
}

// oneGroup checks what quick mode cannot do: its KE payload goes out with the
// offer, so all of the offer has one group or none.
func (ld *loader) oneGroup(list value, suites []Suite) {
	var first *Phase2Transform
	for _, s := range suites {
		for _, p := range s.Protocols {
			for i := range p.Transforms {
				t := &p.Transforms[i]
				switch {
				case first == nil:
					first = t
				case (t.Group == 0) != (first.Group == 0):
					ld.fail(list, "make two connections of it, or take PFS in all", "suites with and without PFS are mixed in one offer (%s, %s)", first.Name, t.Name)
					return
				case t.Group != first.Group:
					ld.fail(list, "take one group in all of them", "the offer mixes the PFS groups %s and %s", first.Group, t.Group)
					return
				}
			}
		}
	}
}

// suite reads an IPsec-suite section.
func (ld *loader) suite(ref value) *Suite {
	if s, ok := ld.suites[key(ref.text)]; ok {
		return s
	}
	v, ok := ld.open(kindSuite, ref)
	ld.suites[key(ref.text)] = nil
	if !ok {
		return nil
	}
	s := &Suite{Name: ref.text}
	ld.suites[key(ref.text)] = s
	ps, ok := ld.need(v, "Protocols", "")
	if !ok {
		return s
	}
	for _, x := range ps.items() {
		if p, ok := ld.protocol(x); ok {
			s.Protocols = append(s.Protocols, p)
		}
	}
	return s
}

const defaultReplay = 64

func (ld *loader) protocol(ref value) (p Protocol, ok bool) {
	v, ok := ld.open(kindProtocol, ref)
	if !ok {
		return p, false
	}
	p = Protocol{Name: ref.text, Replay: defaultReplay}
	x, ok := ld.need(v, "PROTOCOL_ID", "known: IPSEC_ESP, IPSEC_AH")
	if !ok {
		return p, false
	}
	switch strings.ToUpper(x.text) {
	case "IPSEC_ESP":
		p.Proto = doi.ProtoESP
	case "IPSEC_AH":
		p.Proto = doi.ProtoAH
	default:
		ld.fail(x, "known: IPSEC_ESP, IPSEC_AH", "PROTOCOL_ID %q is unknown", x.text)
		return p, false
	}
	if w := v.get("ReplayWindow"); w.text != "" {
		p.Replay = int(ld.number(w, "ReplayWindow", 0, 4096))
	}
	ts, ok := ld.need(v, "Transforms", "")
	if !ok {
		return p, false
	}
	for _, x := range ts.items() {
		if t, ok := ld.phase2Transform(p.Proto, x); ok {
			p.Transforms = append(p.Transforms, t)
		}
	}
	return p, len(p.Transforms) > 0
}

func (ld *loader) phase2Transform(proto doi.Protocol, ref value) (t Phase2Transform, ok bool) {
	v, ok := ld.open(kindPhase2Transform, ref)
	if !ok {
		return t, false
	}
	t.Name = ref.text
	x, ok := ld.need(v, "TRANSFORM_ID", "")
	if !ok {
		return t, false
	}
	if proto == doi.ProtoAH {
		t.ID = uint8(word(ld, x, "AH transform", doi.ParseAH, []string{"MD5", "SHA", "RIPEMD", "SHA2_256", "SHA2_384", "SHA2_512"}))
	} else {
		t.ID = uint8(word(ld, x, "ESP transform", doi.ParseESP, []string{"DES", "3DES", "CAST", "BLOWFISH", "AES", "AES_CTR", "AES_GCM_16", "AES_GMAC", "NULL"}))
	}
	switch m := v.get("ENCAPSULATION_MODE"); strings.ToUpper(m.text) {
	case "TUNNEL", "":
	case "TRANSPORT":
		t.Mode = ipsec.Transport
	default:
		ld.fail(m, "known: TUNNEL, TRANSPORT", "ENCAPSULATION_MODE %q is unknown", m.text)
	}
	if a := v.get("AUTHENTICATION_ALGORITHM"); a.text != "" {
		t.Auth = word(ld, a, "authentication algorithm", doi.ParseAuthAlg, []string{"HMAC_MD5", "HMAC_SHA", "HMAC_SHA2_256", "HMAC_SHA2_384", "HMAC_SHA2_512", "HMAC_RIPEMD"})
	}
	if l := v.get("KEY_LENGTH"); l.text != "" {
		t.KeyLength = ld.rangeOf(l, "KEY_LENGTH", 448)
	}
	if g := v.get("GROUP_DESCRIPTION"); g.text != "" {
		t.Group = ld.group(g)
	}
	t.Seconds, t.Kilobytes = ld.lives(v)
	return t, true
}
