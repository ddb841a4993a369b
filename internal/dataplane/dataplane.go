// Package dataplane is the seam between negotiation and traffic: what a back
// end (user space, the kernel, another process, none) can be asked for and what
// it tells on its own.
package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"oakley/internal/ipsec"
)

// Backend carries the traffic. All methods may be called from several
// goroutines; a method that returns an error has changed nothing.
type Backend interface {
	// Info says what this back end can do; it does not change.
	Info() Info
	// AllocSPI reserves an incoming SPI (of IPComp: a CPI, 256 to 61439) that no
	// other SA uses. It stays
	// reserved until AddSA takes it, DeleteSA gives it back, or a minute passed
	// the request's Hold.
	AllocSPI(ctx context.Context, r SPIRequest) (ipsec.SPI, error)
	// AddSA returns when the SA is live: an incoming one accepts packets, an
	// outgoing one is what its flow uses from now on.
	AddSA(ctx context.Context, sa *ipsec.SA) error
	// UpdateSA changes a peer's address, lifetimes, or the place in a bundle.
	UpdateSA(ctx context.Context, id ipsec.SAID, u ipsec.SAUpdate) error
	// DeleteSA removes an SA or gives back an SPI. Deleting what is not there is ErrNoSA.
	DeleteSA(ctx context.Context, id ipsec.SAID) error
	// GetSA tells what an SA has done so far.
	GetSA(ctx context.Context, id ipsec.SAID) (ipsec.SAState, error)
	// ApplyFlows changes the SPD, routes and clear-text filters included, all or
	// nothing. A flow is changed by removing and adding it in one call, and keeps
	// its SAs; adding one that is there is ErrExists, removing one that is not
	// ErrNoFlow.
	ApplyFlows(ctx context.Context, changes []ipsec.FlowChange) error
	// EndAcquire answers an Acquire event: nil when SAs are there (held packets
	// go out), an error when none will come (held packets are dropped).
	EndAcquire(ctx context.Context, id AcquireID, err error) error
	// Dump lists SAs and flows.
	Dump(ctx context.Context, q Query) (State, error)
	// Totals sums up what went through since the start.
	Totals(ctx context.Context) (Totals, error)
	// Flush removes SAs and flows.
	Flush(ctx context.Context, o ipsec.Owner) error
	// Enable switches a protocol on or off as a whole: off, its packets are
	// dropped in both directions and SAs stay. All are on at the start but AH,
	// which the first AddSA of an AH SA switches on unless it was switched off by
	// hand.
	Enable(ctx context.Context, proto ipsec.Proto, on bool) error
	// EncapConn gives the IKE side of the UDP-encapsulation port on local,
	// whoever owns the port: datagrams with the non-ESP marker come up without
	// it and get it on the way out; keepalives are swallowed.
	EncapConn(ctx context.Context, local netip.AddrPort) (IKEConn, error)
	// Events is closed by Close.
	Events() <-chan Event
	// Close detaches: what outlives us stays.
	Close() error
}

// Info is what a back end can do.
type Info struct {
	Name        string // "userspace", "null", ...
	Detail      string // for the start-up line: device, version
	Ciphers     []ipsec.Cipher
	Auths       []ipsec.Auth
	Protos      []ipsec.Proto
	Comps       []ipsec.Comp
	Transport   bool // transport mode
	ESN         bool
	UDPEncap    bool
	OutlivesUs  bool // SAs and flows stay when we end
	ByteExpiry  bool // sends Expire for lifetimes in bytes
	CarriesData bool // false for null
	Kernel      bool // it is the kernel, whose policies see our own sockets too
	// Lacks are, one text each, what it could do on another kernel or with other
	// modules, which are named.
	Lacks []string
}

// Query says what Dump is to list.
type Query struct {
	Owner ipsec.Owner
	Keys  bool // with their keys, for people who may see them
	Only  Part
}

// Part is a part of a data plane's state.
type Part uint8

// Parts.
const (
	Everything Part = iota
	SAs
	Flows
)

// Has tells whether a query wants part, which is SAs or Flows.
func (q Query) Has(part Part) bool { return q.Only == Everything || q.Only == part }

// SPIRequest asks for an incoming SPI.
type SPIRequest struct {
	Proto    ipsec.Proto
	Src, Dst netip.Addr // Dst is ours
}

