// Ipsecd carries the traffic, as a process of its own: it keeps SAs and flows and
// the port of UDP encapsulation while the daemons that negotiate come and go, and
// takes its orders from a socket. It is an IPsec stack itself, with a TUN device
// and raw sockets, or stands before the kernel's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"oakley/internal/daemon"
	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fl, err := parseFlags(args, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "ipsecd: %v\n%s", err, usageLine)
		return exitUsage
	case fl.version:
		fmt.Fprintln(stdout, version())
		return exitOK
	}
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // keys; lowering is always allowed
	// Who started us may go and take the terminal and our standard error along.
	signal.Ignore(unix.SIGPIPE, unix.SIGHUP)
	log := daemon.NewLog(daemon.NewText(stderr))
	if fl.syslog {
		sys, err := daemon.NewSyslog(daemon.SyslogSocket, "ipsecd")
		if err != nil {
			fmt.Fprintf(stderr, "ipsecd: warning: %v\n", err)
		}
		defer sys.Close()
		log = daemon.NewLog(sys)
	}
	if err := serve(fl, log); err != nil {
		fmt.Fprintf(stderr, "ipsecd: %v\n", err)
		if fl.syslog {
			log.Error(err.Error())
		}
		return exitFailed
	}
	return exitOK
}

// serve runs until a signal comes or, with --transient, nobody needs us.
func serve(fl *flags, log *daemon.Log) (err error) {
	sig := make(chan os.Signal, 4)
	signal.Notify(sig, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1)
	defer signal.Stop(sig)
	who, err := fl.identity()
	if err != nil {
		return err
	}
	turn, err := takeTurn(fl.socket)
	if err != nil {
		return err
	}
	defer turn.Close()
	l, err := listen(fl.socket, who.group)
	if err != nil {
		return err
	}
	defer l.Close()
	plane, err := openPlane(fl, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	if err := who.folder(); err != nil {
		log.Warn("there will be no reports", "err", err)
	}
	if err := who.become(log.Logger); err != nil {
		return err
	}
	if fl.pidFile != "" {
		pid, err := runFolder.HoldPID(fl.pidFile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pid.Close()) }()
	}
	s := ipsecd.NewServer(plane, who.group, log.Logger)
	s.Transient = fl.transient
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	log.Notice("ipsecd is ready", "socket", fl.socket, "plane", plane.Info().Detail)
	notify("READY=1")
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for {
		select {
		case n := <-sig:
			if n == unix.SIGUSR1 {
				writeReport(fl.report, plane, s, log)
				continue
			}
			return stop(fl, l, plane, s, log)
		case err := <-served:
			return errors.Join(err, stop(fl, l, plane, s, log))
		case <-s.Left():
		case <-tick.C:
		}
		if fl.transient && s.Retire(func() bool { return empty(plane) }) {
			log.Notice("nobody needs ipsecd any more")
			return stop(fl, l, plane, s, log)
		}
	}
}

// idleEvery is how often a transient process asks itself whether it is needed.
const idleEvery = 10 * time.Second

// empty tells whether there is nothing to keep.
func empty(b dataplane.Backend) bool {
	empty, err := ipsecd.Empty(context.Background(), b)
	return err == nil && empty
}

// stop ends everything. What the kernel carries it goes on carrying: ipsecd may
// be replaced under traffic.
func stop(fl *flags, l io.Closer, plane dataplane.Backend, s *ipsecd.Server, log *daemon.Log) error {
	_ = l.Close()
	if fl.kind == kernel {
		if !empty(plane) {
			log.Notice("SAs and flows stay in the kernel; the next ipsecd takes them over")
		}
	}
	err := plane.Close()
	s.Close()
	return err
}
