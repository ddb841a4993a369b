package ike

import (
	"net/netip"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// Input is one thing that happened. The engine keeps no reference to a
// Datagram's bytes.
type Input interface{ input() }

// Datagram came from the network. Local.Port tells on which of our ports.
type Datagram struct {
	Local, Remote netip.AddrPort
	Data          []byte // without the non-ESP marker
}

// Timeout: the time that Deadline named has come.
type Timeout struct{}

// Start brings the wanted connections up; without it nothing is initiated.
type Start struct{}

// Initiate asks for one connection by name.
type Initiate struct{ Conn string }

// Acquire is the data plane's wish for SAs of a connection's flow; it is
// answered by EndAcquire with the same ID.
type Acquire struct {
	ID   uint64
	Conn string
}

// Expire: an SA reached a limit that the data plane watches. Hard: it is gone.
type Expire struct {
	SA   ipsec.SAID
	Hard bool
}

// Mapping: authenticated traffic of an SA's peer comes from elsewhere.
type Mapping struct {
	SA     ipsec.SAID
	Remote netip.AddrPort
}

// Teardown ends a connection's SAs, or with Phase1 the ISAKMP SAs of a peer.
type Teardown struct {
	Name   string // of a connection, or of a peer with Phase1
	Phase1 bool
}

// Shutdown ends everything; with Quiet the peers are not told.
type Shutdown struct{ Quiet bool }

// Reload takes a new configuration. What did not change is not touched.
type Reload struct{ Config *Config }

// RequestID names a request; its result carries it back. One that is no
// longer waited for is ignored.
type RequestID uint64

// SPIAllocated answers AllocSPI.
type SPIAllocated struct {
	ID  RequestID
	SPI ipsec.SPI
	Err error
}

// SAInstalled answers InstallSA: all of its SAs are live, or with an error none.
type SAInstalled struct {
	ID  RequestID
	Err error
}

// DHDone answers DiffieHellman.
type DHDone struct {
	ID      RequestID
	Private *dh.Private
	Shared  []byte // when the request had a Peer value
	Err     error
}

// PolicyAnswer answers QueryPolicy.
type PolicyAnswer struct {
	ID     RequestID
	Allow  []bool // one for each proposal of the query
	Reason string // for people, when none is allowed
	Err    error
}

func (Datagram) input()     {}
func (Timeout) input()      {}
func (Start) input()        {}
func (Initiate) input()     {}
func (Acquire) input()      {}
func (Expire) input()       {}
func (Mapping) input()      {}
func (Teardown) input()     {}
func (Shutdown) input()     {}
func (Reload) input()       {}
func (SPIAllocated) input() {}
func (SAInstalled) input()  {}
func (DHDone) input()       {}
func (PolicyAnswer) input() {}

// Output is one thing to be done.
type Output interface{ output() }

// Transmit sends a datagram. From EncapPort it needs the non-ESP marker, which
// is not in Data.
type Transmit struct {
	Local, Remote netip.AddrPort // an invalid local address: the system's choice
	Data          []byte
}

// KeepAlive sends a NAT keepalive (RFC 3948 section 2.3).
type KeepAlive struct{ Local, Remote netip.AddrPort }

// AllocSPI asks for an incoming SPI.
type AllocSPI struct {
	ID       RequestID
	Proto    ipsec.Proto
	Src, Dst netip.Addr // Dst is ours
}

// InstallSA asks for SAs to be made live, in order; all or none. Flows, if any,
// are to be there first: those of a connection that the configuration does not
// fix.
type InstallSA struct {
	ID    RequestID
	Flows []ipsec.FlowChange
	SAs   []*ipsec.SA
}

// DeleteSA removes SAs or gives back SPIs; nobody waits for it. Flows go after
// them.
type DeleteSA struct {
	SAs   []ipsec.SAID
	Flows []ipsec.FlowChange
}

// UpdateSA changes an SA; nobody waits for it.
type UpdateSA struct {
	SA     ipsec.SAID
	Update ipsec.SAUpdate
}

// DiffieHellman asks for a key pair of Group when Private is nil, and for the
// shared secret when Peer is not.
type DiffieHellman struct {
	ID      RequestID
	Group   doi.Group
	Private *dh.Private
	Peer    []byte
}

// QueryPolicy asks which of the proposals the policy allows; the engine asks in
// both roles, before it believes or offers any.
type QueryPolicy struct {
	ID        RequestID
	Initiator bool
	Peer      string // names of the configuration
	Conn      string
	Unlisted  bool // the connection is one that the policy alone can allow
	LocalAddr netip.AddrPort
	Remote    netip.AddrPort
	LocalID   string // phase 1 identities
	RemoteID  string
	Selector  ipsec.Selector // source is ours
	Proposals []PolicyProposal

	// Who the peer is, by phase 1.
	Exchange doi.Exchange   // of phase 1
	Group    doi.Group      // of phase 1
	Auth     doi.AuthMethod // how the peer proved who it is
	Key      []byte         // the pre-shared key with which it did, if it did so
	Identity isakmp.ID      // the peer's, as it was authenticated
	// Credentials are KeyNote assertions that the peer brought, as text of its own.
	Credentials [][]byte
	// The two ends of the traffic, as quick mode names them.
	Here, There Net
}

// PolicyProposal is one proposal of a quick mode: all of its protocols.
type PolicyProposal struct {
	PFS       doi.Group
	Protocols []PolicyProtocol
}

// PolicyProtocol is one protocol of it with one transform.
type PolicyProtocol struct {
	Proto     doi.Protocol
	ID        uint8
	Mode      ipsec.Mode
	Auth      doi.AuthAlg
	KeyBits   int
	Seconds   uint64
	Kilobytes uint64
	UDP       bool // in UDP, because of NAT
	ESN       bool
}

// EndAcquire answers Acquire: nil when SAs are live.
type EndAcquire struct {
	ID  uint64
	Err error
}

func (Transmit) output()      {}
func (KeepAlive) output()     {}
func (AllocSPI) output()      {}
func (InstallSA) output()     {}
func (DeleteSA) output()      {}
func (UpdateSA) output()      {}
func (DiffieHellman) output() {}
func (QueryPolicy) output()   {}
func (EndAcquire) output()    {}
