package conf

import (
	"fmt"
	"io"
	"strings"

	"oakley/internal/doi"
)

// Needs lists what a peer or a connection asks for beyond main mode with a
// pre-shared key and ESP in tunnel mode, in words.
func (p *Peer) Needs() []string {
	var l []string
	if p.Exchange == AggressiveMode {
		l = append(l, "aggressive mode")
	}
	if p.Key == nil {
		l = append(l, "RSA signatures (the peer has no Authentication)")
	}
	if p.IKECfg {
		l = append(l, "mode-config (Flags=ikecfg)")
	}
	return l
}

// Needs is that of the connection itself; its peer has its own.
func (c *Connection) Needs() []string {
	var l []string
	for _, s := range c.Suites {
		if len(s.Protocols) > 1 {
			l = append(l, "a bundle of protocols (suite "+s.Name+")")
		}
		for _, p := range s.Protocols {
			if p.Proto != doi.ProtoESP {
				l = append(l, "AH (suite "+s.Name+")")
			}
			for _, t := range p.Transforms {
				if t.Mode != 0 {
					l = append(l, "transport mode (transform "+t.Name+")")
				}
			}
		}
	}
	if c.NATID != "" {
		l = append(l, "NAT-ID")
	}
	return l
}

// Describe writes the resolved connections for people. Keys are not in it.
func (c *Config) Describe(w io.Writer) {
	for _, n := range c.Connections {
		n.describe(w)
	}
	if c.DefaultConnection != nil {
		fmt.Fprintln(w, "for any other networks:")
		c.DefaultConnection.describe(w)
	}
	if c.DefaultPeer != nil {
		fmt.Fprintf(w, "peers at any other address are %s\n", c.DefaultPeer.Name)
	}
	if len(c.Connections) == 0 && c.DefaultConnection == nil {
		fmt.Fprintln(w, "no connections")
	}
}

func (c *Connection) describe(w io.Writer) {
	how := "passive"
	if c.Active {
		how = "kept up"
	}
	if c.ActiveOnly {
		how += ", never accepted from the peer"
	}
	fmt.Fprintf(w, "connection %s (%s)\n", c.Name, how)
	fmt.Fprintf(w, "  networks  %s <-> %s\n", c.Local, c.Remote)
	if p := c.Peer; p != nil {
		p.describe(w)
	}
	for i, s := range c.Suites {
		label := ""
		if i == 0 {
			label = "phase 2"
		}
		fmt.Fprintf(w, "  %-9s %s\n", label, s)
	}
}

func (p *Peer) describe(w io.Writer) {
	from := "any local address"
	if p.LocalAddress.IsValid() {
		from = p.LocalAddress.String()
	}
	to := "any address"
	if p.Address.IsValid() {
		to = p.Address.String()
	}
	mode, auth := "main mode", "pre-shared key"
	if p.Exchange == AggressiveMode {
		mode = "aggressive mode"
	}
	if p.Key == nil {
		auth = "RSA signatures"
	}
	fmt.Fprintf(w, "  peer      %s: %s -> %s port %d, %s, %s\n", p.Name, from, to, p.Port, mode, auth)
	fmt.Fprintf(w, "  IDs       %s <-> %s\n", p.ID, p.RemoteID)
	for i, t := range p.Transforms {
		label := ""
		if i == 0 {
			label = "phase 1"
		}
		fmt.Fprintf(w, "  %-9s %s\n", label, t)
	}
}

func (n *Net) String() string {
	switch {
	case n == nil:
		return "the tunnel's end"
	case !n.Prefix.IsValid():
		return "interface " + n.Iface
	}
	s := n.Prefix.String()
	if n.Proto != 0 {
		s += fmt.Sprintf(" proto %d", n.Proto)
	}
	if n.Port != 0 {
		s += fmt.Sprintf(" port %d", n.Port)
	}
	return s
}

func (id *ID) String() string {
	switch {
	case id == nil:
		return "the default"
	case id.Text != "":
		return id.Text
	case id.Prefix.IsValid():
		return id.Prefix.String()
	}
	return id.Type.String()
}

func (r Range) String() string {
	if r.Min == r.Max {
		return fmt.Sprint(r.Offer)
	}
	return fmt.Sprintf("%d (accepts %d to %d)", r.Offer, r.Min, r.Max)
}

func anyOr[T interface {
	~uint16
	fmt.Stringer
}](v T, what string) string {
	if v == 0 {
		return "any " + what
	}
	return v.String()
}

func lifeText(s, k Range) string {
	var l []string
	if s != (Range{}) {
		l = append(l, s.String()+" seconds")
	}
	if k != (Range{}) {
		l = append(l, k.String()+" kilobytes")
	}
	if l == nil {
		return "any lifetime"
	}
	return strings.Join(l, " or ")
}

func (t Phase1Transform) String() string {
	bits := ""
	if t.KeyLength != (Range{}) {
		bits = " " + t.KeyLength.String() + " bits"
	}
	return fmt.Sprintf("%s: %s%s, %s, %s, %s, %s", t.Name, anyOr(t.Cipher, "cipher"), bits, anyOr(t.Hash, "hash"),
		anyOr(t.Auth, "authentication"), anyOr(t.Group, "group"), lifeText(t.Seconds, t.Kilobytes))
}

func (s Suite) String() string {
	var l []string
	for _, p := range s.Protocols {
		for _, t := range p.Transforms {
			pfs := "no PFS"
			if t.Group != 0 {
				pfs = "PFS " + t.Group.String()
			}
			l = append(l, fmt.Sprintf("%s %s, %s, %s", p.Proto, t.Mode, pfs, lifeText(t.Seconds, t.Kilobytes)))
		}
	}
	return s.Name + ": " + strings.Join(l, "; ")
}
