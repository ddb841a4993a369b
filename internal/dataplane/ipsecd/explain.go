package ipsecd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
)

// Explain adds to an error of Dial, with the socket's path, what a person can do
// about it.
func Explain(socket string, err error) error {
	switch {
	case NotThere(err):
		return fmt.Errorf("ipsecd does not run: nobody listens at %s. \"systemctl start ipsecd\" or \"ipsecd &\" starts one, and so does isakmpd, unless its Data-plane is isakmpd; -S names another socket", socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("user %d may not use %s: root may, and the members of the group that ipsecd was started with (--group)", os.Geteuid(), socket)
	case errors.Is(err, dataplane.ErrClosed):
		return fmt.Errorf("%w; ipsecd says in its log why it hung up: this user may not use it (see its --group), it has too many clients, or it is of another release", err)
	}
	return err
}

// NotThere tells whether an error of Dial means that nobody listens.
func NotThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}