// AcquireID names an Acquire event. 0 is none.
type AcquireID uint64

// State is what Dump returns.
type State struct {
	SAs   []ipsec.SAState
	Flows []ipsec.Flow
	Drops ipsec.Drops   // of packets that belong to no SA
	Off   []ipsec.Proto // what Enable switched off, or nothing has switched on
}

// Totals is what a data plane has done since it started, SAs that are gone
// included.
type Totals struct {
	Since  time.Time
	Protos []ProtoTotals // of those that Info lists, in its order
	Drops  ipsec.Drops   // of packets that belong to no SA
}

// ProtoTotals is what the SAs of one protocol have done.
type ProtoTotals struct {
	Proto    ipsec.Proto
	SAs      int // that there are now
	In, Out  Traffic
	DropsIn  ipsec.Drops
	DropsOut ipsec.Drops
}

// Traffic counts inner packets and their bytes.
type Traffic struct{ Packets, Bytes uint64 }

// Monitor is a back end whose doings can be watched.
type Monitor interface {
	// Monitor tells what is asked of the back end and what it does by itself, to
	// whomever it listens to, until ctx ends. The channel is closed at the end.
	// Who does not read fast enough misses messages, and is told how many.
	Monitor(ctx context.Context) (<-chan Message, error)
}

// Action is what a message is about.
type Action string

// Actions.
const (
	ActionGetSPI     Action = "getspi"
	ActionAdd        Action = "add"
	ActionUpdate     Action = "update"
	ActionDelete     Action = "delete"
	ActionAddFlow    Action = "addflow"
	ActionDeleteFlow Action = "delflow"
	ActionFlush      Action = "flush"
	ActionSwitch     Action = "switch"
	ActionAcquire    Action = "acquire"
	ActionExpire     Action = "expire"
	ActionMapping    Action = "mapping"
	ActionMissed     Action = "missed"
)

// Message is one thing that happened. Fields that its action does not need are
// zero.
type Message struct {
	At     time.Time
	PID    int // of who asked; 0: the data plane did it by itself
	Action Action
	Error  string // why it was refused; empty: it was done
	ID     ipsec.SAID
	SA     *ipsec.SA // without keys
	Flow   *ipsec.Flow
	Packet ipsec.Selector // of an acquire
	Owner  ipsec.Owner    // of a flush
	Proto  ipsec.Proto    // of a switch
	On     bool           // of a switch
	Hard   bool           // of an expiry
	Remote netip.AddrPort // of a mapping
	Missed int            // messages
}

// IKEConn sends and receives IKE datagrams on one local address and port.
// Read and Write may be called at the same time.
type IKEConn interface {
	// ReadFrom waits for a datagram and returns where it came from and to.
	ReadFrom(b []byte) (n int, remote, local netip.AddrPort, err error)
	// WriteTo sends b; local says from which address when the socket has several.
	WriteTo(b []byte, local, remote netip.AddrPort) error
	// Keepalive sends the one-byte NAT keepalive of RFC 3948 section 2.3.
	Keepalive(local, remote netip.AddrPort) error
	LocalAddr() netip.AddrPort
	Close() error
}

// Event is one of Acquire, Expire, Mapping and Lost.
type Event interface{ event() }

// Acquire: a packet matched a flow that has no SA. One is outstanding a flow.
type Acquire struct {
	ID     AcquireID
	Flow   ipsec.FlowID
	Packet ipsec.Selector // of the packet itself
}

// Expire: a limit was reached. Hard: the SA is gone.
type Expire struct {
	SA   ipsec.SAID
	Hard bool
}

// Mapping: authenticated packets of a peer behind NAT come from elsewhere.
type Mapping struct {
	SA     ipsec.SAID
	Remote netip.AddrPort
}

// Lost: events were lost, or somebody else took away SAs or flows; call Dump.
type Lost struct{}

func (Acquire) event() {}
func (Expire) event()  {}
func (Mapping) event() {}
func (Lost) event()    {}

// Errors that callers tell apart.
var (
	ErrNoSA        = errors.New("no such SA")
	ErrExists      = errors.New("that is there already")
	ErrNoFlow      = errors.New("no such flow")
	ErrUnsupported = errors.New("the data plane cannot do that")
	ErrClosed      = errors.New("the data plane is closed")
)
