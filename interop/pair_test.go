package interop

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"oakley/internal/lab"
)

// The tests of this file run isakmpd on both gateways.

// ends is the tunnel between the gateways' addresses of one family for the
// networks of another, as Ragweed and as Slippery see it.
func ends(outer, inner lab.Addrs, t Tunnel) (ragweed, slippery Tunnel) {
	ragweed, slippery = t, t
	ragweed.Local, ragweed.Remote = outer.Ragweed, outer.Slippery
	ragweed.LocalNet, ragweed.RemoteNet = inner.NetBadplants, inner.NetCarefull
	slippery.Local, slippery.Remote = outer.Slippery, outer.RagweedSeen
	slippery.LocalNet, slippery.RemoteNet = inner.NetCarefull, inner.NetBadplants
	return ragweed, slippery
}

// both starts isakmpd on both gateways.
func (s *site) both(t *testing.T, ragweed, slippery Tunnel) (r, l *Isakmpd) {
	t.Helper()
	l, err := StartIsakmpd(s.Slippery, t.TempDir(), slippery.IsakmpdConf())
	must(t, err)
	r, err = StartIsakmpd(s.Ragweed, t.TempDir(), ragweed.IsakmpdConf())
	must(t, err)
	return r, l
}

func newPairSite(t *testing.T, o lab.HowToOptions) *site {
	t.Helper()
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(o)
	must(t, err)
	spy, err := n.Spy(lab.SpyOptions{})
	must(t, err)
	return &site{HowTo: n, spy: spy}
}

// TestBothFamiliesInsideAndOutside has a tunnel of each family in a tunnel of
// each, on raw protocol 50 and, behind NAT, in UDP. Both sides start by
// themselves, as the how-to's do, so that negotiations cross.
func TestBothFamiliesInsideAndOutside(t *testing.T) {
	for _, outer6 := range []bool{false, true} {
		for _, inner6 := range []bool{false, true} {
			for _, nat := range []bool{false, true} {
				if nat && outer6 {
					continue
				}
				t.Run(fmt.Sprintf("%s in %s, NAT %v", family(inner6), family(outer6), nat), func(t *testing.T) {
					t.Parallel()
					s := newPairSite(t, lab.HowToOptions{NAT: nat})
					outer, inner := s.V4, s.V4
					if outer6 {
						outer = s.V6
					}
					if inner6 {
						inner = s.V6
					}
					ragweed, slippery := ends(outer, inner, Tunnel{P1: Phase1s[2], P2: Phase2s[2], PFS: true, Initiate: true})
					slippery.Initiate = !nat
					startR, err := s.Ragweed.State()
					must(t, err)
					startL, err := s.Slippery.State()
					must(t, err)
					r, l := s.both(t, ragweed, slippery)
					n, err := s.Dandelion.Ping(inner.Icy, 20, 15*time.Second)
					must(t, err)
					t.Logf("ping from before the tunnel was there: %v", n)
					_, err = s.Icy.Ping(inner.Dandelion, 5, 5*time.Second)
					must(t, err)
					job, err := s.Dandelion.Send(s.Icy, netip.AddrPortFrom(inner.Icy, 9100), 2<<20, 20*time.Second)
					must(t, err)
					t.Logf("%.0f Mbit/s", job.MbitPerSecond())
					s.clean(t) // now: without a daemon, TCP's last words are in clear
					must(t, r.End())
					must(t, l.End())
					if v := s.spy.Sight(); (v.Packets[lab.ESPinUDP] > 0) != nat || (v.Packets[lab.ESP] > 0) == nat {
						t.Errorf("the spy saw %v", v)
					}
					for host, before := range map[*lab.Host]lab.State{s.Ragweed: startR, s.Slippery: startL} {
						after, err := host.State()
						must(t, err)
						if d := before.Diff(after); d != "" {
							t.Errorf("left behind on %s:\n%s", host, d)
						}
					}
				})
			}
		}
	}
}

func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// TestNothingLeaksWhateverHappens keeps traffic going both ways while daemons
// start, renew, re-read, are killed and come back. The internet would carry it
// in clear.
func TestNothingLeaksWhateverHappens(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			s := newPairSite(t, lab.HowToOptions{})
			a := s.V4
			if v6 {
				a = s.V6
			}
			ragweed, slippery := ends(a, a, Tunnel{P1: Phase1s[2], P2: Phase2s[4], P1Life: 10 * time.Second, P2Life: 5 * time.Second, Initiate: true})
			slippery.Initiate = false
			r, l := s.both(t, ragweed, slippery)
			there, err := s.Dandelion.StartPing(a.Icy, 10*time.Millisecond)
			must(t, err)
			back, err := s.Icy.StartPing(a.Dandelion, 10*time.Millisecond)
			must(t, err)
			must(t, there.AwaitAnswers(10, 15*time.Second))
			must(t, back.AwaitAnswers(10, 15*time.Second))

			rekeyed := `phase 2 \(quick mode\) rekeyed`
			_, err = r.Log.Wait(rekeyed, 15*time.Second)
			must(t, err)
			must(t, there.AwaitAnswers(10, 5*time.Second))

			mark := r.Log.Mark()
			must(t, r.Signal(syscall.SIGHUP))
			_, err = r.Log.WaitAfter(mark, `(?i)re-?read|configuration`, 5*time.Second)
			must(t, err)
			must(t, there.AwaitAnswers(10, 5*time.Second))
			if n := there.Counts(); n.Lost() > 50 {
				t.Errorf("from start to reload: %v", n)
			}

			for range 2 {
				r.Kill()
				// What is protected stays protected when the daemon is gone.
				sent := there.Counts().Sent
				lab.Eventually(t, 5*time.Second, "traffic without a daemon", func() bool { return there.Counts().Sent > sent+30 })
				r, err = StartIsakmpd(s.Ragweed, t.TempDir(), ragweed.IsakmpdConf())
				must(t, err)
				if err := there.AwaitAnswers(20, 20*time.Second); err != nil {
					t.Fatalf("after a kill: %v", err)
				}
				r, l = l, r // and now the other
				ragweed, slippery = slippery, ragweed
				s.Ragweed, s.Slippery = s.Slippery, s.Ragweed
			}
			must(t, back.AwaitAnswers(20, 10*time.Second))
			there.Stop(0)
			back.Stop(0)
			s.clean(t)
			must(t, r.End())
			must(t, l.End())
		})
	}
}

