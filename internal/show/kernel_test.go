package show

import (
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Where the kernel counts in another way, or not at all, that is said; all else
// is as of any data plane.
func TestTheKernelCounts(t *testing.T) {
	s := espSA()
	changed := func(ours, kernel string) (lines []string) {
		t.Helper()
		is := strings.Split(kernel, "\n")
		for i, was := range strings.Split(ours, "\n") {
			if is[i] != was {
				lines = append(lines, is[i])
			}
		}
		return lines
	}
	both := func() []string {
		return changed(saText(s, Options{Verbose: 2}), saText(s, Options{Verbose: 2, Kernel: true}))
	}
	traffic := "\ttraffic:        12 packets, 1440 bytes, headers included"
	same(t, strings.Join(both(), "\n"), traffic)
	s.SA.ID.Dir, s.SA.Replay = ipsec.In, 64
	same(t, strings.Join(both(), "\n"), traffic)
	s.SA.Replay = 0
	s.LastUse = time.Time{}
	if got := saText(s, Options{Verbose: 1, Kernel: true}); !strings.Contains(got, "\tlast use:       not known: this kernel keeps no time of it\n") {
		t.Errorf("packets at no time:\n%s", got)
	}
	s.Packets = 0
	if got := saText(s, Options{Verbose: 1, Kernel: true}); !strings.Contains(got, "\tlast use:       never\n") {
		t.Errorf("no packets:\n%s", got)
	}
	s.Packets = 12
	same(t, strings.Join(both(), "\n"), "\tlast use:       not known: this kernel keeps no time of it\n"+traffic+"\n\tsequence:       not looked at: the kernel does so for a replay window alone")

	all := dataplane.Totals{Since: began, Protos: []dataplane.ProtoTotals{{Proto: ipsec.ProtoESP}, {Proto: ipsec.ProtoIPComp}}}
	all.Drops[ipsec.DropDeny] = 1
	same(t, printed(func(w *strings.Builder) { Totals(w, all, Options{Kernel: true}) }), `since 2026-11-21 07:00:00 UTC
the kernel counts: bytes with headers, and what was dropped for the whole host, other programs included; for SAs it counts replays and wrong ICVs alone
esp:
	0 SAs
	0 packets received (0 bytes)
	0 packets sent (0 bytes)
ipcomp:
	0 SAs
	0 packets received (0 bytes)
	0 packets sent (0 bytes)
ah:
	this kernel has no such SAs
ipip:
	this kernel has no such SAs
packets of no SA:
	1 packet dropped: deny
		`+reasons[ipsec.DropDeny]+"\n")
	st := dataplane.State{Drops: all.Drops}
	same(t, printed(func(w *strings.Builder) { Rest(w, &st, Options{Kernel: true}) }), "packets of no SA (the kernel counts for the whole host)\n\tdropped:        1 deny\n")
}
