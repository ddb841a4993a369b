package ipsecd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// session is one client's connection.
type session struct {
	s       *Server
	c       net.Conn
	peer    peer
	wants   Events // under Server.mu
	events  *backlog[*event]
	slots   chan struct{} // requests that are not answered yet
	dumping chan struct{} // one dump at a time
	writing chan struct{} // one at a time
	spoke   bool          // it has said what it came for
}

func newSession(s *Server, c net.Conn, p peer) *session {
	return &session{
		s: s, c: c, peer: p,
		events: newBacklog(maxEvents, func(int) *event { return &event{Lost: true} }),
		slots:  make(chan struct{}, maxRequests), dumping: make(chan struct{}, 1), writing: make(chan struct{}, 1),
	}
}

// run reads requests until the client goes or breaks the rules.
func (x *session) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer x.events.end()
	defer cancel()
	wg.Go(x.sendEvents)
	err := x.begin(ctx, &wg)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		x.s.about.warn("a client of the control socket was dropped", "peer", x.peer, "err", err)
	}
}

// begin takes the first request, which says what the connection is for.
func (x *session) begin(ctx context.Context, wg *sync.WaitGroup) error {
	var r request
	if _, err := x.read(&r, helloTime); err != nil {
		return err
	}
	if !r.first() || r.Version != version {
		err := fmt.Errorf("the first request is %q of version %d, expected %q of version %d: are client and server of one release?", r.Op, r.Version, opHello, version)
		x.fail(r.ID, err)
		return err
	}
	x.spoke = true
	switch r.Op {
	case opEncap:
		return x.encap(ctx, &r)
	case opMonitor:
		return x.monitor(&r)
	}
	info := x.s.b.Info()
	x.send(&answer{ID: r.ID, Version: version, Info: &info, Transient: x.s.Transient})
	return x.requests(ctx, wg)
}

// requests takes all further ones. A request's slot is free when its answer is
// written, so that who asks and does not read waits, and nobody else. One that is
// large is done with before the next is read.
func (x *session) requests(ctx context.Context, wg *sync.WaitGroup) error {
	for {
		var r request
		n, err := x.read(&r, 0)
		if err != nil {
			return err
		}
		if n > maxAlong {
			x.handle(ctx, &r)
			continue
		}
		x.slots <- struct{}{}
		wg.Go(func() {
			x.handle(ctx, &r)
			<-x.slots
		})
	}
}

// read takes a frame and tells its length. It may begin at any time within idle
// (0: ever), and then has to come.
func (x *session) read(v any, idle time.Duration) (int, error) {
	return readFrame(&patient{c: x.c, idle: idle}, v)
}

// patient reads one frame from a connection. Who begins one and says no more is
// given up.
type patient struct {
	c     net.Conn
	idle  time.Duration // 0: any
	begun bool
}

func (p *patient) Read(b []byte) (int, error) {
	if p.begun {
		return p.c.Read(b)
	}
	end := time.Time{}
	if p.idle > 0 {
		end = time.Now().Add(p.idle)
	}
	if err := p.c.SetReadDeadline(end); err != nil {
		return 0, err
	}
	n, err := p.c.Read(b[:min(1, len(b))])
	if n > 0 {
		p.begun = true
		_ = p.c.SetReadDeadline(time.Now().Add(frameTime))
	}
	return n, err
}

// send writes a frame. A client that does not read is dropped.
func (x *session) send(v any) {
	f, err := frame(v)
	if err == nil {
		err = x.write(f)
	}
	if err != nil {
		x.c.Close()
	}
}

func (x *session) write(f []byte) error {
	x.writing <- struct{}{}
	defer func() { <-x.writing }()
	_ = x.c.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := x.c.Write(f)
	return err
}

// sendEvents writes what the client registered for.
func (x *session) sendEvents() {
	for e, ok := x.events.next(); ok; e, ok = x.events.next() {
		x.send(&answer{Event: e})
	}
}

// maxError bounds the text of an error in bytes: it may quote what was asked.
const maxError = 4096

func shortened(err error) string {
	text := err.Error()
	if len(text) > maxError {
		return text[:maxError] + " ..."
	}
	return text
}

func (x *session) fail(id uint64, err error) {
	x.send(&answer{ID: id, Kind: kindOf(err), Error: shortened(err)})
}

// handle carries out one request and answers it.
func (x *session) handle(ctx context.Context, r *request) {
	ctx, cancel := context.WithTimeout(ctx, opTime)
	defer cancel()
	a, err := x.carryOut(ctx, r)
	x.s.tellRequest(x.peer, r, a, err)
	switch {
	case err != nil:
		x.fail(r.ID, err)
	case r.Op != opDump: // which has answered in pages
		a.ID = r.ID
		x.send(a)
	}
}
