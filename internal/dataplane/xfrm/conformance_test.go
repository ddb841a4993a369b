package xfrm

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"oakley/internal/dataplane/null"
	"oakley/internal/dataplane/planetest"
	"oakley/internal/ipsec"
	"oakley/internal/vmtest"
)

func parseCIDR(s string) (net.IP, *net.IPNet, error) { return net.ParseCIDR(s) }

// TestInMachine is what needs a kernel with ESP.
func TestInMachine(t *testing.T) {
	m := vmtest.Machine{Build: []string{"oakley/cmd/ipsecd"}, Programs: []string{"setpriv"}, Modules: slices.Concat(vmtest.IPsec, vmtest.NAT), Memory: 384 + *manyTunnels/10}
	vmtest.Run(t, m, func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(t *testing.T)
		}{
			{"what the kernel has", hasAll},
			{"conformance", conformance},
			{"conformance without traffic", withoutTraffic},
			{"conformance through the program ipsecd", func(t *testing.T) { throughTheProgram(t, "kernel", "kernel") }},
			{"conformance with userspace", func(t *testing.T) { throughTheProgram(t, "kernel", "user") }},
			{"conformance of userspace", func(t *testing.T) { throughTheProgram(t, "user", "kernel") }},
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
		t.Logf("how often each plane passed each case of conformance:\n%s", planetest.Table())
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

// withoutTraffic is the part that the plane without traffic passes, for the table.
func withoutTraffic(t *testing.T) {
	planetest.RunWithoutTraffic(t, func(*testing.T) *planetest.Harness {
		return &planetest.Harness{
			A: &planetest.Site{Backend: null.New(null.Options{}), Addr: gw1},
			B: &planetest.Site{Backend: null.New(null.Options{}), Addr: gw2},
		}
	})
}

// hasAll: what Debian's kernel has, and that what it lacks is said.
func hasAll(t *testing.T) {
	can, err := abilities()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("Linux %s: protocols %v, ciphers %v, hashes %v, ESN %t", can.Kernel, can.Protos, can.Ciphers, can.Auths, can.ESN)
	t.Logf("lacks %q", can.Lacks)
	if len(can.Protos) != 3 || len(can.Ciphers) != len(kernelCiphers) || len(can.Auths) != len(kernelAuths) || !can.ESN || len(can.Lacks) != 3 { // and no module has those
		t.Errorf("%d protocols, %d ciphers, %d hashes", len(can.Protos), len(can.Ciphers), len(can.Auths))
	}
}
