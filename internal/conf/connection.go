package conf

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"oakley/internal/diag"
)

// connSection is a connection and what its remarks need to know about the file.
type connSection struct {
	conn *Connection
	view view
	ref  value // the first place that lists it
	kind listKind
}

// listKind is where [Phase 2] names a connection.
type listKind uint8

const (
	listedActive  listKind = iota // Connections=
	listedPassive                 // Passive-connections=, or nowhere
	listedDefault                 // Default=
)

// readPhase2 reads [Phase 2].
func (l *loader) readPhase2() {
	v := l.fixed("Phase 2", rolePhase2)
	if v.sec == nil {
		l.add(diag.Warning, v.at, "write [Phase 2] with Connections= or Passive-connections=", "there is no section [Phase 2]: no connection is made or accepted")
		return
	}
	for _, x := range v.get("Connections").items() {
		l.readListedConnection(x, listedActive)
	}
	for _, x := range v.get("Passive-connections").items() {
		l.readListedConnection(x, listedPassive)
	}
	if x := v.get("Default"); x.text != "" {
		if cs := l.connection(x, listedDefault); cs != nil {
			if cs.ref.at != x.at {
				l.warn(x, "write a section of its own for Default=", "connection %s is listed by name too", clip(cs.conn.Name))
			}
			l.cfg.DefaultConnection = cs.conn
		}
	}
	if !v.has("Connections") && !v.has("Passive-connections") && !v.has("Default") {
		l.warn(v.head(), "write Connections= or Passive-connections=", "[Phase 2] lists no connection")
	}
}

func (l *loader) readListedConnection(x value, kind listKind) {
	cs := l.connection(x, kind)
	if cs == nil {
		return
	}
	if cs.ref.at != x.at {
		if fold(x.text) != fold(cs.conn.Name) {
			return // it was told already that x names nothing
		}
		l.warn(x, "name it once; Connections= accepts too", "connection %s is listed in line %d already", clip(cs.conn.Name), cs.ref.at.Line)
		return
	}
	c := cs.conn
	c.Active = kind == listedActive
	if c.ActiveOnly && !c.Active {
		l.warn(cs.view.get("Flags"), "list it in Connections=, or remove the flag", "connection %s is passive and Active-only: it is never used", clip(c.Name))
	}
	l.cfg.Connections = append(l.cfg.Connections, c)
}

// connection reads an IPsec-connection section, once.
func (l *loader) connection(ref value, kind listKind) *connSection {
	v, ok := l.open(roleConnection, ref)
	if !ok {
		return nil
	}
	if cs, ok := l.connections[fold(v.name)]; ok {
		return cs
	}
	cs := &connSection{view: v, ref: ref, kind: kind, conn: &Connection{Name: v.name, Pos: v.at.Pos, PFTag: v.get("PF-Tag").text}}
	l.connections[fold(v.name)] = cs
	l.connOrder = append(l.connOrder, cs)
	c := cs.conn
	l.phase(v, "2")
	l.readConnectionPeer(cs)
	for _, x := range v.get("Flags").items() {
		c.ActiveOnly, _ = oneOf(l, x, "flag of a connection", []choice[bool]{{"Active-only", true}})
	}
	if x := v.get("XFRM-interface"); x.text != "" {
		n, _ := l.number(x, "if_id of an xfrm interface", 1, math.MaxUint32)
		c.Interface = uint32(n)
	}
	if x := v.get("Local-ID"); x.text != "" {
		c.Local = l.net(x)
	}
	if x := v.get("Remote-ID"); x.text != "" {
		c.Remote = l.net(x)
	}
	if x := v.get("NAT-ID"); x.text != "" {
		c.NATID = l.net(x)
	}
	l.readConnectionSuites(cs)
	return cs
}

// readConnectionSuites reads what a connection offers and accepts. One that is
// only accepted may leave that to Default-phase-2-suites.
func (l *loader) readConnectionSuites(cs *connSection) {
	const hint = "write Configuration= with the name of a section that has Suites="
	c, x := cs.conn, cs.view.get("Configuration")
	if x.text == "" && cs.kind != listedActive {
		l.warn(cs.view.head(), hint, "[%s] has no Configuration: Default-phase-2-suites are accepted", clip(c.Name))
		c.Suites = l.cfg.General.DefaultPhase2Suites
		return
	}
	if x, ok := l.need(cs.view, "Configuration", hint); ok {
		c.Configuration = x.text
		if conf := l.phase2Configuration(x); conf != nil {
			c.Configuration, c.Suites = conf.name, conf.suites
		}
	}
}

// readConnectionPeer finds whom a connection is with. Only the generic one may
// leave it open.
func (l *loader) readConnectionPeer(cs *connSection) {
	x := cs.view.get("ISAKMP-peer")
	if x.text == "" {
		if cs.kind != listedDefault {
			l.need(cs.view, "ISAKMP-peer", "write ISAKMP-peer= with the name of the peer's section")
		}
		return
	}
	if ps := l.peer(x); ps != nil {
		cs.conn.Peer = ps.peer
		if !l.unused {
			ps.wanted = append(ps.wanted, x)
		}
	}
}

