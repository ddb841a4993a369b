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
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

// commandLine is the kernel's. Everything in it saves time at start but for
// panic=-1 and oops=panic, which end the machine when the kernel is in trouble,
// and rootfstype: the first root file system otherwise takes half of the memory
// and no more, and silently leaves out files that do not fit. Measuring the clocks
// against each other is the slowest thing that the kernel does at start; the
// TSC has the rate that the option for clock below gives it.
const commandLine = "console=ttyS0 panic=-1 oops=panic quiet loglevel=4 " +
	"tsc=reliable tsc_early_khz=1000000 nolapic_timer no_timer_check cryptomgr.notests " +
	"mitigations=off nokaslr lsm= noreplace-smp rootfstype=ramfs " + firstEnv + "=1"

// clock makes the machine's time a matter of what it does: an instruction takes
// two nanoseconds, and when it waits the time until something happens is left
// out. So a busy computer makes the tests slow and not wrong, and a minute in
// which nothing is to happen passes at once.
var clock = []string{"-icount", "shift=1,sleep=off", "-rtc", "clock=vm"}

// running is a machine that was started.
type running struct {
	cmd     *exec.Cmd
	stderr  tail
	console tail
	ended   chan struct{} // qemu is gone
	err     error         // of qemu, then
	ports   sync.WaitGroup
	wire    *os.File

	mu      sync.Mutex
	life    time.Time // when the machine last said anything, on any port
	up      time.Time // when the tests started
	spoke   time.Time // when they first wrote something
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
	var wireEnd *os.File
	r.wire, wireEnd, err = socketPair()
	if err != nil {
		return nil, errors.Join(err, console.Close(), consoleEnd.Close())
	}
	// TCG: /dev/kvm is there on machines where guests die in it. Few features of
	// the processor: each is looked at and patched in at start. Without rdrand the
	// first random number takes a second.
	args := []string{
		"-accel", "tcg", "-cpu", "qemu64,+rdrand", "-M", "pc", "-smp", "1", "-m", strconv.Itoa(memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", k.image, "-initrd", initrd, "-append", commandLine,
		"-chardev", "socket,id=console,fd=3", "-serial", "chardev:console",
		"-chardev", "socket,id=wire,fd=4", "-serial", "chardev:wire",
	}
	r.cmd = exec.Command(program, append(args, clock...)...)
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
		return nil, errors.Join(fmt.Errorf("%s does not start: %w", qemu, err), console.Close(), r.wire.Close())
	}
	r.ports.Go(func() { r.listenConsole(console) })
	r.ports.Go(func() { r.listen(r.wire, out) })
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
			r.mu.Lock()
			if r.spoke.IsZero() {
				r.spoke = time.Now()
			}
			r.mu.Unlock()
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

// cpu is the processor time that qemu has used; it has ended.
func (r *running) cpu() time.Duration {
	return r.cmd.ProcessState.UserTime() + r.cmd.ProcessState.SystemTime()
}

// kill ends qemu; the machine has no disk that could be harmed.
func (r *running) kill() { _ = r.cmd.Process.Kill() }

// enough is what we say to a machine whose tests have to end, and grace how long
// they have for it.
const (
	enough = "q"
	grace  = 20 * time.Second
)

// wait waits for the machine's end, and sees to it that it comes. A machine that
// has said nothing, on any port, for longer than silence is killed: its first
// process says something in every part of a second of the machine's own time,
// however slow that is. When the deadline comes, if there is one, the tests are
// told to print what they are doing and to end.
func (r *running) wait(silence time.Duration, deadline func(spoke time.Time) time.Time) error {
	tick := time.NewTicker(min(silence/20, time.Second))
	defer tick.Stop()
	var trouble error
	var kill time.Time
	for {
		select {
		case <-r.ended:
			r.ports.Wait()
			return trouble
		case now := <-tick.C:
			r.mu.Lock()
			quiet, spoke := now.Sub(r.life), r.spoke
			r.mu.Unlock()
			switch end := deadline(spoke); {
			case quiet > silence && trouble == nil:
				trouble = fmt.Errorf("the machine hangs: it has said nothing for %v, not even its heartbeat", quiet.Round(time.Second))
				r.kill()
			case !kill.IsZero() && now.After(kill):
				r.kill()
			case kill.IsZero() && !end.IsZero() && now.After(end):
				trouble = errors.New("the time that the tests have is over (go test -timeout)")
				_, _ = r.wire.WriteString(enough)
				kill = now.Add(grace)
			}
		}
	}
}

// turnWait is how long a machine waits for its turn.
const turnWait = 2 * time.Minute

// aTurn holds back all but as many machines of this user as this computer has
// processors, until free is called: more of them share the processors and all are
// late. A machine that has waited for long goes on nevertheless; being late is no
// harm.
func aTurn() (free func(), err error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	var turns []*os.File
	leave := func() {
		for _, f := range turns {
			f.Close()
		}
	}
	for i := range runtime.NumCPU() {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("lock%d", i)), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil {
			leave()
			return nil, err
		}
		turns = append(turns, f)
	}
	lab.Until(turnWait, func() bool {
		return slices.ContainsFunc(turns, func(f *os.File) bool {
			return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		})
	})
	return leave, nil
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
