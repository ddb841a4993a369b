// Isakmpd is the IKEv1 daemon: it negotiates ISAKMP and IPsec SAs with its peers
// by isakmpd.conf(5) and carries the traffic that they protect.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"oakley/internal/daemon"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // the configuration is bad, a port taken, a right missing
	exitUsage  = 2 // the command line is bad
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fl, err := parseFlags(args, stdout)
	if errors.Is(err, errHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "isakmpd: %v\n%s", err, usageLine)
		return exitUsage
	}
	if fl.check {
		return check(fl, stdout, stderr)
	}
	child := startedBy()
	if !fl.foreground && child == nil {
		return background(args, stderr)
	}
	protect()
	if err := serve(fl, stderr, child); err != nil {
		return exitFailed
	}
	return exitOK
}

// protect keeps keys out of core files, and what we write to ourselves.
func protect() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // lowering is always allowed
	unix.Umask(0o077)
}

// check is --check: it says what the daemon would make of the configuration.
func check(fl *flags, stdout, stderr io.Writer) int {
	opt := fl.options()
	if err := daemon.Check(opt, stdout, stderr, isTerminal(stderr)); err != nil {
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("NO_COLOR") == ""
}

// serve runs the daemon until it is told to end. An error has been printed.
func serve(fl *flags, stderr io.Writer, child *startup) error {
	opt := fl.options()
	opt.Log = daemon.NewLog(daemon.NewText(stderr))
	if child != nil {
		sys, err := daemon.NewSyslog(daemon.SyslogSocket, "isakmpd")
		if err != nil {
			fmt.Fprintf(stderr, "isakmpd: warning: %v\n", err)
		}
		defer sys.Close()
		opt.Log = daemon.NewLog(sys)
		if err := leaveFolder(&opt.Config); err != nil {
			fmt.Fprintf(stderr, "isakmpd: %v\n", err)
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// A signal that comes while we start waits until there is somebody to obey.
	sig := make(chan os.Signal, 8)
	signal.Notify(sig, unix.SIGHUP, unix.SIGUSR1, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(sig)
	d, err := daemon.New(ctx, opt)
	if err != nil {
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		if child != nil {
			opt.Log.Error(err.Error())
		}
		return err
	}
	stop := handleSignals(sig, d, cancel, fl.foreground)
	defer stop()
	child.ready()
	return d.Run(ctx)
}

// leaveFolder lets go of the folder in which a background process was started;
// the configuration is still found from there.
func leaveFolder(config *string) error {
	path, err := filepath.Abs(*config)
	if err != nil {
		return err
	}
	*config = path
	return os.Chdir("/")
}

// handleSignals turns signals into requests; stop ends that. A second TERM or INT
// does not wait for the first one's work.
func handleSignals(sig <-chan os.Signal, d *daemon.Daemon, cancel func(), foreground bool) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ending := false
		for {
			select {
			case <-done:
				return
			case s := <-sig:
				switch {
				case s == unix.SIGHUP:
					d.Reload()
				case s == unix.SIGUSR1:
					d.Report()
				case s == unix.SIGINT && !foreground:
				case ending:
					os.Exit(exitFailed)
				default:
					ending = true
					cancel()
				}
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// options is what the daemon gets of the command line.
func (fl *flags) options() daemon.Options {
	opt := fl.opt
	opt.Host = daemon.OS{}
	opt.Rand = rand.Reader
	opt.Plane = fl.openPlane
	if fl.null {
		opt.Plane = openNull
	}
	return opt
}
