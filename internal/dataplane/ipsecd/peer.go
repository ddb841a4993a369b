package ipsecd

import (
	"fmt"
	"net"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer is who is at the other end of a connection, as the kernel says.
type peer struct {
	pid, uid, gid int
	groups        []uint32 // supplementary ones
}

func (p peer) String() string { return fmt.Sprintf("process %d of user %d", p.pid, p.uid) }

func peerOf(c *net.UnixConn) (p peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if inner == nil {
			p = peer{pid: int(cred.Pid), uid: int(cred.Uid), gid: int(cred.Gid), groups: peerGroups(int(fd))}
		}
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return p, fmt.Errorf("who the client is cannot be found out: %w", err)
	}
	return p, nil
}

// maxGroups is the kernel's NGROUPS_MAX.
const maxGroups = 65536

// peerGroups are the supplementary groups that the client had when it connected;
// none when the kernel does not tell.
func peerGroups(fd int) []uint32 {
	groups := make([]uint32, 64)
	for {
		size := uint32(4 * len(groups))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4]
		case errno == unix.ERANGE && len(groups) < maxGroups:
			groups = make([]uint32, maxGroups)
		default:
			return nil
		}
	}
}

// allow lets root, this process's own user and the members of a group in.
func allow(group int) func(peer) error {
	own := os.Geteuid()
	return func(p peer) error {
		if p.uid == 0 || p.uid == own || group >= 0 && (p.gid == group || slices.Contains(p.groups, uint32(group))) {
			return nil
		}
		return fmt.Errorf("%s is neither root nor in the group of the control socket", p)
	}
}
