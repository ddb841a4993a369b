// Package ipsec is the vocabulary in which negotiation and traffic meet: SPIs,
// selectors, security associations, flows, bundles and the reasons for which a
// packet is dropped, and the two databases, SAD and SPD, that a user-space data
// plane reads without a lock (RFC 4301 section 4.4).
package ipsec

import (
	"fmt"
	"net/netip"
	"time"
)

// SPI is a security parameters index. 0 to 255 are reserved (RFC 4303 section
// 2.1); 0 stands for "none".
type SPI uint32

func (s SPI) String() string { return fmt.Sprintf("%08x", uint32(s)) }

// Proto is the IP protocol number of an IPsec protocol.
type Proto uint8

// IPsec protocols.
const (
	ProtoIPIP   Proto = 4
	ProtoESP    Proto = 50
	ProtoAH     Proto = 51
	ProtoIPComp Proto = 108
)

func (p Proto) String() string {
	switch p {
	case ProtoIPIP:
		return "ipip"
	case ProtoESP:
		return "esp"
	case ProtoAH:
		return "ah"
	case ProtoIPComp:
		return "ipcomp"
	}
	return fmt.Sprintf("proto %d", uint8(p))
}

// Mode is tunnel or transport (RFC 4301 section 4.1).
type Mode uint8

// Modes.
const (
	Tunnel Mode = iota
	Transport
)

func (m Mode) String() string {
	if m == Transport {
		return "transport"
	}
	return "tunnel"
}

// Direction is that of the packets, seen from this host.
type Direction uint8

// Directions.
const (
	Out Direction = iota
	In
)

func (d Direction) String() string {
	if d == In {
		return "in"
	}
	return "out"
}

// SAID names one SA for as long as it lives. Two peers behind one NAT address
// may choose the same SPI, so the port to which an outgoing SA in UDP was first
// bound is part of its name; the name stays when the peer's port changes.
type SAID struct {
	Dir   Direction
	Proto Proto
	SPI   SPI
	Dst   netip.Addr
	Port  uint16 // outgoing SAs in UDP alone
}

func (id SAID) String() string {
	if id.Port != 0 {
		return fmt.Sprintf("%s %s/%s port %d %s", id.Proto, id.Dst, id.SPI, id.Port, id.Dir)
	}
	return fmt.Sprintf("%s %s/%s %s", id.Proto, id.Dst, id.SPI, id.Dir)
}

// Encap is UDP encapsulation (RFC 3948): ESP between these two ends.
type Encap struct {
	Local, Remote netip.AddrPort
}

// Lifetime is a pair of limits; zero is no limit.
type Lifetime struct {
	Bytes uint64
	Time  time.Duration
}

// Owner tells whose an SA or flow is, so that a flush takes one's own alone.
type Owner uint8

// Owners. OwnerAny is for Dump and Flush.
const (
	OwnerAny Owner = iota
	OwnerIKE
	OwnerManual
	OwnerPhoturis
)

// SA is one security association, one direction, as the data plane is to
// install it. It is not changed after AddSA was called.
type SA struct {
	ID       SAID
	Src      netip.Addr // the outer source address
	Mode     Mode
	Encap    *Encap // nil: raw IP protocol
	Cipher   Cipher
	Key      []byte // salt not counted
	KeyLen   int    // bytes of Key where Key itself is left out, as in dumps; else of no meaning
	Salt     []byte
	Auth     Auth
	AuthKey  []byte
	Replay   int  // window in packets; 0: no replay protection
	ESN      bool // extended sequence numbers (RFC 4303 section 2.2.1)
	Selector Selector
	// Flow is the flow this SA serves; outgoing: traffic of the flow takes the
	// newest SA. An outgoing SA without one serves every outgoing flow of its
	// owner whose Remote is the SA's destination and whose Proto is its own; of
	// a bundle, the SA with Index 0 is asked.
	Flow FlowID
	Soft Lifetime
	Hard Lifetime
	// Defer is for an outgoing SA of a flow that has another one: how long after
	// AddSA that one goes on being used. Some peers listen on a new SA only a
	// moment after the message that makes us use it.
	Defer  time.Duration
	Owner  Owner
	Conn   string // the connection's name, for people
	Bundle Place  // the zero value: the SA stands alone
	Comp   Comp   // of IPComp, whose SPI is a CPI
	// Interface is that of its flow.
	Interface uint32
	// NATOA is for transport mode in UDP: what the ends call themselves before
	// addresses are translated, so that checksums can be mended (RFC 3948 section
	// 3.1.2). Invalid addresses: no such correction.
	NATOA NATOA
	IDs
}

// Public is a copy without keys, for people to look at.
func (sa *SA) Public() SA {
	c := *sa
	c.KeyLen = sa.KeyBytes()
	c.Key, c.Salt, c.AuthKey = nil, nil, nil
	return c
}

// KeyBytes is the length of the cipher's key, whether or not it is there.
func (sa *SA) KeyBytes() int {
	if len(sa.Key) > 0 {
		return len(sa.Key)
	}
	return sa.KeyLen
}

// Place is an SA's place among SAs that are applied together to every packet.
// SAs with the same number, owner and connection belong together.
type Place struct {
	ID    uint64 // 0: none
	Index uint8  // 0 is nearest to the plain packet: applied first, taken off last
	// Of is how many there are in one direction; traffic uses them when all are
	// there. 0 or 1: the SA stands alone, and the number only tells which SAs, of
	// both directions, came together.
	Of uint8
}

// NATOA are the two original addresses of RFC 3947 section 5.2.
type NATOA struct {
	Peer netip.Addr // the peer's, as it sees itself
	Ours netip.Addr // ours, as the peer's packets or ours bear it before the NAT
}

// SAUpdate changes a living SA; nil fields stay.
type SAUpdate struct {
	Remote *netip.AddrPort // a peer behind NAT was seen, authenticated, elsewhere
	Soft   *Lifetime
	Hard   *Lifetime
	Bundle *Place // SAs that came singly are put together (ipsecadm's group)
}

// SAState is an SA and what it has done.
type SAState struct {
	SA      SA // without its keys, unless they were asked for
	Added   time.Time
	LastUse time.Time
	Bytes   uint64 // of inner packets
	Packets uint64
	Seq     uint64 // last sequence number sent, or highest received
	Drops   Drops
}
