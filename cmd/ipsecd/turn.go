package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// How long one who comes waits for one who goes, and how long somebody who is
// there is given to go: a tool that only looks has one started for a moment.
const (
	succession = 5 * time.Second
	settling   = time.Second
)

// takeTurn makes this process the only one that serves a socket, until it closes
// the file or ends. Of several that are started at once one gets it, and the
// others hear of that one. One that is about to end, and may still hold the port
// of encapsulation or what it has kept, is waited for.
func takeTurn(socket string) (*os.File, error) {
	f, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the control socket: the file that keeps two ipsecd apart: %w", err)
	}
	if err := waitTurn(f, socket); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func waitTurn(f *os.File, socket string) error {
	var since time.Time // when somebody was found to listen
	for end := time.Now().Add(succession); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		now := time.Now()
		switch there := listens(socket); {
		case !there && now.After(end):
			return fmt.Errorf("%s is held by another ipsecd, which neither listens nor ends: \"fuser %s\" tells which", f.Name(), f.Name())
		case !there:
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= settling:
			return fmt.Errorf("%s: another ipsecd listens there", socket)
		}
	}
}

func listens(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
