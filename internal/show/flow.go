package show

import (
	"io"
	"strings"

	"oakley/internal/ipsec"
)

// Flow prints a flow: the line of ipsecctl(8), and more below it when o.Verbose
// says so.
func Flow(w io.Writer, f *ipsec.Flow, o Options) {
	var p page
	p.printf("%s\n", flowLine(f))
	if o.Verbose > 0 {
		p.field("order", "%d", f.Order)
		if f.Local.IsValid() {
			p.field("local", "%s", f.Local)
		}
		if protects(f.Type) {
			p.field("mode", "%s", f.Mode)
		}
		if f.Conn != "" {
			p.field("connection", "%s", word(f.Conn))
		}
		p.field("made by", "%s", owner(f.Owner))
	}
	if o.Verbose > 1 {
		p.field("name", "%s", word(string(f.ID)))
	}
	p.to(w)
}

// protects tells whether flows of a type have SAs.
func protects(t ipsec.FlowType) bool { return t != ipsec.FlowDeny && t != ipsec.FlowBypass }

// flowLine is a flow on one line.
func flowLine(f *ipsec.Flow) string {
	var b strings.Builder
	b.WriteString("flow")
	if f.Proto != 0 {
		b.WriteString(" " + f.Proto.String())
	}
	b.WriteString(" " + f.Dir.String() + " " + selector(&f.Selector))
	if f.Remote.IsValid() {
		b.WriteString(" peer " + f.Remote.String())
	}
	b.WriteString(ids(f.IDs) + " type " + f.Type.String())
	return b.String()
}
