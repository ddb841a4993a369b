package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// planePatience is how long one call of the data plane may take.
const planePatience = 10 * time.Second

// plane carries the engine's requests to the data plane, one after the other in
// the order in which they were asked: what is said about one SA happens in that
// order. It remembers what it installed.
type plane struct {
	b      dataplane.Backend // only the worker replaces it, and others ask backend
	mu     sync.Mutex        // of b
	log    *Log
	result func(ike.Input)
	jobs   *mailbox[func(context.Context)]
	stop   chan struct{}
	wg     sync.WaitGroup
	seeks  atomic.Bool // compare is asked for and has not begun

	// The worker alone uses these.
	flows map[ipsec.FlowID]ipsec.Flow // that are there now
	fixed map[ipsec.FlowID]bool       // those of them that the configuration names
	sas   map[ipsec.SAID]bool         // that were added and not deleted
}

func newPlane(b dataplane.Backend, log *Log, result func(ike.Input)) *plane {
	p := &plane{
		b: b, log: log, result: result,
		jobs:  newMailbox[func(context.Context)](),
		stop:  make(chan struct{}),
		flows: map[ipsec.FlowID]ipsec.Flow{},
		fixed: map[ipsec.FlowID]bool{},
		sas:   map[ipsec.SAID]bool{},
	}
	p.wg.Go(p.work)
	return p
}

// backend is the data plane of now.
func (p *plane) backend() dataplane.Backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b
}

func (p *plane) work() {
	for {
		select {
		case <-p.stop:
			return
		case <-p.jobs.wake:
		}
		for _, job := range p.jobs.take() {
			ctx, cancel := context.WithTimeout(context.Background(), planePatience)
			job(ctx)
			cancel()
		}
	}
}

// wait returns when all that was asked before has been done.
func (p *plane) wait() {
	done := make(chan struct{})
	p.jobs.put(func(context.Context) { close(done) })
	<-done
}

// close ends the worker; what was not done stays undone.
func (p *plane) close() {
	close(p.stop)
	p.wg.Wait()
}

func (p *plane) allocSPI(r ike.AllocSPI) {
	p.jobs.put(func(ctx context.Context) {
		spi, err := p.b.AllocSPI(ctx, dataplane.SPIRequest{Proto: r.Proto, Src: r.Src, Dst: r.Dst})
		p.log.Debugf(ClassSysdep, levelDetail, "SPI for %s from %s to %s: %s, %v", r.Proto, r.Src, r.Dst, spi, err)
		p.result(ike.SPIAllocated{ID: r.ID, SPI: spi, Err: err})
	})
}

func (p *plane) installSA(r ike.InstallSA) {
	p.jobs.put(func(ctx context.Context) {
		err := p.install(ctx, r)
		p.result(ike.SAInstalled{ID: r.ID, Err: err})
	})
}

// install makes all of r live or, with an error, nothing.
func (p *plane) install(ctx context.Context, r ike.InstallSA) error {
	before, err := p.addFlows(ctx, r.Flows)
	if err != nil {
		return err
	}
	for i, sa := range r.SAs {
		err := p.b.AddSA(ctx, sa)
		p.log.Debugf(ClassSysdep, levelStep, "add SA %s, %s, flow %s: %v", sa.ID, sa.Selector, sa.Flow, err)
		if err == nil {
			p.sas[sa.ID] = true
			continue
		}
		p.undo(r.SAs[:i], before)
		return fmt.Errorf("SA %s could not be installed: %w", sa.ID, err)
	}
	return nil
}

// addFlows makes the flows of an installation and returns the changes that take
// them back. Those that are there already, from an SA before, stay.
func (p *plane) addFlows(ctx context.Context, wanted []ipsec.FlowChange) (undo []ipsec.FlowChange, err error) {
	var changes []ipsec.FlowChange
	for _, w := range wanted {
		was, there := p.flows[w.Flow.ID]
		step := p.replace(w.Flow)
		if w.Remove {
			step = p.present(w)
		}
		if len(step) == 0 {
			continue
		}
		changes = append(changes, step...)
		if !w.Remove {
			undo = append(undo, ipsec.FlowChange{Remove: true, Flow: w.Flow})
		}
		if there {
			undo = append(undo, ipsec.FlowChange{Flow: was})
		}
	}
	return undo, p.apply(ctx, changes)
}

// present leaves out the removal of flows that are not there.
func (p *plane) present(changes ...ipsec.FlowChange) []ipsec.FlowChange {
	var there []ipsec.FlowChange
	for _, c := range changes {
		if _, ok := p.flows[c.Flow.ID]; ok || !c.Remove {
			there = append(there, c)
		}
	}
	return there
}

// undo gets a patience of its own: what failed may have used all of ctx's.
func (p *plane) undo(sas []*ipsec.SA, flows []ipsec.FlowChange) {
	ctx, cancel := context.WithTimeout(context.Background(), planePatience)
	defer cancel()
	for _, sa := range sas {
		p.delete(ctx, sa.ID)
	}
	if err := p.apply(ctx, flows); err != nil {
		p.log.Error("flows of a failed installation could not be taken back", fieldErr, err)
	}
}

