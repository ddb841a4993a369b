package ipsecd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// DefaultSocket is where the process listens.
const DefaultSocket = "/var/run/ipsecd.sock"

// Client is a data plane in another process.
type Client struct {
	path      string
	c         *net.UnixConn
	info      dataplane.Info
	transient bool

	events chan dataplane.Event
	queue  chan dataplane.Event // between the reader, who never waits, and events

	wr sync.Mutex // of c

	mu     sync.Mutex
	last   uint64
	calls  map[uint64]chan *answer
	broken error // why the connection is of no use any more
	lost   bool  // an event was

	done    chan struct{}
	wg      sync.WaitGroup
	closing sync.Once
	closed  error
}

var _ dataplane.Backend = (*Client)(nil)

// clientEvents is how many events wait for a slow reader.
const clientEvents = 4096

// Dial connects to a process that listens at path. The error is fs.ErrNotExist or
// ECONNREFUSED when there is none.
func Dial(path string) (*Client, error) {
	c, err := connect(path)
	if err != nil {
		return nil, err
	}
	p := &Client{
		path: path, c: c, calls: map[uint64]chan *answer{},
		events: make(chan dataplane.Event, 16), queue: make(chan dataplane.Event, clientEvents), done: make(chan struct{}),
	}
	p.wg.Go(p.read)
	p.wg.Go(p.pass)
	ctx, cancel := context.WithTimeout(context.Background(), helloTime)
	defer cancel()
	a, err := p.call(ctx, &request{Op: opHello, Version: version})
	if err == nil && (a.Info == nil || a.Version != version) {
		err = fmt.Errorf("it speaks version %d, this is version %d", a.Version, version)
	}
	if err == nil {
		p.info, p.transient = *a.Info, a.Transient
		p.info.Detail = fmt.Sprintf("process at %s: %s, %s", path, p.info.Name, p.info.Detail)
		p.info.Name, p.info.OutlivesUs = "ipsecd", true
		_, err = p.call(ctx, &request{Op: opRegister})
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("the data plane at %s: %w", path, err)
	}
	return p, nil
}

func connect(path string) (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		return nil, fmt.Errorf("connecting to the data plane: %w", err)
	}
	return c, nil
}

// read takes answers and events until the connection ends.
func (p *Client) read() {
	for {
		var a answer
		if err := readFrame(p.c, &a); err != nil {
			p.fail(fmt.Errorf("%w: the connection to the data plane at %s ended: %w", dataplane.ErrClosed, p.path, err))
			return
		}
		if a.Event != nil {
			p.event(a.Event)
			continue
		}
		p.mu.Lock()
		ch := p.calls[a.ID]
		if !a.More {
			delete(p.calls, a.ID)
		}
		p.mu.Unlock()
		if ch != nil { // else nobody waits any more
			ch <- &a
		}
	}
}

// event queues an event; one that finds no room is lost, and Lost says so.
func (p *Client) event(e *event) {
	var v dataplane.Event
	switch {
	case e.Acquire != nil:
		v = *e.Acquire
	case e.Expire != nil:
		v = *e.Expire
	case e.Mapping != nil:
		v = *e.Mapping
	default:
		v = dataplane.Lost{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost {
		select {
		case p.queue <- dataplane.Lost{}:
			p.lost = false
		default:
		}
	}
	select {
	case p.queue <- v:
	default:
		p.lost = true
	}
}

// pass closes events when there will be none.
func (p *Client) pass() {
	defer close(p.events)
	for {
		select {
		case e := <-p.queue:
			select {
			case p.events <- e:
			case <-p.done:
				return
			}
		case <-p.done:
			return
		}
	}
}

// fail ends all calls.
func (p *Client) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return
	}
	p.broken = err
	close(p.done)
}

func (p *Client) why() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// start sends a request; its answers come through the channel.
func (p *Client) start(r *request) (chan *answer, error) {
	ch := make(chan *answer, 1)
	p.mu.Lock()
	if p.broken != nil {
		p.mu.Unlock()
		return nil, p.broken
	}
	p.last++
	r.ID = p.last
	p.calls[r.ID] = ch
	p.mu.Unlock()
	f, err := frame(r)
	if err == nil {
		p.wr.Lock()
		_, err = p.c.Write(f)
		p.wr.Unlock()
	}
	if err != nil {
		p.forget(r.ID, ch)
		return nil, fmt.Errorf("asking the data plane at %s: %w", p.path, err)
	}
	return ch, nil
}

// forget drops the answers of a call that nobody waits for any more.
func (p *Client) forget(id uint64, ch chan *answer) {
	p.mu.Lock()
	delete(p.calls, id)
	p.mu.Unlock()
	select {
	case <-ch:
	default:
	}
}

// pages sends a request and gives all of its answers.
func (p *Client) pages(ctx context.Context, r *request, each func(*answer)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch, err := p.start(r)
	if err != nil {
		return err
	}
	for {
		select {
		case a := <-ch:
			if a.Error != "" {
				return &remoteError{a.Error, a.Kind}
			}
			each(a)
			if !a.More {
				return nil
			}
		case <-ctx.Done():
			p.forget(r.ID, ch)
			return fmt.Errorf("the data plane at %s did not answer to %s: %w", p.path, r.Op, ctx.Err())
		case <-p.done:
			return p.why()
		}
	}
}

func (p *Client) call(ctx context.Context, r *request) (last *answer, err error) {
	err = p.pages(ctx, r, func(a *answer) { last = a })
	return last, err
}

