package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// identity is who this process becomes, and whose the socket is.
type identity struct {
	user     string
	uid, gid int
	group    int // of the socket; -1: none
}

func (f *flags) identity() (id identity, err error) {
	id = identity{user: f.user, group: -1}
	if f.group != "" {
		g, err := user.LookupGroup(f.group)
		if err != nil {
			return id, fmt.Errorf("--group: %w", err)
		}
		if id.group, err = strconv.Atoi(g.Gid); err != nil {
			return id, fmt.Errorf("--group %s has the number %q", f.group, g.Gid)
		}
	}
	u, err := user.Lookup(f.user)
	if err != nil {
		return id, fmt.Errorf("--user: %w", err)
	}
	id.uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		id.gid, err = strconv.Atoi(u.Gid)
	}
	return id, err
}

// listen makes the control socket. One that nobody listens at is left from a
// process that died.
func listen(path string, group int) (*net.UnixListener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another ipsecd listens there", path)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("the socket of an ipsecd that is gone: %w", err)
		}
	}
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	if group < 0 {
		return l, nil
	}
	if err := errors.Join(os.Chown(path, -1, group), os.Chmod(path, 0o660)); err != nil {
		l.Close()
		return nil, fmt.Errorf("the control socket: %w", err)
	}
	return l, nil
}

// folder makes the folder for what we write later, and gives it to whom we
// become. One that is there is only taken over from root or from that user.
func (id identity) folder() error {
	if err := os.Mkdir(runDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(runDir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", runDir, err)
	}
	if st.Uid != 0 && int(st.Uid) != id.uid {
		return fmt.Errorf("%s belongs to user %d, expected root or %s: remove it", runDir, st.Uid, id.user)
	}
	if int(st.Uid) == id.uid && int(st.Gid) == id.gid {
		return nil
	}
	if err := f.Chown(id.uid, id.gid); err != nil && !inUserNamespace() { // in which we stay who we are
		return err
	}
	return nil
}

// Numbers of capabilities(7).
const (
	capNetAdmin = 12 // routes, packet filter
	capLast     = 63
)

// become gives everything up but the right to change routes and filters, in all
// threads.
func (id identity) become(log *slog.Logger) error {
	if id.uid == 0 {
		return nil
	}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_GET_KEEPCAPS, 0, 0); e == unix.ENOTSUP {
		return errors.New("this ipsecd was built with cgo, with which rights cannot be given up in all threads: build it with CGO_ENABLED=0 (make build does), or keep all rights with --user root")
	}
	for c := range uintptr(capLast + 1) {
		if c == capNetAdmin {
			continue
		}
		if _, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); e != 0 {
			break // no further one in this kernel
		}
	}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); e != 0 {
		return fmt.Errorf("keeping capabilities: %w", e)
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(id.gid, id.gid, id.gid)); err != nil {
		return id.stays(log, err)
	}
	if err := syscall.Setresuid(id.uid, id.uid, id.uid); err != nil {
		return id.stays(log, err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: 1 << capNetAdmin, Permitted: 1 << capNetAdmin}}
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0); e != 0 {
		return fmt.Errorf("giving capabilities up: %w", e)
	}
	if _, _, e := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); e != 0 {
		return fmt.Errorf("no new privileges: %w", e)
	}
	return nil
}

// stays is for a user namespace in which there is no other user to become: its
// root has no rights outside.
func (id identity) stays(log *slog.Logger, err error) error {
	if !errors.Is(err, unix.EINVAL) && !inUserNamespace() {
		return fmt.Errorf("becoming user %s: %w", id.user, err)
	}
	log.Warn("ipsecd stays the user that it is: the user namespace has no other", "wanted", id.user, "err", err)
	return nil
}

// inUserNamespace tells whether not all users of the machine are there.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	var inside, outside, n uint64
	if err != nil {
		return false
	}
	_, err = fmt.Sscan(string(b), &inside, &outside, &n)
	return err == nil && n < 1<<32-1
}
