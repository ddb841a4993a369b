package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"oakley/internal/conf"
	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// missing are the features of a configuration that isakmpd does not have yet. A
// connection that needs one of them is refused by its name.
const missing = conf.FeatureCertificates | conf.FeatureAggressive | conf.FeatureModeConfig |
	conf.FeatureUnauthenticated | conf.FeatureNATID | conf.FeaturePFTag

// left are wishes of [General] that a tunnel works without: a warning says so.
const left = conf.FeatureDPD | conf.FeatureSharedSADB | conf.FeatureRenegotiate

// translator turns the configuration's words into the engine's and the data
// plane's.
type translator struct {
	rules    *rules // nil: no policy
	host     Host
	opt      *Options
	conf     *conf.Config
	addrs    []netip.Addr // that we listen on
	peers    map[*conf.Peer]*ike.Peer
	warnings []string
	homeless bool
}

func (t *translator) warnf(format string, args ...any) {
	t.warnings = append(t.warnings, fmt.Sprintf(format, args...))
}

// listen lists the addresses of Listen-on and -4, -6; none named: the two
// unspecified ones.
func (t *translator) listen() ([]netip.Addr, error) {
	var all []netip.Addr
	for _, on := range t.conf.General.ListenOn {
		if on.Interface == "" {
			all = append(all, on.Addr)
			continue
		}
		ps, err := t.host.InterfaceAddrs(on.Interface)
		if err != nil {
			return nil, fmt.Errorf("[General] Listen-on: %w", err)
		}
		for _, p := range ps {
			all = append(all, p.Addr())
		}
	}
	if len(t.conf.General.ListenOn) == 0 {
		all = []netip.Addr{netip.IPv4Unspecified()}
		if t.host.HasIPv6() || !t.opt.bothFamilies() {
			all = append(all, netip.IPv6Unspecified())
		}
	}
	var wanted []netip.Addr
	for _, a := range all {
		if t.opt.wants(a) && !slices.Contains(wanted, a) {
			wanted = append(wanted, a)
		}
	}
	if len(wanted) == 0 {
		return nil, errors.New("nothing to listen on: Listen-on in [General] names no address of the family that -4 or -6 asks for")
	}
	return wanted, nil
}

