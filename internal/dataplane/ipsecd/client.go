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
)

// DefaultSocket is where the process listens.
const DefaultSocket = "/var/run/ipsecd.sock"

// Client is a data plane in another process.
type Client struct {
	path      string
	c         net.Conn
	info      dataplane.Info
	transient bool
	tool      bool // takes no events

	events  chan dataplane.Event
	backlog *backlog[dataplane.Event] // between the reader, who never waits, and events

	wr sync.Mutex // of c

	mu     sync.Mutex
	number uint64 // of the latest call
	calls  map[uint64]chan *answer
	broken error // why the connection is of no use any more

	done    chan struct{}
	wg      sync.WaitGroup
	closing sync.Once
	closed  error
}

var (
	_ dataplane.Backend = (*Client)(nil)
	_ dataplane.Monitor = (*Client)(nil)
)

// clientEvents is how many events wait for a slow reader.
const clientEvents = 4096

// Dial connects to a process that listens at path and registers for events; a
// tool that only asks and tells takes NoEvents, and its Events are just closed at
// the end. The error is fs.ErrNotExist or ECONNREFUSED when no process listens.
func Dial(ctx context.Context, path string, want Events) (*Client, error) {
	c, err := connect(ctx, path)
	if err != nil {
		return nil, err
	}
	return newClient(ctx, c, path, want)
}

// newClient greets the process at the other end of c.
func newClient(ctx context.Context, c net.Conn, path string, want Events) (*Client, error) {
	p := &Client{
		path: path, c: c, tool: want == NoEvents, calls: map[uint64]chan *answer{}, done: make(chan struct{}),
		events:  make(chan dataplane.Event, 16),
		backlog: newBacklog(clientEvents, func(int) dataplane.Event { return dataplane.Lost{} }),
	}
	p.wg.Go(p.read)
	p.wg.Go(p.pass)
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	if err := p.greet(ctx, want); err != nil {
		p.Close()
		return nil, fmt.Errorf("the data plane at %s: %w", path, err)
	}
	return p, nil
}

func (p *Client) greet(ctx context.Context, want Events) error {
	a, err := p.call(ctx, &request{Op: opHello, Version: version})
	if err != nil {
		return err
	}
	if a.Info == nil || a.Version != version {
		return fmt.Errorf("it speaks version %d, this is version %d: are client and server of one release?", a.Version, version)
	}
	p.info, p.transient = *a.Info, a.Transient
	p.info.OutlivesUs = true
	if p.info.Kernel {
		p.info.Detail = fmt.Sprintf("%s, keyed by the process at %s", p.info.Detail, p.path)
	} else {
		p.info.Detail = fmt.Sprintf("process at %s: %s, %s", p.path, p.info.Name, p.info.Detail)
		p.info.Name = "ipsecd"
	}
	if want == NoEvents {
		return nil
	}
	_, err = p.call(ctx, &request{Op: opRegister, Events: want})
	return err
}

func connect(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to the data plane: %w", err)
	}
	return c, nil
}

