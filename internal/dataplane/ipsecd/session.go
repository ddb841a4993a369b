package ipsecd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"oakley/internal/dataplane"
)

// session is one client's connection.
type session struct {
	s          *Server
	c          *net.UnixConn
	peer       peer
	registered bool // under Server.mu
	out        *outbox
	slots      chan struct{}
}

// run reads requests until the client goes or breaks the rules.
func (x *session) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(x.write)
	defer x.out.close()
	_ = x.c.SetReadDeadline(time.Now().Add(helloTime))
	for first := true; ; first = false {
		var r request
		err := readFrame(x.c, &r)
		if err == nil && first && (r.Op != opHello && r.Op != opEncap || r.Version != version) {
			err = fmt.Errorf("the first request is %q of version %d, expected %q of version %d: are client and server of one release?", r.Op, r.Version, opHello, version)
			x.fail(r.ID, err)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				x.s.log.Warn("a client of the control socket was dropped", "peer", x.peer, "err", err)
			}
			return
		}
		_ = x.c.SetReadDeadline(time.Time{})
		if r.Op == opEncap {
			x.encap(ctx, &r)
			return
		}
		x.slots <- struct{}{} // who asks too much at a time waits
		wg.Go(func() {
			x.handle(ctx, &r)
			<-x.slots
		})
	}
}

// write sends what is in the outbox. A client that does not read is dropped.
func (x *session) write() {
	for a := x.out.next(); a != nil; a = x.out.next() {
		f, err := frame(a)
		if err == nil {
			_ = x.c.SetWriteDeadline(time.Now().Add(writeTime))
			_, err = x.c.Write(f)
		}
		if err != nil {
			x.c.Close()
			return
		}
	}
}

func (x *session) fail(id uint64, err error) {
	x.out.put(&answer{ID: id, Kind: kindOf(err), Error: err.Error()})
}

var errIncomplete = errors.New("the request lacks what its operation needs")

// handle carries out one request.
func (x *session) handle(ctx context.Context, r *request) {
	ctx, cancel := context.WithTimeout(ctx, opTime)
	defer cancel()
	a, err := x.carryOut(ctx, r)
	if err != nil {
		x.fail(r.ID, err)
		return
	}
	if a != nil {
		a.ID = r.ID
		x.out.put(a)
	}
}

func (x *session) carryOut(ctx context.Context, r *request) (*answer, error) {
	b := x.s.b
	switch r.Op {
	case opHello:
		info := b.Info()
		return &answer{Version: version, Info: &info, Transient: x.s.Transient}, nil
	case opAlloc:
		if r.SPI == nil {
			return nil, errIncomplete
		}
		spi, err := b.AllocSPI(ctx, *r.SPI)
		return &answer{SPI: spi}, err
	case opAdd:
		if r.SA == nil {
			return nil, errIncomplete
		}
		return &answer{}, b.AddSA(ctx, r.SA)
	case opUpdate:
		if r.Name == nil || r.Update == nil {
			return nil, errIncomplete
		}
		return &answer{}, b.UpdateSA(ctx, *r.Name, *r.Update)
	case opDelete:
		if r.Name == nil {
			return nil, errIncomplete
		}
		return &answer{}, b.DeleteSA(ctx, *r.Name)
	case opGet:
		if r.Name == nil {
			return nil, errIncomplete
		}
		st, err := b.GetSA(ctx, *r.Name)
		return &answer{SA: &st}, err
	case opFlows:
		return &answer{}, b.ApplyFlows(ctx, r.Flows)
	case opEndAcquire:
		return &answer{}, x.endAcquire(ctx, r)
	case opDump:
		if r.Query == nil {
			return nil, errIncomplete
		}
		return nil, x.dump(ctx, r)
	case opTotals:
		t, err := b.Totals(ctx)
		return &answer{Totals: &t}, err
	case opFlush:
		return &answer{}, b.Flush(ctx, r.Owner)
	case opEnable:
		return &answer{}, b.Enable(ctx, r.Proto, r.On)
	case opRegister:
		x.s.mu.Lock()
		x.registered = true
		x.s.mu.Unlock()
		return &answer{}, nil
	}
	return nil, fmt.Errorf("operation %q is unknown: is the client newer than the server?", r.Op)
}

func (x *session) endAcquire(ctx context.Context, r *request) error {
	x.s.answered(r.Acquire)
	var why error
	if r.Failed != "" {
		why = errors.New(r.Failed)
	}
	return x.s.b.EndAcquire(ctx, r.Acquire, why)
}

// dump answers in pages.
func (x *session) dump(ctx context.Context, r *request) error {
	st, err := x.s.b.Dump(ctx, *r.Query)
	if err != nil {
		return err
	}
	page := &dataplane.State{Drops: st.Drops, Off: st.Off}
	for {
		n := min(pageSize, len(st.SAs))
		page.SAs, st.SAs = st.SAs[:n], st.SAs[n:]
		n = min(pageSize, len(st.Flows))
		page.Flows, st.Flows = st.Flows[:n], st.Flows[n:]
		more := len(st.SAs)+len(st.Flows) > 0
		x.out.put(&answer{ID: r.ID, State: page, More: more})
		if !more {
			return nil
		}
		page = &dataplane.State{}
	}
}

// encap makes the connection one of IKE datagrams.
func (x *session) encap(ctx context.Context, r *request) {
	conn, err := x.s.b.EncapConn(ctx, r.Local)
	if err != nil {
		x.fail(r.ID, err)
		return
	}
	defer conn.Close()
	f, err := frame(&answer{ID: r.ID, Version: version})
	if err != nil {
		return
	}
	if _, err := x.c.Write(f); err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer x.c.Close()
		b := make([]byte, 65535)
		for {
			n, remote, local, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			f, err := frame(&datagram{Local: local, Remote: remote, Data: b[:n]})
			if err == nil {
				_ = x.c.SetWriteDeadline(time.Now().Add(writeTime))
				_, err = x.c.Write(f)
			}
			if err != nil {
				return
			}
		}
	})
	for {
		var d datagram
		if err := readFrame(x.c, &d); err != nil {
			conn.Close()
			return
		}
		// What cannot be sent is lost, as on a network.
		if len(d.Data) == 0 {
			_ = conn.Keepalive(d.Local, d.Remote)
		} else {
			_ = conn.WriteTo(d.Data, d.Local, d.Remote)
		}
	}
}
