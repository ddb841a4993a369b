package daemon

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Report writes the report of SIGUSR1; it returns at once.
func (d *Daemon) Report() {
	d.requests.put(func() {
		negotiation := string(d.engine.Dump()) // the engine is ours alone here
		d.plane.dump(func(st dataplane.State, err error) { d.writeReport(negotiation, st, err) })
	})
}

func (d *Daemon) writeReport(negotiation string, st dataplane.State, err error) {
	var b bytes.Buffer
	now := time.Now()
	fmt.Fprintf(&b, "isakmpd report of %s\n", now.Format(time.RFC3339))
	fmt.Fprintf(&b, "configuration %s, listening on %s\n", d.opt.Config, d.socks)
	fmt.Fprintf(&b, "\nNegotiation\n%s\n", strings.TrimRight(negotiation, "\n"))
	fmt.Fprintf(&b, "\nData plane: %s\n", planeName(d.plane.backend().Info()))
	if err != nil {
		fmt.Fprintf(&b, "its tables cannot be read: %v\n", err)
	}
	printSAs(&b, st.SAs, now)
	printFlows(&b, st.Flows)
	printDrops(&b, "Dropped without an SA", st.Drops)
	if err := d.host.WriteRun(d.opt.Report, b.Bytes()); err != nil {
		d.log.Error("the report could not be written", fieldFile, d.opt.Report, fieldErr, err)
		return
	}
	d.log.Notice("report written", fieldEvent, "report", fieldFile, d.opt.Report)
}

func printSAs(b *bytes.Buffer, sas []ipsec.SAState, now time.Time) {
	fmt.Fprintf(b, "\nSAs: %d\n", len(sas))
	for _, s := range sas {
		fmt.Fprintf(b, "%s from %s, %s, %s %s, %s\n", s.SA.ID, s.SA.Src, s.SA.Mode, s.SA.Cipher, s.SA.Auth, s.SA.Selector)
		if e := s.SA.Encap; e != nil {
			fmt.Fprintf(b, "  in UDP between %s and %s\n", e.Local, e.Remote)
		}
		used := "never used"
		if !s.LastUse.IsZero() {
			used = "last used " + now.Sub(s.LastUse).Round(time.Second).String() + " ago"
		}
		fmt.Fprintf(b, "  connection %s, added %s ago, %s, %d packets, %d bytes, sequence %d, hard limit %s\n",
			s.SA.Conn, now.Sub(s.Added).Round(time.Second), used, s.Packets, s.Bytes, s.Seq, lifetime(s.SA.Hard))
		printDrops(b, "  dropped", s.Drops)
	}
}

func lifetime(l ipsec.Lifetime) string {
	var parts []string
	if l.Time != 0 {
		parts = append(parts, l.Time.String())
	}
	if l.Bytes != 0 {
		parts = append(parts, fmt.Sprintf("%d bytes", l.Bytes))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func printFlows(b *bytes.Buffer, flows []ipsec.Flow) {
	fmt.Fprintf(b, "\nFlows: %d\n", len(flows))
	for _, f := range flows {
		fmt.Fprintf(b, "%s %s %s, %s, order %d, between %s and %s\n", f.ID, f.Type, f.Dir, f.Selector, f.Order, end(f.Local.String()), end(f.Remote.String()))
	}
}

// end names a tunnel's end; an invalid address prints as "invalid IP".
func end(s string) string {
	if s == "invalid IP" {
		return "any address"
	}
	return s
}

func printDrops(b *bytes.Buffer, title string, drops ipsec.Drops) {
	var parts []string
	for reason, n := range drops {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", ipsec.Drop(reason), n))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "%s: %s\n", title, strings.Join(parts, ", "))
	}
}