// apply changes flows and remembers them.
func (p *plane) apply(ctx context.Context, changes []ipsec.FlowChange) error {
	if len(changes) == 0 {
		return nil
	}
	err := p.b.ApplyFlows(ctx, changes)
	for _, c := range changes {
		p.log.Debugf(ClassSysdep, levelStep, "flow %s %s, remove %t: %v", c.Flow.ID, c.Flow.Selector, c.Remove, err)
	}
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Remove {
			delete(p.flows, c.Flow.ID)
			continue
		}
		p.flows[c.Flow.ID] = c.Flow
	}
	return nil
}

func (p *plane) deleteSA(r ike.DeleteSA) {
	p.jobs.put(func(ctx context.Context) {
		for _, id := range r.SAs {
			p.delete(ctx, id)
		}
		err := p.apply(ctx, p.present(r.Flows...))
		switch {
		case errors.Is(err, dataplane.ErrClosed): // the next one shall not get them
			for _, c := range r.Flows {
				delete(p.flows, c.Flow.ID)
			}
		case err != nil:
			p.log.Error("flows could not be removed with their SAs", fieldErr, err)
		}
	})
}

// delete removes one SA. One that is not there any more (expired, or an SPI whose
// reservation ended, or gone with its data plane) is no news.
func (p *plane) delete(ctx context.Context, id ipsec.SAID) {
	err := p.b.DeleteSA(ctx, id)
	p.log.Debugf(ClassSysdep, levelStep, "delete SA %s: %v", id, err)
	if err != nil && !errors.Is(err, dataplane.ErrNoSA) && !errors.Is(err, dataplane.ErrClosed) {
		p.log.Error("an SA could not be deleted", fieldSA, id, fieldErr, err)
		return
	}
	delete(p.sas, id)
}

func (p *plane) updateSA(r ike.UpdateSA) {
	p.jobs.put(func(ctx context.Context) {
		err := p.b.UpdateSA(ctx, r.SA, r.Update)
		p.log.Debugf(ClassSysdep, levelStep, "update SA %s: %v", r.SA, err)
		if err != nil && !errors.Is(err, dataplane.ErrNoSA) && !errors.Is(err, dataplane.ErrClosed) {
			p.log.Error("an SA could not be changed", fieldSA, r.SA, fieldErr, err)
		}
	})
}

func (p *plane) endAcquire(id dataplane.AcquireID, failed error) {
	p.jobs.put(func(ctx context.Context) {
		if err := p.b.EndAcquire(ctx, id, failed); err != nil {
			p.log.Debugf(ClassSysdep, levelStep, "the data plane took no answer to acquire %d: %v", id, err)
		}
	})
}

// recover takes over what an earlier life left in a data plane that outlives us,
// and returns its SAs. Flows that no SA serves are as if the configuration had
// them: setFlows removes those that it does not name any more.
func (p *plane) recover() ([]ipsec.SAState, error) {
	type found struct {
		st  dataplane.State
		err error
	}
	answer := make(chan found, 1)
	p.jobs.put(func(ctx context.Context) {
		st, err := p.b.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerIKE})
		served := map[ipsec.FlowID]bool{}
		for _, s := range st.SAs {
			p.sas[s.SA.ID] = true
			served[s.SA.Flow] = true
		}
		for _, f := range st.Flows {
			p.flows[f.ID] = f
			p.fixed[f.ID] = !served[f.ID]
		}
		answer <- found{st, err}
	})
	a := <-answer
	return a.st.SAs, a.err
}

// setFlows makes want the flows of the configuration, as one transaction, and
// calls done when that is so or has failed; then nothing has changed. Flows that
// negotiations brought are left alone.
func (p *plane) setFlows(want []ipsec.Flow, done func(error)) {
	p.jobs.put(func(ctx context.Context) {
		err := p.apply(ctx, p.difference(want))
		if err == nil {
			p.fixed = map[ipsec.FlowID]bool{}
			for _, f := range want {
				p.fixed[f.ID] = true
			}
		}
		done(err)
	})
}

// difference is what has to change for want to be the configuration's flows.
func (p *plane) difference(want []ipsec.Flow) []ipsec.FlowChange {
	var changes []ipsec.FlowChange
	keep := map[ipsec.FlowID]bool{}
	for _, f := range want {
		keep[f.ID] = true
	}
	for id, fixed := range p.fixed {
		if fixed && !keep[id] {
			changes = append(changes, ipsec.FlowChange{Remove: true, Flow: p.flows[id]})
		}
	}
	for _, f := range want {
		changes = append(changes, p.replace(f)...)
	}
	return changes
}

// replace is what makes f the flow of its name: nothing when it is there
// already.
func (p *plane) replace(f ipsec.Flow) []ipsec.FlowChange {
	is, ok := p.flows[f.ID]
	switch {
	case !ok:
		return []ipsec.FlowChange{{Flow: f}}
	case is == f:
		return nil
	}
	return []ipsec.FlowChange{{Remove: true, Flow: is}, {Flow: f}}
}

// clear removes all that is ours and waits for it.
func (p *plane) clear() error {
	errs := make(chan error, 1)
	p.jobs.put(func(ctx context.Context) { errs <- p.b.Flush(ctx, ipsec.OwnerIKE) })
	return <-errs
}

// dump asks the data plane for its tables and waits for them.
func (p *plane) dump(done func(dataplane.State, error)) {
	p.jobs.put(func(ctx context.Context) { done(p.b.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})) })
}
