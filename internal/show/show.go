// Package show prints what a data plane tells, for people: SAs, flows, the Encap
// table, messages and totals, in the layouts that ipsecctl(8) and netstat(1) have
// taught them. Its functions print what they are given and ask nobody for more;
// the same state is always the same text.
//
// What a peer has chosen (identities, names, errors) is printed so that a
// terminal takes it for text: characters that do not show are escaped.
//
// Nothing here returns an error of the writer. Who wants to know gives a
// bufio.Writer and asks its Flush.
package show

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"oakley/internal/ipsec"
)

// Options says how much is printed.
type Options struct {
	// Verbose is how often -v was given: 0 prints one line an entry, 1 what it
	// has done and for whom it was made, 2 what is of use to few, and sentences
	// about what was dropped.
	Verbose int
	// Keys prints the keys of SAs that have them.
	Keys bool
	// Now, unless it is zero, has the ages printed beside the times.
	Now time.Time
	// Kernel says that the kernel has counted, which does so in a way of its own:
	// where that makes a difference it is printed too.
	Kernel bool
}

// page collects an entry, so that it is one write.
type page struct{ b strings.Builder }

func (p *page) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

// field is a line below an entry.
func (p *page) field(name, format string, args ...any) {
	if name != "" {
		name += ":"
	}
	p.printf("\t%-15s %s\n", name, fmt.Sprintf(format, args...))
}

func (p *page) to(w io.Writer) { _, _ = io.WriteString(w, p.b.String()) }

// word prints text that somebody else chose: as it is when nothing in it can be
// mistaken, else quoted.
func word(s string) string {
	plain := s != ""
	for _, r := range s {
		plain = plain && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.@:/+*,=", r))
	}
	if plain {
		return s
	}
	return strconv.Quote(s)
}

// text prints a sentence that somebody else wrote: on one line, and nothing in it
// that moves a cursor.
func text(s string) string {
	q := strconv.Quote(s)
	q = q[1 : len(q)-1]
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(q)
}

// spi is an SPI as ipsec.conf(5) writes it.
func spi(s ipsec.SPI) string { return fmt.Sprintf("0x%08x", uint32(s)) }

// addr is an address, or what stands for none.
func addr(a netip.Addr, none string) string {
	if !a.IsValid() {
		return none
	}
	return a.String()
}

// network is a prefix; a host is an address.
func network(p netip.Prefix) string {
	if !p.IsValid() {
		return "any"
	}
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// port is what follows an address in a rule.
func port(n uint16) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" port %d", n)
}

// ends are the two sides of a rule.
func ends(s *ipsec.Selector) string {
	return fmt.Sprintf("from %s%s to %s%s", network(s.Src), port(s.SrcPort), network(s.Dst), port(s.DstPort))
}

// selector is all that a rule says about packets.
func selector(s *ipsec.Selector) string {
	if s.Proto == 0 {
		return ends(s)
	}
	return fmt.Sprintf("proto %s %s", protocol(s.Proto), ends(s))
}

// ids are the identities that are known, with a blank before each.
func ids(i ipsec.IDs) (s string) {
	if i.LocalID != "" {
		s += " srcid " + word(i.LocalID)
	}
	if i.RemoteID != "" {
		s += " dstid " + word(i.RemoteID)
	}
	return s
}

// moment is a time, and how long ago that is.
func moment(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	s := t.Format("2006-01-02 15:04:05 MST")
	if now.IsZero() {
		return s
	}
	if age := now.Sub(t).Round(time.Second); age >= 0 {
		s += fmt.Sprintf(", %s ago", age)
	}
	return s
}

// many is a number and its noun.
func many[N int | uint64](n N, noun string) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
