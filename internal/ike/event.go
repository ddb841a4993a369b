package ike

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// Events are outputs for people: what happened, in words that stand alone.

// Role is ours in an exchange.
type Role uint8

// Roles.
const (
	Initiator Role = iota
	Responder
)

func (r Role) String() string {
	if r == Responder {
		return "responder"
	}
	return "initiator"
}

// Phase1Up: an ISAKMP SA is established.
type Phase1Up struct {
	Peer          string
	Role          Role
	Local, Remote netip.AddrPort
	LocalID       string
	RemoteID      string
	Suite         string // "3DES-SHA, MODP_1024, pre-shared key"
	Lifetime      time.Duration
	NAT           string // "", "peer behind NAT", ...
	Cookies       string
}

// Phase2Up: a pair of IPsec SAs carries traffic.
type Phase2Up struct {
	Conn, Peer    string
	Role          Role
	Local, Remote netip.AddrPort
	Selector      ipsec.Selector // source is ours
	Suite         string
	PFS           doi.Group
	Lifetime      time.Duration
	Kilobytes     uint64
	In, Out       []ipsec.SAID
	Rekey         bool
}

// Phase2Found: SAs that an earlier life of this daemon agreed on were adopted.
type Phase2Found struct {
	Conn, Peer string
	Local      netip.Addr
	Remote     netip.AddrPort
	In, Out    []ipsec.SAID
	Left       time.Duration // until they end
}

// Phase1Down and Phase2Down: SAs are gone.
type Phase1Down struct {
	Peer    string
	Remote  netip.AddrPort
	Cookies string
	Reason  string
}

// Phase2Down is the end of a pair of IPsec SAs.
type Phase2Down struct {
	Conn, Peer string
	Remote     netip.AddrPort
	In, Out    []ipsec.SAID
	Reason     string
}

// Failed: a negotiation came to nothing.
type Failed struct {
	Phase         int
	Role          Role
	Peer, Conn    string
	Local, Remote netip.AddrPort
	Reason        string   // what happened: what was expected, what came
	Ours, Theirs  []string // proposals, where they are the matter
	Differs       string   // the attribute that differs in the closest pair
	Hint          string   // what to do
}

// Dropped: a datagram was dropped and changed nothing.
type Dropped struct {
	Remote netip.AddrPort
	Peer   string // empty: unknown
	Fault  Fault
	Reason string
}

// Notice is something worth a line at the default level: a peer's
// notification, a warning.
type Notice struct {
	Peer   string
	Remote netip.AddrPort
	Text   string
}

func (Phase1Up) output()    {}
func (Phase2Up) output()    {}
func (Phase1Down) output()  {}
func (Phase2Down) output()  {}
func (Phase2Found) output() {}
func (Failed) output()      {}
func (Dropped) output()     {}
func (Notice) output()      {}

func (e Phase1Up) String() string {
	nat := ""
	if e.NAT != "" {
		nat = ", " + e.NAT
	}
	return fmt.Sprintf("phase 1 (main mode) done with peer %s at %s as %s: our ID %s, its ID %s, %s, %s%s, cookies %s",
		e.Peer, e.Remote, e.Role, e.LocalID, e.RemoteID, e.Suite, e.Lifetime, nat, e.Cookies)
}

func (e Phase2Up) String() string {
	what := "phase 2 (quick mode) done"
	if e.Rekey {
		what = "phase 2 (quick mode) rekeyed"
	}
	kb := ""
	if e.Kilobytes != 0 {
		kb = fmt.Sprintf(", %d kilobytes", e.Kilobytes)
	}
	pfs := "no PFS"
	if e.PFS != 0 {
		pfs = "PFS " + e.PFS.String()
	}
	return fmt.Sprintf("%s for connection %s with peer %s at %s as %s: %s, %s, %s, %s%s, %s",
		what, e.Conn, e.Peer, e.Remote, e.Role, e.Selector, e.Suite, pfs, e.Lifetime, kb, spis(e.In, e.Out))
}

