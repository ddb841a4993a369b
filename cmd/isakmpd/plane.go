package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/conf"
	"oakley/internal/daemon"
	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/null"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/dataplane/xfrm"
	"oakley/internal/launch"
)

func openNull(context.Context, daemon.PlaneOptions) (dataplane.Backend, error) {
	return null.New(null.Options{}), nil
}

// openPlane opens the data plane that is asked for: what an ipsecd that runs has,
// or else an ipsecd that is started here, for the kernel's IPsec or for our own;
// or our own in this process.
func (fl *flags) openPlane(ctx context.Context, o daemon.PlaneOptions) (dataplane.Backend, error) {
	if o.Which == conf.PlaneInside {
		complain(o, conf.PlaneInside)
		return openUserspace(o)
	}
	c, err := fl.dialIPsecd(ctx, o.Which)
	if err == nil {
		return fl.join(c, o)
	}
	if !ipsecd.NotThere(err) {
		return nil, ipsecd.Explain(ipsecd.DefaultSocket, err)
	}
	wanted := o.Which
	if o.Which, err = choose(o); err != nil {
		return nil, err
	}
	program, err := launch.Find()
	if err == nil {
		complain(o, o.Which)
		return fl.startIPsecd(ctx, program, o)
	}
	if wanted == conf.PlaneKernel {
		return nil, fmt.Errorf("the data plane is to be the kernel, and it is ipsecd that keys the kernel: %w", err)
	}
	o.Log.Warn("the data plane is inside isakmpd and ends with it", "reason", err)
	complain(o, conf.PlaneInside)
	return openUserspace(o)
}

// choose says who is to carry the traffic where nobody does yet, and logs why.
func choose(o daemon.PlaneOptions) (conf.DataPlane, error) {
	if o.Which == conf.PlaneProcess {
		return o.Which, nil
	}
	can, err := xfrm.Probe()
	if err == nil {
		err = can.Usable()
	}
	switch {
	case err == nil && o.Which == conf.PlaneChoose:
		notice(o, "the kernel has ESP, so it carries the traffic (Data-plane=ipsecd in [General] would leave it to our own stack)", "kernel", can.Kernel)
		return conf.PlaneKernel, nil
	case err == nil:
		return conf.PlaneKernel, nil
	case o.Which == conf.PlaneKernel:
		return 0, fmt.Errorf("the data plane is to be the kernel, and the kernel cannot do it: %w; Data-plane=ipsecd is our own stack", err)
	}
	notice(o, "ipsecd carries the traffic, for the kernel cannot", "reason", err)
	return conf.PlaneProcess, nil
}

func notice(o daemon.PlaneOptions, msg string, args ...any) {
	o.Log.Log(context.Background(), daemon.LevelNotice, msg, args...)
}

// join takes the data plane of an ipsecd that runs already.
func (fl *flags) join(c *ipsecd.Client, o daemon.PlaneOptions) (dataplane.Backend, error) {
	if !fits(c, o.Which) {
		has, flag := "our own stack", "kernel"
		if c.Info().Kernel {
			has, flag = "the kernel", "user"
		}
		return nil, errors.Join(fmt.Errorf("the data plane is to be %s, and the ipsecd that listens at %s has %s: stop it (\"systemctl stop ipsecd\", or \"ipsecctl -F\" for one that is there for what was keyed by hand), or start it with --plane %s",
			o.Which, ipsecd.DefaultSocket, has, flag), c.Close())
	}
	fl.served = !c.Transient()
	if o.Tuning != (conf.PlaneOptions{}) {
		o.Log.Warn("Data-plane-options in [General] are for an ipsecd that isakmpd starts: the one that runs keeps those that it was started with")
	}
	return c, nil
}

func fits(c *ipsecd.Client, which conf.DataPlane) bool {
	return which == conf.PlaneChoose || c.Info().Kernel == (which == conf.PlaneKernel)
}

// serviceTime is how long a service manager may take to start an ipsecd that ended
// again: its unit says after one second. So long may one take to end that is of
// another kind and that nobody needs.
const serviceTime = 3 * time.Second

