package ipsec

import (
	"fmt"
	"net/netip"
)

// Selector is what a packet must look like (RFC 4301 section 4.4.1.1), seen in
// the direction in which the packet travels. Zero Proto and ports match all.
type Selector struct {
	Src, Dst         netip.Prefix
	Proto            uint8
	SrcPort, DstPort uint16
}

// Reverse is the selector of the packets that travel the other way.
func (s Selector) Reverse() Selector {
	return Selector{Src: s.Dst, Dst: s.Src, Proto: s.Proto, SrcPort: s.DstPort, DstPort: s.SrcPort}
}

func (s Selector) String() string {
	port := func(p uint16) string {
		if p == 0 {
			return ""
		}
		return fmt.Sprintf(" port %d", p)
	}
	proto := ""
	if s.Proto != 0 {
		proto = fmt.Sprintf(" proto %d", s.Proto)
	}
	return fmt.Sprintf("%s%s -> %s%s%s", s.Src, port(s.SrcPort), s.Dst, port(s.DstPort), proto)
}

// OrderIKE is where flows that are negotiated stand: the more specific selector is
// first among equals, and there is room on both sides for what people put before
// or behind.
const OrderIKE = 1 << 16

// FlowID is a flow's stable name: the connection's name and the direction, so
// that a reload can be a difference.
type FlowID string

// FlowType says what happens to a packet that matches a flow; the names are
// those of ipsec.conf(5) and ipsecadm(8).
type FlowType uint8

// Flow types.
const (
	FlowRequire FlowType = iota // protected or dropped; asks for an SA when there is none
	FlowUse                     // protected when there is an SA, else in clear
	FlowAcquire                 // as FlowUse, and asks for an SA when there is none
	FlowDontAcq                 // protected or dropped; never asks
	FlowDeny                    // dropped
	FlowBypass                  // in clear
)

var flowTypes = [...]string{"require", "use", "acquire", "dontacq", "deny", "bypass"}

func (t FlowType) String() string {
	if int(t) < len(flowTypes) {
		return flowTypes[t]
	}
	return fmt.Sprintf("flow type %d", uint8(t))
}

// MayClear tells whether packets of such a flow may come and go unprotected.
func (t FlowType) MayClear() bool { return t == FlowUse || t == FlowAcquire || t == FlowBypass }

// Flow is one entry of the SPD.
type Flow struct {
	ID       FlowID
	Dir      Direction
	Type     FlowType
	Selector Selector
	Order    uint32     // lower is looked at first; equal orders: the more specific selector first
	Local    netip.Addr // the tunnel's ends; invalid: any (a peer that may be anywhere)
	Remote   netip.Addr
	Mode     Mode
	Proto    Proto // of the SA that protects it
	Owner    Owner
	Conn     string
	// Interface is the if_id of the kernel's xfrm interface through which the
	// packets go, in the clear on its inside; 0: none, they are found by Selector
	// wherever they go.
	Interface uint32
	IDs
}

// IDs are the identities for which an SA or a flow was made, as text for people;
// empty: unknown.
type IDs struct {
	LocalID, RemoteID string
}

// FlowChange is one step of a transaction over the SPD.
type FlowChange struct {
	Remove bool
	Flow   Flow // for Remove the ID alone counts
}

// FlowName is the stable name of a connection's flow in one direction.
func FlowName(conn string, d Direction) FlowID {
	return FlowID(conn + "/" + d.String())
}
