package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// A Go program cannot fork, so going to the background is starting ourselves
// again in a session of its own. The one that the user started waits until the
// other says that it works, shows what it had to say until then, and ends with
// its result: who starts the daemon from a script knows whether it runs.

// readyEnv tells the second process that it is one, and the descriptor on which
// the first one waits.
const (
	readyEnv = "ISAKMPD_READY_FD"
	readyFD  = "3"
)

// startup is the second process' line to the first.
type startup struct{ pipe *os.File }

// startedBy returns the line to the process that started us in the background;
// nil when a user did.
func startedBy() *startup {
	if os.Getenv(readyEnv) != readyFD {
		return nil
	}
	_ = os.Unsetenv(readyEnv)
	unix.CloseOnExec(3)
	return &startup{pipe: os.NewFile(3, "start-up")}
}

// ready tells that start-up succeeded. What is printed to stderr from then on is
// for nobody.
func (s *startup) ready() {
	if s == nil {
		return
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		_ = unix.Dup3(int(null.Fd()), 2, 0)
		_ = null.Close()
	}
	_, _ = s.pipe.Write([]byte{1})
	_ = s.pipe.Close()
}

// background starts us again and waits for the result of start-up.
func background(args []string, stderr io.Writer) int {
	err := startAgain(args, stderr)
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() && exit.ExitCode() > 0 {
		return exit.ExitCode() // it said why
	}
	fmt.Fprintf(stderr, "isakmpd: the background process did not start: %v\n", err)
	return exitFailed
}

func startAgain(args []string, stderr io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	told, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer told.Close()
	said, say, err := os.Pipe()
	if err != nil {
		_ = tell.Close()
		return err
	}
	defer said.Close()
	cmd := exec.Command(self, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), readyEnv+"="+readyFD)
	cmd.Stderr = say
	cmd.ExtraFiles = []*os.File{tell} // descriptor 3 there
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = tell.Close()
	_ = say.Close()
	if err != nil {
		return err
	}
	// Both ends when it is ready, or when it has died.
	_, _ = io.Copy(stderr, said)
	if n, _ := told.Read(make([]byte, 1)); n == 1 {
		return cmd.Process.Release()
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("it ended without a word")
}
