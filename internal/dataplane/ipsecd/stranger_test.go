package ipsecd

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asStranger runs f on a thread of a user that has nothing to say here. The
// thread ends with it.
func asStranger(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: nobody else gets this thread
		_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
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
