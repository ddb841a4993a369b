// Package ipsecadm is the tool of manual keying: it reads a command line of
// ipsecadm(8) into a typed command, with every mistake named, and carries the
// command out on a data plane. Parsing touches nothing but the key files that the
// command line names.
package ipsecadm

import (
	"net/netip"

	"oakley/internal/ipsec"
)

// Command is one of NewSA, Group, DeleteSA, Flow, Flush, Show, Monitor and Switch.
type Command interface{ command() }

// NewSA makes one SA. Which direction it has depends on whose address Dst is.
type NewSA struct {
	Proto        ipsec.Proto
	Src, Dst     netip.Addr
	Proxy        netip.Addr // inner source of an incoming tunnel; invalid: any
	SPI          ipsec.SPI
	Cipher       ipsec.Cipher
	Key          []byte
	Auth         ipsec.Auth
	AuthKey      []byte
	Comp         ipsec.Comp
	Tunnel       bool   // tunnel mode also between hosts
	UDPPort      uint16 // the peer's, of ESP in UDP; 0: raw
	SrcID, DstID string
}

// SAName is what a person calls an SA.
type SAName struct {
	Dst   netip.Addr
	SPI   ipsec.SPI
	Proto ipsec.Proto
}

// Group has two SAs applied to every packet, First before Second.
type Group struct{ First, Second SAName }

// DeleteSA removes one SA.
type DeleteSA struct{ SAName }

// Flow adds or removes a flow. It is complete but for Mode, which depends on the
// SAs that are there.
type Flow struct {
	Delete bool
	ipsec.Flow
}

// Flush removes SAs and their flows.
type Flush struct{ Protos []ipsec.Proto } // nil: everything

// Show lists SAs.
type Show struct{ Protos []ipsec.Proto } // nil: all

// Monitor prints what happens until it is interrupted.
type Monitor struct{}

// Switch switches a protocol on or off as a whole.
type Switch struct {
	Proto ipsec.Proto // 0: say what is on
	On    bool
}

func (NewSA) command()    {}
func (Group) command()    {}
func (DeleteSA) command() {}
func (Flow) command()     {}
func (Flush) command()    {}
func (Show) command()     {}
func (Monitor) command()  {}
func (Switch) command()   {}

func (n SAName) String() string {
	return protoName(n.Proto) + " SA to " + n.Dst.String() + " with " + spiWord(n.Proto) + " " + n.SPI.String()
}

// spiWord is what the number of an SA is called: IPComp's is a CPI (RFC 3173
// section 3.3).
func spiWord(p ipsec.Proto) string {
	if p == ipsec.ProtoIPComp {
		return "CPI"
	}
	return "SPI"
}
