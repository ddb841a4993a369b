// Vpnlab is the demonstration: it makes the how-to's network in namespaces
// (Dandelion - Ragweed = internet = Slippery - Icy), runs two isakmpd with the
// how-to's two files, sends a ping and a print job through the tunnel, and shows
// what a spy on the internet saw of them. It needs root, or user namespaces.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"oakley/internal/lab"
)

// limit is for the whole demonstration: it takes a few seconds, and a machine
// that needs longer than this has another problem.
const limit = 60 * time.Second

// options are what the command line says.
type options struct {
	isakmpd string
	plane   string // as of isakmpd's --data-plane; "": isakmpd chooses
	nat     bool
	stay    bool
	verbose bool
	pcap    string
	jobSize int64
}

func main() { os.Exit(run()) }

func run() int {
	var o options
	flags := pflag.NewFlagSet("vpnlab", pflag.ContinueOnError)
	flags.StringVar(&o.isakmpd, "isakmpd", beside("isakmpd"), "the daemon to run")
	flags.StringVar(&o.plane, "data-plane", "", "who carries the traffic, as of isakmpd(8): kernel, ipsecd or isakmpd; without it isakmpd chooses")
	flags.BoolVar(&o.nat, "nat", false, "put Ragweed behind a router that translates addresses")
	flags.BoolVar(&o.stay, "stay", false, "leave the network up until Ctrl-C, to look around in it")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "show both daemons' logs as they come")
	flags.StringVar(&o.pcap, "pcap", "", "write what the spy sees to this file")
	flags.Int64Var(&o.jobSize, "job", 10<<20, "size of the print job in bytes")
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "vpnlab: two gateways, two hosts and a tunnel between them, in namespaces\n\n%s", flags.FlagUsages())
	}
	switch err := flags.Parse(os.Args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "vpnlab:", err)
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "vpnlab: what is %q? There are flags alone; see --help\n", flags.Arg(0))
		return 2
	}

	done, code, err := lab.Reexec()
	if err == nil && !done {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		err = demonstrate(ctx, newScreen(os.Stdout), o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vpnlab:", err)
		return 1
	}
	return code
}

// beside finds a program in the folder of this one, or in PATH.
func beside(name string) string {
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return name
}
