// Ipsecadm keys the IPsec stack by hand: it makes, groups, shows and deletes SAs
// and flows of the data plane that listens on ipsecd's socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/ipsecadm"
	"oakley/internal/launch"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the data plane refused, or cannot be reached
	exitUsage  = 2 // the command line is wrong; nothing was done
)

func main() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // no keys in core files
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	say := func(text string) { fmt.Fprintf(stderr, "ipsecadm: %s\n", text) }
	fl, rest, err := parseFlags(args)
	switch {
	case err != nil:
		say(err.Error())
		fmt.Fprint(stderr, ipsecadm.Usage)
		return exitUsage
	case fl.help:
		fmt.Fprint(stdout, ipsecadm.Help())
		return exitOK
	}
	c, notices, err := ipsecadm.Parse(rest, ipsecadm.ReadKeyFile)
	for _, n := range notices {
		say("note: " + n)
	}
	if err != nil {
		m, ok := errors.AsType[*ipsecadm.Mistakes](err)
		if !ok {
			m = &ipsecadm.Mistakes{All: []error{err}}
		}
		for _, e := range m.All {
			say(e.Error())
		}
		fmt.Fprint(stderr, m.Usage)
		return exitUsage
	}
	if err := carryOut(fl.socket, c, stdout, say); err != nil {
		say(err.Error())
		return exitFailed
	}
	return exitOK
}

// patience is how long ipsecd may take.
const patience = 30 * time.Second

func carryOut(socket string, c ipsecadm.Command, stdout io.Writer, say func(string)) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGPIPE)
	defer stop()
	if _, forever := c.(ipsecadm.Monitor); !forever {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	b, err := launch.Tool(ctx, socket)
	if err != nil {
		return err
	}
	defer b.Close()
	r := &ipsecadm.Runner{Backend: b, Local: isLocal, Out: stdout, Notice: func(text string) { say("note: " + text) }}
	return r.Run(ctx, c)
}

// isLocal tells whether an address is this host's.
func isLocal(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, n := range addrs {
		if n, ok := n.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == a {
				return true
			}
		}
	}
	return false
}

type flags struct {
	socket string
	help   bool
}

// parseFlags takes the flags before the command. They are read by hand: what
// follows has modifiers of several letters behind one "-".
func parseFlags(args []string) (fl flags, rest []string, err error) {
	fl.socket = ipsecd.DefaultSocket
	for len(args) > 0 {
		name, value, joined := strings.Cut(args[0], "=")
		switch name {
		case "-h", "--help", "help":
			fl.help = true
			return fl, nil, nil
		case "-S", "--socket":
		default:
			return fl, args, nil
		}
		args = args[1:]
		if !joined {
			if len(args) == 0 {
				return fl, nil, fmt.Errorf("%s: the path of ipsecd's socket is wanted", name)
			}
			value, args = args[0], args[1:]
		}
		if value == "" {
			return fl, nil, fmt.Errorf("%s: the path of ipsecd's socket is wanted", name)
		}
		fl.socket = value
	}
	return fl, args, nil
}
