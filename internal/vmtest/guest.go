package vmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's command line carries firstEnv; the kernel gives it to its first
// process as an environment variable.
const firstEnv = "OAKLEY_VM_INIT"

// init takes over when this program is the first process of a guest: it is
// started long before any test would be.
func init() {
	if os.Getpid() == 1 && os.Getenv(firstEnv) != "" {
		first()
	}
}

// first is the guest's first process. It never returns.
func first() {
	runtime.LockOSThread()
	end := outcome{Boot: uptime().Seconds()}
	s := &speaker{}
	if err := firstRun(s, &end); err != nil {
		end.Trouble = err.Error()
	}
	if end.Trouble != "" || end.Status != 0 {
		end.Kernel = kernelLog()
	}
	end.MemFree, end.MemAll = memory()
	if s.w == nil { // it did not come as far as that; the console is all there is
		fmt.Println("vmtest:", end.Trouble)
	} else if err := errors.Join(s.say(message{Kind: sayEnd, End: &end}), s.drain()); err != nil {
		fmt.Println("vmtest: the end cannot be told:", err)
	}
	// The host ends the machine when it has read that, and does not wait for this.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func firstRun(s *speaker, end *outcome) error {
	if err := mounts(); err != nil {
		return err
	}
	port, err := openSerial("/dev/ttyS1")
	if err != nil {
		return err
	}
	s.w = port
	s.drain = func() error { return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) }
	raw, err := os.ReadFile(ourFolder + "/orders")
	if err != nil {
		return fmt.Errorf("the image was not unpacked to its end, memory is too small: %w", err)
	}
	var o orders
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	if err := complete(o.Sizes); err != nil {
		return err
	}
	for _, m := range o.Modules {
		if err := loadModule(m); err != nil {
			return err
		}
	}
	// Else the kernel starts a program for every module that it thinks might
	// exist, with each new cipher.
	if err := os.WriteFile("/proc/sys/kernel/modprobe", []byte("\n"), 0o644); err != nil {
		return err
	}
	if err := loopback(); err != nil {
		return err
	}
	end.Preparing = uptime().Seconds() - end.Boot
	if err := s.say(message{Kind: sayUp}); err != nil {
		return err
	}
	go func() {
		for range time.Tick(250 * time.Millisecond) {
			_ = s.say(message{Kind: sayBeat})
		}
	}()
	end.Status, err = runTests(s, port, &o)
	return err
}

// mounts makes the file systems that the kernel keeps itself.
func mounts() error {
	for _, m := range []struct{ at, kind, options string }{
		{"/proc", "proc", ""},
		{"/sys", "sysfs", ""},
		{"/dev", "devtmpfs", ""},
		{"/dev/pts", "devpts", "ptmxmode=0666"},
		{"/dev/shm", "tmpfs", ""},
		{"/run", "tmpfs", "mode=0755"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mounting %s: %w", m.at, err)
		}
	}
	// A host of a lab has mounts of its own; nothing of them may come back here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for link, to := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, link); err != nil {
			return err
		}
	}
	return nil
}

// complete finds out whether the kernel had room for the whole image: what it
// has none for it leaves out, or cuts off, without a word.
func complete(sizes map[string]int64) error {
	for name, size := range sizes {
		fi, err := os.Lstat("/" + name)
		if err != nil {
			return fmt.Errorf("the image was not unpacked whole, memory is too small: %w", err)
		}
		if fi.Mode().IsRegular() && fi.Size() != size {
			return fmt.Errorf("the image was not unpacked whole, memory is too small: /%s has %d bytes of %d", name, fi.Size(), size)
		}
	}
	return nil
}

// openSerial opens a serial port on which bytes pass as they are.
func openSerial(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func loadModule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("module %s does not load: %w", file, err)
	}
	return os.Remove(file) // the kernel has its copy; memory is short
}

func loopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// runTests starts the test program and sees it to its end. When it writes
// nothing for longer than its orders allow, or when the host has had enough, it is
// told to print its goroutines and end (SIGQUIT); in the first case it is killed
// if it does not.
func runTests(s *speaker, port io.Reader, o *orders) (status int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.Command(o.Argv[0], o.Argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = o.Dir, o.Env, w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("the test program does not start: %w", err)
	}
	var wrote atomic.Int64 // uptime of the last output
	wrote.Store(int64(uptime()))
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		b := make([]byte, 32<<10)
		for {
			n, err := r.Read(b)
			if n > 0 {
				wrote.Store(int64(uptime()))
				_ = s.say(message{Kind: sayOut, Text: b[:n]})
			}
			if err != nil {
				return
			}
		}
	}()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		if _, err := port.Read(make([]byte, 1)); err == nil { // whatever it is, it is enough
			_ = cmd.Process.Signal(syscall.SIGQUIT)
		}
	}()
	go watchQuiet(cmd.Process.Pid, o.Quiet, &wrote, ended, func(text string) {
		_ = s.say(message{Kind: sayOut, Text: []byte(text)})
	})
	status, err = reap(cmd.Process.Pid)
	select { // a daemon that the tests left behind may hold the pipe open
	case <-copied:
	case <-time.After(500 * time.Millisecond):
	}
	return status, err
}

// watchQuiet ends a test program that writes nothing for too long.
func watchQuiet(pid int, quiet time.Duration, wrote *atomic.Int64, ended <-chan struct{}, tell func(string)) {
	signals := []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL}
	allowed := quiet
	for {
		left := allowed - (uptime() - time.Duration(wrote.Load()))
		if left <= 0 {
			tell(fmt.Sprintf("\nvmtest: the tests have written nothing for %v: %v\n", quiet, signals[0]))
			_ = syscall.Kill(pid, signals[0])
			signals = signals[1:]
			if len(signals) == 0 {
				return
			}
			wrote.Store(int64(uptime()))
			allowed, left = 10*time.Second, 10*time.Second
		}
		select {
		case <-ended:
			return
		case <-time.After(left):
		}
	}
}

// reap waits for the test program, and on the way for every process that has
// lost its parent.
func reap(pid int) (status int, err error) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for the test program: %w", err)
		case got == pid && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case got == pid:
			return ws.ExitStatus(), nil
		}
	}
}

// uptime is the time since the guest's kernel started its clock.
func uptime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// kernelLog is the kernel's log from the start of the first process, at most
// 16 KiB of it.
func kernelLog() string {
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return ""
	}
	b := make([]byte, n)
	if n, err = unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b); err != nil {
		return ""
	}
	log := string(b[:n])
	if _, after, ok := strings.Cut(log, "Run /init as init process\n"); ok {
		log = after
	}
	return log[max(0, len(log)-16<<10):]
}

// memory is what is free and what there is, in bytes.
func memory() (free, all int64) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d", &kib); n == 1 {
			free = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "MemTotal: %d", &kib); n == 1 {
			all = kib << 10
		}
	}
	return free, all
}
