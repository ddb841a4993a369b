package interop

import (
	"testing"
	"time"

	"oakley/internal/lab"
)

// TestRekeysLoseNothing runs pings both ways while both phases are renewed, by
// strongSwan's wish and by our own lifetimes, and counts. (Who starts offers the
// lifetime, and strongSwan itself drops packets when one of its own runs out, so
// we renew only what we started.)
func TestRekeysLoseNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		ours  bool // we renew; else strongSwan does
		pfs   bool
		start bool // we started the tunnel
	}{
		{"strongSwan renews what it started", false, true, false},
		{"strongSwan renews what we started", false, false, true},
		{"we renew what we started", true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, lab.HowToOptions{})
			tun := Tunnel{P1: Phase1s[2], P2: Phase2s[4], PFS: c.pfs, Initiate: c.start}
			mine, theirs := s.east(tun), s.west(tun)
			if c.ours {
				mine.P1Life, mine.P2Life = 8*time.Second, 4*time.Second
			}
			swan, err := StartStrongSwan(s.Slippery, t.TempDir(), theirs)
			must(t, err)
			ours, err := StartIsakmpd(s.Ragweed, t.TempDir(), mine.IsakmpdConf())
			must(t, err)
			establish(t, ours, swan, c.start)
			_, err = s.Dandelion.Ping(s.V4.Icy, 1, 10*time.Second)
			must(t, err)

			there, err := s.Dandelion.StartPing(s.V4.Icy, 4*time.Millisecond)
			must(t, err)
			back, err := s.Icy.StartPing(s.V4.Dandelion, 4*time.Millisecond)
			must(t, err)
			if c.ours {
				newPhases(t, swan, 3, 2, 40*time.Second)
			} else {
				forceRekeys(t, swan, there)
			}
			must(t, there.AwaitAnswers(50, 5*time.Second))
			for _, p := range []*lab.Stream{there, back} {
				n := p.Stop(2 * time.Second)
				t.Logf("ping: %v", n)
				if n.Lost() != 0 || n.Duplicates != 0 {
					t.Errorf("ping: %v; lost %v", n, p.Missing(20))
				}
			}
			s.clean(t)
			must(t, ours.End())
		})
	}
}

// forceRekeys asks charon for three new children and two new phase 1 SAs, with
// traffic on each before the next.
func forceRekeys(t *testing.T, swan *StrongSwan, ping *lab.Stream) {
	t.Helper()
	for _, phase1 := range []bool{false, true, false, true, false} {
		sa, child, err := swan.Installed()
		must(t, err)
		if phase1 {
			must(t, swan.RekeyIKE())
			lab.Eventually(t, 10*time.Second, "a new phase 1", func() bool {
				now, _, err := swan.Installed()
				return err == nil && now.ID != sa.ID && now.State == "ESTABLISHED"
			})
		} else {
			must(t, swan.RekeyChild())
			lab.Eventually(t, 10*time.Second, "a new phase 2", func() bool {
				_, now, err := swan.Installed()
				return err == nil && now.SPIIn != child.SPIIn
			})
		}
		must(t, ping.AwaitAnswers(50, 10*time.Second))
	}
}

// newPhases waits until charon has seen so many new children and phase 1 SAs.
func newPhases(t *testing.T, swan *StrongSwan, children, ikes int, timeout time.Duration) {
	t.Helper()
	spis, ids := map[string]bool{}, map[string]bool{}
	ok := lab.Until(timeout, func() bool {
		if sa, c, err := swan.Installed(); err == nil {
			ids[sa.ID], spis[c.SPIIn] = true, true
		}
		return len(spis) > children && len(ids) > ikes
	})
	if !ok {
		t.Fatalf("within %v there were %d children and %d phase 1 SAs, not more than %d and %d", timeout, len(spis), len(ids), children, ikes)
	}
}
