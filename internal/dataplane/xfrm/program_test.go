package xfrm

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/dist/systemd"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/planetest"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// keyed is a gateway whose kernel an ipsecd keys: the program, which is nobody
// once everything is open.
type keyed struct {
	*gate
	t      *testing.T
	plane  string // the flag
	unit   bool   // with the rights that systemd's unit leaves
	socket string
	proc   *lab.Process
}

const patience = 20 * time.Second

// pairOfPrograms are two of them with a cable between.
func pairOfPrograms(t *testing.T, planeA, planeB string) (a, b *keyed, c *cable) {
	t.Helper()
	n := lab.New(t)
	open := func(plane, name, a4, a6 string, routes map[string]string) *keyed {
		g := gateOf(t, n, name, a4, a6, routes, nil)
		g.Coarse = plane == "kernel"
		k := &keyed{gate: g, t: t, plane: plane, unit: true, socket: filepath.Join(t.TempDir(), "sock")}
		flags := planeFlags[plane]
		if plane == "user" { // it takes any address for its own, else
			flags = append(slices.Clone(flags), "--listen", a4+","+a6)
		}
		k.start(flags...)
		return k
	}
	a, b = open(planeA, "a", "192.0.2.1", "2001:db8::1", routesA), open(planeB, "b", "192.0.2.2", "2001:db8::2", routesB)
	c = &cable{}
	c.join(t, a.gate, b.gate)
	return a, b, c
}

// planeFlags are what the suite needs: packets are held, or packet-filter rules do
// not refuse those that are forged.
var planeFlags = map[string][]string{"kernel": {"--hold"}, "user": {"--no-filters"}}

// begin starts an ipsecd, and start waits until it serves.
func (k *keyed) begin(flags ...string) {
	k.t.Helper()
	prog, err := lab.Build("oakley/cmd/ipsecd")
	must(k.t, err)
	args := append([]string{prog, "--plane", k.plane, "--socket", k.socket}, flags...)
	if k.unit {
		u, err := systemd.Read("ipsecd")
		must(k.t, err)
		setpriv, err := lab.Program("setpriv")
		must(k.t, err)
		args = append([]string{setpriv, "--bounding-set", u.Rights(), "--inh-caps=-all", "--no-new-privs"}, args...)
	}
	k.proc, err = k.host.Start(lab.Command{Path: args[0], Args: args[1:], Private: []string{lab.RunDir()}})
	must(k.t, err)
}

func (k *keyed) start(flags ...string) {
	k.t.Helper()
	k.begin(flags...)
	k.served()
}

func (k *keyed) served() {
	k.t.Helper()
	if _, err := k.proc.Log.Wait("ipsecd is ready", patience); err != nil {
		k.t.Fatalf("%v\n%s", err, k.proc.Log)
	}
}

func (k *keyed) dial(t *testing.T) *ipsecd.Client {
	t.Helper()
	c, err := ipsecd.Dial(ctx, k.socket, ipsecd.AllEvents)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// isNobody looks at the rights of all threads.
func (k *keyed) isNobody() {
	k.t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", k.proc.Pid()))
	if err != nil || len(all) == 0 {
		k.t.Fatalf("%d threads, %v", len(all), err)
	}
	for _, f := range all {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000001000", "CapEff:\t0000000000001000"} {
			if !strings.Contains(string(b), want) {
				k.t.Errorf("no %q in\n%s", want, b)
			}
		}
	}
}

// throughTheProgram is the suite with the planes behind the program ipsecd. Two of
// them serve all cases, each of which leaves nothing behind.
func throughTheProgram(t *testing.T, planeA, planeB string) {
	a, b, c := pairOfPrograms(t, planeA, planeB)
	a.isNobody()
	b.isNobody()
	planetest.Run(t, func(t *testing.T) *planetest.Harness {
		c.twice.Store(false)
		c.seen.Store(nil)
		for _, k := range []*keyed{a, b} {
			k.Backend = k.dial(t)
			t.Cleanup(func() { k.clear(t) })
		}
		return &planetest.Harness{
			Name: fmt.Sprintf("ipsecd: %s to %s", planeA, planeB),
			A:    a.Site, B: b.Site, Few: true, Odd: planeA == "user", // each with each: see conformance
			Twice:     func(on bool) { c.twice.Store(on) },
			Readdress: func(seen netip.AddrPort) { c.seen.Store(&seen) },
		}
	})
	for _, k := range []*keyed{a, b} {
		k.isNobody()
		must(t, k.proc.Signal(unix.SIGUSR1))
		if _, err := k.proc.Log.Wait("report written", patience); err != nil {
			t.Error(err)
		}
		if n := k.proc.Log.Count("level=ERROR|permitted|denied|cannot be kept"); n > 0 {
			t.Errorf("something was refused\n%s", k.proc.Log)
		}
		must(t, k.proc.Stop(patience))
		left := slices.DeleteFunc(k.table(t), func(s string) bool {
			return strings.HasPrefix(s, "SA 50 0x0 ") // of a packet that asked; it ends by itself
		})
		if len(left) > 0 {
			t.Errorf("left are %q", left)
		}
	}
}

// clear makes a gateway ready for the next case.
func (k *keyed) clear(t *testing.T) {
	t.Helper()
	c, err := ipsecd.Dial(ctx, k.socket, ipsecd.NoEvents)
	must(t, err)
	defer c.Close()
	must(t, c.Flush(ctx, ipsec.OwnerAny))
	for _, proto := range c.Info().Protos {
		must(t, c.Enable(ctx, proto, true))
	}
	for {
		select {
		case <-k.Got:
		default:
			return
		}
	}
}