func (e Phase1Down) String() string {
	return fmt.Sprintf("phase 1 with peer %s at %s ended: %s, cookies %s", e.Peer, e.Remote, e.Reason, e.Cookies)
}

func (e Phase2Found) String() string {
	return fmt.Sprintf("connection %s: SAs with peer %s (%s) were found again and go on for %s", e.Conn, e.Peer, e.Remote, e.Left.Round(time.Second))
}

func (e Phase2Down) String() string {
	return fmt.Sprintf("SAs of connection %s with peer %s at %s ended: %s, %s", e.Conn, e.Peer, e.Remote, e.Reason, spis(e.In, e.Out))
}

func spis(in, out []ipsec.SAID) string {
	var b strings.Builder
	for i := range in {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s SPI in %s", in[i].Proto, in[i].SPI)
		if i < len(out) {
			fmt.Fprintf(&b, " out %s", out[i].SPI)
		}
	}
	return b.String()
}

// String is several lines when the proposals are the matter: both sides, line
// by line, then what differs.
func (e Failed) String() string {
	var b strings.Builder
	mode := "main mode"
	if e.Phase == 2 {
		mode = "quick mode"
	}
	fmt.Fprintf(&b, "phase %d (%s) failed as %s", e.Phase, mode, e.Role)
	if e.Conn != "" {
		fmt.Fprintf(&b, " for connection %s", e.Conn)
	}
	peer := e.Peer
	if peer == "" {
		peer = "(not configured)"
	}
	fmt.Fprintf(&b, " with peer %s at %s: %s", peer, e.Remote, e.Reason)
	for _, l := range sideBySide(e.Ours, e.Theirs) {
		b.WriteString("\n  ")
		b.WriteString(l)
	}
	if e.Differs != "" {
		b.WriteString("\n  differs: ")
		b.WriteString(e.Differs)
	}
	if e.Hint != "" {
		b.WriteString("\n  hint: ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

func (e Dropped) String() string {
	who := ""
	if e.Peer != "" {
		who = " (peer " + e.Peer + ")"
	}
	return fmt.Sprintf("dropped a datagram from %s%s: %s: %s", e.Remote, who, e.Fault, e.Reason)
}

func (e Notice) String() string {
	switch {
	case e.Peer != "" && e.Remote.IsValid():
		return fmt.Sprintf("peer %s at %s: %s", e.Peer, e.Remote, e.Text)
	case e.Remote.IsValid():
		return fmt.Sprintf("%s: %s", e.Remote, e.Text)
	}
	return e.Text
}

// sideBySide prints two lists in two columns under their headings, or the one of
// them that there is.
func sideBySide(ours, theirs []string) []string {
	if len(ours) == 0 && len(theirs) == 0 {
		return nil
	}
	width := len("ours")
	for _, s := range ours {
		width = max(width, len(s))
	}
	rows := max(len(ours), len(theirs))
	row := func(our, their string) string {
		return strings.TrimRight(fmt.Sprintf("%-*s | %s", width, our, their), " ")
	}
	if len(theirs) == 0 {
		row = func(our, _ string) string { return our }
	}
	lines := []string{row("ours", "the peer's")}
	at := func(l []string, i int) string {
		if i < len(l) {
			return l[i]
		}
		return ""
	}
	const most = 24
	for i := range min(rows, most) {
		lines = append(lines, row(at(ours, i), at(theirs, i)))
	}
	if rows > most {
		lines = append(lines, fmt.Sprintf("(%d more)", rows-most))
	}
	return lines
}

// Fault says whose fault a rejected message is.
type Fault uint8

// Faults.
const (
	FaultMalformed    Fault = iota // bytes that are no message
	FaultMisbehaved                // a message that no honest peer sends here
	FaultIncompatible              // a peer that wants something else
	FaultUnauthentic               // does not authenticate
	FaultStale                     // belongs to nothing that we know (any more)
	FaultLimit                     // a bound of ours
)

var faults = [...]string{"malformed", "unexpected", "incompatible", "not authentic", "unknown", "limit"}

func (f Fault) String() string { return faults[f] }
