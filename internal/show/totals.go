package show

import (
	"io"
	"slices"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Totals prints what a data plane has done, as netstat -s does: a protocol after
// the other, and for each reason for which packets were dropped a sentence about
// it.
func Totals(w io.Writer, t dataplane.Totals, o Options) {
	var p page
	p.printf("since %s\n", moment(t.Since, time.Time{}))
	if o.Kernel {
		p.printf("the kernel counts: bytes with headers, and what was dropped for the whole host, other programs included; for SAs it counts replays and wrong ICVs alone\n")
	}
	for i := range t.Protos {
		s := &t.Protos[i]
		p.printf("%s:\n", s.Proto)
		p.printf("\t%s\n", many(s.SAs, "SA"))
		p.printf("\t%s received (%s)\n", many(s.In.Packets, "packet"), many(s.In.Bytes, "byte"))
		p.printf("\t%s sent (%s)\n", many(s.Out.Packets, "packet"), many(s.Out.Bytes, "byte"))
		p.reasons(&s.DropsIn, "received and dropped")
		p.reasons(&s.DropsOut, "dropped instead of sent")
	}
	if o.Kernel {
		p.missing(t.Protos)
	}
	p.printf("packets of no SA:\n")
	if t.Drops == (ipsec.Drops{}) {
		p.printf("\tnone dropped\n")
	}
	p.reasons(&t.Drops, "dropped")
	p.to(w)
}

// missing names the protocols that a kernel has no SAs of.
func (p *page) missing(has []dataplane.ProtoTotals) {
	for _, proto := range []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPIP, ipsec.ProtoIPComp} {
		if !slices.ContainsFunc(has, func(s dataplane.ProtoTotals) bool { return s.Proto == proto }) {
			p.printf("%s:\n\tthis kernel has no such SAs\n", proto)
		}
	}
}

// Rest prints what a list of SAs ends with: what was dropped and belongs to none
// of them, and what is switched off; nothing when there is neither.
func Rest(w io.Writer, s *dataplane.State, o Options) {
	var p page
	if s.Drops != (ipsec.Drops{}) {
		where := ""
		if o.Kernel {
			where = " (the kernel counts for the whole host)"
		}
		p.printf("packets of no SA%s\n", where)
		p.drops(&s.Drops, o.Verbose > 1)
	}
	for _, proto := range s.Off {
		p.printf("%s is switched off\n", proto)
	}
	p.to(w)
}

// reasons are a number, a reason and its sentence, for each reason that there was.
func (p *page) reasons(d *ipsec.Drops, what string) {
	for reason := ipsec.DropNone + 1; reason < ipsec.DropEnd; reason++ {
		if n := d[reason]; n > 0 {
			p.printf("\t%s %s: %s\n", many(n, "packet"), what, reason)
			p.printf("\t\t%s\n", reasons[reason])
		}
	}
}
