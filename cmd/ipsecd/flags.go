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
	"oakley/internal/dataplane/xfrm"
)

const usageLine = `usage: ipsecd [-46] [--plane user|kernel|auto] [--socket path] [--group group] [--user user] ...
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
	kind      kind
	own       userspace.Options
	kernel    xfrm.Options
	given     map[kind][]string // flags that only this plane has, of those in the command line
}

// dfWords are what --df may be.
var dfWords = map[string]userspace.DF{
	"clear": userspace.DFClear,
	"copy":  userspace.DFCopy,
	"set":   userspace.DFSet,
}

func parseFlags(args []string, help io.Writer) (*flags, error) {
	f := &flags{given: map[kind][]string{}}
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
	if f.own.NoIPv4 && f.own.NoIPv6 {
		f.own.NoIPv4, f.own.NoIPv6 = false, false // as isakmpd takes -46
	}
	f.own.NoTUNOffload, f.own.NoUDPOffload = f.noOffload, f.noOffload
	for _, s := range f.listen {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("--listen %s: an address is wanted, as 192.0.2.1 or 2001:db8::1", s)
		}
		f.own.Local = append(f.own.Local, a.Unmap())
	}
	f.kernel.NoIPv4, f.kernel.NoIPv6 = f.own.NoIPv4, f.own.NoIPv6
	f.kernel.EncapPort, f.kernel.Local = f.own.EncapPort, f.own.Local
	fs.Visit(func(g *pflag.Flag) {
		if k, ok := belongs[g.Name]; ok {
			f.given[k] = append(f.given[k], "--"+g.Name)
		}
	})
	return f, f.consistent()
}

// consistent says what in the command line cannot be.
func (f *flags) consistent() error {
	if err := f.ofOnePlane(); err != nil {
		return err
	}
	df, ok := dfWords[f.df]
	if !ok {
		return fmt.Errorf("--df %s: expected clear, copy or set", f.df)
	}
	f.own.DF = df
	for _, m := range []struct {
		flag  string
		bytes int
		unset int
	}{{"--mtu", f.own.MTU, userspace.DefaultMTU}, {"--outer-mtu", f.own.OuterMTU, 0}} {
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

// ofOnePlane refuses what the plane of --plane does not have. With auto both
// may be told something: what is said to the other one is of no account.
func (f *flags) ofOnePlane() error {
	for _, other := range []kind{own, kernel} {
		if f.kind == auto || f.kind == other || len(f.given[other]) == 0 {
			continue
		}
		return fmt.Errorf("%s: that is for --plane %s, and this is --plane %s", strings.Join(f.given[other], ", "), other, f.kind)
	}
	return nil
}

// MTUs of links on which IPv4 works at all (RFC 791 section 3.2), in bytes.
const (
	minMTU = 576
	maxMTU = 65535
)

// belongs says which flags only one of the planes has.
var belongs = map[string]kind{
	"device": own, "mtu": own, "outer-mtu": own, "df": own, "spread": own, "no-clamp-mss": own, "no-offload": own, "no-filters": own,
	"journal": kernel, "hold": kernel, "hash": kernel, "hash6": kernel, "mark": kernel, "out-mark": kernel,
}

// set declares the flags.
func (f *flags) set() *pflag.FlagSet {
	fs := pflag.NewFlagSet("ipsecd", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	fs.Var(&f.kind, "plane", "who carries the traffic, a `word`: user (ipsecd itself), kernel, or auto, which is the kernel if it has ESP")
	fs.BoolVarP(&f.own.NoIPv6, "ipv4", "4", false, "outer IPv4 alone")
	fs.BoolVarP(&f.own.NoIPv4, "ipv6", "6", false, "outer IPv6 alone")
	fs.StringVar(&f.socket, "socket", ipsecd.DefaultSocket, "control socket (`path`)")
	fs.StringVar(&f.group, "group", "", "members of this `group` may use the socket; without it root alone")
	fs.StringVar(&f.user, "user", "nobody", "`user` to become when everything is open; \"root\" stays root")
	fs.BoolVar(&f.transient, "transient", false, "end when there is neither a client nor an SA nor a flow")
	fs.BoolVar(&f.syslog, "syslog", false, "log to syslog instead of standard error")
	fs.StringVarP(&f.pidFile, "pidfile", "i", "", "pid `file`, below "+runDir+"; without it none")
	fs.StringVarP(&f.report, "report", "R", defaultReport, "report `file` for SIGUSR1, below "+runDir)
	fs.BoolVar(&f.version, "version", false, "print the version and exit")
	fs.StringSliceVar(&f.listen, "listen", nil, "outer `addresses`; without them all")
	fs.Uint16VarP(&f.own.EncapPort, "encap-port", "N", userspace.DefaultEncapPort, "UDP `port` of encapsulation")
	f.setOwn(fs)
	f.setKernel(fs)
	return fs
}

// setOwn declares what only the stack of our own has.
func (f *flags) setOwn(fs *pflag.FlagSet) {
	fs.StringVar(&f.own.TUN, "device", userspace.DefaultTUN, "user: `name` of the TUN device")
	fs.IntVar(&f.own.MTU, "mtu", userspace.DefaultMTU, "user: MTU of the TUN device in `bytes`")
	fs.IntVar(&f.own.OuterMTU, "outer-mtu", 0, "user: the longest packet, in `bytes`, that the networks to the peers carry; 0: 1500, or --mtu and what ESP adds")
	fs.StringVar(&f.df, "df", "clear", "user: the don't-fragment mark of outer IPv4 headers: `word` clear, copy or set")
	fs.BoolVar(&f.own.Spread, "spread", false, "user: fast ciphers too are the work of all processors, for each flow")
	fs.BoolVar(&f.own.NoClampMSS, "no-clamp-mss", false, "user: TCP segment sizes stay as hosts offer them")
	fs.BoolVar(&f.noOffload, "no-offload", false, "user: without segmentation and receive offload")
	fs.BoolVar(&f.own.NoFilters, "no-filters", false, "user: without packet-filter rules: what comes in clear is not refused")
}

// setKernel declares what only the kernel has.
func (f *flags) setKernel(fs *pflag.FlagSet) {
	fs.StringVar(&f.kernel.Journal, "journal", xfrm.DefaultJournal, "kernel: `file` of what the kernel does not store, for the next ipsecd; \"\": what is there at the start is cleared")
	fs.BoolVar(&f.kernel.Hold, "hold", false, "kernel: it keeps the packets that ask for an SA (net.core.xfrm_larval_drop=0)")
	fs.Var(&thresholds{&f.kernel.Thresholds4, 32}, "hash", "kernel: find policies of these `prefixes`, local/remote in bits, or longer ones by a hash")
	fs.Var(&thresholds{&f.kernel.Thresholds6, 128}, "hash6", "kernel: the same for IPv6 `prefixes`")
	fs.Var(&mark{&f.kernel.Mark}, "mark", "kernel: `value[/mask]` that packets bear which flows are for")
	fs.Var(&mark{&f.kernel.OutMark}, "out-mark", "kernel: `value[/mask]` that packets bear when they have left an SA")
}
