package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oakley/internal/lab"
)

// Programs of others start in a guest, with their libraries; files come along;
// programs of this module are where lab.Build looks.
func TestProgramsOfOthersStart(t *testing.T) {
	t.Parallel()
	Need(t)
	own, err := filepath.Abs("vmtest.go")
	must(t, err)
	if !Inside() {
		lab.Need(t, "ip", "nft")
		defer lab.RemoveBuilds()
	}
	m := Machine{
		Modules: NAT, Programs: []string{"ip", "nft"}, Build: []string{"oakley/cmd/ipsecctl"}, Files: []string{own},
	}
	Run(t, m, func(t *testing.T) {
		t.Run("ip", func(t *testing.T) { says(t, "ip", "LOOPBACK,UP", "link", "show", "lo") })
		t.Run("nft", func(t *testing.T) { says(t, "nft", "", "list", "ruleset") })
		t.Run("a file", func(t *testing.T) {
			if b, err := os.ReadFile("vmtest.go"); err != nil || len(b) == 0 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
		t.Run("ours", func(t *testing.T) {
			p, err := lab.Build("oakley/cmd/ipsecctl")
			must(t, err)
			if _, err := os.Stat(p); err != nil {
				t.Error(err)
			}
		})
		t.Run("address translation", func(t *testing.T) {
			n := lab.New(t)
			h, err := n.HowTo(lab.HowToOptions{NAT: true})
			must(t, err)
			counts, err := h.Ragweed.Ping(h.V4.Slippery, 3, 10*time.Second)
			if err != nil || counts.Lost() > 0 {
				t.Errorf("through the router: %v, %v", counts, err)
			}
		})
	})
}

func says(t *testing.T, name, want string, args ...string) {
	t.Helper()
	p, err := lab.Program(name)
	must(t, err)
	out, err := exec.Command(p, args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%s %v: %v, %q; want %q", name, args, err, out, want)
	}
}

// Another package's tests run in a guest as subtests.
func TestPackageInside(t *testing.T) {
	t.Parallel()
	RunPackage(t, Machine{Modules: NAT}, "oakley/internal/lab", "-test.run=NAT|Dropped|Classify|Packets")
}
