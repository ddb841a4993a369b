package interop

import (
	"net/netip"
	"testing"
	"time"

	"oakley/internal/lab"
)

// TestDisagreementsEndCleanly has one side configured wrong: nothing is
// installed on either side, nothing passes, and our log names the reason.
func TestDisagreementsEndCleanly(t *testing.T) {
	for _, c := range []struct {
		name   string
		wrong  func(*Tunnel) // what strongSwan has instead
		reason string        // in our log, whoever starts
	}{
		{"key", func(t *Tunnel) { t.Secret = "another one" }, `(?i)pre-shared key|passphrase`},
		{"phase 1 proposal", func(t *Tunnel) { t.P1 = Phase1s[0] }, `(?i)NO.PROPOSAL.CHOSEN|no proposal`},
		{"phase 2 proposal", func(t *Tunnel) { t.P2 = Phase2s[4] }, `(?i)NO.PROPOSAL.CHOSEN|no proposal`},
		{"network", func(t *Tunnel) { t.LocalNet = netip.MustParsePrefix("10.99.0.0/24") }, `(?i)INVALID.ID.INFORMATION|10\.99\.0\.0`},
	} {
		for _, weStart := range []bool{true, false} {
			name := c.name + ", strongSwan starts"
			if weStart {
				name = c.name + ", we start"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, lab.HowToOptions{})
				tun := Tunnel{P1: Phase1s[2], P2: Phase2s[2], Initiate: weStart}
				theirs := s.west(tun)
				c.wrong(&theirs)
				swan, err := StartStrongSwan(s.Slippery, t.TempDir(), theirs)
				must(t, err)
				ours, err := StartIsakmpd(s.Ragweed, t.TempDir(), s.east(tun).IsakmpdConf())
				must(t, err)
				if !weStart && swan.Initiate(5*time.Second) == nil {
					t.Error("strongSwan says that there is a tunnel")
				}
				line, err := ours.Log.Wait(c.reason, 35*time.Second)
				must(t, err)
				t.Logf("isakmpd: %s", line.Text)
				if ours.Log.Count(phase2Done) != 0 {
					t.Error("isakmpd says that phase 2 is there")
				}
				if sa, child, err := swan.Installed(); err == nil {
					t.Errorf("strongSwan has installed %+v %+v", sa, child)
				}
				p, err := s.Dandelion.StartPing(s.V4.Icy, 20*time.Millisecond)
				must(t, err)
				lab.Eventually(t, 5*time.Second, "20 pings were sent", func() bool { return p.Counts().Sent >= 20 })
				if n := p.Stop(200 * time.Millisecond); n.Received != 0 {
					t.Errorf("without a tunnel: %v", n)
				}
				if v := s.spy.Settle(); v.Leaked != 0 || v.Protected() != 0 {
					t.Errorf("the spy saw %v %v", v, v.Leaks)
				}
				must(t, ours.End())
			})
		}
	}
}