// checkConnections looks at what belongs together.
func (l *loader) checkConnections() {
	type ends struct{ local, remote netKey }
	seen := map[ends]*connSection{}
	sound := !l.list.HasErrors() // else what is missing may be what could not be read
	for _, cs := range l.connOrder {
		c := cs.conn
		l.unused = cs.ref.tag == nil
		l.checkConnection(cs)
		if sound {
			l.checkOffer(cs)
			l.checkTransport(cs)
		}
		l.unused = false
		if cs.ref.tag == nil || c.Local == nil || c.Remote == nil {
			continue
		}
		at := ends{c.Local.key(), c.Remote.key()}
		if other := seen[at]; other != nil {
			l.warn(cs.view.head(), fmt.Sprintf("remove one of them, or change its IDs; the other one is in line %d", other.view.at.Line),
				"connections %s and %s join the same networks", clip(other.conn.Name), clip(c.Name))
			continue
		}
		seen[at] = cs
	}
}

// netKey is what a Net stands for, whatever its section is called.
type netKey struct {
	prefix string
	proto  uint8
	port   uint16
}

func (n *Net) key() netKey {
	k := netKey{proto: n.Proto, port: n.Port, prefix: n.Prefix.String()}
	if !n.Prefix.IsValid() {
		k.prefix = n.Interface
	}
	return k
}

func (l *loader) checkConnection(cs *connSection) {
	c, v := cs.conn, cs.view
	if p := c.Peer; p != nil && c.Active && !p.Address.IsValid() && p == l.cfg.DefaultPeer {
		l.fail(v.get("ISAKMP-peer"), "list it in Passive-connections=, or give it a peer with an address",
			"connection %s is to be started, and its peer %s has no address", clip(c.Name), clip(p.Name))
	}
	if (c.Local == nil) != (c.Remote == nil) && !v.has("Local-ID") != !v.has("Remote-ID") {
		missing := "Local-ID"
		if c.Remote == nil {
			missing = "Remote-ID"
		}
		l.warn(v.head(), "write "+missing+"= if a network is meant", "connection %s has no %s: this end is the address of the tunnel itself", clip(c.Name), missing)
	}
	if c.Local == nil || c.Remote == nil {
		return
	}
	a, b := c.Local, c.Remote
	x := v.get("Remote-ID")
	if a.Prefix.IsValid() && b.Prefix.IsValid() {
		switch {
		case a.Prefix.Addr().Is4() != b.Prefix.Addr().Is4():
			l.fail(x, "write two IPv4 IDs or two IPv6 IDs", "the ends of connection %s are of different families: %s and %s", clip(c.Name), a.Prefix, b.Prefix)
			return
		case a.Prefix == b.Prefix && a.Prefix.Bits() != 0:
			l.warn(x, "Remote-ID= is the network behind the other side", "both ends of connection %s are %s", clip(c.Name), a.Prefix)
		case b.Prefix.Bits() > a.Prefix.Bits() && a.Prefix.Contains(b.Prefix.Addr()) && a.Prefix.Bits() != 0:
			l.warn(x, "hosts in the remote network will be looked for on the local one", "the remote network %s of connection %s is part of the local one, %s", b.Prefix, clip(c.Name), a.Prefix)
		}
	}
	if a.Proto != b.Proto {
		l.warn(x, "give both IDs the same Protocol=", "the IDs of connection %s have different protocols: %s and %s", clip(c.Name), protocolName(a.Proto), protocolName(b.Proto))
	}
	if p := c.Peer; p != nil && p.Address.IsValid() && b.Prefix.IsValid() && !b.Addr && b.Prefix.Bits() != 0 && b.Prefix.Contains(p.Address) {
		l.warn(x, "packets for the peer's own address go through the tunnel too, but for IKE and the tunnel itself", "the remote network %s of connection %s holds the peer's address %s", b.Prefix, clip(c.Name), p.Address)
	}
}

// checkTransport sees to it that transport mode is between the tunnel's ends
// themselves: there is no other address in its packets.
func (l *loader) checkTransport(cs *connSection) {
	c := cs.conn
	i := slices.IndexFunc(c.Suites, func(s Suite) bool { return s.Transport() })
	if i < 0 || c.Peer == nil {
		return
	}
	for _, end := range []struct {
		tag, whose string
		net        *Net
		addr       netip.Addr
	}{{"Local-ID", "our address", c.Local, c.Peer.LocalAddress}, {"Remote-ID", "the peer's address", c.Remote, c.Peer.Address}} {
		if end.net == nil || !end.net.Prefix.IsValid() {
			continue
		}
		if end.net.Prefix.IsSingleIP() && (!end.addr.IsValid() || end.net.Prefix.Addr() == end.addr) {
			continue
		}
		l.fail(cs.view.get(end.tag), "remove "+end.tag+", which then is "+end.whose+", or take a suite in tunnel mode",
			"suite %s of connection %s is in transport mode, between the tunnel's ends themselves, and %s is %s", clip(c.Suites[i].Name), clip(c.Name), end.tag, end.net)
	}
}

// checkOffer sees to it that a connection that is to be started has something to
// offer.
func (l *loader) checkOffer(cs *connSection) {
	c := cs.conn
	if c.Active && c.Peer != nil && len(c.Peer.Transforms) > 0 && !c.Peer.offers() {
		l.fail(cs.view.get("ISAKMP-peer"), "write the values out in at least one transform",
			"connection %s is to be started, and every transform of its peer %s has ANY in it: there is nothing to offer", clip(c.Name), clip(c.Peer.Name))
	}
}

// offers tells whether some transform of p can be proposed.
func (p *Peer) offers() bool {
	for i := range p.Transforms {
		if p.Transforms[i].Offerable() {
			return true
		}
	}
	return false
}
