package xfrm

import (
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// planesChanged: whichever plane follows the other one, which was killed, takes
// away what it left: both would want the same packets.
func planesChanged(t *testing.T) {
	g := gateOf(t, lab.New(t), "a", "192.0.2.1", "2001:db8::1", routesA, nil)
	k := &keyed{gate: g, t: t, socket: filepath.Join(t.TempDir(), "sock")}
	before, err := k.host.State()
	must(t, err)
	left := func() (rest []string) {
		t.Helper()
		now, err := k.host.State()
		must(t, err)
		for _, l := range strings.Split(before.Diff(now), "\n") {
			if strings.HasPrefix(l, "+ nft") || strings.HasPrefix(l, "+ rule") || strings.HasPrefix(l, "+ route") {
				rest = append(rest, l)
			}
		}
		return rest
	}
	for _, round := range []struct{ plane, says string }{
		{"user", ""},
		{"kernel", "left routes and filters"},
		{"user", "left SAs and policies in the kernel"},
		{"auto", "data plane chosen plane=kernel"},
	} {
		k.plane = round.plane
		k.start()
		if !strings.Contains(k.proc.Log.String(), round.says) {
			t.Errorf("%s does not say %q\n%s", round.plane, round.says, k.proc.Log)
		}
		if policies, sas := tablesOf(t, k.host); len(policies)+len(sas) > 0 {
			t.Errorf("%s begins with %q in the kernel", round.plane, k.table(t))
		}
		if rest := left(); round.plane != "user" && len(rest) > 0 {
			t.Errorf("%s begins with\n%s", round.plane, strings.Join(rest, "\n"))
		}
		k.Backend = k.dial(t)
		must(t, k.Backend.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
		must(t, k.Backend.AddSA(ctx, espOut("c", 0x1001)))
		policies, sas := tablesOf(t, k.host)
		if rest := left(); (len(policies) == 3 && len(sas) == 1) != (round.plane != "user") || len(rest) > 0 != (round.plane == "user") {
			t.Errorf("%s has %d policies and %d SAs, and\n%s", round.plane, len(policies), len(sas), strings.Join(rest, "\n"))
		}
		k.proc.Kill()
	}
}

// TestClear: what is ours goes, once nobody has it any more, and what is others'
// stays.
func TestClear(t *testing.T) {
	b := newBare(t)
	path := filepath.Join(t.TempDir(), "journal")
	clear := func() (sas, policies int, err error) {
		must(t, b.host.Do(func() error {
			sas, policies, err = Clear(path, slog.New(slog.DiscardHandler))
			return nil
		}))
		return sas, policies, err
	}
	if sas, policies, err := clear(); sas+policies != 0 || err != nil {
		t.Errorf("nothing to clear: %d SAs, %d policies, %v", sas, policies, err)
	}
	sel := ipsec.Selector{Src: netip.MustParsePrefix("10.77.0.0/16"), Dst: netip.MustParsePrefix("10.78.0.0/16")}
	w := wire.Policy{Sel: selectorOf(&sel), Dir: wire.DirOut, Limits: wire.NoLimits(), Priority: 77, Action: wire.Block}
	b.as(wire.NewPolicy, w.Append(nil))
	others, _ := b.tables()
	p := b.plane(Options{Journal: path})
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowDeny)))
	if _, _, err := clear(); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("cleared under a process that lives: %v", err)
	}
	p.Close()
	if sas, policies, err := clear(); sas != 0 || policies != 3 || err != nil {
		t.Errorf("%d SAs, %d policies, %v; want three policies", sas, policies, err)
	}
	if now, _ := b.tables(); !slices.Equal(shape(now), shape(others)) {
		t.Errorf("left are %q, want %q", shape(now), shape(others))
	}
	if spoken(path) {
		t.Error("the journal still says something")
	}
}
