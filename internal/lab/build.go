package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sync"
)

// builds are the programs that this process has built.
var builds struct {
	sync.Mutex
	dir   string
	paths map[string]string
}

// Build builds a program of this module ("oakley/cmd/isakmpd"), once for a run of
// a test binary, and returns its path. A package that uses it has a TestMain that
// calls RemoveBuilds at the end. OAKLEY_BIN names a folder of programs that are to
// be used instead.
func Build(pkg string) (string, error) {
	name := path.Base(pkg)
	if dir := os.Getenv("OAKLEY_BIN"); dir != "" {
		return filepath.Join(dir, name), nil
	}
	builds.Lock()
	defer builds.Unlock()
	if p, ok := builds.paths[pkg]; ok {
		return p, nil
	}
	if builds.dir == "" {
		dir, err := os.MkdirTemp("", "oakley-bin")
		if err != nil {
			return "", err
		}
		builds.dir, builds.paths = dir, map[string]string{}
	}
	p := filepath.Join(builds.dir, name)
	cmd := exec.Command("go", "build", "-o", p, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	builds.paths[pkg] = p
	return p, nil
}

// RemoveBuilds takes away what Build made.
func RemoveBuilds() {
	builds.Lock()
	defer builds.Unlock()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir)
		builds.dir, builds.paths = "", nil
	}
}
