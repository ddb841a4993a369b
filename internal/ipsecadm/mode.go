package ipsecadm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// serves tells whether an SA may carry a flow's packets: those that a person
// makes name no flow, and are found by protocol and far end.
func serves(sa *ipsec.SA, f *ipsec.Flow) bool {
	far := sa.ID.Dst
	if sa.ID.Dir == ipsec.In {
		far = sa.Src
	}
	return f.Type != ipsec.FlowDeny && f.Type != ipsec.FlowBypass &&
		sa.Owner == f.Owner && sa.ID.Dir == f.Dir && sa.ID.Proto == f.Proto && far == f.Remote
}

// direct tells whether a flow's packets go from one end of the SA to the other,
// so that transport mode can carry them.
func direct(sa *ipsec.SA, f *ipsec.Flow) bool {
	return f.Selector == ipsec.Selector{
		Src: host(sa.Src), Dst: host(sa.ID.Dst),
		Proto: f.Selector.Proto, SrcPort: f.Selector.SrcPort, DstPort: f.Selector.DstPort,
	}
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func everything(v4 bool) netip.Prefix {
	if v4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// shape is the mode that an SA needs, and the inner packets that it may carry:
// a tunnel when it is asked for, or when a flow is about more than the SA's own
// two ends. An SA carries one inner address family.
func shape(sa *ipsec.SA, tunnel bool, flows []ipsec.Flow) (ipsec.Mode, ipsec.Selector, error) {
	var first *ipsec.Flow
	for i := range flows {
		f := &flows[i]
		if !serves(sa, f) {
			continue
		}
		tunnel = tunnel || !direct(sa, f)
		if first == nil {
			first = f
		}
		if f.Selector.Dst.Addr().Is4() != first.Selector.Dst.Addr().Is4() {
			return 0, ipsec.Selector{}, fmt.Errorf("the flows %s and %s are of two address families, and between two ends one SA that is keyed by hand carries one of them; a tunnel between other addresses of the two ends can carry the other", first.Selector, f.Selector)
		}
	}
	if !tunnel {
		return ipsec.Transport, ipsec.Selector{Src: host(sa.Src), Dst: host(sa.ID.Dst)}, nil
	}
	v4 := sa.ID.Dst.Is4()
	if first != nil {
		v4 = first.Selector.Dst.Addr().Is4()
	}
	return ipsec.Tunnel, ipsec.Selector{Src: everything(v4), Dst: everything(v4)}, nil
}

// fit makes the SAs that are there what a new flow needs: those in transport mode
// become tunnels when the flow is about more than their own ends. It returns the
// mode of the flow.
func (r *Runner) fit(ctx context.Context, f *ipsec.Flow) (ipsec.Mode, error) {
	// With keys: an SA of another mode is another SA.
	st, err := r.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerManual, Keys: true})
	if err != nil {
		return 0, err
	}
	flows := append(st.Flows, *f)
	mode, found := ipsec.Tunnel, false
	for i := range st.SAs {
		sa := &st.SAs[i].SA
		if !serves(sa, f) {
			continue
		}
		want := *sa
		narrow := sa.Mode == ipsec.Tunnel && sa.Selector.Src.IsSingleIP() // by -proxy
		want.Mode, want.Selector, err = shape(sa, sa.Mode == ipsec.Tunnel, flows)
		if err != nil {
			return 0, err
		}
		if narrow {
			want.Selector = sa.Selector
		}
		mode, found = want.Mode, true
		if sa.ID.Proto == ipsec.ProtoIPComp && sa.Bundle.Of < 2 && (f.Type == ipsec.FlowRequire || f.Type == ipsec.FlowDontAcq) {
			r.notice("a packet that compression does not make smaller goes as it is, and a flow of type %s drops it: take -use, or group %s with an ESP or AH SA", f.Type, sa.ID)
		}
		if want.Mode == sa.Mode && want.Selector == sa.Selector {
			continue
		}
		if err := r.remake(ctx, sa, &want); err != nil {
			return 0, err
		}
		if want.Mode != sa.Mode {
			r.notice("the SA %s is a tunnel now; with -forcetunnel it is one from the start", sa.ID)
		}
	}
	if !found {
		mode = modeOf(f)
	}
	return mode, nil
}

// modeOf is the mode that a flow will have when SAs are made for it that are not
// forced to be tunnels.
func modeOf(f *ipsec.Flow) ipsec.Mode {
	near, far := f.Selector.Src, f.Selector.Dst
	if f.Dir == ipsec.In {
		near, far = far, near
	}
	if f.Remote.IsValid() && far == host(f.Remote) && near.IsSingleIP() && (!f.Local.IsValid() || near == host(f.Local)) {
		return ipsec.Transport
	}
	return ipsec.Tunnel
}

// remake puts one SA in another's place. It is not interrupted between the two.
func (r *Runner) remake(ctx context.Context, was, want *ipsec.SA) error {
	ctx = context.WithoutCancel(ctx)
	if err := r.Backend.DeleteSA(ctx, was.ID); err != nil {
		return fmt.Errorf("making a tunnel of the SA %s: %w", was.ID, err)
	}
	err := r.Backend.AddSA(ctx, want)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("making a tunnel of the SA %s: %w", was.ID, r.beyond(err))
	if back := r.Backend.AddSA(ctx, was); back != nil {
		return errors.Join(err, fmt.Errorf("and it is gone: putting it back: %w", back))
	}
	return err
}
