package ike

import (
	"net/netip"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
	"oakley/internal/isakmp"
)

// Config is what the engine may do and with whom. It is not changed after it
// was given to New or Reload.
type Config struct {
	Peers             []*Peer
	DefaultPeer       *Peer // for any other address; may be nil
	Connections       []*Connection
	DefaultConnection *Connection // for IDs that no listed connection matches; may be nil
	// Unlisted, if not nil, has the suites for any other IDs: a policy, asked by
	// QueryPolicy, has to know who may have them. Its networks count for nothing.
	Unlisted *Connection

	Port      uint16 // IKE port, 500
	EncapPort uint16 // UDP-encapsulation port, 4500
	NATT      bool   // advertise and do RFC 3947

	Retransmits     int           // of one message before the exchange fails
	RetransmitAfter time.Duration // before the first; doubles each time
	ExchangeMaxTime time.Duration // before an unfinished exchange is dropped
	CheckInterval   time.Duration // the longest pause before a wanted connection is tried again
	KeepAlive       time.Duration // between NAT keepalives
	Grace           time.Duration // how long a replaced SA still receives

	MaxHalfOpen        int // unfinished phase 1 exchanges that peers started
	MaxHalfOpenPerAddr int
	MaxQuickPerPeer    int // unfinished quick modes that one peer started
	MaxMadePerPeer     int // connections that are not listed and the policy lets one peer have
}

// Defaults fills what is zero and returns c.
func (c *Config) Defaults() *Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	if c.Port == 0 {
		c.Port = 500
	}
	if c.EncapPort == 0 {
		c.EncapPort = 4500
	}
	num(&c.Retransmits, 3)
	set(&c.RetransmitAfter, time.Second)
	set(&c.ExchangeMaxTime, 120*time.Second)
	set(&c.CheckInterval, 60*time.Second)
	set(&c.KeepAlive, 20*time.Second)
	set(&c.Grace, 10*time.Second)
	num(&c.MaxHalfOpen, 1000)
	num(&c.MaxHalfOpenPerAddr, 20)
	num(&c.MaxQuickPerPeer, 50)
	num(&c.MaxMadePerPeer, 1000)
	return c
}

// Peer is one ISAKMP peer. Its name is its identity across reloads.
type Peer struct {
	Name       string
	Address    netip.Addr // invalid: any address
	Port       uint16     // where it listens; 0: Config.Port
	Local      netip.Addr // our address towards it; invalid: the system's choice
	Key        []byte     // pre-shared key
	Transforms []Phase1Transform
	LocalID    *isakmp.ID // nil: our address
	RemoteID   *isakmp.ID // nil: any ID that authenticates
	// Credentials are KeyNote assertions that we show to the peer, as text.
	Credentials []byte
}

// Range is what to offer and what to accept. The zero value offers and accepts
// nothing in particular.
type Range struct {
	Offer, Min, Max uint64
}

// IsZero tells whether nothing was asked for.
func (r Range) IsZero() bool { return r == Range{} }

// Accepts tells whether v is between Min and Max.
func (r Range) Accepts(v uint64) bool { return v >= r.Min && v <= r.Max }

// Phase1Transform is what we offer and accept for an ISAKMP SA. Zero numbers
// accept anything and are not offered.
type Phase1Transform struct {
	Name      string
	Cipher    doi.Cipher
	KeyLength Range // bits; zero: the cipher's own
	Hash      doi.Hash
	Auth      doi.AuthMethod
	Group     doi.Group
	Seconds   Range
	Kilobytes Range
}

// Connection is one IPsec connection. Its name is its identity across reloads.
type Connection struct {
	Name          string
	Peer          *Peer
	Active        bool // keep it up
	ActiveOnly    bool // do not accept it from the peer
	Local, Remote Net
	Suites        []Suite
	Interface     uint32 // xfrm interface of its SAs and flows; 0: none
}

// Net is one end of a connection's traffic. The zero Prefix stands for the
// address of the tunnel's end itself.
type Net struct {
	Prefix netip.Prefix
	Addr   bool // said as an address, not as a subnet
	Range  bool // said, by the peer, as the first and the last address
	Proto  uint8
	Port   uint16
}

// Suite is one offer: all of its protocols together, in the order from the
// plain packet outwards.
type Suite struct {
	Name      string
	Protocols []Protocol
}

// Protocol is one protocol of a suite with its transforms in order.
type Protocol struct {
	Proto      doi.Protocol
	Replay     int // window in packets
	Transforms []Phase2Transform
}

// Phase2Transform is what we offer and accept for an IPsec SA.
type Phase2Transform struct {
	Name      string
	ID        uint8 // doi.ESP, doi.AH or doi.IPComp
	Mode      ipsec.Mode
	Auth      doi.AuthAlg // 0: none
	KeyLength Range       // bits; zero: the cipher's own
	Group     doi.Group   // 0: no perfect forward secrecy
	ESN       bool
	Seconds   Range
	Kilobytes Range
}

// flowOf names the flow that a connection's SAs serve.
func flowOf(conn string, d ipsec.Direction) ipsec.FlowID {
	return ipsec.FlowName(conn, d)
}

// peersByAddr is an index of the peers with an address; the first one of an
// address counts.
func (c *Config) peersByAddr() map[netip.Addr]*Peer {
	m := make(map[netip.Addr]*Peer, len(c.Peers))
	for _, p := range c.Peers {
		if p.Address.IsValid() && m[p.Address] == nil {
			m[p.Address] = p
		}
	}
	return m
}

// peerAt finds the peer at an address: the one that names it, else the default.
// Strangers' first messages come here, so it does not search.
func (e *Engine) peerAt(a netip.Addr) *Peer {
	if p := e.peerIndex[a]; p != nil {
		return p
	}
	return e.cfg.DefaultPeer
}

func (c *Config) peer(name string) *Peer {
	for _, p := range c.Peers {
		if p.Name == name {
			return p
		}
	}
	if c.DefaultPeer != nil && c.DefaultPeer.Name == name {
		return c.DefaultPeer
	}
	return nil
}

func (c *Config) connection(name string) *Connection {
	for _, n := range c.Connections {
		if n.Name == name {
			return n
		}
	}
	return nil
}
