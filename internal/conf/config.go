package conf

import (
	"net/netip"
	"time"

	"oakley/internal/diag"
	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// Config is the whole file, understood, with its defaults.
type Config struct {
	General           General
	KeyNote           KeyNote
	X509              X509
	Peers             []*Peer // by name
	DefaultPeer       *Peer   // nil: none; the generated one is none without a key
	Connections       []*Connection
	DefaultConnection *Connection
	InitiatorIDs      []InitiatorID
	ModeConfigs       []ModeConfig
}

// General is [General].
type General struct {
	AcquireOnly      bool
	CheckInterval    time.Duration
	DefaultPhase1ID  *ID
	Suites           []Suite // Default-phase-2-suites
	DeleteSAs        bool
	DPDInterval      time.Duration
	ExchangeMaxTime  time.Duration
	ListenOn         []string // addresses or interface names; nil: all
	Loglevel         string
	Logverbose       bool
	NATTKeepalive    time.Duration
	PolicyFile       string
	PubkeyDirectory  string
	RenegotiateOnHUP bool
	Retransmits      int
	SharedSADB       bool
	UseKeynote       bool
}

// KeyNote is [KeyNote].
type KeyNote struct{ CredentialDirectory string }

// X509 is [X509-certificates].
type X509 struct {
	AcceptSelfSigned                                                     bool
	CADirectory, CertDirectory, CRLDirectory, PrivateKey, PrivateKeysDir string
}

// Exchange is a phase 1 exchange type.
type Exchange uint8

// Exchange types.
const (
	MainMode Exchange = iota
	AggressiveMode
)

// Peer is an ISAKMP-peer section.
type Peer struct {
	Name         string
	Pos          diag.Pos
	Address      netip.Addr // invalid: any
	Port         uint16
	LocalAddress netip.Addr // invalid: not said
	Key          []byte     // nil: no Authentication
	Exchange     Exchange
	Transforms   []Phase1Transform
	ID, RemoteID *ID
	IKECfg       bool
}

// ID is a Phase1-ID section.
type ID struct {
	Name   string
	Type   doi.IDType
	Prefix netip.Prefix // addresses and subnets
	Text   string       // names; the DN comes from the certificate
}

// Range is what to offer and what to accept; the zero value is neither.
type Range struct{ Offer, Min, Max uint64 }

// Phase1Transform is an ISAKMP-transform section. A zero number is ANY.
type Phase1Transform struct {
	Name               string
	Cipher             doi.Cipher
	KeyLength          Range // bits
	Hash               doi.Hash
	Auth               doi.AuthMethod
	Group              doi.Group
	Seconds, Kilobytes Range
}

// Connection is an IPsec-connection section.
type Connection struct {
	Name          string
	Pos           diag.Pos
	Peer          *Peer // nil for a generic one that names none
	Active        bool  // from Connections=, not Passive-connections=
	ActiveOnly    bool
	Local, Remote *Net // nil: the tunnel's end itself
	Suites        []Suite
	PFTag, NATID  string
}

// Net is an IPsec-ID section.
type Net struct {
	Name   string
	Prefix netip.Prefix // invalid: Interface names it
	Iface  string       // an interface name or "default", not looked up
	Addr   bool         // an address, not a subnet
	Proto  uint8
	Port   uint16
}

// Suite is an IPsec-suite: all of its protocols together.
type Suite struct {
	Name      string
	Protocols []Protocol
}

// Protocol is an IPsec-protocol section.
type Protocol struct {
	Name       string
	Proto      doi.Protocol
	Replay     int
	Transforms []Phase2Transform
}

// Phase2Transform is an IPsec-transform section.
type Phase2Transform struct {
	Name               string
	ID                 uint8
	Mode               ipsec.Mode
	Auth               doi.AuthAlg
	KeyLength          Range
	Group              doi.Group
	Seconds, Kilobytes Range
}

// InitiatorID is a section named after an initiator's ID, with its key.
type InitiatorID struct {
	Name string
	Key  []byte
}

// ModeConfig is a section [ipv4/…], [ipv6/…], [fqdn/…], [ufqdn/…] or
// [asn1_dn/…].
type ModeConfig struct {
	Kind, ID                                 string
	Address, Netmask, Nameserver, WINSServer string
	Lifetime, Mode, Attributes               string
}

// Resolver looks up what a name on this host means.
type Resolver interface {
	// InterfaceAddrs gives an interface's addresses with their masks.
	InterfaceAddrs(name string) ([]netip.Prefix, error)
	// DefaultInterface is the interface of the default route.
	DefaultInterface(v6 bool) (string, error)
}
