package conf

import (
	"net/netip"
	"slices"
	"time"

	"oakley/internal/diag"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// Config is a configuration with nothing left to look up: sections became
// structs, references pointers, defaults values. It is not changed after Load.
type Config struct {
	General General

	Peers       []*Peer // those with an address, in the order of the file
	DefaultPeer *Peer   // [Phase 1] Default=; nil when the file names none

	// GeneratedPeer is the peer Default-phase-1 that every configuration has
	// without writing it: any address, RSA signatures. It is what DefaultPeer
	// falls back to once certificates can be checked; nil when DefaultPeer is
	// there.
	GeneratedPeer *Peer

	Connections       []*Connection // Connections= first, then Passive-connections=
	DefaultConnection *Connection   // [Phase 2] Default=; may be nil

	KeyNote      KeyNote
	X509         X509
	ModeConfigs  []*ModeConfig
	InitiatorIDs []*InitiatorID
}

// General is the section [General].
type General struct {
	AcquireOnly           bool // as -a: no flows are set up
	CheckInterval         time.Duration
	DataPlane             DataPlane
	PlaneOptions          PlaneOptions
	DefaultPhase1ID       *ID   // for peers without an ID; nil: our address
	DefaultPhase1Lifetime Range // seconds
	DefaultPhase2Lifetime Range // seconds
	DefaultPhase2Suites   []Suite
	DeleteSAs             bool
	DPDCheckInterval      time.Duration // 0: off
	ExchangeMaxTime       time.Duration
	ListenOn              []Listen // empty: everywhere
	LogLevels             []LogLevel
	LogVerbose            bool
	NATTKeepalive         time.Duration
	PolicyFile            string
	PubkeyDirectory       string
	RenegotiateOnHUP      bool
	Retransmits           int
	SharedSADB            bool
	UseKeynote            bool
}

// DataPlane says who carries the traffic.
type DataPlane uint8

// Data planes.
const (
	PlaneChoose  DataPlane = iota // the kernel where it has ESP, else ipsecd
	PlaneKernel                   // the kernel's IPsec
	PlaneProcess                  // ipsecd's own, in a process that outlives the daemon
	PlaneInside                   // the daemon itself
)

var planeNames = [...]string{"auto", "kernel", "ipsecd", "isakmpd"}

func (p DataPlane) String() string { return planeNames[p] }

// ParseDataPlane reads the name of a data plane, case being of no matter.
func ParseDataPlane(s string) (DataPlane, bool) {
	i := slices.Index(planeNames[:], fold(s))
	return DataPlane(max(i, 0)), i >= 0
}

// Listen is one entry of Listen-on: an address or an interface's name.
type Listen struct {
	Addr      netip.Addr // invalid: Interface is meant
	Interface string
}

// LogLevel is one entry of Loglevel: a class of messages, 0 to 10 or AllClasses,
// and a level from 0 to 99.
type LogLevel struct {
	Class int
	Level int
}

// AllClasses is the class that stands for all of them.
const AllClasses = -1

// KeyNote is the section [KeyNote].
type KeyNote struct {
	CredentialDirectory string
}

// X509 is the section [X509-certificates].
type X509 struct {
	AcceptSelfSigned    bool
	CADirectory         string
	CertDirectory       string
	CRLDirectory        string
	PrivateKey          string
	PrivateKeyDirectory string
}

// Range is a value of the form X,Y:Z: offer X, accept from Y to Z. X alone
// accepts only X. Any accepts everything and offers nothing. The zero Range
// means that nothing was said: no limit, or the algorithm's own value.
type Range struct {
	Offer, Min, Max int
	Any             bool
}

// IsZero tells whether nothing was said.
func (r Range) IsZero() bool { return r == Range{} }

// Accepts tells whether v may be accepted.
func (r Range) Accepts(v int) bool {
	return r.IsZero() || r.Any || v >= r.Min && v <= r.Max
}

// Peer is one ISAKMP peer.
type Peer struct {
	Name          string // of its section; its identity across reloads
	Address       netip.Addr
	Port          uint16
	LocalAddress  netip.Addr   // invalid: the system's choice
	Key           []byte       // pre-shared key; nil: none
	Mode          doi.Exchange // doi.ExchangeMain or doi.ExchangeAggressive
	Configuration string       // the name of the ISAKMP-configuration section
	Transforms    []Phase1Transform
	ID            *ID  // what we say we are; nil: General.DefaultPhase1ID, or our address
	RemoteID      *ID  // what the peer has to be; nil: any ID that authenticates
	IKECfg        bool // Flags=ikecfg: mode-config after phase 1
	Generated     bool // no section of the file describes it
	Pos           diag.Pos
}

// Phase1Transform is one offer for an ISAKMP SA (RFC 2409 appendix A). Zero
// numbers stand for ANY: accepted whatever they are, and such a transform cannot
// be offered.
type Phase1Transform struct {
	Name          string
	Cipher        doi.Cipher
	KeyLength     Range // bits; zero: the cipher has one length or its own default
	Hash          doi.Hash
	Auth          doi.AuthMethod
	Group         doi.Group
	LifeSeconds   Range // zero: no limit in time
	LifeKilobytes Range // zero: no limit in traffic
}

// Offerable tells whether t says enough to be proposed: nothing in it is ANY.
func (t *Phase1Transform) Offerable() bool {
	return t.Cipher != 0 && t.Hash != 0 && t.Auth != 0 && t.Group != 0 && !t.KeyLength.Any
}

// Connection is one IPsec connection.
type Connection struct {
	Name          string // of its section; its identity across reloads
	Peer          *Peer  // nil for the default connection alone: whoever asks
	Active        bool   // listed in Connections=: kept up
	ActiveOnly    bool   // Flags=Active-only: not accepted from the peer
	Local, Remote *Net   // nil: the address of the tunnel's end
	NATID         *Net   // the true local network behind an outgoing NAT; may be nil
	Configuration string // the name of the IPsec-configuration section
	Suites        []Suite
	PFTag         string // $id and $domain are still in it
	Interface     uint32 // if_id of the xfrm interface for its traffic; 0: none
	Pos           diag.Pos
}

// Net is one end of a connection's traffic: an IPsec-ID section.
type Net struct {
	Name      string       // of its section
	Prefix    netip.Prefix // invalid while Interface waits for a Resolver
	Addr      bool         // sent as an address, not as a subnet
	Interface string       // the interface name or "default" that the file has
	Proto     uint8        // IP protocol; 0: all
	Port      uint16       // 0: all
}

// Suite is one offer in quick mode: all of its protocols together, in the order
// of the file, which says nothing about the order in which they are applied.
type Suite struct {
	Name      string
	Protocols []Protocol
}

// Protocol is one protocol of a suite with its transforms in order.
type Protocol struct {
	Name       string
	Proto      ipsec.Proto // ipsec.ProtoESP, ipsec.ProtoAH or ipsec.ProtoIPComp
	Replay     int         // window in packets; 0: no replay protection
	Transforms []Phase2Transform
}

// Phase2Transform is one offer for an IPsec SA (RFC 2407 section 4.5).
type Phase2Transform struct {
	Name          string
	Proto         ipsec.Proto
	ESP           doi.ESP // of ESP alone
	AH            doi.AH
	IPComp        doi.IPComp
	Mode          ipsec.Mode
	Auth          doi.AuthAlg // 0: none
	KeyLength     Range       // bits; zero: the cipher has one length or its own default
	Group         doi.Group   // 0: no perfect forward secrecy
	ESN           bool        // extended sequence numbers (RFC 4304)
	LifeSeconds   Range       // zero: no limit in time
	LifeKilobytes Range       // zero: no limit in traffic
}

// ID is who somebody is in phase 1 (RFC 2407 section 4.6.2).
type ID struct {
	Section string // the section that it was read from
	Type    doi.IDType
	Prefix  netip.Prefix // of address and subnet types; an address has its full length
	Name    string       // of the other types; empty for ASN1_DN: the certificate's
}

// ModeConfig is what one peer is handed, or asks for, in mode-config.
type ModeConfig struct {
	Name        string // of its section: ipv4/192.0.2.1
	Type        doi.IDType
	Value       string // the ID after the slash
	Address     netip.Addr
	Netmask     netip.Addr
	Nameservers []netip.Addr
	WINSServers []netip.Addr
	Lifetime    time.Duration
	Mode        string
	Attributes  []string
	Pos         diag.Pos
}

// InitiatorID is a pre-shared key that an initiator's ID chooses in aggressive
// mode.
type InitiatorID struct {
	Name string // of its section, which is the ID
	Type doi.IDType
	Key  []byte
	Pos  diag.Pos
}

// Resolver tells what only the running machine knows. A nil Resolver leaves
// names as they are, which is what a check without the machine wants.
type Resolver interface {
	// InterfaceAddrs lists an interface's addresses with their lengths.
	InterfaceAddrs(name string) ([]netip.Prefix, error)
	// DefaultInterface is the interface of the default route.
	DefaultInterface(v6 bool) (string, error)
}
