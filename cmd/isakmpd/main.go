// Isakmpd is the ISAKMP/Oakley (IKEv1) daemon.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"

	"oakley/internal/daemon"
	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/dataplane/userspace"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1 // start-up failed, or the configuration is bad
	exitUsage = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// flags are what the command line says.
type flags struct {
	daemon.Options
	foreground, noKernel, check bool
	levels                      []string
}

func run(args []string, stdout, stderr io.Writer) int {
	f, err := parse(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		return exitUsage
	case f.check:
		return check(f.Config, stdout, stderr)
	case !f.foreground:
		return background(args, stderr)
	}
	if err := serve(f, stderr); err != nil {
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		return exitError
	}
	return exitOK
}

func parse(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{}
	set := pflag.NewFlagSet("isakmpd", pflag.ContinueOnError)
	set.SetOutput(stderr)
	set.SortFlags = false
	set.Usage = func() {
		fmt.Fprintf(stderr, "usage: isakmpd [-46CdKnTv] [-c config] [-D class=level]... [-i pidfile] [-N port] [-p port] [-R report]\n%s", set.FlagUsages())
	}
	set.BoolVarP(&f.IPv4, "ipv4", "4", false, "IPv4 alone")
	set.BoolVarP(&f.IPv6, "ipv6", "6", false, "IPv6 alone")
	set.StringVarP(&f.Config, "config", "c", "/etc/isakmpd/isakmpd.conf", "configuration file")
	set.BoolVarP(&f.check, "check", "C", false, "check the configuration, print its connections and end: 0 good, 1 bad")
	set.StringArrayVarP(&f.levels, "debug", "D", nil, "debug level 0-99 of a class 0-10, or of all (A)")
	set.BoolVarP(&f.foreground, "foreground", "d", false, "stay in the foreground and log to stderr")
	set.StringVarP(&f.PIDFile, "pidfile", "i", filepath.Join(daemon.RunDir, "isakmpd.pid"), "pid file, below "+daemon.RunDir)
	set.BoolVarP(&f.NoPolicy, "no-policy", "K", false, "no KeyNote: the configuration alone decides")
	set.Uint16VarP(&f.EncapPort, "encap-port", "N", 4500, "UDP-encapsulation port")
	set.BoolVarP(&f.noKernel, "no-ipsec", "n", false, "negotiate, and do not touch the IPsec stack")
	set.Uint16VarP(&f.Port, "port", "p", 500, "IKE port: 500, or above 1024")
	set.StringVarP(&f.Report, "report", "R", filepath.Join(daemon.RunDir, "isakmpd.report"), "report file for SIGUSR1, below "+daemon.RunDir)
	set.BoolVarP(&f.NoNATT, "no-nat-traversal", "T", false, "no NAT traversal")
	set.BoolVarP(&f.Verbose, "verbose", "v", false, "log each phase that is done")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	for _, p := range []struct {
		name string
		port uint16
		own  uint16
	}{{"-p", f.Port, 500}, {"-N", f.EncapPort, 4500}} {
		if p.port != p.own && p.port <= 1024 {
			return nil, fmt.Errorf("%s %d: the port is to be %d or above 1024", p.name, p.port, p.own)
		}
	}
	if f.Port == f.EncapPort {
		return nil, fmt.Errorf("-p and -N are both %d: two different ports are needed", f.Port)
	}
	for _, s := range f.levels {
		if err := f.Debug.Set(s); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{f.PIDFile, f.Report} {
		if err := daemon.CheckRunPath(path); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// check is the check mode. It needs no rights beyond reading the file.
func check(path string, stdout, stderr io.Writer) int {
	data, complaint, err := daemon.ReadUnchecked(path)
	if err == nil {
		err = daemon.Check(path, data, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "isakmpd: %v\n", err)
		return exitError
	}
	if complaint != nil {
		fmt.Fprintf(stderr, "isakmpd: warning: %v\n", complaint)
	}
	return exitOK
}

// serve runs the daemon until a signal ends it.
func serve(f *flags, stderr io.Writer) error {
	ready := readyPipe()
	var sink daemon.Sink = daemon.NewText(stderr)
	if ready != nil {
		syslog, err := daemon.NewSyslog("/dev/log", "isakmpd")
		if err != nil {
			return err
		}
		defer syslog.Close()
		sink = syslog
	}
	f.Log = daemon.NewLog(sink)
	f.Log.SetLevels(f.Verbose, f.Debug)
	f.Host = daemon.OS{}
	f.Rand = rand.Reader
	f.Plane = f.plane

	// Signals that come while we start wait until we can do what they ask.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	d, err := daemon.New(context.Background(), f.Options)
	if err != nil {
		return err
	}
	if ready != nil {
		ready.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGHUP:
				d.Reload()
			case syscall.SIGUSR1:
				d.Report()
			default:
				cancel()
			}
		}
	}()
	return d.Run(ctx)
}

func (f *flags) plane(o daemon.PlaneOptions) (dataplane.Backend, error) {
	if f.noKernel {
		return null.New(null.Options{}), nil
	}
	both := f.IPv4 == f.IPv6
	return userspace.New(userspace.Options{
		EncapPort: o.EncapPort, NoIPv4: !both && !f.IPv4, NoIPv6: !both && !f.IPv6,
		Log: slog.New(f.Log.Handler()),
	})
}
