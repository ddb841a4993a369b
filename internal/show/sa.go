package show

import (
	"fmt"
	"io"
	"math"
	"strings"

	"oakley/internal/ipsec"
)

// SA prints an SA: the line of ipsecctl(8), with o.Keys its keys as ipsec.conf(5)
// would have them, and more below it when o.Verbose says so.
func SA(w io.Writer, s *ipsec.SAState, o Options) {
	var p page
	p.printf("%s", saLine(&s.SA))
	if o.Keys {
		p.keys(&s.SA)
	}
	p.printf("\n")
	if o.Verbose > 0 {
		p.about(s, o)
	}
	p.to(w)
}

// saLine is an SA on one line.
func saLine(sa *ipsec.SA) string {
	var b strings.Builder
	b.WriteString(sa.ID.Proto.String())
	if sa.ID.Proto != ipsec.ProtoIPIP { // which is a tunnel by nature
		b.WriteString(" " + sa.Mode.String())
	}
	fmt.Fprintf(&b, " from %s to %s spi %s", addr(sa.Src, "any"), addr(sa.ID.Dst, "any"), spi(sa.ID.SPI))
	// A combined mode authenticates by itself; ESP that nothing authenticates is
	// worth a word.
	esp := sa.ID.Proto == ipsec.ProtoESP
	if sa.Auth != ipsec.AuthNone || esp && sa.Cipher.Info().ICV == 0 {
		b.WriteString(" auth " + Auth(sa.Auth))
	}
	if esp {
		b.WriteString(" enc " + Cipher(sa.Cipher, sa.KeyBytes()))
	}
	if sa.ID.Proto == ipsec.ProtoIPComp {
		b.WriteString(" comp " + sa.Comp.String())
	}
	return b.String()
}

// keys go on with the line; a salt is the end of a key there.
func (p *page) keys(sa *ipsec.SA) {
	if len(sa.AuthKey) > 0 {
		p.printf(" \\\n\tauthkey 0x%x", sa.AuthKey)
	}
	if len(sa.Key) > 0 {
		p.printf(" \\\n\tenckey 0x%x%x", sa.Key, sa.Salt)
	}
}

// about are the lines below an SA.
func (p *page) about(s *ipsec.SAState, o Options) {
	sa := &s.SA
	p.field("direction", "%s", sa.ID.Dir)
	if sa.IDs != (ipsec.IDs{}) {
		p.field("identities", "%s", strings.TrimSpace(ids(sa.IDs)))
	}
	if sa.Conn != "" {
		p.field("connection", "%s", word(sa.Conn))
	}
	if e := sa.Encap; e != nil {
		p.field("udp", "from %s port %d to %s port %d", e.Local.Addr(), e.Local.Port(), e.Remote.Addr(), e.Remote.Port())
	}
	if sa.Selector.Src.IsValid() || sa.Selector.Dst.IsValid() {
		p.field("carries", "%s", selector(&sa.Selector))
	}
	if b := sa.Bundle; b.Of > 1 {
		p.field("bundle", "%d: number %d of %d, counted from the plain packet", b.ID, b.Index+1, b.Of)
	}
	p.field("made by", "%s", owner(sa.Owner))
	p.field("added", "%s", moment(s.Added, o.Now))
	last := moment(s.LastUse, o.Now)
	if o.Kernel && s.LastUse.IsZero() && s.Packets > 0 {
		last = "not known: this kernel keeps no time of it"
	}
	p.field("last use", "%s", last)
	p.field("soft lifetime", "%s", lifetime(sa.Soft))
	p.field("hard lifetime", "%s", lifetime(sa.Hard))
	headers := ""
	if o.Kernel {
		headers = ", headers included"
	}
	p.field("traffic", "%s, %s%s", many(s.Packets, "packet"), many(s.Bytes, "byte"), headers)
	p.sequence(s, o)
	if o.Verbose > 1 {
		p.rest(sa)
	}
	p.drops(&s.Drops, o.Verbose > 1)
}

// sequence are the lines about sequence numbers, which ESP and AH alone have.
func (p *page) sequence(s *ipsec.SAState, o Options) {
	if s.SA.ID.Proto != ipsec.ProtoESP && s.SA.ID.Proto != ipsec.ProtoAH {
		return
	}
	last, size := uint64(math.MaxUint32), 32
	if s.SA.ESN {
		last, size = math.MaxUint64, 64
	}
	what := "last sent"
	if s.SA.ID.Dir == ipsec.In {
		what = "highest received"
	}
	used := ""
	if s.Seq >= last/2 {
		used = fmt.Sprintf(", %d are left", last-s.Seq)
	}
	if o.Kernel && s.SA.ID.Dir == ipsec.In && s.SA.Replay == 0 {
		p.field("sequence", "not looked at: the kernel does so for a replay window alone")
	} else {
		p.field("sequence", "%d %s, of %d bits%s", s.Seq, what, size, used)
	}
	if s.SA.ID.Dir == ipsec.Out {
		return
	}
	if s.SA.Replay == 0 {
		p.field("replay window", "none: repeated packets are not noticed")
		return
	}
	p.field("replay window", "%s", many(s.SA.Replay, "packet"))
}

// rest is of use to few.
func (p *page) rest(sa *ipsec.SA) {
	if sa.Flow != "" {
		p.field("flow", "%s", word(string(sa.Flow)))
	} else {
		p.field("flow", "those of its owner, protocol and far end")
	}
	if sa.ID.Port != 0 {
		p.field("first port", "%d", sa.ID.Port)
	}
	if b := sa.Bundle; b.Of <= 1 && b.ID != 0 {
		p.field("made with", "number %d", b.ID)
	}
	if n := sa.NATOA; n.Peer.IsValid() || n.Ours.IsValid() {
		p.field("before NAT", "peer %s, ours %s", addr(n.Peer, "unknown"), addr(n.Ours, "unknown"))
	}
	if sa.Defer > 0 {
		p.field("in use after", "%s", sa.Defer)
	}
}

// lifetime is a pair of limits.
func lifetime(l ipsec.Lifetime) string {
	var parts []string
	if l.Time > 0 {
		parts = append(parts, l.Time.String())
	}
	if l.Bytes > 0 {
		parts = append(parts, many(l.Bytes, "byte"))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}
