package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// This program is also the ipsecd that is found beside it, with a data plane that
// does nothing, and a tool.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "ipsecd":
		exit(process(os.Args[1:]))
	case "a-tool":
		exit(aTool(os.Args[1:]))
	}
	dir, err := os.MkdirTemp("", "launch")
	if err != nil {
		exit(err)
	}
	os.Setenv("SOCKETS", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ipsecd:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process is an ipsecd without a data plane. It writes its pid beside its socket.
func process(args []string) error {
	socket := args[2]
	if want := "--transient --socket " + socket + " --plane kernel --syslog"; strings.Join(args, " ") != want {
		return fmt.Errorf("called with %q, want %q", args, want)
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		return errors.New("it could tell a service manager that the tool is ready")
	}
	if why := os.Getenv("REFUSES"); why != "" {
		return errors.New(why + "\nand more")
	}
	// Whoever finds the name there finds somebody who listens.
	own := filepath.Join(os.Getenv("SOCKETS"), fmt.Sprint(os.Getpid()))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: own})
	if err == nil {
		err = os.Link(own, socket)
	}
	if err != nil {
		return err
	}
	pids, err := os.OpenFile(socket+".pids", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fmt.Fprintln(pids, os.Getpid())
	plane := null.New(null.Options{})
	s := ipsecd.NewServer(plane, -1, nil)
	s.Transient = true
	go func() { _ = s.Serve(l) }()
	for range s.Left() {
		if s.Retire(func() bool { empty, err := ipsecd.Empty(context.Background(), plane); return err == nil && empty }) {
			break
		}
	}
	return errors.Join(os.Remove(socket), l.Close())
}

// aTool does as ipsecadm: it makes SAs and says so.
func aTool(args []string) error {
	c, err := tool(context.Background(), args[0], args[0], func() error { return nil })
	if err != nil {
		return err
	}
	defer c.Close()
	for _, arg := range args[1:] {
		n, err := strconv.ParseUint(arg, 10, 32)
		if err != nil {
			return err
		}
		if err := c.AddSA(context.Background(), sa(ipsec.SPI(n))); err != nil {
			return err
		}
		fmt.Println("made", n)
	}
	return nil
}

func sa(spi ipsec.SPI) *ipsec.SA {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	return &ipsec.SA{
		ID: ipsec.SAID{Proto: ipsec.ProtoAH, SPI: spi, Dst: b}, Src: a, Auth: ipsec.AuthHMACSHA1, AuthKey: make([]byte, 20), Owner: ipsec.OwnerManual,
	}
}

