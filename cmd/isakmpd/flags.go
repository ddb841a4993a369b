package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/pflag"

	"oakley/internal/conf"
	"oakley/internal/daemon"
)

// flags is the command line.
type flags struct {
	opt        daemon.Options
	foreground bool
	null       bool
	check      bool
	served     bool // the ipsecd in use, or the one before, is a service
}

// Defaults of isakmpd(8).
const (
	defaultConfig = "/etc/isakmpd/isakmpd.conf"
	defaultPID    = daemon.RunDir + "/isakmpd.pid"
	defaultReport = daemon.RunDir + "/isakmpd.report"
	ikePort       = 500
	encapPort     = 4500
)

const usageLine = `usage: isakmpd [-46CdKnTv] [-c config] [-D class=level] [-i pidfile]
               [-N encap-port] [-p port] [-R report] [--data-plane name]
"isakmpd --help" explains them
`

var errHelp = errors.New("help was asked for")

// parseFlags reads the command line as getopt(3) does: -dvK, -DA=99, -D A=99.
func parseFlags(args []string, help io.Writer) (*flags, error) {
	f := &flags{}
	fs, encap, port := f.set()
	switch err := fs.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(help, "%s\n%s", usageLine, fs.FlagUsages())
		return nil, errHelp
	case err != nil:
		return nil, err
	case fs.NArg() > 0:
		return nil, fmt.Errorf("isakmpd takes flags alone, and there is %q", fs.Arg(0))
	}
	var err error
	if f.opt.Port, err = portOf("-p", *port); err != nil {
		return nil, err
	}
	if f.opt.EncapPort, err = portOf("-N", *encap); err != nil {
		return nil, err
	}
	return f, f.consistent()
}

// set declares the flags. Ports are read as text, so that what is wrong with one
// is said in our words.
func (f *flags) set() (fs *pflag.FlagSet, encap, port *string) {
	fs = pflag.NewFlagSet("isakmpd", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	fs.BoolVarP(&f.opt.IPv4, "ipv4", "4", false, "use IPv4 alone")
	fs.BoolVarP(&f.opt.IPv6, "ipv6", "6", false, "use IPv6 alone")
	fs.StringVarP(&f.opt.Config, "config", "c", defaultConfig, "the configuration `file`, closed to others than its owner")
	fs.BoolVarP(&f.check, "check", "C", false, "check the configuration, print what it means, and exit 0 or 1; needs no root")
	fs.VarP((*levels)(&f.opt.Debug), "debug", "D", "debug level 0 to 99 of a class: a number from 0 to 10, its name, or A for all; may be repeated")
	fs.BoolVarP(&f.foreground, "foreground", "d", false, "stay in the foreground, log to stderr")
	fs.StringVarP(&f.opt.PIDFile, "pidfile", "i", defaultPID, "pid `file`, below "+daemon.RunDir)
	fs.BoolVarP(&f.opt.NoPolicy, "no-policy", "K", false, "read no policy: whoever has a connection's key may use that connection")
	fs.BoolVarP(&f.null, "no-ipsec", "n", false, "negotiate, but do not touch the IPsec stack")
	fs.Var((*planeFlag)(&f.opt), "data-plane", "who carries the traffic, whatever the configuration says: `name` auto, kernel, ipsecd or isakmpd")
	encap = fs.StringP("encap-port", "N", strconv.Itoa(encapPort), "UDP-encapsulation `port`")
	port = fs.StringP("port", "p", strconv.Itoa(ikePort), "IKE `port`, 500 or above 1024")
	fs.StringVarP(&f.opt.Report, "report", "R", defaultReport, "report `file` for SIGUSR1, below "+daemon.RunDir)
	fs.BoolVarP(&f.opt.NoNATT, "no-nat-traversal", "T", false, "no NAT traversal, and no UDP-encapsulation port")
	fs.BoolVarP(&f.opt.Verbose, "verbose", "v", false, "a line for each phase 1 and phase 2 that is done")
	return fs, encap, port
}

// consistent says what in the command line contradicts itself.
func (f *flags) consistent() error {
	if f.opt.Port == f.opt.EncapPort && !f.opt.NoNATT {
		return fmt.Errorf("-p and -N are both %d: IKE and UDP encapsulation need a port each", f.opt.Port)
	}
	for _, x := range []struct{ flag, path string }{{"-i", f.opt.PIDFile}, {"-R", f.opt.Report}} {
		if err := daemon.CheckRunPath(x.path); err != nil {
			return fmt.Errorf("%s: %w", x.flag, err)
		}
	}
	return nil
}

// portOf reads a port that may be bound: 500, or one above 1024.
func portOf(flag, s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n != ikePort && n <= 1024 {
		return 0, fmt.Errorf("%s %s: a port is 500 or a number from 1025 to 65535", flag, s)
	}
	return uint16(n), nil
}

// planeFlag reads --data-plane.
type planeFlag daemon.Options

func (p *planeFlag) Set(s string) error {
	which, ok := conf.ParseDataPlane(s)
	if !ok {
		return errors.New("expected kernel, ipsecd (our own, in a process of its own), isakmpd (our own, in this process) or auto")
	}
	p.DataPlane = &which
	return nil
}
func (p *planeFlag) String() string { return "" }
func (p *planeFlag) Type() string   { return "name" }

// levels reads -D.
type levels daemon.Levels

func (l *levels) Set(s string) error { return (*daemon.Levels)(l).Set(s) }
func (l *levels) String() string     { return "" }
func (l *levels) Type() string       { return "class=level" }
