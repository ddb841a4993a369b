package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// program is ipsecctl itself.
func program(t *testing.T) string {
	t.Helper()
	path, err := lab.Build("oakley/cmd/ipsecctl")
	must(t, err)
	return path
}

// A reader that wants a line of a hundred thousand gets it, and the program ends
// without an error.
func TestHead(t *testing.T) {
	p := &told{Plane: null.New(null.Options{})}
	for i := range 20_000 {
		p.state.SAs = append(p.state.SAs, ipsec.SAState{SA: ipsec.SA{
			ID: ipsec.SAID{Proto: ipsec.ProtoAH, SPI: ipsec.SPI(0x1000 + i), Dst: netip.MustParseAddr("192.0.2.1")}, Auth: ipsec.AuthHMACSHA1,
		}})
	}
	socket, _ := serve(t, p)
	cmd := exec.Command("sh", "-c", `"$1" -v -s sa -S "$2"; echo "status $?" >&2`, "sh", program(t), socket)
	var status strings.Builder
	cmd.Stderr = &status
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line := make([]byte, 10)
	_, err = out.Read(line)
	must(t, err)
	out.Close()
	if err := cmd.Wait(); err != nil || status.String() != "status 0\n" || string(line) != "ah tunnel " {
		t.Errorf("%v, %q after %q", err, &status, line)
	}
}

// Who may not use the socket is told so.
func TestWhoMayNot(t *testing.T) {
	lab.Need(t, "root")
	socket, _ := serve(t, example())
	must(t, os.Chmod(socket, 0o600))
	for dir := filepath.Dir(socket); len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
	copied := filepath.Join(filepath.Dir(socket), "ipsecctl")
	b, err := os.ReadFile(program(t))
	must(t, err)
	must(t, os.WriteFile(copied, b, 0o755))
	as := func(uid uint32) (string, error) {
		cmd := exec.Command(copied, "-s", "sa", "-S", socket)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := as(4242)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(out, fmt.Sprintf("user 4242 may not use %s", socket)) {
		t.Errorf("%v\n%s", err, out)
	}
	// Where the file lets everybody in, the server does not.
	must(t, os.Chmod(socket, 0o666))
	if out, err := as(4242); !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(out, "ipsecd says in its log why") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What happens is printed when it happens; an interrupt ends it well, the end of
// ipsecd does not.
func TestMonitor(t *testing.T) {
	b := null.New(null.Options{})
	socket, server := serve(t, b)
	host, err := lab.New(t).Host("here")
	must(t, err)
	watch := func() *lab.Process {
		p, err := host.Start(lab.Command{Path: program(t), Args: []string{"-m", "-S", socket}})
		must(t, err)
		return p
	}
	first, second := watch(), watch()
	c, err := ipsecd.Dial(t.Context(), socket, ipsecd.NoEvents)
	must(t, err)
	defer c.Close()
	sa := example().state.SAs[1].SA
	// Both watch when both have seen one of the switches.
	lab.Eventually(t, patience, "both watch", func() bool {
		must(t, c.Enable(t.Context(), ipsec.ProtoAH, true))
		return first.Log.Count(`switch ah on`) > 0 && second.Log.Count(`switch ah on`) > 0
	})
	must(t, c.AddSA(t.Context(), &sa))
	if err := c.AddSA(t.Context(), &sa); !errors.Is(err, dataplane.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	must(t, c.DeleteSA(t.Context(), sa.ID))
	pid := fmt.Sprintf(`\(pid %d\)`, os.Getpid())
	for _, want := range []string{
		`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} add out esp tunnel from 192\.168\.3\.1 to 192\.168\.3\.2 spi 0xabd9da39 auth hmac-sha2-256 enc aes ` + pid + `$`,
		` add out esp .* ` + pid + ` refused: .*that is there already`,
		` delete out esp to 192\.168\.3\.2 spi 0xabd9da39 ` + pid + `$`,
	} {
		for _, p := range []*lab.Process{first, second} {
			if _, err := p.Log.Wait(want, patience); err != nil {
				t.Errorf("%v\n%s", err, p.Log)
			}
		}
	}
	if strings.Contains(first.Log.String(), "30313233") {
		t.Error("keys are told")
	}
	must(t, first.Signal(syscall.SIGINT))
	if err := first.Wait(patience); err != nil {
		t.Errorf("after an interrupt: %v\n%s", err, first.Log)
	}
	b.Close()
	server.Close()
	if err := second.Wait(patience); err == nil || second.ExitCode() != exitFailed || !strings.Contains(second.Log.String(), "went away") {
		t.Errorf("after ipsecd ended: %v\n%s", err, second.Log)
	}
}

// An answer that never comes does not hold an interrupt up.
func TestInterrupt(t *testing.T) {
	h := &hanging{Plane: null.New(null.Options{}), asked: make(chan bool, 1), end: make(chan bool)}
	defer close(h.end)
	socket, _ := serve(t, h)
	cmd := exec.Command(program(t), "-s", "stats", "-S", socket)
	var errs strings.Builder
	cmd.Stderr = &errs
	must(t, cmd.Start())
	select {
	case <-h.asked:
	case <-time.After(patience):
		t.Error("nothing was asked")
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed || !strings.Contains(errs.String(), "ipsecctl: ") {
		t.Errorf("%v: %s", err, &errs)
	}
}

// hanging is a data plane that does not get to its totals.
type hanging struct {
	*null.Plane
	asked, end chan bool
}

func (h *hanging) Totals(ctx context.Context) (dataplane.Totals, error) {
	h.asked <- true
	select {
	case <-h.end:
	case <-ctx.Done():
	}
	return dataplane.Totals{}, ctx.Err()
}
