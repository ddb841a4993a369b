package kernel

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"oakley/internal/lab"
	"oakley/internal/vmtest"
	"oakley/interop"
)

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

// peer is somebody else's daemon that has a tunnel with isakmpd.
type peer interface {
	Initiate(timeout time.Duration) error
	// Ready waits until the daemon uses the tunnel. Before that it would send in
	// clear what belongs there: its policies come with its SAs.
	Ready(timeout time.Duration) error
}

type swan struct{ *interop.StrongSwan }

func (s swan) Ready(timeout time.Duration) error {
	var err error
	lab.Until(timeout, func() bool {
		_, _, err = s.Installed()
		return err == nil
	})
	return err
}

// kind is a daemon, how it is started, and how it renews both phases.
type kind struct {
	start func(h *lab.Host, dir string, t interop.Tunnel) (peer, error)
	renew func(t *testing.T, ours *interop.Isakmpd, p peer, ping *lab.Stream)
	// Lifetimes that make it renew by itself, when it does so and what it started.
	p1, p2 time.Duration
}

var strongSwan = kind{
	start: func(h *lab.Host, dir string, t interop.Tunnel) (peer, error) {
		t.Kernel = true
		s, err := interop.StartStrongSwan(h, dir, t)
		return swan{s}, err
	},
	renew: renewByCommand,
}

var libreswan = kind{
	start: func(h *lab.Host, dir string, t interop.Tunnel) (peer, error) { return StartPluto(h, dir, t) },
	renew: renewInTime, // it refuses to do so by command with IKEv1
	p1:    20 * time.Second, p2: 12 * time.Second,
}

// tunnelCase is a tunnel and the network in which it is tried.
type tunnelCase struct {
	name       string
	tunnel     interop.Tunnel
	nat        bool // a router that translates hides Ragweed
	peerBehind bool // which is the peer then, else isakmpd
	rekey      bool // both phases are renewed, by the peer, during a ping
	clear      bool // it encrypts nothing
	want       lab.Class
}

var (
	ah        = interop.Mode{Protocols: "QM-AH-SHA2-256", Swan: "ah_proposals = sha256"}
	transport = interop.Mode{Protocols: "QM-ESP-TRP-AES-128-SHA", Hosts: true}
)

var cases = []tunnelCase{
	{name: "AES-CBC with SHA1", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[2], PFS: true}, want: lab.ESP, rekey: true},
	{name: "SHA2-256", tunnel: interop.Tunnel{P1: interop.Phase1s[3], P2: interop.Phase2s[3], Initiate: true}, want: lab.ESP},
	{name: "AES-GCM", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[4], Initiate: true}, want: lab.ESP},
	{name: "3DES", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[1]}, want: lab.ESP},
	{name: "AH", tunnel: interop.Tunnel{P1: interop.Phase1s[2], Mode: &ah, Initiate: true}, want: lab.AH, clear: true},
	{name: "transport", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[2], Mode: &transport}, want: lab.ESP},
	{name: "AES-GCM, with ipsecd", tunnel: interop.Tunnel{P1: interop.Phase1s[5], P2: interop.Phase2s[4], Plane: "ipsecd", Initiate: true}, want: lab.ESP},
	{name: "isakmpd behind NAT", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[2], Initiate: true}, nat: true, want: lab.ESPinUDP},
	{name: "the peer behind NAT", tunnel: interop.Tunnel{P1: interop.Phase1s[2], P2: interop.Phase2s[4]}, nat: true, peerBehind: true, want: lab.ESPinUDP},
}

// isakmpd, which carries the traffic itself or has ipsecd for it, agrees on each
// tunnel with daemons that leave it to their kernel.

func TestStrongSwanWithTheKernelsIPsec(t *testing.T) {
	vmtest.Run(t, Machine(StrongSwan()), strongSwan.all)
}

func TestLibreswanWithTheKernelsIPsec(t *testing.T) {
	vmtest.Run(t, Machine(Libreswan()), libreswan.all)
}

func (k kind) all(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { try(t, c, k) })
	}
}

// every is how often a ping is sent. The guest's processor is slow: it carries no
// more than some hundred packets a second through five hosts.
const every = 50 * time.Millisecond

