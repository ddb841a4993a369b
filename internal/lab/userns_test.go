package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const inUserns = "OAKLEY_LAB_TEST_USERNS"

func TestMain(m *testing.M) {
	if os.Getenv(inUserns) != "" {
		done, code, err := Reexec()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if done {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

func TestNetworksNeedNoRoot(t *testing.T) {
	if os.Getenv(inUserns) != "" {
		return // this is the inner run
	}
	Need(t, "root") // to become somebody else
	dir, err := os.MkdirTemp("", "lab")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	self, err := os.Executable()
	must(t, err)
	binary, err := os.ReadFile(self)
	must(t, err)
	prog := filepath.Join(dir, "lab.test")
	must(t, os.WriteFile(prog, binary, 0o755))

	cmd := exec.Command(prog, "-test.v", "-test.run", "TestNATHidesRagweed|TestClearText|TestProgramsRun|TestStateTells")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), inUserns+"=1", "CI=true", "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 4 {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
