package ipsecadm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Runner carries commands out.
type Runner struct {
	Backend dataplane.Backend
	// Local tells whether an address is this host's.
	Local func(netip.Addr) bool
	Out   io.Writer
	// Notice is told what a person should know although all went well.
	Notice func(text string)
}

// Run carries a command out. A command that fails has changed nothing, or the
// error says what.
func (r *Runner) Run(ctx context.Context, c Command) error {
	switch c := c.(type) {
	case NewSA:
		return r.newSA(ctx, c)
	case Group:
		return r.group(ctx, c)
	case DeleteSA:
		return r.deleteSA(ctx, c)
	case Flow:
		return r.flow(ctx, c)
	case Flush:
		return r.flush(ctx, c)
	case Show:
		return r.show(ctx, c)
	case Monitor:
		return r.monitor(ctx)
	case Switch:
		return r.toggle(ctx, c)
	}
	return fmt.Errorf("%T is no command", c)
}

func (r *Runner) notice(format string, args ...any) {
	if r.Notice != nil {
		r.Notice(fmt.Sprintf(format, args...))
	}
}

// direction is that of an SA: it ends here, or it begins here.
func (r *Runner) direction(src, dst netip.Addr) (ipsec.Direction, error) {
	switch {
	case r.Local(dst):
		return ipsec.In, nil
	case r.Local(src):
		return ipsec.Out, nil
	}
	return 0, fmt.Errorf("neither -src %s nor -dst %s is an address of this host, so the SA is neither incoming nor outgoing; \"ip address\" shows what this host has", src, dst)
}

// find looks for what a person calls an SA; one that was made by hand is meant
// first.
func find(st *dataplane.State, n SAName) (*ipsec.SAState, error) {
	var found *ipsec.SAState
	for i := range st.SAs {
		sa := &st.SAs[i].SA
		if sa.ID.Dst == n.Dst && sa.ID.SPI == n.SPI && sa.ID.Proto == n.Proto && (found == nil || sa.Owner == ipsec.OwnerManual) {
			found = &st.SAs[i]
		}
	}
	if found == nil {
		return nil, fmt.Errorf("there is no %s; \"ipsecadm show\" lists what there is", n)
	}
	return found, nil
}

// explain adds to an error of the data plane what can be done about it.
func explain(err error, hint string, about ...error) error {
	for _, e := range about {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %s", err, hint)
		}
	}
	return err
}

// beyond adds to an error what the data plane is when it cannot do something, and
// which one can.
func (r *Runner) beyond(err error) error {
	if !errors.Is(err, dataplane.ErrUnsupported) {
		return err
	}
	info := r.Backend.Info()
	if !info.Kernel {
		return fmt.Errorf("%w: the data plane is %s", err, info.Detail)
	}
	lacks := ""
	if len(info.Lacks) > 0 {
		lacks = "; it lacks " + strings.Join(info.Lacks, ", ")
	}
	return fmt.Errorf("%w. The kernel carries the traffic (%s%s). ipsecd's own stack can do it: \"ipsecctl -F\" removes what the kernel has, so that an ipsecd that a tool has started ends, and then \"ipsecd &\" starts one with its own stack", err, info.Detail, lacks)
}
