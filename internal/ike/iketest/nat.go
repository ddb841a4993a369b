package iketest

import (
	"net/netip"
	"time"
)

// NAT is a box that hides nodes behind one address. What nodes behind it send
// gets a port of its own, the same for all destinations; what comes to that port
// goes to them.
type NAT struct {
	Public  netip.Addr
	Timeout time.Duration // of a mapping that nothing used; 0: never

	inside map[netip.AddrPort]*mapping
	ports  map[uint16]*mapping
	nodes  map[netip.Addr]*Node
	next   uint16
}

type mapping struct {
	inner netip.AddrPort
	port  uint16
	used  time.Time
}

// NewNAT puts a box with a public address into the world.
func (w *World) NewNAT(public string) *NAT {
	n := &NAT{Public: netip.MustParseAddr(public), next: 1024}
	n.Reset()
	n.nodes = map[netip.Addr]*Node{}
	w.byAddr[n.Public] = n
	return n
}

// Reset forgets all mappings, as a reboot does; new ones get other ports.
func (n *NAT) Reset() {
	n.inside, n.ports = map[netip.AddrPort]*mapping{}, map[uint16]*mapping{}
	n.next += 1000
}

// Hide puts a node behind the box.
func (n *NAT) Hide(node *Node) {
	node.NAT = n
	n.nodes[node.Addr] = node
	delete(node.World.byAddr, node.Addr)
}

func (n *NAT) expire(now time.Time) {
	for _, m := range n.ports {
		if n.Timeout > 0 && now.Sub(m.used) > n.Timeout {
			delete(n.ports, m.port)
			delete(n.inside, m.inner)
		}
	}
}

// outgoing rewrites the source; false: the box has no way to.
func (n *NAT) outgoing(w *World, p *Packet) bool {
	if p.ESP != nil && !p.ESP.udp {
		return false // without ports it cannot tell two nodes apart
	}
	n.expire(w.Now)
	m := n.inside[p.From]
	if m == nil {
		m = &mapping{inner: p.From}
		for {
			n.next++
			if n.ports[n.next] == nil {
				break
			}
		}
		m.port = n.next
		n.inside[p.From], n.ports[m.port] = m, m
	}
	m.used = w.Now
	p.From = netip.AddrPortFrom(n.Public, m.port)
	return true
}

func (n *NAT) receive(w *World, p *Packet) {
	n.expire(w.Now)
	m := n.ports[p.To.Port()]
	if m == nil {
		if p.ESP != nil {
			p.ESP.lost("no mapping")
		}
		return
	}
	m.used = w.Now
	c := *p
	c.To = m.inner
	n.nodes[m.inner.Addr()].receive(w, &c)
}
