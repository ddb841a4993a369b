package interop

import (
	"testing"
	"time"

	"oakley/internal/lab"
)

// TestStrongSwanWithItself shows that the harness works: when it fails, no other
// test of this package says anything about isakmpd.
func TestStrongSwanWithItself(t *testing.T) {
	for i, p1 := range Phase1s {
		p2 := Phase2s[i%len(Phase2s)]
		t.Run(p1.Swan+"/"+p2.Swan, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, lab.HowToOptions{NAT: i == 0})
			tun := Tunnel{P1: p1, P2: p2, PFS: i%2 == 0}
			a, err := StartStrongSwan(s.Ragweed, t.TempDir(), s.east(tun))
			must(t, err)
			w := s.west(tun)
			_, err = StartStrongSwan(s.Slippery, t.TempDir(), w)
			must(t, err)
			must(t, a.Initiate(10*time.Second))
			s.traffic(t)
			sa, child, err := a.Installed()
			must(t, err)
			if sa.State != "ESTABLISHED" || !child.Encap || child.Encr != p2.Cipher || child.Integ != p2.Auth || child.PacketsIn == 0 {
				t.Errorf("SAs: %+v %+v", sa, child)
			}
			must(t, a.RekeyChild())
			lab.Eventually(t, 5*time.Second, "a new child", func() bool {
				_, c, err := a.Installed()
				return err == nil && c.SPIIn != child.SPIIn
			})
			must(t, a.Terminate())
			if sas, err := a.SAs(); err != nil || len(sas) != 0 {
				t.Errorf("after the end: %+v %v", sas, err)
			}
		})
	}
}

func TestRawOutputIsUnderstood(t *testing.T) {
	v, err := parseVici("{t {uniqueid=1 state=ESTABLISHED local-id=192.0.2.2 tasks-active=[A B] empty= child-sas {t-1 {name=t state=INSTALLED encap=yes local-ts=[10.1.0.0/24] packets-in=3}}}}")
	must(t, err)
	sa := v.sections[0].toSA()
	if sa.ID != "1" || sa.State != "ESTABLISHED" || len(sa.Children) != 1 || !sa.Children[0].Encap || sa.Children[0].PacketsIn != 3 {
		t.Errorf("%+v", sa)
	}
	for _, bad := range []string{"}", "{a {", "word"} {
		if _, err := parseVici(bad); err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
}
