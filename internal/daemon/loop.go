package daemon

import (
	"context"
	"errors"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ike"
)

// Run drives the engine until ctx ends, then tells the peers, removes what is
// ours and returns. All of the engine happens on the calling goroutine.
func (d *Daemon) Run(ctx context.Context) error {
	d.announce()
	d.socks.start()
	d.listen(d.plane.backend())
	if len(d.found) > 0 {
		d.handle(ike.Adopt{SAs: d.found})
		d.found = nil
	}
	d.handle(ike.Start{})
	err := d.loop(ctx)
	return errors.Join(err, d.shutdown())
}

func (d *Daemon) loop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	resolve := time.NewTicker(resolveEvery)
	defer resolve.Stop()
	for {
		d.sleepUntil(timer)
		select {
		case <-ctx.Done():
			return nil
		case <-d.gone:
			if err := d.planeGone(ctx); err != nil {
				return err
			}
		case err := <-d.failed:
			return err
		case <-d.results.wake:
			d.handleResults()
		case <-d.requests.wake:
			for _, f := range d.requests.take() {
				f()
			}
		case in := <-d.inputs:
			d.handleOne(in)
			d.handleResults() // an answer never waits behind a flood
		case <-timer.C:
			d.handle(ike.Timeout{})
		case <-resolve.C:
			d.resolveAgain()
		}
	}
}

// sleepUntil sets the timer to the engine's deadline.
func (d *Daemon) sleepUntil(t *time.Timer) {
	at, ok := d.engine.Deadline()
	if !ok {
		t.Stop()
		return
	}
	wait := max(time.Until(at), 0)
	d.log.Debugf(ClassTimer, levelTrivial, "the engine wants to be called in %s", wait)
	t.Reset(wait)
}

func (d *Daemon) handleResults() {
	for _, in := range d.results.take() {
		d.handle(in)
	}
}

// handleOne takes an input from outside, which may need translation or a word
// in the log.
func (d *Daemon) handleOne(in ike.Input) {
	if dg, ok := in.(ike.Datagram); ok {
		d.traceIn(dg)
	}
	d.handle(in)
}

// handle is one step of the engine: an input, then all that it wants done.
func (d *Daemon) handle(in ike.Input) {
	d.engine.Handle(time.Now(), in)
	for {
		out, ok := d.engine.Poll()
		if !ok {
			return
		}
		d.perform(out)
	}
}

// perform carries out what the engine wants. Nothing in it waits for the data
// plane or for arithmetic.
func (d *Daemon) perform(out ike.Output) {
	switch o := out.(type) {
	case ike.Transmit:
		d.transmit(o)
	case ike.KeepAlive:
		if err := d.socks.keepalive(o.Local, o.Remote); err != nil {
			d.note("send", o.Remote.Addr(), "a NAT keepalive to "+o.Remote.String()+" could not be sent: "+err.Error())
		}
	case ike.AllocSPI:
		d.plane.allocSPI(o)
	case ike.InstallSA:
		d.plane.installSA(o)
	case ike.DeleteSA:
		d.plane.deleteSA(o)
	case ike.UpdateSA:
		d.plane.updateSA(o)
	case ike.DiffieHellman:
		d.log.Debugf(ClassCrypto, levelDetail, "Diffie-Hellman of %s", o.Group)
		d.dh.ask(o)
	case ike.QueryPolicy:
		d.results.put(d.judge(o))
	case ike.EndAcquire:
		d.plane.endAcquire(dataplane.AcquireID(o.ID), o.Err)
	default:
		d.event(out)
	}
}

func (d *Daemon) transmit(o ike.Transmit) {
	encap := o.Local.Port() == d.opt.EncapPort && !d.opt.NoNATT
	d.traceOut(o)
	if err := d.socks.send(o.Local, o.Remote, encap, o.Data); err != nil {
		d.note("send", o.Remote.Addr(), "a message to "+o.Remote.String()+" could not be sent: "+err.Error())
	}
}

// listen has a data plane's events passed on.
func (d *Daemon) listen(b dataplane.Backend) { d.wg.Go(func() { d.planeEvents(b) }) }

// planeEvents passes on what the data plane tells on its own, until it closes.
func (d *Daemon) planeEvents(b dataplane.Backend) {
	for ev := range b.Events() {
		switch e := ev.(type) {
		case dataplane.Acquire:
			d.log.Debugf(ClassSysdep, levelStep, "acquire %d of flow %s for %s", e.ID, e.Flow, e.Packet)
			d.input(ike.Acquire{ID: uint64(e.ID), Conn: connOf(e.Flow)})
		case dataplane.Expire:
			d.log.Debugf(ClassSysdep, levelStep, "expire of SA %s, hard %t", e.SA, e.Hard)
			d.input(ike.Expire{SA: e.SA, Hard: e.Hard})
		case dataplane.Mapping:
			d.log.Debugf(ClassSysdep, levelStep, "the peer of SA %s is at %s now", e.SA, e.Remote)
			d.input(ike.Mapping{SA: e.SA, Remote: e.Remote})
		case dataplane.Lost:
			d.log.Debugf(ClassSysdep, levelStep, "the data plane's tables are compared")
			d.plane.compare()
		}
	}
	select {
	case d.gone <- struct{}{}: // while we stop, nobody reads it
	default:
	}
}

// input hands an input to the engine; after the end it is dropped.
func (d *Daemon) input(in ike.Input) {
	select {
	case d.inputs <- in:
	case <-d.stopping:
	}
}

// shutdown ends all SAs with a word to the peers, unless SAs are to be kept, and
// closes everything.
func (d *Daemon) shutdown() error {
	close(d.stopping)
	d.handle(ike.Shutdown{Quiet: d.cfg.keepSAs})
	d.plane.wait()
	err := d.close()
	d.log.Notice("isakmpd has ended", fieldEvent, "end", fieldErr, err)
	return err
}