// TestAnAcquireDeliversThePacketThatCausedIt has neither side start by itself.
func TestAnAcquireDeliversThePacketThatCausedIt(t *testing.T) {
	s := newPairSite(t, lab.HowToOptions{})
	ragweed, slippery := ends(s.V4, s.V4, Tunnel{P1: Phase1s[5], P2: Phase2s[4]})
	r, l := s.both(t, ragweed, slippery)
	n, err := s.Dandelion.Ping(s.V4.Icy, 10, 10*time.Second)
	must(t, err)
	if n.Lost() != 0 {
		t.Errorf("held packets are delivered: %v", n)
	}
	s.clean(t)
	must(t, r.End())
	must(t, l.End())
}

// TestEverythingGoesThroughTheTunnel has 0.0.0.0/0 as the remote network: what
// Dandelion says to anybody comes out at Slippery, and nothing goes in circles.
func TestEverythingGoesThroughTheTunnel(t *testing.T) {
	lab.Need(t, "root", "tun")
	net, err := lab.New(t).HowTo(lab.HowToOptions{NoReturn: true})
	must(t, err)
	must(t, net.Internet.Route(net.V4.NetBadplants.String(), net.V4.Slippery.String()))
	spy, err := net.Internet.Spy("east", lab.SpyOptions{Inner: []netip.Prefix{net.V4.NetBadplants}, Marks: [][]byte{lab.PingMark()}})
	must(t, err)
	ragweed, slippery := ends(net.V4, net.V4, Tunnel{P1: Phase1s[2], P2: Phase2s[4], Initiate: true})
	slippery.Initiate = false
	ragweed.RemoteNet = netip.MustParsePrefix("0.0.0.0/0")
	slippery.LocalNet = ragweed.RemoteNet
	s := &site{HowTo: net, spy: spy}
	r, l := s.both(t, ragweed, slippery)
	for _, to := range []string{"198.51.100.1", "10.2.0.2"} { // a router of the internet, and Icy
		n, err := net.Dandelion.Ping(netip.MustParseAddr(to), 20, 15*time.Second)
		must(t, err)
		t.Logf("%s: %v", to, n)
	}
	v := spy.Settle()
	if err := v.Check(); err != nil {
		t.Error(err)
	}
	if n := v.Packets[lab.ESP]; n < 80 || n > 200 {
		t.Errorf("%d ESP packets for 40 pings and their answers", n)
	}
	must(t, r.End())
	must(t, l.End())
}

// TestABadFileKeepsTheOld sends HUP with a file that has a mistake.
func TestABadFileKeepsTheOld(t *testing.T) {
	s := newPairSite(t, lab.HowToOptions{})
	ragweed, slippery := ends(s.V4, s.V4, Tunnel{P1: Phase1s[2], P2: Phase2s[2], Initiate: true})
	r, l := s.both(t, ragweed, slippery)
	ping, err := s.Dandelion.StartPing(s.V4.Icy, 10*time.Millisecond)
	must(t, err)
	must(t, ping.AwaitAnswers(20, 15*time.Second))
	lost := ping.Counts().Lost()
	text, err := os.ReadFile(r.Conf)
	must(t, err)
	bad := strings.Replace(string(text), "ISAKMP-peer= peer\n", "ISAKMP-peer= pear\n", 1)
	must(t, os.WriteFile(r.Conf, []byte(bad), 0o600))
	mark := r.Log.Mark()
	must(t, r.Signal(syscall.SIGHUP))
	_, err = r.Log.WaitAfter(mark, `pear`, 5*time.Second)
	must(t, err)
	must(t, ping.AwaitAnswers(50, 5*time.Second))
	must(t, os.WriteFile(r.Conf, text, 0o600))
	must(t, r.Signal(syscall.SIGHUP))
	must(t, ping.AwaitAnswers(50, 5*time.Second))
	if n := ping.Stop(time.Second); n.Lost() > lost {
		t.Errorf("%v, %d of them lost before the first HUP", n, lost)
	}
	must(t, r.End())
	must(t, l.End())
}
