package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// output collects what a process prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("this did not happen: %s", what)
		}
	}
}

// process is an isakmpd with files and ports of its own, on loopback and without
// an IPsec stack.
type process struct {
	*exec.Cmd
	out         output
	conf        string
	pid, report string
	args        []string
}

func freePort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port)
}

func newProcess(t *testing.T, ports ...string) *process {
	t.Helper()
	lab.Need(t, "root") // marks on sockets, and files below /var/run
	p := &process{conf: filepath.Join(t.TempDir(), "isakmpd.conf")}
	name := fmt.Sprintf("/var/run/isakmpd-test-%d-%s", os.Getpid(), filepath.Base(filepath.Dir(p.conf)))
	name += strings.ReplaceAll(t.Name(), "/", "-")
	p.pid, p.report = name+".pid", name+".report"
	p.configure(t, "[General]\nListen-on= 127.0.0.1\n[Phase 1]\n[Phase 2]\n")
	if len(ports) == 0 {
		ports = []string{freePort(t), freePort(t)}
	}
	p.args = []string{"-K", "-n", "-v", "-c", p.conf, "-i", p.pid, "-R", p.report, "-p", ports[0], "-N", ports[1]}
	return p
}

func (p *process) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(p.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs it with more flags.
func (p *process) start(t *testing.T, flags ...string) {
	t.Helper()
	p.Cmd = exec.Command(os.Args[0], append(flags, p.args...)...)
	p.Env = append(os.Environ(), beIsakmpd+"=1")
	p.Stderr = &p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
}

func (p *process) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q in the log", text), func() bool { return strings.Contains(p.out.String(), text) })
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// status waits for the end.
func (p *process) status(t *testing.T) int {
	t.Helper()
	err := p.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestForegroundObeysSignals(t *testing.T) {
	p := newProcess(t)
	p.start(t, "-d")
	p.await(t, "listening on 127.0.0.1, UDP port "+p.args[10])
	p.await(t, "data plane: null")
	if got, _ := os.ReadFile(p.pid); strings.TrimSpace(string(got)) != strconv.Itoa(p.Process.Pid) {
		t.Errorf("the pid file has %q", got)
	}

	p.signal(t, unix.SIGUSR1)
	p.await(t, "report written")
	st, err := os.Lstat(p.report)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("the report: %v, %v", st, err)
	}
	defer os.Remove(p.report)

	p.configure(t, "[General\n")
	p.signal(t, unix.SIGHUP)
	p.await(t, "the old one stays")
	p.await(t, p.conf+":1:")
	p.configure(t, "[General]\nListen-on= 127.0.0.1\n[Phase 1]\n[Phase 2]\n")
	p.signal(t, unix.SIGHUP)
	p.await(t, "read again")

	p.signal(t, unix.SIGINT)
	if s := p.status(t); s != 0 {
		t.Errorf("status %d:\n%s", s, &p.out)
	}
	if exists(p.pid) {
		t.Error("the pid file stayed")
	}
}

func TestBackgroundReportsStartUpAndLeaves(t *testing.T) {
	p := newProcess(t)
	p.start(t)
	if s := p.status(t); s != 0 {
		t.Fatalf("status %d:\n%s", s, &p.out)
	}
	text, err := os.ReadFile(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid == p.Process.Pid {
		t.Fatalf("the pid file has %q", text)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGKILL) }()
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("it is in session %d, not in its own %d: %v", sid, pid, err)
	}
	if dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); dir != "/" {
		t.Errorf("it stays in %s", dir)
	}

	second := newProcess(t)
	for i, a := range second.args {
		if a == second.pid {
			second.args[i] = p.pid
		}
	}
	second.start(t)
	if s := second.status(t); s != 1 || !strings.Contains(second.out.String(), fmt.Sprintf("process %d holds it", pid)) {
		t.Errorf("a second one: status %d:\n%s", s, &second.out)
	}

	// INT is for the foreground; TERM ends it.
	if err := errors.Join(unix.Kill(pid, unix.SIGINT), unix.Kill(pid, unix.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pid file is gone", func() bool { return !exists(p.pid) })
}

func TestATakenPortIsNamedWithStatus1(t *testing.T) {
	first := newProcess(t)
	first.start(t, "-d")
	first.await(t, "listening")
	for _, flags := range [][]string{{"-d"}, {}} {
		second := newProcess(t, first.args[10], freePort(t))
		second.pid += "2"
		second.args[6] = second.pid
		second.start(t, flags...)
		if s := second.status(t); s != 1 {
			t.Errorf("status %d", s)
		}
		want := "UDP port " + first.args[10] + " on 127.0.0.1 is taken by another program"
		if !strings.Contains(second.out.String(), want) || exists(second.pid) {
			t.Errorf("%q is not in (or its pid file stayed):\n%s", want, &second.out)
		}
	}
	first.signal(t, unix.SIGTERM)
	if s := first.status(t); s != 0 {
		t.Errorf("status %d:\n%s", s, &first.out)
	}
}
