package ipsecd

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
)

func TestWhyIpsecdCannotBeReached(t *testing.T) {
	for err, says := range map[error]string{
		&fs.PathError{Err: unix.ENOENT}:                 "nobody listens at /run/x",
		fmt.Errorf("connecting: %w", unix.ECONNREFUSED): "systemctl start ipsecd",
		unix.EACCES:      fmt.Sprintf("user %d may not use /run/x: root may", os.Geteuid()),
		io.ErrNoProgress: io.ErrNoProgress.Error(),
		fmt.Errorf("x: %w: %w", dataplane.ErrClosed, io.EOF):     "why it hung up",
		fmt.Errorf("y: %w: %w", dataplane.ErrClosed, unix.EPIPE): "of another release",
	} {
		if got := Explain("/run/x", err); got == nil || !strings.Contains(got.Error(), says) {
			t.Errorf("%v: %v, want %q", err, got, says)
		}
	}
	if _, err := Dial(ctx, filepath.Join(t.TempDir(), "none"), NoEvents); !NotThere(err) {
		t.Errorf("%v", err)
	}
}

// dialer is an environment variable that makes this test's program another client of
// the socket that it names.
const dialer = "TEST_DIALS_IPSECD"

func TestAnotherClient(t *testing.T) {
	path := os.Getenv(dialer)
	if path == "" {
		return
	}
	c, err := Dial(ctx, path, AllEvents)
	must(t, err)
	fmt.Println("connected")
	<-c.Events() // until the server goes, or this process is killed
}

// Who closes a connection waits for the end of a process that was started for it
// alone, and for nothing else: not for one that others use, and not as a tool.
func TestClosingWaitsForTheRightOnes(t *testing.T) {
	path, s := serve(t, null.New(null.Options{}))
	ask := func(what string, want Events, waits bool) {
		t.Helper()
		c, err := Dial(ctx, path, want)
		must(t, err)
		got := c.leaves()
		c.transient = false // the server is this process, which does not end
		must(t, c.Close())
		if waits != (got != 0) || waits && got != os.Getpid() {
			t.Errorf("%s waits for process %d", what, got)
		}
	}
	ask("the client of a service", AllEvents, false)
	s.Transient = true
	ask("a tool", NoEvents, false)
	ask("the last key manager", AllEvents, true)
	other := exec.Command(os.Args[0], "-test.run=^TestAnotherClient$")
	other.Env = append(os.Environ(), dialer+"="+path)
	out, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	_, err = io.ReadFull(out, make([]byte, len("connected")))
	must(t, err)
	ask("one of two key managers", AllEvents, false)
}