func try(t *testing.T, c tunnelCase, k kind) {
	n, err := lab.New(t).HowTo(lab.HowToOptions{NAT: c.nat, NewPorts: c.nat})
	must(t, err)
	var inner []netip.Prefix
	if !c.clear {
		inner = n.Inner()
	}
	spy, err := n.Internet.Spy("west", lab.SpyOptions{Inner: inner})
	must(t, err)
	a, east, west := n.V4, c.tunnel, c.tunnel
	east.Local, east.Remote, east.LocalNet, east.RemoteNet = a.Ragweed, a.Slippery, a.NetBadplants, a.NetCarefull
	west.Local, west.Remote, west.LocalNet, west.RemoteNet = a.Slippery, a.RagweedSeen, a.NetCarefull, a.NetBadplants
	west.RemoteID = a.Ragweed
	host, far, mine, theirs := n.Ragweed, n.Slippery, east, west
	if c.peerBehind {
		host, far, mine, theirs = far, host, theirs, mine
	}
	if c.rekey && k.p1 != 0 {
		theirs.P1Life, theirs.P2Life = k.p1, k.p2
	}
	other, err := k.start(far, t.TempDir(), theirs)
	must(t, err)
	ours, err := interop.StartIsakmpd(host, t.TempDir(), mine.IsakmpdConf())
	must(t, err)
	if !mine.Initiate {
		must(t, other.Initiate(30*time.Second))
	}
	_, err = ours.Log.Wait(`phase 2 \(quick mode\) done`, 30*time.Second)
	must(t, err)
	must(t, other.Ready(15*time.Second))

	left, right, toLeft, toRight := n.Dandelion, n.Icy, a.Dandelion, a.Icy
	if c.tunnel.Mode != nil && c.tunnel.Mode.Hosts {
		left, right, toLeft, toRight = n.Ragweed, n.Slippery, a.RagweedSeen, a.Slippery
	}
	_, err = left.Ping(toRight, 1, 15*time.Second)
	must(t, err)
	_, err = right.Ping(toLeft, 1, 15*time.Second)
	must(t, err)
	there, err := left.StartPing(toRight, every)
	must(t, err)
	back, err := right.StartPing(toLeft, every)
	must(t, err)
	if c.rekey {
		k.renew(t, ours, other, there)
	}
	for _, ping := range []*lab.Stream{there, back} {
		must(t, ping.AwaitAnswers(20, 10*time.Second))
		if counts := ping.Stop(5 * time.Second); counts.Lost() != 0 || counts.Duplicates != 0 {
			t.Errorf("ping: %v; lost %v", counts, ping.Missing(10))
		}
	}
	sight := spy.Settle()
	if err := sight.Check(); err != nil {
		t.Error(err)
	}
	if sight.Packets[c.want] < 80 || sight.Protected() != sight.Packets[c.want] || sight.Packets[lab.Other] != 0 {
		t.Errorf("the spy saw %v, expected nothing but %v and IKE", sight, c.want)
	}
	if t.Failed() {
		report(t, ours)
		dropped(t, n.Dandelion, n.Ragweed, n.Internet, n.Slippery, n.Icy)
	}
	must(t, ours.End())
}

// Lines of isakmpd -v for a phase that was renewed by either side.
const (
	phase1Again = `phase 1 \(main mode\) (done|rekeyed)`
	phase2Again = `phase 2 \(quick mode\) (done|rekeyed)`
)

// renewByCommand has strongSwan renew both phases in turn, with traffic on each.
func renewByCommand(t *testing.T, ours *interop.Isakmpd, p peer, ping *lab.Stream) {
	t.Helper()
	s := p.(swan)
	for _, step := range []struct {
		line  string
		again func() error
	}{{phase2Again, s.RekeyChild}, {phase1Again, s.RekeyIKE}, {phase2Again, s.RekeyChild}} {
		mark := ours.Log.Mark()
		must(t, step.again())
		_, err := ours.Log.WaitAfter(mark, step.line, 30*time.Second)
		must(t, err)
		must(t, ping.AwaitAnswers(20, 10*time.Second))
	}
}

// renewInTime waits until both phases were renewed because their time was up.
func renewInTime(t *testing.T, ours *interop.Isakmpd, _ peer, ping *lab.Stream) {
	t.Helper()
	mark := ours.Log.Mark()
	for _, line := range []string{phase2Again, phase1Again} {
		_, err := ours.Log.WaitAfter(mark, line, 60*time.Second)
		must(t, err)
		must(t, ping.AwaitAnswers(20, 10*time.Second))
	}
	_, err := ours.Log.WaitAfter(ours.Log.Mark(), phase2Again, 60*time.Second) // and once more, by the new phase 1
	must(t, err)
	must(t, ping.AwaitAnswers(20, 10*time.Second))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
