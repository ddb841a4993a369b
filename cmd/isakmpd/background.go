package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// readyEnv tells the process in the background the number of the pipe that it
// closes when it is up.
const readyEnv = "ISAKMPD_READY_FD"

// background starts the daemon as a process of its own and waits until it is
// up, so that whoever started it learns whether it is.
func background(args []string, stderr io.Writer) int {
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		return exitError
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		return exitError
	}
	cmd := exec.Command(self, append([]string{"-d"}, args...)...)
	cmd.Env = append(os.Environ(), readyEnv+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = w // what start-up has to say comes through the pipe
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		return exitError
	}
	w.Close()
	said, _ := io.ReadAll(r)
	text, up := strings.CutSuffix(string(said), readyMark)
	if text = strings.TrimSpace(text); text != "" {
		fmt.Fprintln(stderr, text)
	}
	if !up {
		_ = cmd.Wait()
		return exitError
	}
	return exitOK
}

// readyMark is the last that goes through the pipe when all is well.
const readyMark = "\x06"

// readyPipe is the pipe of the parent, nil in the foreground. Closing it lets
// go of stderr too, which is the same pipe.
func readyPipe() io.Closer {
	if os.Getenv(readyEnv) != "3" {
		return nil
	}
	os.Unsetenv(readyEnv)
	syscall.CloseOnExec(3)
	return readyFile{os.NewFile(3, "ready")}
}

type readyFile struct{ f *os.File }

// Close says that we are up.
func (r readyFile) Close() error {
	_, _ = r.f.WriteString(readyMark)
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		_ = syscall.Dup2(int(null.Fd()), 2)
		null.Close()
	}
	return r.f.Close()
}
