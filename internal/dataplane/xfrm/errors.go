package xfrm

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
)

// reasons say what the kernel's error numbers mean where we meet them, and what
// to do.
var reasons = []struct {
	errno unix.Errno
	text  string
	is    error // what callers tell apart
}{
	{unix.EPERM, "the kernel wants CAP_NET_ADMIN for this: run as root", nil},
	{unix.EACCES, "the kernel wants CAP_NET_ADMIN for this: run as root", nil},
	// What we have ourselves is known before the kernel is asked.
	{unix.EEXIST, "another program has one of that name in the kernel, which keeps one: 'ip xfrm state' and 'ip xfrm policy' show it, and it has to go first", nil},
	{unix.ESRCH, "the kernel has none of that name", dataplane.ErrNoSA},
	{unix.ENOENT, "the kernel has none of that name", nil},
	{unix.EPROTONOSUPPORT, "the kernel does not do this protocol or mode", dataplane.ErrUnsupported},
	{unix.ENOSYS, "the kernel does not know the algorithm", dataplane.ErrUnsupported},
	{unix.EAFNOSUPPORT, "the kernel does not have that address family", dataplane.ErrUnsupported},
	{unix.ENOBUFS, "the kernel told more than there was room for, and some of it is lost", nil},
	{unix.ENOMEM, "the kernel has no memory left", nil},
	{unix.EINVAL, "the kernel finds something wrong with it", nil},
}

// explain turns the kernel's refusal into a sentence. What callers tell apart
// by errors.Is stays so, the error number as well.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	said := ""
	if op, ok := errors.AsType[*netlink.OpError](err); ok && op.Message != "" {
		said = fmt.Sprintf(" (%q)", op.Message)
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("%s: %w", what, err)
	}
	for _, r := range reasons {
		switch {
		case r.errno != errno:
		case r.is != nil:
			return fmt.Errorf("%s: %s%s: %w: %w", what, r.text, said, errno, r.is)
		default:
			return fmt.Errorf("%s: %s%s: %w", what, r.text, said, errno)
		}
	}
	return fmt.Errorf("%s: the kernel refuses%s: %w", what, said, errno)
}
