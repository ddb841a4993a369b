// Package launch finds the program ipsecd and starts it: a data plane that goes on
// when whoever started it ends, as long as it has anything to keep. Tools reach the
// data plane through it: where nobody listens and the kernel has IPsec, an ipsecd is
// started that keys the kernel.
package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/ipsecd"
)

// Find looks for ipsecd beside this program, then where programs are.
func Find() (string, error) {
	self, err := os.Executable()
	if err == nil {
		if beside := filepath.Join(filepath.Dir(self), "ipsecd"); unix.Access(beside, unix.X_OK) == nil {
			return beside, nil
		}
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path := filepath.Join(dir, "ipsecd"); filepath.IsAbs(path) && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no program ipsecd, neither beside %s nor in PATH", filepath.Base(self))
}

// patience is how long ipsecd may take to listen.
const patience = 10 * time.Second

// Request says how an ipsecd is to be started.
type Request struct {
	Program string // from Find
	Socket  string
	Args    []string      // more flags of ipsecd(8)
	Stderr  *os.File      // nil: what it writes until it listens is part of the error
	Events  ipsecd.Events // that the client takes
}

// Start starts an ipsecd and connects to it. When somebody else's was first, the
// connection is to that one.
func Start(ctx context.Context, r Request) (*ipsecd.Client, error) {
	c, _, err := r.start(ctx)
	return c, err
}

// start is Start; the channel tells when the process has ended.
func (r *Request) start(ctx context.Context) (*ipsecd.Client, <-chan error, error) {
	var said bounded
	cmd := exec.Command(r.Program, append([]string{"--transient", "--socket", r.Socket}, r.Args...)...)
	cmd.Dir, cmd.Stderr, cmd.Env = "/", &said, environment()
	if r.Stderr != nil {
		cmd.Stderr = r.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keepFiles(); err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting %s: %w", r.Program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timeout := time.After(patience)
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case err := <-ended:
			// Somebody else's may have been first.
			if c, e := ipsecd.Dial(ctx, r.Socket, r.Events); e == nil {
				return c, nil, nil
			}
			return nil, nil, r.failed(err, &said)
		case <-timeout:
			return nil, nil, fmt.Errorf("%s does not listen at %s after %v", r.Program, r.Socket, patience)
		case <-time.After(10 * time.Millisecond):
		}
		if c, err := ipsecd.Dial(ctx, r.Socket, r.Events); err == nil {
			return c, ended, nil
		}
	}
}

// keepFiles keeps what a shell has opened for this process from one that goes on
// after it: a pipe that somebody reads to its end, a file that is locked.
func keepFiles() error {
	err := unix.CloseRange(3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil || !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	files, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	for _, f := range files {
		var fd int
		if _, err := fmt.Sscan(f.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

// environment is ours, without what a service manager wants to hear from us.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "WATCHDOG_") || strings.HasPrefix(v, "LISTEN_")
	})
}

// failed says why ipsecd ended before it listened.
func (r *Request) failed(err error, said *bounded) error {
	if err == nil {
		err = errors.New("it ended")
	}
	if r.Stderr != nil {
		return fmt.Errorf("%s did not start: %w; what it wrote says why", r.Program, err)
	}
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "ipsecd: ")
	}
	return fmt.Errorf("%s did not start: %w: %s", r.Program, err, strings.Join(lines, "; "))
}

// bounded keeps the beginning of what a program writes. Wait of os/exec orders
// its use.
type bounded struct{ buf bytes.Buffer }

const mostSaid = 4096

func (b *bounded) Write(p []byte) (int, error) {
	b.buf.Write(p[:min(len(p), mostSaid-b.buf.Len())])
	return len(p), nil
}

func (b *bounded) String() string { return b.buf.String() }

var _ io.Writer = (*bounded)(nil)
