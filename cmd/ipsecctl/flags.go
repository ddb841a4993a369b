package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/ipsecctl"
)

const usageLine = `usage: ipsecctl [-Fkmv] [-S socket] [-s flow | sa | all | encap | stats]
"ipsecctl --help" explains them
`

type flags struct {
	ipsecctl.Command
	what   string
	socket string
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
		return nil, fmt.Errorf("ipsecctl takes flags alone, and there is %q", fs.Arg(0))
	}
	if fs.Changed("show") {
		if f.Show, err = ipsecctl.ParseWhat(f.what); err != nil {
			return nil, fmt.Errorf("-s: %w", err)
		}
	}
	if f.Show == ipsecctl.Nothing && !f.Flush && !f.Monitor {
		return nil, errors.New("nothing to do: one of -s, -F and -m is wanted")
	}
	return f, nil
}

// set declares the flags.
func (f *flags) set() *pflag.FlagSet {
	fs := pflag.NewFlagSet("ipsecctl", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	fs.StringVarP(&f.what, "show", "s", "", "print `what`: flow, sa, all, encap or stats; what is unambiguous may be shortened")
	fs.BoolVarP(&f.Flush, "flush", "F", false, "remove all flows and SAs")
	fs.BoolVarP(&f.Monitor, "monitor", "m", false, "print what happens in the data plane until interrupted")
	fs.BoolVarP(&f.Keys, "keys", "k", false, "print the keys of SAs too")
	fs.CountVarP(&f.Verbose, "verbose", "v", "print more of each entry; twice: more still")
	fs.StringVarP(&f.socket, "socket", "S", ipsecd.DefaultSocket, "control socket of ipsecd (`path`)")
	return fs
}
