package ipsecd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"oakley/internal/dataplane"
)

// Bounds of what clients can take.
const (
	maxClients  = 64
	maxRequests = 64               // a client's, at the same time
	maxEvents   = 4096             // that wait for a client
	opTime      = 20 * time.Second // of a request
	writeTime   = 10 * time.Second // for a frame that a client does not read
	helloTime   = 10 * time.Second // until the first request
)

// errNobody answers acquires when the client that was asked is gone.
var errNobody = errors.New("the key management daemon went away")

// Server lets clients use a data plane.
type Server struct {
	// Transient is told to clients: the process ends when nobody needs it.
	Transient bool

	b     dataplane.Backend
	log   *slog.Logger
	allow func(peer) error

	mu      sync.Mutex
	clients map[*session]bool
	waiting map[dataplane.AcquireID]bool // nobody has answered them yet
	closed  bool
	left    chan struct{} // a client went
	wg      sync.WaitGroup
}

// NewServer makes a server that lets root, its own user and the members of a
// group (a negative number: none) in. It takes the backend's events.
func NewServer(b dataplane.Backend, group int, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		b: b, log: log, allow: allow(group), clients: map[*session]bool{},
		waiting: map[dataplane.AcquireID]bool{}, left: make(chan struct{}, 1),
	}
	s.wg.Go(s.events)
	return s
}

// Serve takes clients until the listener is closed.
func (s *Server) Serve(l *net.UnixListener) error {
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the control socket: %w", err)
		}
		s.wg.Go(func() { s.client(c) })
	}
}

// client serves one connection to its end.
func (s *Server) client(c *net.UnixConn) {
	defer c.Close()
	p, err := peerOf(c)
	if err == nil {
		err = s.allow(p)
	}
	if err != nil {
		s.log.Warn("a client of the control socket was refused", "err", err)
		return
	}
	x := &session{s: s, c: c, peer: p, out: newOutbox(), slots: make(chan struct{}, maxRequests)}
	if !s.enter(x) {
		s.log.Warn("a client of the control socket was refused: there are too many", "clients", maxClients, "peer", p)
		return
	}
	defer s.leave(x)
	x.run()
}

func (s *Server) enter(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.clients) >= maxClients {
		return false
	}
	s.clients[x] = true
	return true
}

func (s *Server) leave(x *session) {
	s.mu.Lock()
	delete(s.clients, x)
	var lost []dataplane.AcquireID
	if !s.anybody() {
		for id := range s.waiting {
			lost = append(lost, id)
		}
		clear(s.waiting)
	}
	s.mu.Unlock()
	for _, id := range lost {
		s.endAcquire(id, errNobody)
	}
	select {
	case s.left <- struct{}{}:
	default:
	}
}

// anybody tells whether a client is registered for events. Called with mu held.
func (s *Server) anybody() bool {
	for x := range s.clients {
		if x.registered {
			return true
		}
	}
	return false
}

func (s *Server) endAcquire(id dataplane.AcquireID, why error) {
	ctx, cancel := context.WithTimeout(context.Background(), opTime)
	defer cancel()
	_ = s.b.EndAcquire(ctx, id, why) // settled otherwise, or the data plane is closed
}

// Left has a value after a client went.
func (s *Server) Left() <-chan struct{} { return s.left }

// Clients is how many there are.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// events hands the data plane's events to the clients that want them.
func (s *Server) events() {
	for e := range s.b.Events() {
		a := &answer{Event: &event{}}
		var asked dataplane.AcquireID
		switch e := e.(type) {
		case dataplane.Acquire:
			a.Event.Acquire, asked = &e, e.ID
		case dataplane.Expire:
			a.Event.Expire = &e
		case dataplane.Mapping:
			a.Event.Mapping = &e
		case dataplane.Lost:
			a.Event.Lost = true
		}
		s.mu.Lock()
		heard := false
		for x := range s.clients {
			if x.registered {
				heard = true
				x.out.event(a)
			}
		}
		if heard && asked != 0 {
			s.waiting[asked] = true
		}
		s.mu.Unlock()
		if !heard && asked != 0 {
			s.endAcquire(asked, errNobody)
		}
	}
}

// answered takes an acquire off the list of those that wait.
func (s *Server) answered(id dataplane.AcquireID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// Close ends all connections and waits for them. The data plane, which is not
// closed, has to be closed before or to end its events soon.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for x := range s.clients {
		x.c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
