package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// pair starts two daemons that make a tunnel, and waits for it.
func pair(t *testing.T, e, w side) (*netio.Hub, *node, *node) {
	t.Helper()
	hub := netio.NewHub()
	b := run(t, newFakeHost(hub, w.own), w.conf())
	a := run(t, newFakeHost(hub, e.own), e.conf())
	for _, n := range []*node{a, b} {
		n.log.await(t, "phase 1 (main mode) done", 1)
		n.log.await(t, "phase 2 (quick mode) done for connection tunnel", 1)
	}
	return hub, a, b
}

func TestTwoDaemonsMakeATunnelAndTakeItDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, east, west)
		for _, n := range []*node{a, b} {
			st := n.plane.state(t)
			if len(st.SAs) != 2 || len(st.Flows) != 2 {
				t.Errorf("%d SAs and %d flows, not 2 and 2", len(st.SAs), len(st.Flows))
			}
			if !n.host.held[RunDir+"/isakmpd.pid"] {
				t.Error("there is no pid file")
			}
		}
		a.end(t)
		b.log.await(t, "phase2-down", 1)
		b.log.await(t, "phase1-down", 1)
		<-time.After(30 * time.Second) // what is under way to it may still arrive
		synctest.Wait()
		if n := len(b.plane.state(t).SAs); n != 0 {
			t.Errorf("the peer keeps %d SAs after it was told that they are gone: %v\n%s", n, b.plane.Calls(), b.log)
		}
		b.end(t)
		if len(a.host.held) != 0 {
			t.Error("the pid file is still held")
		}
		if calls := a.plane.Calls(); !slices.Contains(calls, "Flush") {
			t.Errorf("nothing was flushed: %v", calls)
		}
	})
}

func TestStartUpSaysWhatItListensOnAndWarnsOfForwarding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost(netio.NewHub(), east.own)
		h.forwards = false
		n := run(t, h, east.conf(), func(o *Options) { o.Verbose = false })
		n.log.await(t, "listening on 192.0.2.1, UDP port 500 and 4500", 1)
		n.log.await(t, "data plane: null", 1)
		n.log.await(t, "IPv4 forwarding is off, so no packet of 10.1.0.0/24 passes this gateway (connection tunnel): sysctl -w net.ipv4.ip_forward=1", 1)
		n.end(t)
	})
}

func TestQuietShutdownTellsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := east
		e.general = "Delete-SAs= no"
		_, a, b := pair(t, e, west)
		a.end(t)
		synctest.Wait()
		if s := b.log.count("-down"); s != 0 || len(b.plane.state(t).SAs) != 2 {
			t.Errorf("the peer was told:\n%s", b.log)
		}
		b.end(t)
	})
}

const second = `[second]
Phase= 2
ISAKMP-peer= far
Configuration= quick
Local-ID= here
Remote-ID= elsewhere
[elsewhere]
ID-type= IPV4_ADDR_SUBNET
Network= 10.3.0.0
Netmask= 255.255.255.0
`

func TestReloadIsADifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, east, west)
		before := a.plane.state(t).SAs

		grown := east
		grown.names, grown.more = ", second", second
		a.host.put(confPath, grown.conf())
		a.Reload()
		a.log.await(t, "read again", 1)
		synctest.Wait()
		st := a.plane.state(t)
		if len(st.Flows) != 4 {
			t.Errorf("%d flows after a connection was added, not 4", len(st.Flows))
		}
		for _, s := range before {
			if !slices.ContainsFunc(st.SAs, func(x ipsec.SAState) bool { return x.SA.ID == s.SA.ID }) {
				t.Errorf("a reload that did not concern SA %s ended it", s.SA.ID)
			}
		}

		a.host.put(confPath, strings.Replace(grown.conf(), "= tunnel, second", "= second", 1))
		a.Reload()
		a.log.await(t, "read again", 2)
		b.log.await(t, "phase2-down", 1)
		synctest.Wait()
		if st := a.plane.state(t); len(st.Flows) != 2 || len(st.SAs) != 0 {
			t.Errorf("%d flows and %d SAs after the connection was removed", len(st.Flows), len(st.SAs))
		}
		a.end(t)
		b.end(t)
	})
}

func TestABadFileIsShownWholeAndTheOldOneStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, east, west)
		bad := strings.NewReplacer("ISAKMP-peer= far", "ISAKMP-peer= fra", "Network= 10.2.0.0", "Network= 10.2.0.0.0").Replace(east.conf())
		calls := len(a.plane.Calls())
		a.host.put(confPath, bad)
		a.Reload()
		a.log.await(t, "the old one stays", 1)
		text := a.log.String()
		for _, part := range []string{"fra", "10.2.0.0.0", confPath + ":"} {
			if !strings.Contains(text[strings.Index(text, "the old one stays"):], part) {
				t.Errorf("%q is not in:\n%s", part, text)
			}
		}
		synctest.Wait()
		if now := a.plane.Calls(); len(now) != calls {
			t.Errorf("the data plane was called: %v", now[calls:])
		}
		a.end(t)
		b.end(t)
	})
}

func TestReportHasStateAndNoKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, east, west)
		a.Report()
		a.log.await(t, "report written", 1)
		got := a.host.written[RunDir+"/isakmpd.report"]
		for _, part := range []string{"isakmp ", "connection tunnel", "SAs: 2", "Flows: 2", "tunnel/out require out", "listening on 192.0.2.1"} {
			if !strings.Contains(got, part) {
				t.Errorf("%q is not in the report:\n%s", part, got)
			}
		}
		if strings.Contains(got, "8e5c39d30b4d4e2f") {
			t.Errorf("the key is in the report:\n%s", got)
		}
		a.end(t)
		b.end(t)
	})
}

func TestAnAcquireIsAnsweredWhenTheSAsAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		passive := east
		passive.list = "Passive-connections"
		b := run(t, newFakeHost(hub, west.own), west.conf())
		a := run(t, newFakeHost(hub, east.own), passive.conf())
		synctest.Wait()
		if a.log.count("phase 1") != 0 {
			t.Fatal("a passive connection was started")
		}
		a.plane.Inject(dataplane.Acquire{ID: 7, Flow: "tunnel/out"})
		a.plane.Inject(dataplane.Acquire{ID: 8, Flow: "nobody's/out"})
		a.log.await(t, "phase 2 (quick mode) done", 1)
		synctest.Wait()
		calls := a.plane.Calls()
		end := slices.Index(calls, "EndAcquire 7: <nil>")
		last := slices.IndexFunc(calls, func(s string) bool { return strings.HasPrefix(s, "AddSA") })
		if end < 0 || last < 0 || end < last {
			t.Errorf("the acquire was not answered after its SAs: %v", calls)
		}
		if !slices.ContainsFunc(calls, func(s string) bool {
			return strings.HasPrefix(s, "EndAcquire 8: ") && !strings.Contains(s, "nil")
		}) {
			t.Errorf("an acquire for a flow that is nobody's was not refused: %v", calls)
		}
		a.end(t)
		b.end(t)
	})
}

func TestLostEventsAreMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, east, west)
		gone := a.plane.state(t).SAs
		for _, s := range gone { // behind the daemon's back
			if err := a.plane.DeleteSA(t.Context(), s.SA.ID); err != nil {
				t.Fatal(err)
			}
		}
		a.plane.Inject(dataplane.Lost{})
		a.log.await(t, "phase 2 (quick mode)", 2) // the tunnel is made anew
		synctest.Wait()
		if n := len(a.plane.state(t).SAs); n < 2 {
			t.Errorf("%d SAs", n)
		}
		a.end(t)
		b.end(t)
	})
}

func TestAFailedInstallationLeavesNothingAndIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		b := run(t, newFakeHost(hub, west.own), west.conf())
		a := run(t, newFakeHost(hub, east.own), east.conf(), func(o *Options) {
			was := o.Plane
			o.Plane = func(ctx context.Context, po PlaneOptions) (dataplane.Backend, error) {
				p, err := was(ctx, po)
				failures := 1
				p.(*carrying).add = func(sa *ipsec.SA) error {
					if sa.ID.Dir == ipsec.Out && failures > 0 {
						failures--
						return errors.New("the kernel has no memory")
					}
					return nil
				}
				return p, err
			}
		})
		a.log.await(t, "the kernel has no memory", 1)
		a.log.await(t, "phase 2 (quick mode) done", 1)
		synctest.Wait()
		if n := len(a.plane.state(t).SAs); n != 2 {
			t.Errorf("%d SAs after a failed and a good installation, not 2", n)
		}
		a.end(t)
		b.end(t)
	})
}

func TestAnAddressThatIsNotKnownYetIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		h := newFakeHost(hub, east.own)
		h.setRoute(false)
		everywhere := strings.Replace(east.conf(), "Listen-on= 192.0.2.1", "", 1)
		a := run(t, h, everywhere)
		a.log.await(t, "our address towards peer far is not known: no route to 192.0.2.2", 1)
		b := run(t, newFakeHost(hub, west.own), west.conf())
		h.setRoute(true)
		a.log.await(t, "the addresses towards all peers are known now", 1)
		a.log.await(t, "phase 2 (quick mode) done", 1)
		a.end(t)
		b.end(t)
	})
}

func TestGarbageIsLoggedASmallNumberOfTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		a := run(t, newFakeHost(hub, west.own), west.conf())
		evil, err := netio.ListenUDP(hub.Node(netip.MustParseAddr("192.0.2.66")), netip.MustParseAddrPort("192.0.2.66:500"), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer evil.Close()
		to := netip.AddrPortFrom(netip.MustParseAddr(west.own), 500)
		send := func(n int) {
			for range n {
				if err := evil.WriteTo([]byte("\x1b[2Jnot a message"), netip.AddrPort{}, to); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		send(500)
		if n := a.log.count("event=dropped"); n < 1 || n > limitBurst {
			t.Errorf("%d lines for 500 bad datagrams:\n%s", n, a.log)
		}
		<-time.After(2 * limitEvery)
		send(1)
		a.log.await(t, "times before, not logged", 1)
		if strings.Contains(a.log.String(), "\x1b") {
			t.Error("a control character reached the log")
		}
		a.end(t)
	})
}