// open connects for one purpose alone, which the first request says.
func open(ctx context.Context, path string, r *request) (net.Conn, error) {
	c, err := connect(ctx, path)
	if err != nil {
		return nil, err
	}
	r.ID, r.Version = 1, version
	ctx, cancel := context.WithTimeout(ctx, opTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	var a answer
	f, err := frame(r)
	if err == nil {
		_, err = c.Write(f)
	}
	if err == nil {
		_, err = readFrame(c, &a)
	}
	switch {
	case !stop():
		err = ctx.Err()
	case err == nil && a.Error != "":
		err = &remoteError{a.Error, a.Kind}
	case err == nil && a.Version != version:
		err = fmt.Errorf("it speaks version %d, this is version %d: are client and server of one release?", a.Version, version)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// read takes answers and events until the connection ends.
func (p *Client) read() {
	for {
		var a answer
		if _, err := readFrame(p.c, &a); err != nil {
			p.fail(fmt.Errorf("%w: the connection to the data plane at %s ended: %w", dataplane.ErrClosed, p.path, err))
			return
		}
		if a.Event != nil {
			p.backlog.put(a.Event.value())
			continue
		}
		p.mu.Lock()
		ch := p.calls[a.ID]
		if !a.More {
			delete(p.calls, a.ID)
		}
		p.mu.Unlock()
		if ch == nil {
			continue // nobody waits any more
		}
		select {
		case ch <- &a:
		case <-p.done:
			return
		}
	}
}

// value is the event as data planes tell it.
func (e *event) value() dataplane.Event {
	switch {
	case e.Acquire != nil:
		return *e.Acquire
	case e.Expire != nil:
		return *e.Expire
	case e.Mapping != nil:
		return *e.Mapping
	}
	return dataplane.Lost{}
}

// pass closes events when there will be none.
func (p *Client) pass() {
	defer close(p.events)
	for e, ok := p.backlog.next(); ok; e, ok = p.backlog.next() {
		select {
		case p.events <- e:
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
	p.backlog.end()
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
	p.number++
	r.ID = p.number
	p.mu.Unlock()
	f, err := frame(r)
	if err != nil {
		return nil, fmt.Errorf("asking the data plane at %s: %w", p.path, err)
	}
	p.mu.Lock()
	p.calls[r.ID] = ch
	p.mu.Unlock()
	if err := p.write(f); err != nil {
		// Part of it may be there: nothing more can be said on this connection.
		err = fmt.Errorf("%w: asking the data plane at %s: %w", dataplane.ErrClosed, p.path, err)
		p.fail(err)
		p.c.Close()
		return nil, err
	}
	return ch, nil
}

func (p *Client) write(f []byte) error {
	p.wr.Lock()
	defer p.wr.Unlock()
	_ = p.c.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := p.c.Write(f)
	return err
}

// forget drops the answers of a call that nobody waits for any more.
func (p *Client) forget(id uint64, ch chan *answer) {
	p.mu.Lock()
	delete(p.calls, id)
	p.mu.Unlock()
	select {
	case <-ch: // makes room for one that the reader holds already
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
	for more := true; more; {
		a, err := p.await(ctx, r, ch)
		if err != nil {
			return err
		}
		if a.Error != "" {
			return &remoteError{a.Error, a.Kind}
		}
		each(a)
		more = a.More
	}
	return nil
}

// await waits for one answer. One that came before the connection ended counts.
func (p *Client) await(ctx context.Context, r *request, ch chan *answer) (*answer, error) {
	select {
	case a := <-ch:
		return a, nil
	case <-ctx.Done():
		p.forget(r.ID, ch)
		return nil, fmt.Errorf("the data plane at %s did not answer to %s: %w", p.path, r.Op, ctx.Err())
	case <-p.done:
	}
	select {
	case a := <-ch:
		return a, nil
	default:
		return nil, p.why()
	}
}

func (p *Client) call(ctx context.Context, r *request) (last *answer, err error) {
	err = p.pages(ctx, r, func(a *answer) { last = a })
	return last, err
}

// Events tells what was registered for; it is closed when the connection ends.
func (p *Client) Events() <-chan dataplane.Event { return p.events }

// Transient tells whether the process ends when nobody needs it any more: it is one
// that a client has started, not one that a service manager keeps.
func (p *Client) Transient() bool { return p.transient }

// Close ends the connection. SAs and flows stay. Whoever took events is there for
// long and may have started the process: when nobody needs that any more, it is
// given the time to clean up and end.
func (p *Client) Close() error {
	p.closing.Do(func() {
		server := p.leaves()
		p.fail(dataplane.ErrClosed)
		p.closed = p.c.Close()
		if server > 0 {
			p.outlast(server)
		}
	})
	p.wg.Wait()
	return p.closed
}

// leaves is the process that ends when we go; 0: none.
func (p *Client) leaves() int {
	u, ok := p.c.(*net.UnixConn)
	if !ok || !p.transient || p.tool || !p.last() {
		return 0
	}
	server, err := peerOf(u)
	if err != nil {
		return 0
	}
	return server.pid
}

// farewell is how long a process may take to clean up.
const farewell = 5 * time.Second

// Empty tells whether a data plane has nothing to keep, without listing the SAs of
// one that counts them.
func Empty(ctx context.Context, b dataplane.Backend) (bool, error) {
	t, err := b.Totals(ctx)
	if err != nil {
		return false, err
	}
	for _, p := range t.Protos {
		if p.SAs > 0 {
			return false, nil
		}
	}
	st, err := b.Dump(ctx, dataplane.Query{})
	return err == nil && len(st.SAs)+len(st.Flows) == 0, err
}

func (p *Client) last() bool {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	alone, err := p.Alone(ctx)
	return err == nil && alone
}

// Alone tells whether nobody but us needs the process: there is no other client,
// no SA and no flow.
func (p *Client) Alone(ctx context.Context) (bool, error) {
	a, err := p.call(ctx, &request{Op: opTotals})
	if err != nil || a.Others > 0 {
		return false, err
	}
	return Empty(ctx, p)
}

// outlast waits for a process to end. Another client may come and keep it.
func (p *Client) outlast(pid int) {
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