// Info says what the data plane could do when we connected.
func (p *Client) Info() dataplane.Info { return p.info }

// AllocSPI reserves an SPI.
func (p *Client) AllocSPI(ctx context.Context, r dataplane.SPIRequest) (ipsec.SPI, error) {
	a, err := p.call(ctx, &request{Op: opAlloc, SPI: &r})
	if err != nil {
		return 0, err
	}
	return a.SPI, nil
}

// AddSA makes an SA live.
func (p *Client) AddSA(ctx context.Context, sa *ipsec.SA) error {
	_, err := p.call(ctx, &request{Op: opAdd, SA: sa})
	return err
}

// UpdateSA changes an SA.
func (p *Client) UpdateSA(ctx context.Context, id ipsec.SAID, u ipsec.SAUpdate) error {
	_, err := p.call(ctx, &request{Op: opUpdate, Name: &id, Update: &u})
	return err
}

// DeleteSA removes an SA or gives back an SPI.
func (p *Client) DeleteSA(ctx context.Context, id ipsec.SAID) error {
	_, err := p.call(ctx, &request{Op: opDelete, Name: &id})
	return err
}

// GetSA tells what an SA has done.
func (p *Client) GetSA(ctx context.Context, id ipsec.SAID) (ipsec.SAState, error) {
	a, err := p.call(ctx, &request{Op: opGet, Name: &id})
	if err != nil {
		return ipsec.SAState{}, err
	}
	if a.SA == nil {
		return ipsec.SAState{}, errors.New("the data plane answered without the SA")
	}
	return *a.SA, nil
}

// ApplyFlows changes the SPD.
func (p *Client) ApplyFlows(ctx context.Context, changes []ipsec.FlowChange) error {
	_, err := p.call(ctx, &request{Op: opFlows, Flows: changes})
	return err
}

// EndAcquire answers an Acquire.
func (p *Client) EndAcquire(ctx context.Context, id dataplane.AcquireID, why error) error {
	r := &request{Op: opEndAcquire, Acquire: id}
	if why != nil {
		r.Failed = why.Error()
		if r.Failed == "" {
			r.Failed = "no reason was given"
		}
	}
	_, err := p.call(ctx, r)
	return err
}

// Dump lists SAs and flows.
func (p *Client) Dump(ctx context.Context, q dataplane.Query) (st dataplane.State, err error) {
	first := true
	err = p.pages(ctx, &request{Op: opDump, Query: &q}, func(a *answer) {
		if a.State == nil {
			return
		}
		if first {
			st.Drops, st.Off, first = a.State.Drops, a.State.Off, false
		}
		st.SAs = append(st.SAs, a.State.SAs...)
		st.Flows = append(st.Flows, a.State.Flows...)
	})
	if err != nil {
		return dataplane.State{}, err
	}
	return st, nil
}

// Totals sums up what went through.
func (p *Client) Totals(ctx context.Context) (dataplane.Totals, error) {
	a, err := p.call(ctx, &request{Op: opTotals})
	if err != nil {
		return dataplane.Totals{}, err
	}
	if a.Totals == nil {
		return dataplane.Totals{}, errors.New("the data plane answered without the totals")
	}
	return *a.Totals, nil
}

// Flush removes the owner's SAs and flows.
func (p *Client) Flush(ctx context.Context, o ipsec.Owner) error {
	_, err := p.call(ctx, &request{Op: opFlush, Owner: o})
	return err
}

// Enable switches a protocol on or off.
func (p *Client) Enable(ctx context.Context, proto ipsec.Proto, on bool) error {
	_, err := p.call(ctx, &request{Op: opEnable, Proto: proto, On: on})
	return err
}

// Events tells acquires, expiries and mappings; it is closed when the connection
// ends.
func (p *Client) Events() <-chan dataplane.Event { return p.events }

// Close ends the connection. SAs and flows stay. A process that nobody needs any
// more is given the time to clean up and end.
func (p *Client) Close() error {
	p.closing.Do(func() {
		last := p.transient && p.empty()
		server, _ := peerOf(p.c)
		p.fail(dataplane.ErrClosed)
		p.closed = p.c.Close()
		if last && server.pid > 0 {
			p.await(server.pid)
		}
	})
	p.wg.Wait()
	return p.closed
}

// farewell is how long a process may take to clean up.
const farewell = 5 * time.Second

// empty tells whether the data plane has nothing to keep.
func (p *Client) empty() bool {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	st, err := p.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
	return err == nil && len(st.SAs)+len(st.Flows) == 0
}

// await waits for a process to end. Another client may come and keep it.
func (p *Client) await(pid int) {
	end := time.Now().Add(farewell)
	for unix.Kill(pid, 0) == nil && time.Now().Before(end) {
		time.Sleep(5 * time.Millisecond)
	}
}

// takeOver is how long the encapsulation port may still be in the hands of a
// client that has just died.
const takeOver = 2 * time.Second

// EncapConn gives IKE's side of the encapsulation port, over a connection of its
// own.
func (p *Client) EncapConn(ctx context.Context, local netip.AddrPort) (dataplane.IKEConn, error) {
	if err := p.why(); err != nil {
		return nil, err
	}
	end := time.Now().Add(takeOver)
	for {
		conn, err := dialEncap(ctx, p.path, local)
		if !errors.Is(err, dataplane.ErrExists) || time.Now().After(end) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