func TestStartUpFailuresLeaveNothingOpen(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeHost, *Options)
		text   string
		want   string
	}{
		"no file":   {func(h *fakeHost, o *Options) { o.Config = "/nowhere" }, east.conf(), "/nowhere"},
		"bad file":  {nil, strings.Replace(east.conf(), "ISAKMP-peer= far", "ISAKMP-peer= fra", 1), "fra"},
		"no policy": {func(h *fakeHost, o *Options) { o.NoPolicy = false }, east.conf(), "is not there: write one (isakmpd.policy(5)), or start isakmpd with -K, or write Use-Keynote=no"},
		"bad policy": {func(h *fakeHost, o *Options) {
			o.NoPolicy = false
			h.put(policyPath, "Authorizer: nobody knows\nConditions: (\n")
		}, east.conf(), policyPath + " cannot be used"},
		"running already": {func(h *fakeHost, o *Options) { h.held[o.PIDFile] = true }, east.conf(), "it is held"},
		"port taken": {func(h *fakeHost, o *Options) {
			h.listens = func(netip.AddrPort) error { return syscall.EADDRINUSE }
		}, east.conf(), "UDP port 500 on 192.0.2.1 is taken by another program"},
		"no rights": {func(h *fakeHost, o *Options) {
			h.listens = func(netip.AddrPort) error { return syscall.EACCES }
		}, east.conf(), "isakmpd needs root"},
		"wrong family": {func(h *fakeHost, o *Options) { o.IPv6 = true }, east.conf(), "nothing to listen on"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHost(netio.NewHub(), east.own)
				opt, plane := options(h, newLines())
				h.put(confPath, c.text)
				if c.change != nil {
					c.change(h, &opt)
				}
				held := len(h.held)
				d, err := New(t.Context(), opt)
				if err == nil || d != nil {
					t.Fatal("it started")
				}
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("%q is not in: %v", c.want, err)
				}
				if len(h.held) != held {
					t.Error("the pid file is still held")
				}
				calls := plane.Calls()
				if slices.Contains(calls, "ApplyFlows 2") != slices.Contains(calls, "Flush") {
					t.Errorf("flows were left behind: %v", calls)
				}
			})
		})
	}
}

func TestFlowsThatCannotBeSetUpKeepTheOldConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, east, west)
		a.plane.failFlows(errors.New("the routing table is full"))
		grown := east
		grown.names, grown.more = ", second", second
		a.host.put(confPath, grown.conf())
		a.Reload()
		a.log.await(t, "the old one stays: its flows cannot be set up: the routing table is full", 1)
		synctest.Wait()
		if st := a.plane.state(t); len(st.Flows) != 2 || len(st.SAs) != 2 {
			t.Errorf("%d flows and %d SAs", len(st.Flows), len(st.SAs))
		}
		a.plane.failFlows(nil)
		a.Reload() // the difference is still to be made
		a.log.await(t, "read again", 1)
		synctest.Wait()
		if st := a.plane.state(t); len(st.Flows) != 4 {
			t.Errorf("%d flows", len(st.Flows))
		}
		a.end(t)
		b.end(t)
	})
}

func TestListenOnTakesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t, newFakeHost(netio.NewHub(), east.own), east.conf())
		n.host.put(confPath, strings.Replace(east.conf(), "Listen-on= 192.0.2.1", "", 1))
		n.Reload()
		n.log.await(t, "the addresses to listen on have changed: that takes a restart, until then it is 192.0.2.1", 1)
		n.end(t)
	})
}

func TestMessagesAreShownWithoutWhatIsEncrypted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := netio.NewHub()
		b := run(t, newFakeHost(hub, west.own), west.conf())
		a := run(t, newFakeHost(hub, east.own), east.conf(), func(o *Options) {
			if err := o.Debug.Set("A=99"); err != nil {
				t.Fatal(err)
			}
		})
		a.log.await(t, "phase 2 (quick mode) done", 1)
		for _, part := range []string{
			"message 10: sent to 192.0.2.2:500", "message 10: received from 192.0.2.2:500", "AES_CBC key 128 SHA2_256",
			"policy 10: connection tunnel", "sysdep 30: add SA", "crypto 50: ", "transport 70: ",
		} {
			if a.log.count(part) == 0 {
				t.Errorf("%q is not in the log", part)
			}
		}
		for _, secret := range []string{"8e5c39d30b4d4e2f", "10.2.0.0/24)", "hash("} {
			if a.log.count(secret) > 0 {
				t.Errorf("%q is in the log:\n%s", secret, a.log)
			}
		}
		a.end(t)
		b.end(t)
	})
}
