package kernel

import (
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"oakley/internal/lab"
	"oakley/interop"
)

// twoKernels are the how-to's gateways, both with the kernel's IPsec, of which the
// first begins, by itself with tun.Initiate, or else when a packet asks.
func twoKernels(t *testing.T, s *site, tun interop.Tunnel, change func(conf string) string) (east, west *gateway) {
	t.Helper()
	tun.Plane = "kernel"
	right, left := ends(s.V4, tun)
	left.Initiate = false
	if change == nil {
		change = func(conf string) string { return conf }
	}
	west = s.gateway(t, s.Slippery, change(left.IsakmpdConf()))
	east = s.gateway(t, s.Ragweed, change(right.IsakmpdConf()))
	return east, west
}

// quickest is a tunnel that costs little to negotiate.
var quickest = interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[4]}

// again is in lines that tell of a negotiation or of its end.
const again = `phase [12] \((quick|main) mode\)|INITIAL-CONTACT|^\S+ \S+ info: (SAs|phase 1) .* ended: `

// killed: isakmpd, ipsecd and both are killed under traffic, on either gateway,
// and the next ones go on with what is in the kernel: no packet is lost, nothing is
// negotiated, nothing is there twice, and what is somebody else's is left alone.
func killed(t *testing.T) {
	s := newSite(t, lab.HowToOptions{}, false)
	untouched := foreign(t, s.Ragweed)
	tun := quickest
	tun.P2Life = time.Minute
	east, west := twoKernels(t, s, tun, nil)
	_, err := s.Dandelion.Ping(s.V4.Icy, 1, 15*time.Second) // who asks is lost
	must(t, err)
	there, back := s.pings(t, s.V4, tun, every)
	must(t, there.AwaitAnswers(10, 10*time.Second))
	tablesBefore := map[*gateway]tables{east: east.tables(t), west: west.tables(t)}
	if n := len(tablesBefore[east].states); n != 3 {
		t.Errorf("Ragweed has %d SAs with somebody else's, 3 expected: %q", n, tablesBefore[east].states)
	}
	for _, step := range []struct {
		name            string
		isakmpd, ipsecd bool
	}{{"isakmpd", true, false}, {"ipsecd", false, true}, {"both", true, true}} {
		for _, g := range []*gateway{east, west} {
			other := east
			if g == east {
				other = west
			}
			mark, theirs := g.d.Log.Mark(), other.d.Log.Mark()
			pids := g.host.Find("ipsecd")
			if len(pids) != 1 {
				t.Fatalf("%s has %d ipsecd", g.host, len(pids))
			}
			if step.isakmpd {
				g.d.Kill()
			}
			if step.ipsecd {
				must(t, syscall.Kill(pids[0], syscall.SIGKILL))
			}
			untouched(t, "after the kill of "+step.name)
			must(t, there.AwaitAnswers(5, 10*time.Second)) // nobody is there
			if step.isakmpd {
				g.starts(t)
				g.waits(t, `were found again`)
				mark = 0
			} else {
				_, err := g.d.Log.WaitAfter(mark, `data plane: kernel.*the flows are in place`, 30*time.Second)
				must(t, err)
			}
			must(t, there.AwaitAnswers(10, 10*time.Second))
			must(t, back.AwaitAnswers(10, 10*time.Second))
			untouched(t, "after the kill of "+step.name+" and a start")
			if got, want := g.tables(t), tablesBefore[g]; !slices.Equal(got.states, want.states) || !slices.Equal(got.policies, want.policies) {
				t.Errorf("%s, %s killed: the tables are\n%q\nand were\n%q", g.host, step.name, got, want)
			}
			for _, l := range slices.Concat(linesAfter(g.d, mark, again), linesAfter(other.d, theirs, again)) {
				t.Errorf("%s on %s killed: %s", step.name, g.host, l)
			}
		}
	}
	for _, ping := range []*lab.Stream{there, back} {
		n := ping.Stop(5 * time.Second)
		t.Logf("pings through six kills: %v", n)
		if n.Lost() != 0 || n.Duplicates != 0 {
			t.Errorf("lost %v", ping.Missing(10))
		}
	}
	// Found again, they are renewed in time and taken away as any others.
	_, err = east.d.Log.Wait(`phase 2 \(quick mode\) rekeyed`, tun.P2Life)
	must(t, err)
	n, err := s.Dandelion.Ping(s.V4.Icy, 5, 10*time.Second)
	must(t, err)
	if n.Lost() != 0 {
		t.Errorf("after a renewal: %v", n)
	}
	lab.Eventually(t, 50*time.Second, "the old SAs are gone", func() bool { return len(east.tables(t).states) == 3 })
	for _, g := range []*gateway{east, west} {
		if l := linesAfter(g.d, 0, `INITIAL-CONTACT`); len(l) != 0 {
			t.Errorf("%s after a renewal: %q", g.host, l)
		}
	}
	s.saw(t, lab.ESP, 100)
	east.ends(t)
	west.ends(t)
	untouched(t, "at the end")
}

