package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Command is a program to run on a host.
type Command struct {
	Path    string
	Args    []string // without the program's name
	Env     []string // added to ours
	Dir     string
	Stdin   io.Reader
	Private []string // folders of which the host has one of its own, empty at first
	Tee     io.Writer
}

// RunDir is where /var/run leads to: the folder that a daemon is to have for
// itself (Command.Private), and below which /proc/PID/root shows its files.
func RunDir() string {
	if dir, err := filepath.EvalSymlinks("/var/run"); err == nil {
		return dir
	}
	return "/run"
}

// ReadFile reads a file as the program sees it, in its own mounts. The path is
// free of symbolic links.
func (p *Process) ReadFile(path string) ([]byte, error) {
	return os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Pid()), "root", path))
}

// Process is a program that runs, or ran, on a host. It is killed when the
// network is closed, and by the kernel when this process ends without that.
type Process struct {
	Log  *Log // what it wrote to its standard output and error
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed
}

func (p *Process) String() string { return p.name }

// Start runs a program on the host and does not wait for it.
func (h *Host) Start(c Command) (*Process, error) {
	p := &Process{Log: newLog(), name: h.Name + ": " + filepath.Base(c.Path), done: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Dir, p.cmd.Stdin = c.Dir, c.Stdin
	var out io.Writer = p.Log
	if c.Tee != nil {
		out = io.MultiWriter(p.Log, c.Tee)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.WaitDelay = 2 * time.Second // a grandchild may hold the pipe open
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}

	started := make(chan error, 1)
	// The child is the child of this thread: its namespaces are the thread's,
	// and it is killed when the thread ends. So the thread waits for it.
	go func() {
		runtime.LockOSThread()
		err := h.enter(c.Private)
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("host %s: %s does not start: %w", h.Name, c.Path, err)
	}
	h.mu.Lock()
	h.procs = append(h.procs, p)
	h.mu.Unlock()
	h.net.onClose(p.Kill)
	return p, nil
}

// enter puts this thread into the host for good.
func (h *Host) enter(private []string) error {
	if err := netns.Set(h.ns); err != nil {
		return fmt.Errorf("entering %s: %w", h.Name, err)
	}
	if len(private) == 0 {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("no mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for _, dir := range private {
		own, err := h.folder(dir)
		if err == nil {
			err = unix.Mount(own, dir, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("the host's own %s: %w", dir, err)
		}
	}
	return nil
}

// folder is what the host has in place of one of this machine's folders; all of
// its programs that ask for it see the same.
func (h *Host) folder(dir string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if own, ok := h.folders[dir]; ok {
		return own, nil
	}
	own, err := os.MkdirTemp("", "lab-"+filepath.Base(dir))
	if err != nil {
		return "", err
	}
	if err := os.Chmod(own, 0o755); err != nil {
		return "", err
	}
	if h.folders == nil {
		h.folders = map[string]string{}
	}
	h.folders[dir] = own
	h.net.onClose(func() { _ = os.RemoveAll(own) })
	return own, nil
}

// Run runs a program to its end and returns its output; the error carries it too.
func (h *Host) Run(timeout time.Duration, path string, args ...string) (string, error) {
	return h.RunCommand(timeout, Command{Path: path, Args: args})
}

// RunCommand is Run with everything that a Command says.
func (h *Host) RunCommand(timeout time.Duration, c Command) (string, error) {
	p, err := h.Start(c)
	if err != nil {
		return "", err
	}
	err = p.Wait(timeout)
	h.forget(p)
	out := p.Log.String()
	if err != nil {
		return out, fmt.Errorf("%s %s on %s: %w\n%s", filepath.Base(c.Path), strings.Join(c.Args, " "), h.Name, err, out)
	}
	return out, nil
}

// forget leaves a program out of what is printed when a test fails: its caller
// has its output.
func (h *Host) forget(p *Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.procs = slices.DeleteFunc(h.procs, func(q *Process) bool { return q == p })
}

// ErrStillRuns is what Wait returns when the time is over.
var ErrStillRuns = errors.New("it still runs")

// Wait waits for the program's end. A program that ends in time with status 0
// gives nil; one that does not end in time is killed.
func (p *Process) Wait(timeout time.Duration) error {
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-p.done:
		return p.err
	case <-t.C:
		p.Kill()
		return fmt.Errorf("%s: after %v: %w, and was killed", p.name, timeout, ErrStillRuns)
	}
}

// Pid is the program's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Running says whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the status of a program that ended, -1 of one that runs or was killed.
func (p *Process) ExitCode() int {
	if p.Running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the program alone.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the program to end (TERM) and waits; after the timeout it is killed
// and an error says so. The error of the program itself is returned else.
func (p *Process) Stop(timeout time.Duration) error {
	if p.Running() {
		if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	return p.Wait(timeout)
}

// Kill ends the program and its children at once and waits until it is gone.
func (p *Process) Kill() {
	if p.Running() {
		_ = syscall.Kill(-p.Pid(), syscall.SIGKILL) // its own process group
	}
	<-p.done
}

// CPU is the processor time that a program that ended has used, user and system.
func (p *Process) CPU() time.Duration {
	if p.Running() {
		return 0
	}
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}
