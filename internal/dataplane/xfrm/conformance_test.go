package xfrm

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/planetest"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
	"oakley/internal/vmtest"
)

func parseCIDR(s string) (net.IP, *net.IPNet, error) { return net.ParseCIDR(s) }

// TestInMachine is what needs a kernel with ESP.
func TestInMachine(t *testing.T) {
	m := vmtest.Machine{Build: []string{"oakley/cmd/ipsecd"}, Modules: slices.Concat(vmtest.IPsec, vmtest.NAT), Memory: 384 + *manyTunnels/10}
	vmtest.Run(t, m, func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"what the kernel has", hasAll},
			{"conformance", conformance},
			{"conformance with userspace", kernelAndUserspace},
			{"conformance through the program ipsecd", throughTheProgram},
			{"the program is killed under traffic", programKilled},
			{"others change the tables", tablesChanged},
			{"one plane after the other", planesChanged},
			{"flows that let pass", inClear},
			{"clear text is dropped", clearIsDropped},
			{"killed under traffic", killedUnderTraffic},
			{"through an interface", throughInterface},
			{"marks", marks},
			{"many", many},
		} {
			t.Run(c.name, c.run)
		}
	})
}

// abilities are those of this kernel, asked once.
var abilities = sync.OnceValues(Probe)

// conformance is the suite of data planes.
func conformance(t *testing.T) {
	planetest.Run(t, func(t *testing.T) *planetest.Harness {
		a, b, c := pairOfGates(t, Options{Hold: true}, Options{Hold: true})
		return &planetest.Harness{
			A: a.Site, B: b.Site,
			Twice:       func(on bool) { c.twice.Store(on) },
			Readdress:   func(seen netip.AddrPort) { c.seen.Store(&seen) },
			SetSequence: func(id ipsec.SAID, n uint64) { setSequence(t, a, b, id, n) },
		}
	})
}

// kernelAndUserspace is the suite again, with the kernel on one side and a data
// plane of our own on the other.
func kernelAndUserspace(t *testing.T) {
	can, err := abilities()
	must(t, err)
	kernel := func(t *testing.T, n *lab.Net, name, a4, a6 string, routes map[string]string) *gate {
		return newGate(t, n, name, a4, a6, routes, Options{Abilities: can, Hold: true})
	}
	ours := func(t *testing.T, n *lab.Net, name, a4, a6 string, routes map[string]string) *gate {
		return gateOf(t, n, name, a4, a6, routes, func() (dataplane.Backend, error) {
			return userspace.New(userspace.Options{NoFilters: true, Local: []netip.Addr{netip.MustParseAddr(a4), netip.MustParseAddr(a6)}})
		})
	}
	for _, c := range []struct {
		name string
		a, b func(t *testing.T, n *lab.Net, name, a4, a6 string, routes map[string]string) *gate
	}{{"kernel to userspace", kernel, ours}, {"userspace to kernel", ours, kernel}} {
		t.Run(c.name, func(t *testing.T) {
			planetest.Run(t, func(t *testing.T) *planetest.Harness {
				n := lab.New(t)
				a := c.a(t, n, "a", "192.0.2.1", "2001:db8::1", routesA)
				b := c.b(t, n, "b", "192.0.2.2", "2001:db8::2", routesB)
				w := &cable{}
				w.join(t, a, b)
				return &planetest.Harness{
					A: a.Site, B: b.Site,
					Twice:     func(on bool) { w.twice.Store(on) },
					Readdress: func(seen netip.AddrPort) { w.seen.Store(&seen) },
				}
			})
		})
	}
}

// hasAll: what Debian's kernel has, and that what it lacks is said.
func hasAll(t *testing.T) {
	can, err := abilities()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Linux %s: protocols %v, ciphers %v, hashes %v, ESN %t", can.Kernel, can.Protos, can.Ciphers, can.Auths, can.ESN)
	t.Logf("lacks %q", can.Lacks)
	if len(can.Protos) != 3 || len(can.Ciphers) != len(kernelCiphers) || len(can.Auths) != len(kernelAuths) || !can.ESN || !can.IPv6 {
		t.Errorf("%d protocols, %d ciphers, %d hashes", len(can.Protos), len(can.Ciphers), len(can.Auths))
	}
}
