package conf

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// Describe writes for people what the configuration came to: who may connect,
// which networks are joined and by what. Keys are not in it.
func (c *Config) Describe(w io.Writer) error {
	var b strings.Builder
	c.describeGeneral(&b)
	for _, p := range c.Peers {
		if p != c.DefaultPeer {
			describePeer(&b, p, p.Address.String())
		}
	}
	if c.DefaultPeer != nil {
		describePeer(&b, c.DefaultPeer, "any other address")
	}
	for _, n := range c.Connections {
		how := "accepted when the peer starts it"
		switch {
		case n.Active && n.ActiveOnly:
			how = "kept up, not accepted from the peer"
		case n.Active:
			how = "kept up"
		}
		describeConnection(&b, n, how)
	}
	if c.DefaultConnection != nil {
		describeConnection(&b, c.DefaultConnection, "accepted for any other networks")
	}
	for _, i := range c.InitiatorIDs {
		fmt.Fprintf(&b, "initiator %s: a pre-shared key of its own\n", i.Name)
	}
	for _, m := range c.ModeConfigs {
		fmt.Fprintf(&b, "mode-config for %s: %s\n", m.Name, addrOr(m.Address, "no address"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Config) String() string {
	var b strings.Builder
	_ = c.Describe(&b) // a Builder does not fail
	return b.String()
}

func (c *Config) describeGeneral(b *strings.Builder) {
	on := []string{}
	for _, l := range c.General.ListenOn {
		on = append(on, addrOr(l.Addr, l.Interface))
	}
	if len(on) == 0 {
		on = []string{"every address"}
	}
	fmt.Fprintf(b, "listen on %s\n", strings.Join(on, ", "))
	plane := c.General.DataPlane.String()
	if c.General.DataPlane == PlaneChoose {
		plane += ": the kernel where it has ESP, else ipsecd"
	}
	fmt.Fprintf(b, "data plane %s\n", plane)
	if o := c.General.PlaneOptions.String(); o != "" {
		fmt.Fprintf(b, "options of the data plane: %s\n", o)
	}
	if c.General.UseKeynote {
		fmt.Fprintf(b, "policy %s\n", c.General.PolicyFile)
	} else {
		fmt.Fprintf(b, "policy none: this file alone decides\n")
	}
}

func addrOr(a netip.Addr, other string) string {
	if a.IsValid() {
		return a.String()
	}
	return other
}

func describePeer(b *strings.Builder, p *Peer, where string) {
	fmt.Fprintf(b, "peer %s: %s", p.Name, where)
	if p.Port != 500 {
		fmt.Fprintf(b, " port %d", p.Port)
	}
	if p.LocalAddress.IsValid() {
		fmt.Fprintf(b, " from %s", p.LocalAddress)
	}
	mode := "main mode"
	if p.Mode == doi.ExchangeAggressive {
		mode = "aggressive mode"
	}
	fmt.Fprintf(b, ", %s\n", mode)
	key := "no pre-shared key"
	if p.Key == nil && p.usesKey() {
		key = "pre-shared keys chosen by the initiator's ID"
	}
	if p.Key != nil {
		key = "a pre-shared key (not shown)"
	}
	fmt.Fprintf(b, "  authentication: %s\n", key)
	if p.ID != nil {
		fmt.Fprintf(b, "  our ID: %s\n", p.ID)
	}
	if p.RemoteID != nil {
		fmt.Fprintf(b, "  its ID: %s\n", p.RemoteID)
	}
	for i := range p.Transforms {
		fmt.Fprintf(b, "  transform %s: %s\n", p.Transforms[i].Name, &p.Transforms[i])
	}
	describeNeeds(b, p.Needs())
}

func describeConnection(b *strings.Builder, c *Connection, how string) {
	peer := "any peer"
	if c.Peer != nil {
		peer = c.Peer.Name
	}
	fmt.Fprintf(b, "connection %s: %s - %s with %s, %s\n", c.Name, c.Local, c.Remote, peer, how)
	for i := range c.Suites {
		s := &c.Suites[i]
		fmt.Fprintf(b, "  suite %s:", s.Name)
		for k := range s.Protocols {
			p := &s.Protocols[k]
			if k > 0 {
				fmt.Fprint(b, " with")
			}
			for m := range p.Transforms {
				if m > 0 {
					fmt.Fprint(b, " or")
				}
				fmt.Fprintf(b, " %s", &p.Transforms[m])
			}
		}
		fmt.Fprintln(b)
	}
	if c.NATID != nil {
		fmt.Fprintf(b, "  behind NAT: %s\n", c.NATID)
	}
	if c.Interface != 0 {
		fmt.Fprintf(b, "  xfrm interface: if_id %d\n", c.Interface)
	}
	if c.PFTag != "" {
		fmt.Fprintf(b, "  tag: %s\n", c.PFTag)
	}
	f := c.Needs()
	if c.Peer != nil {
		f &^= c.Peer.Needs() // the peer's own are said there
	}
	describeNeeds(b, f)
}

func describeNeeds(b *strings.Builder, f Features) {
	if f != 0 {
		fmt.Fprintf(b, "  needs: %s\n", f)
	}
}

// String is the end for people: 10.1.0.0/24, 192.0.2.1 tcp port 80.
func (n *Net) String() string {
	if n == nil {
		return "the tunnel's end"
	}
	s := n.Interface
	switch {
	case n.Prefix.IsValid() && n.Addr:
		s = n.Prefix.Addr().String()
	case n.Prefix.IsValid():
		s = n.Prefix.String()
	case s == "default":
		s = "the interface of the default route"
	default:
		s = "interface " + s
	}
	if n.Proto != 0 {
		s += " " + protocolName(n.Proto)
	}
	if n.Port != 0 {
		s += " port " + strconv.Itoa(int(n.Port))
	}
	return s
}

func protocolName(p uint8) string {
	for _, c := range protocolNames {
		if c.means == p {
			return c.word
		}
	}
	return "protocol " + strconv.Itoa(int(p))
}

// String is the transform's values: AES_CBC 128 (128-256), SHA, PRE_SHARED, MODP_1024, 3600 s (60-86400).
func (t *Phase1Transform) String() string {
	l := []string{word(t.Cipher, t.KeyLength), word(t.Hash, Range{}), word(t.Auth, Range{}), word(t.Group, Range{})}
	return strings.Join(append(l, lifeWords(t.LifeSeconds, t.LifeKilobytes)...), ", ")
}

// String is the transform's values: ESP AES 128 (128-256), HMAC_SHA, PFS MODP_1024, tunnel, 1200 s (60-86400).
func (t *Phase2Transform) String() string {
	var l []string
	switch t.Proto {
	case ipsec.ProtoAH:
		l = append(l, t.AH.String())
	case ipsec.ProtoIPComp:
		l = append(l, t.IPComp.String())
	default:
		l = append(l, word(t.ESP, t.KeyLength))
	}
	if t.Auth != 0 {
		l = append(l, t.Auth.String())
	}
	if t.Group != 0 {
		l = append(l, "PFS "+t.Group.String())
	}
	if t.ESN {
		l = append(l, "ESN")
	}
	l = append(l, t.Mode.String())
	return strings.Join(append(l, lifeWords(t.LifeSeconds, t.LifeKilobytes)...), ", ")
}

// word is an algorithm and its key length; zero is ANY.
func word[T interface {
	~uint8 | ~uint16
	String() string
}](v T, r Range,
) string {
	s := "ANY"
	if v != 0 {
		s = v.String()
	}
	if !r.IsZero() {
		s += " " + r.String()
	}
	return s
}

func lifeWords(seconds, kilobytes Range) []string {
	if seconds.Any && kilobytes.Any {
		return []string{"any lifetime"}
	}
	var l []string
	if !seconds.IsZero() {
		l = append(l, seconds.String()+" s")
	}
	if !kilobytes.IsZero() {
		l = append(l, kilobytes.String()+" KB")
	}
	if len(l) == 0 {
		return []string{"no limit"}
	}
	return l
}

// String is the offer, and in brackets what is accepted when that is more.
func (r Range) String() string {
	switch {
	case r.IsZero():
		return "-"
	case r.Any:
		return "ANY"
	case r.Min == r.Offer && r.Max == r.Offer:
		return strconv.Itoa(r.Offer)
	}
	return fmt.Sprintf("%d (%d-%d)", r.Offer, r.Min, r.Max)
}