// killedBehindNAT: ESP in UDP comes to a socket of ipsecd's, so that the kernel
// takes nothing more when ipsecd is killed, until the next one has opened it. The
// SAs are the same then. Without isakmpd nothing is lost.
func killedBehindNAT(t *testing.T) {
	s := newSite(t, lab.HowToOptions{NAT: true, NewPorts: true}, false)
	tun := quickest
	tun.Initiate = true
	east, west := twoKernels(t, s, tun, nil)
	east.waits(t, phase2Done)
	there, back := s.pings(t, s.V4, tun, every)
	must(t, there.AwaitAnswers(10, 10*time.Second))
	for _, g := range []*gateway{east, west} {
		before := g.tables(t)
		g.d.Kill()
		must(t, there.AwaitAnswers(5, 10*time.Second))
		g.starts(t)
		g.waits(t, `were found again`)
		must(t, there.AwaitAnswers(10, 10*time.Second))
		if n := there.Counts(); n.Lost() > 1 { // one may be under way
			t.Errorf("isakmpd on %s killed: %v, lost %v", g.host, n, there.Missing(10))
		}
		if now := g.tables(t); !slices.Equal(now.states, before.states) || !slices.Equal(now.policies, before.policies) {
			t.Errorf("isakmpd on %s killed: the tables are\n%q\nand were\n%q", g.host, now, before)
		}
	}
	for _, ping := range []*lab.Stream{there, back} {
		if n := ping.Stop(5 * time.Second); n.Lost() != 0 {
			t.Errorf("isakmpd killed: %v", n)
		}
	}
	for _, g := range []*gateway{east, west} {
		there, _ := s.pings(t, s.V4, tun, every)
		before, mark := g.tables(t), g.d.Log.Mark()
		must(t, syscall.Kill(g.host.Find("ipsecd")[0], syscall.SIGKILL))
		_, err := g.d.Log.WaitAfter(mark, `data plane: kernel.*the flows are in place`, 30*time.Second)
		must(t, err)
		must(t, there.AwaitAnswers(20, 10*time.Second))
		n := there.Stop(2 * time.Second)
		t.Logf("ipsecd on %s killed: %v", g.host, n)
		if n.Lost() > 10 {
			t.Errorf("lost %v", there.Missing(40))
		}
		if now := g.tables(t); !slices.Equal(now.states, before.states) || !slices.Equal(now.policies, before.policies) {
			t.Errorf("ipsecd on %s killed: the tables are\n%q\nand were\n%q", g.host, now, before)
		}
		if l := linesAfter(g.d, mark, again); len(l) != 0 {
			t.Errorf("ipsecd on %s killed: %q", g.host, l)
		}
	}
	s.saw(t, lab.ESPinUDP, 100)
	east.ends(t)
	west.ends(t)
}

// linesAfter are the lines of a daemon's log from a mark on that match.
func linesAfter(d *interop.Isakmpd, mark int, pattern string) []string {
	re := regexp.MustCompile(pattern)
	var found []string
	for _, l := range d.Log.Lines()[mark:] {
		if re.MatchString(l.Text) {
			found = append(found, l.Text)
		}
	}
	return found
}

// flushed: somebody flushes the kernel's tables under a running isakmpd. The flows
// come back, and the SAs are negotiated anew. Where SAs alone are gone, nothing
// leaves in clear.
func flushed(t *testing.T) {
	s := newSite(t, lab.HowToOptions{}, false)
	tun := quickest
	tun.Initiate = true
	east, west := twoKernels(t, s, tun, nil)
	east.waits(t, phase2Done)
	policies := len(east.tables(t).policies)

	for range 2 {
		there, back := s.pings(t, s.V4, tun, every)
		mark := east.d.Log.Mark()
		must(t, s.Ragweed.Do(func() error { return netlink.XfrmStateFlush(0) }))
		_, err := east.d.Log.WaitAfter(mark, phase2Done, 30*time.Second)
		must(t, err)
		must(t, there.AwaitAnswers(20, 10*time.Second))
		must(t, back.AwaitAnswers(20, 10*time.Second))
		n := there.Stop(2 * time.Second)
		t.Logf("the SAs were flushed: %v, %v", n, back.Stop(2*time.Second))
		if n.Lost() > 20 {
			t.Errorf("lost %v", there.Missing(30))
		}
		s.saw(t, lab.ESP, 80)

		// Without policies packets do leave in clear; so none is sent.
		mark = east.d.Log.Mark()
		must(t, s.Ragweed.Do(func() error { return netlink.XfrmPolicyFlush() }))
		began := time.Now()
		lab.Eventually(t, 10*time.Second, "the policies are back", func() bool { return len(east.tables(t).policies) == policies })
		t.Logf("the policies were flushed, and back within %v of the guest's time", time.Since(began).Round(time.Millisecond))
		there, back = s.pings(t, s.V4, tun, every)
		for _, ping := range []*lab.Stream{there, back} {
			must(t, ping.AwaitAnswers(20, 10*time.Second))
			if n := ping.Stop(2 * time.Second); n.Lost() != 0 {
				t.Errorf("after the policies came back: %v", n)
			}
		}
		if l := linesAfter(east.d, mark, phase2Done); len(l) != 0 {
			t.Errorf("it has negotiated, and the SAs were there: %q", l)
		}
	}
	mark := east.d.Log.Mark()
	must(t, s.Ragweed.Do(func() error {
		if err := netlink.XfrmStateFlush(0); err != nil {
			return err
		}
		return netlink.XfrmPolicyFlush()
	}))
	_, err := east.d.Log.WaitAfter(mark, phase2Done, 30*time.Second)
	must(t, err)
	lab.Eventually(t, 10*time.Second, "the policies are back", func() bool { return len(east.tables(t).policies) == policies })
	there, back := s.pings(t, s.V4, tun, every)
	for _, ping := range []*lab.Stream{there, back} {
		must(t, ping.AwaitAnswers(20, 10*time.Second))
		if n := ping.Stop(2 * time.Second); n.Lost() != 0 {
			t.Errorf("after both came back: %v", n)
		}
	}
	s.saw(t, lab.ESP, 80)
	east.ends(t)
	west.ends(t)
}
