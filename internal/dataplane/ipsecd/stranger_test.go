package ipsecd

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/null"
	"oakley/internal/lab"
)

// Whoever is neither root nor in the group is sent away, whatever the file's mode
// lets through.
func TestStrangersAreSentAway(t *testing.T) {
	for _, c := range []struct {
		p    peer
		in   int
		want bool
	}{
		{peer{uid: 0}, -1, true},
		{peer{uid: os.Geteuid()}, -1, true},
		{peer{uid: 4242, gid: 0}, -1, false},
		{peer{uid: 4242, gid: 77}, 77, true},
		{peer{uid: 4242, gid: 78, groups: []uint32{1, 77}}, 77, true},
		{peer{uid: 4242, gid: 78, groups: []uint32{1, 79}}, 77, false},
	} {
		if err := allow(c.in)(c.p); (err == nil) != c.want {
			t.Errorf("%+v in group %d: %v", c.p, c.in, err)
		}
	}
	lab.Need(t, "root")
	dir, err := os.MkdirTemp("/tmp", "ipsecd-stranger-") // the test's own folder may be in a closed one
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "sock")
	serveAt(t, path, 77, null.New(null.Options{}))
	must(t, os.Chmod(path, 0o777))
	for _, c := range []struct {
		groups   []uint32
		answered bool
	}{{nil, false}, {[]uint32{78}, false}, {[]uint32{78, 77}, true}} {
		if answered := asks(t, path, c.groups); answered != c.answered {
			t.Errorf("a stranger with the groups %v was answered: %t", c.groups, answered)
		}
	}
}

// asks tells whether a stranger with these supplementary groups is answered.
func asks(t *testing.T, path string, groups []uint32) bool {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(t, err)
	defer syscall.Close(fd)
	asStranger(t, groups, func() error { return syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}) })
	f, err := frame(&request{ID: 1, Op: opHello, Version: version})
	must(t, err)
	_, _ = syscall.Write(fd, f) // it may be closed already
	must(t, syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 10}))
	n, err := syscall.Read(fd, make([]byte, 100))
	if errors.Is(err, syscall.EAGAIN) {
		t.Fatal("neither answered nor sent away")
	}
	return n > 0
}

// asStranger runs f on a thread of a user that has nothing to say here. The
// thread ends with it.
func asStranger(t *testing.T, groups []uint32, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: nobody else gets this thread
		_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
		if e == 0 {
			_, _, e = unix.RawSyscall(unix.SYS_SETRESGID, 4242, 4242, 4242)
		}
		if e == 0 {
			_, _, e = unix.RawSyscall(unix.SYS_SETRESUID, 4242, 4242, 4242)
		}
		if e != 0 {
			done <- e
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
