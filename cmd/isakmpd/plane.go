package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/daemon"
	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/null"
	"oakley/internal/dataplane/userspace"
)

func openNull(context.Context, daemon.PlaneOptions) (dataplane.Backend, error) {
	return null.New(null.Options{}), nil
}

// openPlane opens the data plane that the configuration asks for: ipsecd, one
// that runs or else one that is started here, or a data plane in this process.
func (fl *flags) openPlane(ctx context.Context, o daemon.PlaneOptions) (dataplane.Backend, error) {
	if o.Inside {
		return openUserspace(o)
	}
	c, err := fl.dialIPsecd(ctx)
	if err == nil {
		fl.served = !c.Transient()
		if o.Tuning != (daemon.Tuning{}) {
			o.Log.Warn("Data-plane-options in [General] are for an ipsecd that isakmpd starts: the one that runs keeps those that it was started with")
		}
		return c, nil
	}
	if !ipsecd.NotThere(err) {
		return nil, ipsecd.Explain(ipsecd.DefaultSocket, err)
	}
	program, err := findIPsecd()
	if err != nil {
		o.Log.Warn("the data plane is inside isakmpd and ends with it", "reason", err)
		return openUserspace(o)
	}
	return fl.startIPsecd(ctx, program, o)
}

// serviceTime is how long a service manager may take to start an ipsecd that ended
// again: its unit says after one second.
const serviceTime = 3 * time.Second

// dialIPsecd connects to an ipsecd that runs. Where one ran that we had not started,
// it waits for the next.
func (fl *flags) dialIPsecd(ctx context.Context) (*ipsecd.Client, error) {
	end := time.Now().Add(serviceTime)
	for {
		c, err := ipsecd.Dial(ctx, ipsecd.DefaultSocket, ipsecd.AllEvents)
		if err == nil || !fl.served || !ipsecd.NotThere(err) || time.Now().After(end) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// findIPsecd looks beside this program, then where programs are.
func findIPsecd() (string, error) {
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "ipsecd"); unix.Access(beside, unix.X_OK) == nil {
			return beside, nil
		}
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path := filepath.Join(dir, "ipsecd"); filepath.IsAbs(path) && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no program ipsecd, neither beside isakmpd nor in PATH")
}

// startTime is how long ipsecd may take to listen.
const startTime = 10 * time.Second

// startIPsecd starts an ipsecd that goes on when we end, as long as it has
// anything to keep, and connects to it.
func (fl *flags) startIPsecd(ctx context.Context, program string, o daemon.PlaneOptions) (dataplane.Backend, error) {
	args := []string{"--transient", "--socket", ipsecd.DefaultSocket, "--encap-port", strconv.Itoa(int(o.EncapPort))}
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
	args = append(args, tuningFlags(o.Tuning)...)
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timeout := time.After(startTime)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-ended:
			return nil, fmt.Errorf("%s did not start: %w; what it wrote says why", program, err)
		case <-timeout:
			return nil, fmt.Errorf("%s does not listen at %s after %v", program, ipsecd.DefaultSocket, startTime)
		case <-time.After(10 * time.Millisecond):
		}
		if c, err := ipsecd.Dial(ctx, ipsecd.DefaultSocket, ipsecd.AllEvents); err == nil {
			fl.served = false
			return c, nil
		}
	}
}

// tuningFlags are the flags of ipsecd(8) for the options of isakmpd.conf(5).
func tuningFlags(t daemon.Tuning) (args []string) {
	for _, f := range []struct {
		flag, value string
		given       bool
	}{
		{"--mtu", strconv.Itoa(t.MTU), t.MTU != 0},
		{"--outer-mtu", strconv.Itoa(t.OuterMTU), t.OuterMTU != 0},
		{"--df", t.DF, t.DF != ""},
		{"--no-clamp-mss", "true", t.NoClampMSS},
		{"--no-offload", "true", t.NoOffload},
		{"--spread", "true", t.Spread},
	} {
		if f.given {
			args = append(args, f.flag+"="+f.value)
		}
	}
	return args
}

// dfs are the words for the don't-fragment mark.
var dfs = map[string]userspace.DF{"clear": userspace.DFClear, "copy": userspace.DFCopy, "set": userspace.DFSet}

func openUserspace(o daemon.PlaneOptions) (dataplane.Backend, error) {
	no4, no6 := true, true
	for _, a := range o.Listen {
		no4, no6 = no4 && !a.Is4(), no6 && !a.Is6()
	}
	return userspace.New(userspace.Options{
		EncapPort: o.EncapPort, Local: append([]netip.Addr(nil), o.Listen...), NoIPv4: no4, NoIPv6: no6, Log: o.Log,
		MTU: o.Tuning.MTU, OuterMTU: o.Tuning.OuterMTU, DF: dfs[o.Tuning.DF], NoClampMSS: o.Tuning.NoClampMSS,
		NoTUNOffload: o.Tuning.NoOffload, NoUDPOffload: o.Tuning.NoOffload, Spread: o.Tuning.Spread,
	})
}
