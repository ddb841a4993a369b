package ipsecd

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is a unix socket that listens.
type Listener interface {
	AcceptUnix() (*net.UnixConn, error)
}

// passing are the errors of accept(2) that are over when somebody has closed
// something, or at once.
var passing = []error{
	unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR, unix.EAGAIN, unix.EPERM,
}

// Pauses after an error of accept(2).
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// Serve takes clients until the listener is closed. When the process or the
// system has no room for another one it waits until there is.
func (s *Server) Serve(l Listener) error {
	pause := time.Duration(0)
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			pause = 0
			s.wg.Go(func() { s.client(c) })
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		case !slices.ContainsFunc(passing, func(p error) bool { return errors.Is(err, p) }):
			return fmt.Errorf("the control socket: %w", err)
		}
		if pause == 0 {
			s.log.Warn("the control socket takes no clients for the moment", "err", err)
		}
		pause = min(max(firstPause, 2*pause), lastPause)
		select {
		case <-time.After(pause):
		case <-s.stop:
			return nil
		}
	}
}
