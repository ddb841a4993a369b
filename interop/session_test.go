package interop

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/internal/ike"
	"oakley/internal/lab"
)

var record = flag.Bool("record", false, "record the sessions with strongSwan again (root)")

// recordings are the sessions in testdata: each phase 1 once, in both roles.
func recordings() []combo {
	var some []combo
	for i := range Phase1s {
		some = append(some, combo{true, i, i % len(Phase2s), i%2 == 0}, combo{false, i, (i + 2) % len(Phase2s), i%2 == 1})
	}
	return some
}

func (c combo) file() string {
	return filepath.Join("testdata", "sessions", strings.NewReplacer("/", "_").Replace(c.String())+".txt")
}

func (c combo) seed() byte { return byte(1 + c.p1*2) }

func (c combo) tunnel() Tunnel {
	return Tunnel{P1: Phase1s[c.p1], P2: Phase2s[c.p2], PFS: c.pfs, Initiate: c.initiator}
}

// TestRecordedSessionsReplay needs no network: sessions that were recorded with
// strongSwan go through the engine as they did then, byte for byte. With
// "-args -record" they are recorded anew.
func TestRecordedSessionsReplay(t *testing.T) {
	for _, c := range recordings() {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			if *record {
				recordSession(t, c, true)
			}
			text, err := os.ReadFile(c.file())
			must(t, err)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			// The addresses are the lab's; no network is made here.
			must(t, replay(engineOf(c), c.seed(), lines))

			bent := bend(lines)
			if replay(engineOf(c), c.seed(), bent) == nil {
				t.Error("a bent recording passes: the test sees nothing")
			}
		})
	}
}

// bend changes a bit in the last message before phase 2 is up.
func bend(lines []string) []string {
	bent, last := slices.Clone(lines), -1
	for i, l := range lines {
		if strings.Contains(l, "ike.Phase2Up") {
			break
		}
		if strings.Contains(l, " in datagram ") {
			last = i
		}
	}
	if last >= 0 {
		l := []byte(bent[last])
		first := bytes.LastIndexByte(l, ' ') + 1 + 2*28 // behind the header
		if l[first] == '0' {
			l[first] = '1'
		} else {
			l[first] = '0'
		}
		bent[last] = string(l)
	}
	return bent
}

// engineOf is what isakmpd on Ragweed has.
func engineOf(c combo) *ike.Config {
	v4 := lab.HowToAddrs()
	t := c.tunnel()
	t.Local, t.Remote, t.LocalNet, t.RemoteNet = v4.Ragweed, v4.Slippery, v4.NetBadplants, v4.NetCarefull
	return t.engine()
}

// TestEngineAgainstStrongSwan runs the sessions of the recordings live, or with
// -full those of the whole matrix: negotiation alone, no traffic.
func TestEngineAgainstStrongSwan(t *testing.T) {
	lab.Need(t, StrongSwanPrograms...)
	cells := recordings()
	if *full {
		cells = matrix()
	}
	for _, c := range cells {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			recordSession(t, c, false)
		})
	}
}

// recordSession has main mode, quick mode, a new phase 2 by strongSwan's wish,
// and our shutdown.
func recordSession(t *testing.T, c combo, write bool) {
	t.Helper()
	s := newSite(t, lab.HowToOptions{})
	swan, err := StartStrongSwan(s.Slippery, t.TempDir(), s.west(c.tunnel()))
	must(t, err)
	l, err := startLive(s.Ragweed, s.V4.Ragweed, engineOf(c), c.seed())
	must(t, err)
	defer l.close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	run := func(what string, done func() bool) {
		t.Helper()
		if err := l.run(ctx, done); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must(t, l.give("start"))
	failed := make(chan error, 1)
	if !c.initiator {
		go func() { failed <- swan.Initiate(10 * time.Second) }()
	}
	run("phase 2", func() bool { return l.ups() == 1 })
	if !c.initiator {
		run("strongSwan's word that it is there", func() bool { return len(failed) == 1 })
		must(t, <-failed)
	}
	child := SwanChild{}
	run("strongSwan's child", func() bool {
		_, child, err = swan.Installed()
		return err == nil
	})
	if child.Encr != Phase2s[c.p2].Cipher || child.Integ != Phase2s[c.p2].Auth || (child.DH != "") != c.pfs {
		t.Errorf("strongSwan installed %+v", child)
	}
	go func() { failed <- swan.RekeyChild() }()
	run("the rekey", func() bool { return l.ups() == 2 && len(failed) == 1 })
	must(t, <-failed)
	must(t, l.give("shutdown"))
	gone := false
	run("strongSwan's end", func() bool {
		sas, err := swan.SAs()
		gone = err == nil && len(sas) == 0
		return gone
	})
	if !write || t.Failed() {
		return
	}
	must(t, os.MkdirAll(filepath.Dir(c.file()), 0o755))
	must(t, os.WriteFile(c.file(), []byte(strings.Join(l.lines, "\n")+"\n"), 0o644))
}

// ups counts the phase 2 SAs that came up.
func (s *session) ups() int {
	n := 0
	for _, e := range s.events {
		if _, ok := e.(ike.Phase2Up); ok {
			n++
		}
	}
	return n
}

func TestASessionRefusesWhatItDoesNotKnow(t *testing.T) {
	s := newSession(engineOf(recordings()[0]), 1)
	for _, bad := range []string{"", "hm", "dh 7", "dh x", "spi", "datagram a b c", "datagram 192.0.2.1:1 192.0.2.1:2 0"} {
		if _, err := s.parse(bad); err == nil {
			t.Errorf("%q is an input", bad)
		}
	}
	if err := replay(engineOf(recordings()[0]), 1, []string{"0.0 in start", "out nothing"}); err == nil {
		t.Error("a recording that is none replays")
	}
}
