package vmtest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// commandLine is the kernel's. Everything in it saves time at start but for
// panic=-1 and oops=panic, which end the machine when the kernel is in trouble;
// clocksource, for the kernel guesses the rate of the TSC wrong when this machine
// is busy at that moment, and clocks then run at twice their speed; and
// rootfstype: the first root file system otherwise takes half of the memory and
// no more, and silently leaves out files that do not fit.
const commandLine = "console=ttyS0 panic=-1 oops=panic quiet loglevel=4 tsc=reliable clocksource=hpet no_timer_check cryptomgr.notests " +
	"mitigations=off nokaslr lsm= noreplace-smp rootfstype=ramfs " + firstEnv + "=1"

// running is a machine that was started.
type running struct {
	cmd     *exec.Cmd
	stderr  tail
	console tail
	ended   chan struct{} // qemu is gone
	err     error         // of qemu, then
	ports   sync.WaitGroup

	mu      sync.Mutex
	life    time.Time // when the machine last said anything, on any port
	up      time.Time // when the tests started
	outcome *outcome
}

// start runs qemu and hands what the tests write to out, which is called from
// one goroutine. The machine is killed by stop, and by the kernel if this process
// ends without that.
func start(k kernel, initrd string, memory int, out func(text string)) (*running, error) {
	program, err := lab.Program(qemu)
	if err != nil {
		return nil, err
	}
	r := &running{ended: make(chan struct{}), life: time.Now()}
	console, consoleEnd, err := socketPair()
	if err != nil {
		return nil, err
	}
	wire, wireEnd, err := socketPair()
	if err != nil {
		return nil, errors.Join(err, console.Close(), consoleEnd.Close())
	}
	// TCG: /dev/kvm is there on machines where guests die in it. Few features of
	// the processor: each is looked at and patched in at start. Without rdrand the
	// first random number takes a second.
	r.cmd = exec.Command(program, "-accel", "tcg", "-cpu", "qemu64,+rdrand", "-M", "pc", "-smp", "1", "-m", strconv.Itoa(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", k.image, "-initrd", initrd, "-append", commandLine,
		"-chardev", "socket,id=console,fd=3", "-serial", "chardev:console",
		"-chardev", "socket,id=wire,fd=4", "-serial", "chardev:wire")
	r.cmd.ExtraFiles = []*os.File{consoleEnd, wireEnd}
	r.cmd.Stderr = &r.stderr
	r.cmd.WaitDelay = 2 * time.Second
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	begun := make(chan error, 1)
	go func() { // qemu is killed when the thread that started it ends
		runtime.LockOSThread()
		err := r.cmd.Start()
		consoleEnd.Close()
		wireEnd.Close()
		begun <- err
		if err == nil {
			r.err = r.cmd.Wait()
			close(r.ended)
		}
	}()
	if err := <-begun; err != nil {
		return nil, errors.Join(fmt.Errorf("%s does not start: %w", qemu, err), console.Close(), wire.Close())
	}
	r.ports.Go(func() { r.listenConsole(console) })
	r.ports.Go(func() { r.listen(wire, out) })
	return r, nil
}

// socketPair is a two-way pipe; our end can be waited on by the runtime.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("a pair of sockets: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "guest"), os.NewFile(uintptr(fds[1]), "port"), nil
}

func (r *running) alive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.life = time.Now()
}

func (r *running) listenConsole(port *os.File) {
	defer port.Close()
	b := make([]byte, 4096)
	for {
		n, err := port.Read(b)
		_, _ = r.console.Write(b[:n])
		if err != nil {
			return
		}
		r.alive()
	}
}

// listen reads the guest's messages until its machine ends.
func (r *running) listen(port *os.File, out func(string)) {
	defer port.Close()
	lines := bufio.NewReaderSize(port, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		r.alive()
		var m message
		if json.Unmarshal(line, &m) != nil {
			fmt.Fprintf(&r.console, "[the guest said %q]\n", line)
			continue
		}
		switch m.Kind {
		case sayUp:
			r.mu.Lock()
			r.up = time.Now()
			r.mu.Unlock()
		case sayOut:
			out(string(m.Text))
		case sayEnd:
			r.mu.Lock()
			r.outcome = m.End
			r.mu.Unlock()
			r.kill() // it has nothing more to do; powering off takes a while
			return
		}
	}
}

// kill ends qemu; the machine has no disk that could be harmed.
func (r *running) kill() { _ = r.cmd.Process.Kill() }

// wait waits for the machine's end. A machine that has said nothing, on any
// port, for longer than silence is killed: its first process says something each
// second of the machine's own time, however slow that is.
func (r *running) wait(silence time.Duration) error {
	tick := time.NewTicker(silence / 20)
	defer tick.Stop()
	var hung error
	for {
		select {
		case <-r.ended:
			r.ports.Wait()
			return hung
		case <-tick.C:
			r.mu.Lock()
			quiet := time.Since(r.life)
			r.mu.Unlock()
			if quiet > silence && hung == nil {
				hung = fmt.Errorf("the machine hangs: it has said nothing for %v, not even its heartbeat", quiet.Round(time.Second))
				r.kill()
			}
		}
	}
}

// oneAtATime holds back all but one machine of this user on this computer, until
// free is called: two of them would share the processors and both be late.
func oneAtATime() (free func(), err error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return func() { f.Close() }, nil
	}
}

// cacheDir is a folder of this user's for what is worth keeping between runs.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil { // no HOME
		base = filepath.Join(os.TempDir(), "cache-"+strconv.Itoa(os.Getuid()))
	}
	dir := filepath.Join(base, "oakley-vmtest")
	return dir, os.MkdirAll(dir, 0o700)
}

// tail keeps the last 64 KiB written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

var _ io.Writer = (*tail)(nil)

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append([]byte(nil), t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b[max(0, len(t.b)-tailSize):])
}