const inTime = 15 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// place is a folder with a socket's path, and ipsecd where it is found.
func place(t *testing.T) (socket string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	must(t, err)
	for _, name := range []string{"ipsecd", "a-tool"} {
		must(t, os.Symlink(self, filepath.Join(dir, name)))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	socket = filepath.Join(dir, "sock")
	t.Cleanup(func() {
		for _, pid := range started(t, socket) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return socket
}

// started are the processes that have listened at a socket.
func started(t *testing.T, socket string) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(socket + ".pids")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		must(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// gone tells whether a process has ended; of our own child something may be left.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(text, []byte(") Z "))
}

func can() error { return nil }

// A tool that finds nobody starts an ipsecd, which is gone with it when there is
// nothing to keep, and else stays for the next.
func TestStartedForATool(t *testing.T) {
	socket := place(t)
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	c, err := tool(t.Context(), socket, socket, can)
	must(t, err)
	must(t, c.Close())
	first := started(t, socket)
	if len(first) != 1 || !gone(first[0]) {
		t.Fatalf("%v are there after a look at nothing", first)
	}
	c, err = tool(t.Context(), socket, socket, can)
	must(t, err)
	must(t, c.AddSA(t.Context(), sa(0x1001)))
	must(t, c.Close())
	c, err = tool(t.Context(), socket, socket, can)
	must(t, err)
	st, err := c.Dump(t.Context(), dataplane.Query{})
	must(t, err)
	pids := started(t, socket)
	if len(st.SAs) != 1 || len(pids) != 2 || gone(pids[1]) {
		t.Errorf("%d SAs of %d processes", len(st.SAs), len(pids))
	}
	must(t, c.Flush(t.Context(), ipsec.OwnerAny))
	must(t, c.Close())
	lab.Eventually(t, inTime, "it ends when nobody needs it", func() bool { return gone(pids[1]) })
}

// What a tool prints ends with it, although the ipsecd goes on: also when it goes
// through files that a shell has opened.
func TestPipesEnd(t *testing.T) {
	socket := place(t)
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd := exec.Command("sh", "-c", `out=$(a-tool "$0" 7 9>&3 2>&1); echo "it printed: $out"`, socket)
	cmd.ExtraFiles = []*os.File{w} // is 3
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	select {
	case err := <-done:
		must(t, errors.Join(err, w.Close()))
	case <-time.After(inTime):
		t.Fatal("the shell waits for the end of the output of a tool that has ended")
	}
	if out.String() != "it printed: made 7\n" {
		t.Errorf("%q", out.String())
	}
	must(t, r.SetReadDeadline(time.Now().Add(inTime)))
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("file 3 of the shell is still open somewhere: %v", err)
	}
	if pids := started(t, socket); len(pids) != 1 || gone(pids[0]) {
		t.Errorf("%v: one is to go on", pids)
	}
}

// Tools that come at the same time all find the same ipsecd.
func TestToolsAtOnce(t *testing.T) {
	socket := place(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if out, err := exec.Command("a-tool", socket, fmt.Sprint(0x1000+i)).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	c, err := tool(t.Context(), socket, socket, can)
	must(t, err)
	defer c.Close()
	st, err := c.Dump(t.Context(), dataplane.Query{})
	must(t, err)
	if pids := started(t, socket); len(st.SAs) != 8 || len(pids) != 1 {
		t.Errorf("%d SAs of 8, and %d processes", len(st.SAs), len(pids))
	}
}

// One after the other, each of which takes away what the one before has made: an
// ipsecd that is about to end turns nobody away.
func TestToolsInTurn(t *testing.T) {
	socket := place(t)
	for range 50 {
		c, err := tool(t.Context(), socket, socket, can)
		must(t, err)
		must(t, c.AddSA(t.Context(), sa(0x1001)))
		must(t, c.Close())
		c, err = tool(t.Context(), socket, socket, can)
		must(t, err)
		must(t, c.DeleteSA(t.Context(), sa(0x1001).ID))
		must(t, c.Close())
	}
}

func TestWhyNobodyIsStarted(t *testing.T) {
	socket := place(t)
	cannot := func() error { return errors.New("this kernel has no ESP") }
	for _, c := range []struct {
		name, socket string
		usable       func() error
		refuses      string
		path         string
		says         []string
	}{
		{"no kernel", socket, cannot, "", "", []string{"ipsecd does not run: nobody listens at " + socket, "systemctl start ipsecd", "The kernel's own IPsec", "this kernel has no ESP"}},
		{"another socket", socket + ".other", can, "", "", []string{"nobody listens at " + socket + ".other"}},
		{"no program", socket, can, "", "/nowhere", []string{"ipsecd does not run", "there is no program ipsecd"}},
		{"it ends", socket, can, "UDP port 4500 is taken", "", []string{"an ipsecd for the kernel's IPsec could not be started: ", "exit status 1: UDP port 4500 is taken; and more"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("REFUSES", c.refuses)
			if c.path != "" {
				t.Setenv("PATH", c.path)
			}
			_, err := tool(t.Context(), c.socket, socket, c.usable)
			if err == nil {
				t.Fatal("somebody was started")
			}
			for _, says := range c.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v\nhas no %q", err, says)
				}
			}
			if strings.Contains(err.Error(), "kernel") == (c.socket != socket) {
				t.Errorf("%v", err)
			}
		})
	}
	if pids := started(t, socket); len(pids) != 0 {
		t.Errorf("%v listen", pids)
	}
}
