package ipsecadm

import (
	"context"
	"errors"
	"fmt"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

func (r *Runner) flow(ctx context.Context, c Flow) error {
	f := c.Flow
	if c.Delete {
		err := r.Backend.ApplyFlows(ctx, []ipsec.FlowChange{{Remove: true, Flow: f}})
		if errors.Is(err, dataplane.ErrNoFlow) {
			return fmt.Errorf("%w: no flow that was made by hand is %s %s; \"ipsecctl -s flow\" lists what there is", dataplane.ErrNoFlow, f.Dir, f.Selector)
		}
		return err
	}
	if f.Local.IsValid() && !r.Local(f.Local) {
		hint := "-src is this side's gateway, -dst the far one"
		if r.Local(f.Remote) {
			hint = "-src and -dst are exchanged: also of an incoming flow -src is this side and -dst the far one"
		}
		return fmt.Errorf("%s is no address of this host: %s", f.Local, hint)
	}
	if f.Type != ipsec.FlowDeny && f.Type != ipsec.FlowBypass {
		mode, err := r.fit(ctx, &f)
		if err != nil {
			return err
		}
		f.Mode = mode
	}
	err := r.Backend.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: f}})
	return explain(r.beyond(err), "a flow for the same packets is there; take it away first, with -delete", dataplane.ErrExists)
}
