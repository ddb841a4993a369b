package ipsecd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

var errIncomplete = errors.New("the request lacks what its operation needs")

// complete tells whether a request has what its operation needs.
func (r *request) complete() bool {
	switch r.Op {
	case opAlloc:
		return r.SPI != nil
	case opAdd:
		return r.SA != nil
	case opUpdate:
		return r.Name != nil && r.Update != nil
	case opDelete, opGet:
		return r.Name != nil
	case opDump:
		return r.Query != nil
	}
	return true
}

// carryOut does what a request asks for.
func (x *session) carryOut(ctx context.Context, r *request) (*answer, error) {
	if !r.complete() {
		return nil, errIncomplete
	}
	b := x.s.b
	switch r.Op {
	case opAlloc:
		return x.alloc(ctx, r)
	case opAdd:
		return &answer{}, x.add(ctx, r.SA)
	case opUpdate:
		return &answer{}, b.UpdateSA(ctx, *r.Name, *r.Update)
	case opDelete:
		return &answer{}, x.deleteSA(ctx, *r.Name)
	case opGet:
		st, err := b.GetSA(ctx, *r.Name)
		return &answer{SA: &st}, err
	case opFlows:
		return &answer{}, x.flows(ctx, r.Flows)
	case opEndAcquire:
		return &answer{}, x.endAcquire(ctx, r)
	case opDump:
		return nil, x.dump(ctx, r)
	case opTotals:
		t, err := b.Totals(ctx)
		return &answer{Totals: &t, Others: x.s.others(x)}, err
	case opFlush:
		return &answer{}, x.flush(ctx, r.Owner)
	case opEnable:
		return &answer{}, b.Enable(ctx, r.Proto, r.On)
	case opRegister:
		return &answer{}, x.register(r.Events)
	case opHello, opEncap, opMonitor:
		return nil, fmt.Errorf("%q has to be the first request of a connection: it wants one of its own", r.Op)
	}
	return nil, fmt.Errorf("operation %q is unknown: is the client newer than the server?", r.Op)
}

func (x *session) register(e Events) error {
	if e&^AllEvents != 0 {
		return fmt.Errorf("events of the kinds %#x are unknown: is the client newer than the server?", uint8(e&^AllEvents))
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.wants = e
	return nil
}

func (x *session) alloc(ctx context.Context, r *request) (*answer, error) {
	if err := x.s.spis.may(x, time.Now()); err != nil {
		return nil, err
	}
	spi, err := x.s.b.AllocSPI(ctx, *r.SPI)
	if err == nil {
		x.s.spis.keep(x, r.SPI, spi, time.Now())
	}
	return &answer{SPI: spi}, err
}

// maxText bounds names and identities in bytes, so that a few entries always fit a
// frame whatever they contain.
const maxText = 4096

func checkTexts(what fmt.Stringer, texts ...string) error {
	for _, t := range texts {
		if len(t) > maxText {
			return fmt.Errorf("%s: a name of %d bytes, %d is the most", what, len(t), maxText)
		}
	}
	return nil
}

func (x *session) add(ctx context.Context, sa *ipsec.SA) error {
	if err := checkTexts(sa.ID, string(sa.Flow), sa.Conn, sa.LocalID, sa.RemoteID); err != nil {
		return err
	}
	x.s.spis.taking.RLock()
	defer x.s.spis.taking.RUnlock()
	err := x.s.b.AddSA(ctx, sa)
	if err == nil {
		x.s.spis.forget(sa.ID)
	}
	return err
}

func (x *session) flows(ctx context.Context, changes []ipsec.FlowChange) error {
	for i := range changes {
		f := &changes[i].Flow
		if err := checkTexts(f.Selector, string(f.ID), f.Conn, f.LocalID, f.RemoteID); err != nil {
			return err
		}
	}
	if err := x.s.b.ApplyFlows(ctx, changes); err != nil {
		return err
	}
	if removesAny(changes) {
		x.s.tellOthers(x, &event{Lost: true})
	}
	return nil
}

func (x *session) endAcquire(ctx context.Context, r *request) error {
	x.s.answered(r.Acquire)
	var why error
	if r.Failed != "" {
		why = errors.New(r.Failed)
	}
	return x.s.b.EndAcquire(ctx, r.Acquire, why)
}

// dump answers in pages. It is the one answer that takes much memory, for as long
// as the client takes to read it: there are few at a time, and each has an end.
func (x *session) dump(ctx context.Context, r *request) error {
	few := x.s.dumps.others
	if x.peer.uid == 0 {
		few = x.s.dumps.root
	}
	for _, turn := range []chan struct{}{x.dumping, few} {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return fmt.Errorf("too many dumps at the same time: %w", ctx.Err())
		}
	}
	st, err := x.s.b.Dump(ctx, *r.Query)
	if err != nil {
		return err
	}
	page := dataplane.State{Drops: st.Drops, Off: st.Off}
	for {
		n := min(pageSize, len(st.SAs))
		page.SAs, st.SAs = st.SAs[:n], st.SAs[n:]
		n = min(pageSize-n, len(st.Flows))
		page.Flows, st.Flows = st.Flows[:n], st.Flows[n:]
		more := len(st.SAs)+len(st.Flows) > 0
		if err := errors.Join(ctx.Err(), x.page(r.ID, page, more)); err != nil {
			x.c.Close()
			return nil
		}
		if !more {
			return nil
		}
		page = dataplane.State{}
	}
}

// page writes a page of a dump, in halves when it is too long for a frame.
func (x *session) page(id uint64, p dataplane.State, more bool) error {
	f, err := frame(&answer{ID: id, State: &p, More: more})
	if err == nil {
		return x.write(f)
	}
	if len(p.SAs)+len(p.Flows) < 2 {
		return err
	}
	rest := dataplane.State{}
	sas, flows := (len(p.SAs)+1)/2, len(p.Flows)/2
	p.SAs, rest.SAs = p.SAs[:sas], p.SAs[sas:]
	p.Flows, rest.Flows = p.Flows[:flows], p.Flows[flows:]
	if err := x.page(id, p, true); err != nil {
		return err
	}
	return x.page(id, rest, more)
}
