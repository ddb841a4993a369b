package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

// combo is one cell of the matrix. The role is isakmpd's.
type combo struct {
	initiator bool
	p1, p2    int
	pfs       bool
}

func (c combo) String() string {
	role, pfs := "responder", "nopfs"
	if c.initiator {
		role = "initiator"
	}
	if c.pfs {
		pfs = "pfs"
	}
	return fmt.Sprintf("%s/%s/%s/%s", role, Phase1s[c.p1].Swan, Phase2s[c.p2].Swan, pfs)
}

func matrix() []combo {
	var all []combo
	for i := range Phase1s {
		for j := range Phase2s {
			for _, initiator := range []bool{true, false} {
				for _, pfs := range []bool{true, false} {
					all = append(all, combo{initiator, i, j, pfs})
				}
			}
		}
	}
	return all
}

// pairwise is a part of the matrix in which every two values of different
// columns meet: every phase 1 with every phase 2, once, role and PFS in turn.
func pairwise() []combo {
	var some []combo
	for i := range Phase1s {
		for j := range Phase2s {
			some = append(some, combo{(i+j)%2 == 0, i, j, (i/2+j/2+i)%2 == 0})
		}
	}
	return some
}

func TestPairsAreComplete(t *testing.T) {
	pairs := func(cs []combo) map[string]bool {
		seen := map[string]bool{}
		for _, c := range cs {
			cols := []string{fmt.Sprint("role ", c.initiator), fmt.Sprint("p1 ", c.p1), fmt.Sprint("p2 ", c.p2), fmt.Sprint("pfs ", c.pfs)}
			for a := range cols {
				for b := range a {
					seen[cols[a]+" with "+cols[b]] = true
				}
			}
		}
		return seen
	}
	some := pairs(pairwise())
	for p := range pairs(matrix()) {
		if !some[p] {
			t.Errorf("the pairwise part lacks %s", p)
		}
	}
	if len(matrix()) != 120 || len(pairwise()) != 30 {
		t.Errorf("%d cells, %d of them pairwise", len(matrix()), len(pairwise()))
	}
}

// TestInterop negotiates a tunnel with strongSwan, carries traffic both ways and
// takes the tunnel down again, for each cell.
func TestInterop(t *testing.T) {
	lab.Need(t, StrongSwanPrograms...)
	cells := pairwise()
	if *full {
		cells = matrix()
	}
	for _, c := range cells {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			tunnelWithStrongSwan(t, c)
		})
	}
}

func tunnelWithStrongSwan(t *testing.T, c combo) {
	withStrongSwan(t, Tunnel{P1: Phase1s[c.p1], P2: Phase2s[c.p2], PFS: c.pfs, Initiate: c.initiator})
}

// TestEveryAlgorithmOfLibipsec is TestInterop with what the matrix does not have.
func TestEveryAlgorithmOfLibipsec(t *testing.T) {
	lab.Need(t, StrongSwanPrograms...)
	for i, p2 := range MorePhase2s {
		for _, initiator := range []bool{true, false} {
			for _, pfs := range []bool{true, false} {
				if !*full && (initiator != (i%2 == 0) || pfs != (i/2%2 == 0)) {
					continue
				}
				c := combo{initiator: initiator, p1: 5 - i%2, pfs: pfs}
				name := strings.Replace(c.String(), Phase2s[0].Swan, p2.Swan, 1)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					withStrongSwan(t, Tunnel{P1: Phase1s[c.p1], P2: p2, PFS: pfs, Initiate: initiator})
				})
			}
		}
	}
}

// withStrongSwan has the tunnel negotiated and used, and taken down by us.
func withStrongSwan(t *testing.T, tun Tunnel) {
	s := newSite(t, lab.HowToOptions{})
	s.clear = tun.P2.Cipher == "NULL"
	before, err := s.Ragweed.State()
	must(t, err)
	swan, err := StartStrongSwan(s.Slippery, t.TempDir(), s.west(tun))
	must(t, err)
	ours, err := StartIsakmpd(s.Ragweed, t.TempDir(), s.east(tun).IsakmpdConf())
	must(t, err)
	establish(t, ours, swan, tun.Initiate)

	sa, child, err := swan.Installed()
	must(t, err)
	if sa.State != "ESTABLISHED" || child.Encr != tun.P2.Cipher || child.Integ != tun.P2.Auth || (child.DH != "") != tun.PFS {
		t.Errorf("strongSwan installed %+v %+v", sa, child)
	}
	s.traffic(t)

	must(t, ours.End())
	lab.Eventually(t, 5*time.Second, "strongSwan has no SA after our deletes", func() bool {
		sas, err := swan.SAs()
		return err == nil && len(sas) == 0
	})
	after, err := s.Ragweed.State()
	must(t, err)
	if d := before.Diff(after); d != "" {
		t.Errorf("isakmpd left this behind:\n%s", d)
	}
}

// establish waits until both sides have the tunnel.
func establish(t *testing.T, ours *Isakmpd, swan *StrongSwan, weStart bool) {
	t.Helper()
	if !weStart {
		must(t, swan.Initiate(15*time.Second))
	}
	_, err := ours.Log.Wait(phase2Done, 15*time.Second)
	must(t, err)
	if _, err := ours.Log.Wait(phase1Done, 0); err != nil {
		t.Error("phase 2 is there, and phase 1 was never reported")
	}
	lab.Eventually(t, 10*time.Second, "strongSwan's child is installed", func() bool {
		_, _, err := swan.Installed()
		return err == nil
	})
}

// Lines of isakmpd -v.
const (
	phase1Done = `phase 1 \(main mode\) done`
	phase2Done = `phase 2 \(quick mode\) done`
)

func TestInteropThroughNAT(t *testing.T) {
	for _, newPorts := range []bool{false, true} {
		t.Run(fmt.Sprintf("isakmpd behind it, new ports %v", newPorts), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, lab.HowToOptions{NAT: true, NewPorts: newPorts})
			tun := Tunnel{P1: Phase1s[2], P2: Phase2s[2], Initiate: true}
			swan, err := StartStrongSwan(s.Slippery, t.TempDir(), s.west(tun))
			must(t, err)
			ours, err := StartIsakmpd(s.Ragweed, t.TempDir(), s.east(tun).IsakmpdConf())
			must(t, err)
			establish(t, ours, swan, true)
			s.traffic(t)
			must(t, ours.End())
		})
		t.Run(fmt.Sprintf("strongSwan behind it, new ports %v", newPorts), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, lab.HowToOptions{NAT: true, NewPorts: newPorts})
			tun := Tunnel{P1: Phase1s[2], P2: Phase2s[2]}
			ours, err := StartIsakmpd(s.Slippery, t.TempDir(), s.west(tun).IsakmpdConf())
			must(t, err)
			swan, err := StartStrongSwan(s.Ragweed, t.TempDir(), s.east(tun))
			must(t, err)
			establish(t, ours, swan, false)
			s.traffic(t)
			must(t, ours.End())
		})
	}
}
