package kernel

import (
	"os"
	"slices"
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

// The machines share the processors with each other.

func TestStrongSwanWithTheKernelsIPsec(t *testing.T) {
	t.Parallel()
	vmtest.Run(t, Machine(StrongSwan()), strongSwan.all)
}

func TestLibreswanWithTheKernelsIPsec(t *testing.T) {
	t.Parallel()
	vmtest.Run(t, Machine(Libreswan()), libreswan.all)
}

// What concerns nobody but us.
func TestOakleyWithTheKernelsIPsec(t *testing.T) {
	t.Parallel()
	m := Machine()
	m.Modules = slices.DeleteFunc(m.Modules, func(name string) bool { return name == left })
	vmtest.Run(t, m, func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"the how-to's gateways", howTo},
			{"with ipsecd", withIPsecd},
			{"killed", killed},
			{"killed behind NAT", killedBehindNAT},
			{"flushed by others", flushed},
			{"another mapping", remapped},
			{"on demand", onDemand},
			{"through an interface", throughInterface},
			{"marked", marked},
			{"choosing", choosing},
			{"joining", joining},
			{"a module is missing", missing},
		} {
			t.Run(c.name, c.run)
		}
	})
}

// left is a module that this machine is left without.
const left = "blowfish_generic"

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
	name  string
	start func(h *lab.Host, dir string, t interop.Tunnel) (peer, error)
	renew func(t *testing.T, ours *interop.Isakmpd, p peer, ping *lab.Stream)
	// Lifetimes that make it renew by itself, when it does so and what it started.
	p1, p2 time.Duration
	odd    bool // which half of the table is its own; see rows
}

var strongSwan = kind{
	name: "strongSwan",
	start: func(h *lab.Host, dir string, t interop.Tunnel) (peer, error) {
		t.Kernel = true
		s, err := interop.StartStrongSwan(h, dir, t)
		return swan{s}, err
	},
	renew: renewByCommand,
}

var libreswan = kind{
	name:  "libreswan",
	start: func(h *lab.Host, dir string, t interop.Tunnel) (peer, error) { return StartPluto(h, dir, t) },
	renew: renewInTime, // it refuses to do so by command with IKEv1
	p1:    10 * time.Second, p2: 6 * time.Second,
	odd: true,
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
