// Vpnbench measures tunnels: Oakley's user-space data plane, wireguard-go,
// strongSwan with ESP in user space, and a forwarder without cryptography, one
// after the other in the same network of namespaces on one machine, several
// times in turn. What it prints as a result are ratios: absolute times depend on
// the machine and on the hour.
package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"oakley/internal/lab"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "vpnbench: %v\n", err)
		os.Exit(1)
	}
}

type options struct {
	rounds    int
	seconds   int
	streams   []int
	only      string
	wireguard string
}

func run(args []string) error {
	if len(args) == 4 && args[0] == "forward" {
		local, err1 := netip.ParseAddr(args[2])
		remote, err2 := netip.ParseAddr(args[3])
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return forward(args[1], local, remote)
	}
	if len(args) == 4 && args[0] == "plane" {
		me, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return runPlane(args[1], args[2], me)
	}
	var o options
	f := pflag.NewFlagSet("vpnbench", pflag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "how often each is measured; the median counts")
	f.IntVar(&o.seconds, "seconds", 5, "length of a run")
	f.IntSliceVar(&o.streams, "streams", []int{1, 4}, "numbers of TCP streams")
	f.StringVar(&o.only, "only", "", "measure only what this regular expression matches")
	f.StringVar(&o.wireguard, "wireguard-go", "wireguard-go", "go install golang.zx2c4.com/wireguard@latest makes the newest (it is then named wireguard)")
	f.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: vpnbench [flags]\n%s", f.FlagUsages())
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil
		}
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	var chosen []subject
	for _, s := range subjects(&o) {
		if only.MatchString(s.name()) {
			chosen = append(chosen, s)
		}
	}
	t, err := o.measureAll(chosen)
	if err != nil {
		return err
	}
	t.print(os.Stdout)
	return nil
}

// subject is something that makes a tunnel between the two gateways.
type subject interface {
	name() string
	// start makes the tunnel and returns the gateways' daemons.
	start(n *network) (pids [2]int, err error)
}

func subjects(o *options) []subject {
	all := []subject{
		forwarder{"udp"},
		forwarder{"raw"},
		oakley{"aes-128-gcm", true},
		oakley{"aes-128-gcm", false},
		oakley{"aes-128-cbc-sha1", true},
		oakley{"3des-sha1", true},
		strongSwan{"aes128gcm16"},
		strongSwan{"aes128-sha1"},
		strongSwan{"3des-sha1"},
	}
	if p, err := lab.Program(o.wireguard); err == nil {
		all = append(all, wireGuard{p})
	} else {
		fmt.Fprintf(os.Stderr, "vpnbench: wireguard-go is left out: %v\n", err)
	}
	return all
}

// measureAll measures in rounds, so that a disturbance meets everybody alike.
func (o *options) measureAll(subjects []subject) (*table, error) {
	t := &table{}
	for round := range o.rounds {
		for _, s := range subjects {
			if err := o.measureOne(t, s); err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", s.name(), round+1, err)
			}
		}
	}
	return t, nil
}

func (o *options) measureOne(t *table, s subject) error {
	n, err := newNetwork()
	if err != nil {
		return err
	}
	defer n.Close()
	pids, err := s.start(n)
	if err != nil {
		return err
	}
	if err := n.reachable(); err != nil {
		return err
	}
	for _, streams := range o.streams {
		r, err := n.measure(streams, time.Duration(o.seconds)*time.Second, pids)
		if err != nil {
			return err
		}
		t.add(s.name(), streams, r)
		fmt.Fprintf(os.Stderr, "%-36s %d  %6.0f Mbit/s  cpu %3.0f+%3.0f %%  others %3.0f %%\n",
			s.name(), streams, r.Mbit, 100*r.CPU[0], 100*r.CPU[1], 100*r.Foreign)
	}
	for _, pid := range pids { // profiles are written at the end
		_ = unix.Kill(pid, unix.SIGTERM)
		_ = lab.Until(2*time.Second, func() bool { return unix.Kill(pid, 0) != nil })
	}
	return nil
}