// dialIPsecd connects to an ipsecd that runs. Where one ran that we had not started,
// it waits for the next.
func (fl *flags) dialIPsecd(ctx context.Context, which conf.DataPlane) (*ipsecd.Client, error) {
	end := time.Now().Add(serviceTime)
	for {
		c, err := ipsecd.Dial(ctx, ipsecd.DefaultSocket, ipsecd.AllEvents)
		late := time.Now().After(end)
		switch {
		case err == nil && c.Transient() && !fits(c, which) && !late:
			if err := c.Close(); err != nil {
				return nil, err
			}
		case errors.Is(err, unix.ECONNRESET) && !late: // it is just being killed: a moment later nobody is there
		case err == nil, !fl.served, !ipsecd.NotThere(err), late:
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startIPsecd starts an ipsecd that goes on when we end, as long as it has
// anything to keep, and connects to it.
func (fl *flags) startIPsecd(ctx context.Context, program string, o daemon.PlaneOptions) (dataplane.Backend, error) {
	args := []string{"--encap-port", strconv.Itoa(int(o.EncapPort))}
	if o.Which == conf.PlaneKernel {
		args = append(args, "--plane", "kernel")
	}
	var addrs []string
	for _, a := range o.Listen {
		addrs = append(addrs, a.String())
	}
	if len(addrs) > 0 {
		args = append(args, "--listen", strings.Join(addrs, ","))
	}
	if !fl.foreground {
		args = append(args, "--syslog")
	}
	for _, f := range tuning {
		if v := f.value(&o.Tuning); v != "" && f.of(o.Which) {
			args = append(args, "--"+f.name+"="+v)
		}
	}
	c, err := launch.Start(ctx, launch.Request{
		Program: program, Socket: ipsecd.DefaultSocket, Args: args, Stderr: os.Stderr, Events: ipsecd.AllEvents,
	})
	if err != nil {
		return nil, err
	}
	if !fits(c, o.Which) { // somebody else's was first
		return fl.join(c, o)
	}
	fl.served = false
	return c, nil
}

// tuned is a word of Data-plane-options, and the flag of ipsecd(8).
type tuned struct {
	name   string
	kernel bool // of the kernel's IPsec; else of our own
	value  func(*conf.PlaneOptions) string
}

func (t *tuned) of(which conf.DataPlane) bool { return t.kernel == (which == conf.PlaneKernel) }

var tuning = []*tuned{
	{"mtu", false, func(o *conf.PlaneOptions) string { return number(o.MTU) }},
	{"outer-mtu", false, func(o *conf.PlaneOptions) string { return number(o.OuterMTU) }},
	{"df", false, func(o *conf.PlaneOptions) string { return o.DF }},
	{"no-clamp-mss", false, func(o *conf.PlaneOptions) string { return yes(o.NoClampMSS) }},
	{"no-offload", false, func(o *conf.PlaneOptions) string { return yes(o.NoOffload) }},
	{"spread", false, func(o *conf.PlaneOptions) string { return yes(o.Spread) }},
	{"hold", true, func(o *conf.PlaneOptions) string { return yes(o.Hold) }},
	{"hash", true, func(o *conf.PlaneOptions) string { return o.Hash }},
	{"hash6", true, func(o *conf.PlaneOptions) string { return o.Hash6 }},
	{"mark", true, func(o *conf.PlaneOptions) string { return o.Mark }},
	{"out-mark", true, func(o *conf.PlaneOptions) string { return o.OutMark }},
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func yes(is bool) string {
	if !is {
		return ""
	}
	return "true"
}

// complain says which options the data plane has no use for.
func complain(o daemon.PlaneOptions, which conf.DataPlane) {
	var idle []string
	for _, f := range tuning {
		if f.value(&o.Tuning) != "" && !f.of(which) {
			idle = append(idle, f.name)
		}
	}
	if len(idle) == 0 {
		return
	}
	has := "our own stack carries the traffic"
	if which == conf.PlaneKernel {
		has = "the kernel carries the traffic"
	}
	o.Log.Warn(fmt.Sprintf("%s, and knows nothing of these Data-plane-options: %s", has, strings.Join(idle, ", ")))
}

// dfs are the words for the don't-fragment mark.
var dfs = map[string]userspace.DF{"clear": userspace.DFClear, "copy": userspace.DFCopy, "set": userspace.DFSet}

// openUserspace opens our own stack in this process. What an ipsecd left in the
// kernel would come before it, and goes.
func openUserspace(o daemon.PlaneOptions) (dataplane.Backend, error) {
	no4, no6 := families(o.Listen)
	b, err := userspace.New(userspace.Options{
		EncapPort: o.EncapPort, Local: slices.Clone(o.Listen), NoIPv4: no4, NoIPv6: no6, Log: o.Log,
		MTU: o.Tuning.MTU, OuterMTU: o.Tuning.OuterMTU, DF: dfs[o.Tuning.DF], NoClampMSS: o.Tuning.NoClampMSS,
		NoTUNOffload: o.Tuning.NoOffload, NoUDPOffload: o.Tuning.NoOffload, Spread: o.Tuning.Spread,
	})
	if err != nil {
		return nil, err
	}
	if _, _, err := xfrm.Clear(xfrm.DefaultJournal, o.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("what an ipsecd left in the kernel cannot be taken away, and it would have the traffic: %w", err), b.Close())
	}
	return b, nil
}

// families tells which have no address.
func families(addrs []netip.Addr) (no4, no6 bool) {
	no4, no6 = true, true
	for _, a := range addrs {
		no4, no6 = no4 && !a.Is4(), no6 && !a.Is6()
	}
	return no4, no6
}
