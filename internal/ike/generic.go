package ike

import (
	"fmt"
	"net/netip"
	"strings"

	"oakley/internal/ipsec"
)

// A peer may ask for what no listed connection is for. There are two patterns
// after which a connection is made for it then: DefaultConnection, which joins the
// ends that it fixes, and what it does not fix has to be the tunnel's end itself;
// and Unlisted, with which the policy decides about any networks at all.

// unlistedName begins the names of connections that the policy alone lets in.
const unlistedName = "by-policy"

// madeFor makes the connection of a peer whose identities no listed one means.
func (e *Engine) madeFor(p *phase1, local, remote Net) *connState {
	d, byPolicy := e.cfg.DefaultConnection, false
	if d == nil || d.Peer != nil && d.Peer != p.peer || !d.Local.means(local, p.local.Addr()) || !d.Remote.means(remote, p.remote.Addr()) {
		d, byPolicy = e.cfg.Unlisted, true
	}
	if d == nil || byPolicy && (e.isListed(local, remote) || e.madeBefore(p) >= e.cfg.MaxMadePerPeer) {
		return nil
	}
	name := d.Name
	if byPolicy {
		name = unlistedName
	}
	conn := *d
	conn.Name = fmt.Sprintf("%s@%s/%s", name, p.remote, remote)
	for i := 2; e.conns[conn.Name] != nil; i++ { // another peer had this port before
		conn.Name = fmt.Sprintf("%s@%s/%s#%d", name, p.remote, remote, i)
	}
	conn.Peer, conn.Local, conn.Remote, conn.Active = p.peer, local, remote, false
	cs := &connState{conn: &conn, dynamic: true, byPolicy: byPolicy, remoteID: string(p.idBody), remoteAddr: p.remote}
	e.addConn(cs)
	return cs
}

// isListed tells whether the traffic between two networks is a listed
// connection's, which nobody else's may take away.
func (e *Engine) isListed(local, remote Net) bool {
	for _, c := range e.cfg.Connections {
		if c.Local.Prefix.IsValid() && c.Remote.Prefix.IsValid() && c.Local.means(local, netip.Addr{}) && c.Remote.means(remote, netip.Addr{}) {
			return true
		}
	}
	return false
}

// madeBefore counts the connections that the policy let one peer have.
func (e *Engine) madeBefore(p *phase1) (n int) {
	for _, cs := range e.connsOf[p.peer] {
		if cs.byPolicy && cs.remoteID == string(p.idBody) {
			n++
		}
	}
	return n
}

// pattern is what a dynamic connection was made after.
func (c *Config) pattern(byPolicy bool) *Connection {
	if byPolicy {
		return c.Unlisted
	}
	return c.DefaultConnection
}

// samePattern tells whether peers that no connection names still get the same.
func samePattern(x, y *Connection) bool {
	if x == nil || y == nil || (x.Peer == nil) != (y.Peer == nil) {
		return false
	}
	return sameConnection(x, y) && (x.Peer == nil || x.Peer.Name == y.Peer.Name)
}

// adoptConn makes the connection of a peer that the configuration does not
// list, as it was made when the peer called.
func (e *Engine) adoptConn(name string, remote netip.AddrPort, sa *ipsec.SA) *connState {
	byPolicy := isUnlisted(name)
	d, peer := e.cfg.pattern(byPolicy), e.peerAt(remote.Addr())
	if d == nil || peer == nil || d.Peer != nil && d.Peer != peer {
		return nil
	}
	sel := sa.Selector
	if sa.ID.Dir == ipsec.In {
		sel = sel.Reverse()
	}
	conn := *d
	conn.Name, conn.Peer, conn.Active = name, peer, false
	// How the peer said it is forgotten: one address is likely to be one.
	conn.Local = Net{Prefix: sel.Src, Addr: sel.Src.IsSingleIP(), Proto: sel.Proto, Port: sel.SrcPort}
	conn.Remote = Net{Prefix: sel.Dst, Addr: sel.Dst.IsSingleIP(), Proto: sel.Proto, Port: sel.DstPort}
	cs := &connState{conn: &conn, dynamic: true, byPolicy: byPolicy, remoteID: unclaimed, remoteAddr: remote, hasFlows: true}
	e.addConn(cs)
	return cs
}

// suitesHint is what to do when the peer offers none of a connection's suites.
func (cs *connState) suitesHint() string {
	if cs.byPolicy {
		return "no connection here is for these networks, so the suites are those of Default-phase-2-suites= in [General]: make them and the peer's share one line, or write a connection"
	}
	return "make the two sides' phase 2 suites share one line (Configuration= and Suites= of the connection here)"
}

func isUnlisted(conn string) bool { return strings.HasPrefix(conn, unlistedName+"@") }
