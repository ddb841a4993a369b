package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/userspace"
)

const usageLine = `usage: ipsecd [-46] [--socket path] [--group group] [--user user] [--transient] ...
"ipsecd --help" explains them
`

type flags struct {
	socket    string
	group     string
	user      string
	transient bool
	syslog    bool
	noOffload bool
	listen    []string
	plane     userspace.Options
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
	return f, nil
}

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
	fs.StringSliceVar(&f.listen, "listen", nil, "outer `addresses`; without them all")
	fs.Uint16VarP(&f.plane.EncapPort, "encap-port", "N", userspace.DefaultEncapPort, "UDP `port` of encapsulation")
	fs.StringVar(&f.plane.TUN, "device", userspace.DefaultTUN, "`name` of the TUN device")
	fs.IntVar(&f.plane.MTU, "mtu", userspace.DefaultMTU, "MTU of the TUN device in `bytes`")
	fs.BoolVar(&f.noOffload, "no-offload", false, "without segmentation and receive offload")
	fs.BoolVar(&f.plane.NoFilters, "no-filters", false, "without packet-filter rules: what comes in clear is not refused")
	return fs
}
