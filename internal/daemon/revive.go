package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// A data plane may end without us: somebody kills it, or it fails. Routes and
// filters that it left behind protect what it protected until another one has our
// flows; the SAs that it had are negotiated anew, and the peers hear that they are
// gone.

// Between the attempts to open a data plane are pauses, each twice as long as the
// one before. One that ends often is opened no more.
const (
	planeAttempts = 6
	planePause    = 200 * time.Millisecond
	mostDeaths    = 5
	deathsWithin  = time.Minute
)

// planeGone has another data plane opened. It returns an error when enough of them
// have ended.
func (d *Daemon) planeGone(ctx context.Context) error {
	now := time.Now()
	for len(d.deaths) > 0 && now.Sub(d.deaths[0]) > deathsWithin {
		d.deaths = d.deaths[1:]
	}
	if d.deaths = append(d.deaths, now); len(d.deaths) > mostDeaths {
		return d.hopeless(fmt.Errorf("it has ended %d times within %v: its log says why", len(d.deaths), deathsWithin))
	}
	d.log.Error("the data plane ended, and another one is opened now; if it was killed, what it protected is held back meanwhile, and if somebody stopped it, packets leave in clear", fieldEvent, "data-plane")
	cfg := d.cfg
	d.plane.jobs.put(func(context.Context) {
		if err := d.succeed(ctx, cfg); err != nil && ctx.Err() == nil {
			d.failed <- d.hopeless(err)
		}
	})
	return nil
}

// hopeless says that there is no data plane any more.
func (d *Daemon) hopeless(err error) error {
	err = fmt.Errorf("there is no data plane any more: %w; what it left behind protects what it protected until isakmpd is started again", err)
	d.log.Error(err.Error(), fieldEvent, "data-plane")
	return err
}

// succeed finds a successor for the data plane. It is the plane's worker that does
// it: whatever else is asked of the plane waits.
func (d *Daemon) succeed(ctx context.Context, cfg *loaded) error {
	d.socks.replaceEncap(nil)
	_ = d.plane.backend().Close()
	for n, pause := 1, planePause; ; n, pause = n+1, 2*pause {
		err := d.successor(ctx, cfg)
		if err == nil || ctx.Err() != nil || n == planeAttempts {
			return err
		}
		d.log.Warn(fmt.Sprintf("no other data plane yet: this is tried again in %v", pause), fieldErr, err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// successor opens a data plane and gives it what the one before had, the flows
// first.
func (d *Daemon) successor(ctx context.Context, cfg *loaded) error {
	b, err := d.opt.Plane(ctx, d.wants)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, planePatience)
	defer cancel()
	if err = cfg.fits(b.Info()); err == nil {
		err = d.plane.moveTo(ctx, b)
	}
	var encap []*socket
	if err == nil {
		encap, err = d.openEncaps(ctx, b)
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	d.socks.replaceEncap(encap)
	d.listen(b)
	d.log.Notice("data plane: "+planeName(b.Info())+"; the flows are in place, and what SAs are gone is negotiated anew", fieldEvent, "data-plane")
	return nil
}

// openEncaps opens IKE's side of the UDP-encapsulation port on all our addresses.
func (d *Daemon) openEncaps(ctx context.Context, b dataplane.Backend) (all []*socket, err error) {
	if d.opt.NoNATT {
		return nil, nil
	}
	for _, a := range d.wants.Listen {
		k, err := d.openEncap(ctx, b, a)
		if err != nil {
			for _, k := range all {
				_ = k.conn.Close()
			}
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// moveTo gives a data plane our flows, takes what it has of ours and should not
// have away, and goes on with it. The engine is told which SAs are gone. With an
// error everything is as it was.
func (p *plane) moveTo(ctx context.Context, b dataplane.Backend) error {
	st, err := b.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerIKE})
	if err != nil {
		return err
	}
	var changes []ipsec.FlowChange
	same := map[ipsec.FlowID]bool{}
	for _, f := range st.Flows {
		if same[f.ID] = p.flows[f.ID] == f; !same[f.ID] {
			changes = append(changes, ipsec.FlowChange{Remove: true, Flow: f})
		}
	}
	for id, f := range p.flows {
		if !same[id] {
			changes = append(changes, ipsec.FlowChange{Flow: f})
		}
	}
	if len(changes) > 0 {
		if err := b.ApplyFlows(ctx, changes); err != nil {
			return fmt.Errorf("flows cannot be set up: %w", err)
		}
	}
	p.mu.Lock()
	p.b = b
	p.mu.Unlock()
	for i := range st.SAs {
		if id := st.SAs[i].SA.ID; !p.sas[id] {
			p.delete(ctx, id)
		}
	}
	p.mourn(st.SAs)
	return nil
}
