package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"oakley/internal/daemon"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/userspace"
)

const usageLine = `usage: ipsecd [-46] [--socket path] [--group group] [--user user] [--transient] ...
"ipsecd --help" explains them
`

// runDir is the only folder into which the process writes when it has given its
// rights up.
const runDir = "/var/run/ipsecd"

const defaultReport = runDir + "/ipsecd.report"

var runFolder = daemon.Folder{Path: runDir, Program: "ipsecd"}

type flags struct {
	socket    string
	group     string
	user      string
	transient bool
	syslog    bool
	noOffload bool
	version   bool
	pidFile   string
	report    string
	df        string
	listen    []string
	plane     userspace.Options
}

// dfWords are what --df may be.
var dfWords = map[string]userspace.DF{
	"clear": userspace.DFClear,
	"copy":  userspace.DFCopy,
	"set":   userspace.DFSet,
}

func parseFlags(args []string, help io.Writer) (*flags, error) {
	f := &flags{}
	fs := f.set()
	err := fs.Parse(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(help, "%s\n%s", usageLine, fs.FlagUsages())
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("ipsecd takes flags alone, and there is %q", fs.Arg(0))
	}
	if f.plane.NoIPv4 && f.plane.NoIPv6 {
		f.plane.NoIPv4, f.plane.NoIPv6 = false, false // as isakmpd takes -46
	}
	f.plane.NoTUNOffload, f.plane.NoUDPOffload = f.noOffload, f.noOffload
	for _, s := range f.listen {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("--listen %s: an address is wanted, as 192.0.2.1 or 2001:db8::1", s)
		}
		f.plane.Local = append(f.plane.Local, a.Unmap())
	}
	return f, f.consistent()
}

// consistent says what in the command line cannot be.
func (f *flags) consistent() error {
	df, ok := dfWords[f.df]
	if !ok {
		return fmt.Errorf("--df %s: expected clear, copy or set", f.df)
	}
	f.plane.DF = df
	for _, m := range []struct {
		flag  string
		bytes int
		unset int
	}{{"--mtu", f.plane.MTU, userspace.DefaultMTU}, {"--outer-mtu", f.plane.OuterMTU, 0}} {
		if m.bytes != m.unset && (m.bytes < minMTU || m.bytes > maxMTU) {
			return fmt.Errorf("%s %d: expected a number of bytes from %d to %d", m.flag, m.bytes, minMTU, maxMTU)
		}
	}
	if f.pidFile != "" {
		if err := runFolder.Check(f.pidFile); err != nil {
			return fmt.Errorf("--pidfile: %w", err)
		}
	}
	if err := runFolder.Check(f.report); err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	return nil
}

// MTUs of links on which IPv4 works at all (RFC 791 section 3.2), in bytes.
const (
	minMTU = 576
	maxMTU = 65535
)

// set declares the flags.
func (f *flags) set() *pflag.FlagSet {
	fs := pflag.NewFlagSet("ipsecd", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	fs.BoolVarP(&f.plane.NoIPv6, "ipv4", "4", false, "outer IPv4 alone")
	fs.BoolVarP(&f.plane.NoIPv4, "ipv6", "6", false, "outer IPv6 alone")
	fs.StringVar(&f.socket, "socket", ipsecd.DefaultSocket, "control socket (`path`)")
	fs.StringVar(&f.group, "group", "", "members of this `group` may use the socket; without it root alone")
	fs.StringVar(&f.user, "user", "nobody", "`user` to become when everything is open; \"root\" stays root")
	fs.BoolVar(&f.transient, "transient", false, "end when there is neither a client nor an SA nor a flow")
	fs.BoolVar(&f.syslog, "syslog", false, "log to syslog instead of standard error")
	fs.StringVarP(&f.pidFile, "pidfile", "i", "", "pid `file`, below "+runDir+"; without it none")
	fs.StringVarP(&f.report, "report", "R", defaultReport, "report `file` for SIGUSR1, below "+runDir)
	fs.BoolVar(&f.version, "version", false, "print the version and exit")
	fs.StringSliceVar(&f.listen, "listen", nil, "outer `addresses`; without them all")
	fs.Uint16VarP(&f.plane.EncapPort, "encap-port", "N", userspace.DefaultEncapPort, "UDP `port` of encapsulation")
	fs.StringVar(&f.plane.TUN, "device", userspace.DefaultTUN, "`name` of the TUN device")
	fs.IntVar(&f.plane.MTU, "mtu", userspace.DefaultMTU, "MTU of the TUN device in `bytes`")
	fs.IntVar(&f.plane.OuterMTU, "outer-mtu", 0, "the longest packet, in `bytes`, that the networks to the peers carry; 0: 1500, or --mtu and what ESP adds")
	fs.StringVar(&f.df, "df", "clear", "the don't-fragment mark of outer IPv4 headers: `word` clear, copy or set")
	fs.BoolVar(&f.plane.Spread, "spread", false, "fast ciphers too are the work of all processors, for each flow")
	fs.BoolVar(&f.plane.NoClampMSS, "no-clamp-mss", false, "TCP segment sizes stay as hosts offer them")
	fs.BoolVar(&f.noOffload, "no-offload", false, "without segmentation and receive offload")
	fs.BoolVar(&f.plane.NoFilters, "no-filters", false, "without packet-filter rules: what comes in clear is not refused")
	return fs
}