// engine is the engine's configuration.
func (t *translator) engine() (*ike.Config, error) {
	g := &t.conf.General
	need := t.conf.Needs()
	if need.Has(conf.FeatureAcquireOnly) {
		return nil, errors.New("Acquire-Only in [General] leaves the flows to another program, and there is none yet: remove the line")
	}
	if l := need & left; l != 0 {
		t.warnf("[General] asks for %s, which isakmpd does not have yet: it goes on without", l)
	}
	c := &ike.Config{
		Port: t.opt.Port, EncapPort: t.opt.EncapPort, NATT: !t.opt.NoNATT,
		Retransmits: g.Retransmits, ExchangeMaxTime: g.ExchangeMaxTime, CheckInterval: g.CheckInterval, KeepAlive: g.NATTKeepalive,
	}
	var errs []error
	for _, n := range t.conf.Connections {
		conn, err := t.connection(n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.Connections = append(c.Connections, conn)
	}
	if n := t.conf.DefaultConnection; n != nil {
		conn, err := t.connection(n)
		errs = append(errs, err)
		c.DefaultConnection = conn
	}
	errs = append(errs, t.addPeers(c))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// addPeers adds the peers that can be spoken with. One that cannot and has a
// connection was refused with it.
func (t *translator) addPeers(c *ike.Config) error {
	for _, p := range t.conf.Peers {
		peer, err := t.peer(p)
		if err != nil {
			t.warnf("%v: it is left out, no connection is with it", err)
			continue
		}
		c.Peers = append(c.Peers, peer)
	}
	if p := t.conf.DefaultPeer; p != nil {
		peer, err := t.peer(p)
		if err != nil {
			return fmt.Errorf("%w; it is the default peer of [Phase 1]", err)
		}
		c.DefaultPeer = peer
	}
	return nil
}

// peer translates one peer, once.
func (t *translator) peer(p *conf.Peer) (*ike.Peer, error) {
	if q := t.peers[p]; q != nil {
		return q, nil
	}
	q := &ike.Peer{Name: p.Name, Address: p.Address, Port: p.Port, Key: p.Key, Local: t.local(p)}
	for _, x := range p.Transforms {
		if x.Auth == 0 || x.Auth == doi.AuthPSK {
			q.Transforms = append(q.Transforms, phase1Transform(&x))
		}
	}
	need := p.Needs() & missing
	if len(q.Transforms) > 0 && p.Key != nil {
		if need.Has(conf.FeatureCertificates) {
			t.warnf("peer %s: its transforms with certificates are left out, isakmpd cannot check certificates yet", p.Name)
		}
		need &^= conf.FeatureCertificates
	}
	if need != 0 {
		return nil, fmt.Errorf("peer %s (%s) needs %s, which isakmpd does not have yet", p.Name, p.Pos, need)
	}
	id := p.ID
	if id == nil {
		id = t.conf.General.DefaultPhase1ID
	}
	q.LocalID, q.RemoteID = phase1ID(id), phase1ID(p.RemoteID)
	q.Credentials = t.credentials(q)
	t.peers[p] = q
	return q, nil
}

// credentials are those of the directory that are our own.
func (t *translator) credentials(q *ike.Peer) []byte {
	if t.rules == nil {
		return nil
	}
	if q.LocalID != nil {
		return t.rules.own[q.LocalID.Bare()]
	}
	return t.rules.own[q.Local.String()]
}

// local is our address towards a peer: the configured one, that of the route, or
// one that we listen on. It is invalid while there is none.
func (t *translator) local(p *conf.Peer) netip.Addr {
	if p.LocalAddress.IsValid() || !p.Address.IsValid() {
		return p.LocalAddress
	}
	if !t.opt.wants(p.Address) {
		t.warnf("peer %s has an address of the other family (%s) than -4 or -6 allows: it cannot be reached", p.Name, p.Address)
		return netip.Addr{}
	}
	a, err := t.host.SourceFor(p.Address)
	mine := func(x netip.Addr) bool { return x == a || x.IsUnspecified() && x.Is4() == p.Address.Is4() }
	if err == nil && slices.ContainsFunc(t.addrs, mine) {
		return a
	}
	for _, x := range t.addrs {
		if x.Is4() == p.Address.Is4() && !x.IsUnspecified() {
			return x
		}
	}
	t.homeless = true
	t.warnf("our address towards peer %s is not known: %v; this is looked at again every %s", p.Name, err, resolveEvery)
	return netip.Addr{}
}

// connection translates one connection, or says which feature it waits for.
func (t *translator) connection(n *conf.Connection) (*ike.Connection, error) {
	c := &ike.Connection{Name: n.Name, Active: n.Active, ActiveOnly: n.ActiveOnly, Local: endOf(n.Local), Remote: endOf(n.Remote), Interface: n.Interface}
	refuse := func(what string) error {
		return fmt.Errorf("connection %s (%s) needs %s, which isakmpd does not have yet: change it, or take it out of [Phase 2]", n.Name, n.Pos, what)
	}
	if n.Peer != nil {
		p, err := t.peer(n.Peer)
		if err != nil {
			return nil, refuse((n.Peer.Needs() & missing).String() + " for its peer " + n.Peer.Name)
		}
		c.Peer = p
	}
	var need conf.Features
	if n.NATID != nil {
		need |= conf.FeatureNATID
	}
	if n.PFTag != "" {
		need |= conf.FeaturePFTag
	}
	if need != 0 {
		return nil, refuse(need.String())
	}
	var out []string
	for i := range n.Suites {
		if lack := n.Suites[i].Needs() & missing; lack != 0 {
			need |= lack
			out = append(out, n.Suites[i].Name)
			continue
		}
		c.Suites = append(c.Suites, suite(&n.Suites[i]))
	}
	if len(c.Suites) == 0 {
		return nil, refuse(need.String())
	}
	if len(out) > 0 {
		t.warnf("connection %s: left out are the suites %s, for isakmpd has no %s yet", n.Name, strings.Join(out, ", "), need)
	}
	return c, nil
}

func endOf(n *conf.Net) ike.Net {
	if n == nil {
		return ike.Net{}
	}
	return ike.Net{Prefix: n.Prefix, Addr: n.Addr, Proto: n.Proto, Port: n.Port}
}

// suite puts the protocols into the order in which they are applied, and gives
// IPComp, which has no key, the group of the others.
func suite(s *conf.Suite) ike.Suite {
	out := ike.Suite{Name: s.Name}
	var group doi.Group
	for _, proto := range []ipsec.Proto{ipsec.ProtoAH, ipsec.ProtoESP, ipsec.ProtoIPComp} {
		for i := range s.Protocols {
			p := &s.Protocols[i]
			if p.Proto != proto {
				continue
			}
			q := ike.Protocol{Proto: protocols[p.Proto], Replay: p.Replay}
			for k := range p.Transforms {
				t := phase2Transform(&p.Transforms[k])
				if group == 0 {
					group = t.Group
				}
				if proto == ipsec.ProtoIPComp && t.Group == 0 {
					t.Group = group
				}
				q.Transforms = append(q.Transforms, t)
			}
			out.Protocols = append([]ike.Protocol{q}, out.Protocols...)
		}
	}
	return out
}

func phase1Transform(x *conf.Phase1Transform) ike.Phase1Transform {
	return ike.Phase1Transform{
		Name: x.Name, Cipher: x.Cipher, KeyLength: rangeOf(x.KeyLength), Hash: x.Hash, Auth: doi.AuthPSK, Group: x.Group,
		Seconds: rangeOf(x.LifeSeconds), Kilobytes: rangeOf(x.LifeKilobytes),
	}
}

func phase2Transform(x *conf.Phase2Transform) ike.Phase2Transform {
	id := uint8(x.ESP)
	switch x.Proto {
	case ipsec.ProtoAH:
		id = uint8(x.AH)
	case ipsec.ProtoIPComp:
		id = uint8(x.IPComp)
	}
	return ike.Phase2Transform{
		Name: x.Name, ID: id, Mode: x.Mode, Auth: x.Auth, KeyLength: rangeOf(x.KeyLength), Group: x.Group, ESN: x.ESN,
		Seconds: rangeOf(x.LifeSeconds), Kilobytes: rangeOf(x.LifeKilobytes),
	}
}

// rangeOf: the engine's zero Range, like ANY, accepts everything.
func rangeOf(r conf.Range) ike.Range {
	if r.Any {
		return ike.Range{}
	}
	return ike.Range{Offer: uint64(r.Offer), Min: uint64(r.Min), Max: uint64(r.Max)}
}

// phase1ID makes the payload of an identity (RFC 2407 section 4.6.2).
func phase1ID(id *conf.ID) *isakmp.ID {
	if id == nil {
		return nil
	}
	switch id.Type {
	case doi.IDIPv4Addr, doi.IDIPv6Addr:
		return isakmp.IDFromAddr(id.Prefix.Addr(), 0, 0)
	case doi.IDIPv4Subnet, doi.IDIPv6Subnet:
		return isakmp.IDFromPrefix(id.Prefix, 0, 0)
	}
	return &isakmp.ID{Type: id.Type, Data: []byte(id.Name)}
}

var protocols = map[ipsec.Proto]doi.Protocol{
	ipsec.ProtoESP: doi.ProtoESP, ipsec.ProtoAH: doi.ProtoAH, ipsec.ProtoIPComp: doi.ProtoIPComp,
}

var ipsecProtos = map[doi.Protocol]ipsec.Proto{
	doi.ProtoESP: ipsec.ProtoESP, doi.ProtoAH: ipsec.ProtoAH, doi.ProtoIPComp: ipsec.ProtoIPComp,
}
