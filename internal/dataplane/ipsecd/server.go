package ipsecd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"oakley/internal/dataplane"
)

// Bounds of what clients can take.
const (
	maxClients  = 128
	maxOfUser   = 32               // clients of one user who is not root
	maxRequests = 64               // a client's, at the same time
	maxDumps    = 4                // at the same time, root's and others' apart
	maxAlong    = 64 << 10         // bytes of a request that others may go along with
	maxEvents   = 4096             // that wait for a client
	maxMessages = 8192             // that wait for one who watches
	opTime      = 20 * time.Second // of a request
	writeTime   = 10 * time.Second // for a frame that a client does not read
	helloTime   = 10 * time.Second // until the first request
	frameTime   = 10 * time.Second // for the rest of a frame that has begun
)

// errNobody answers acquires when the client that was asked is gone.
var errNobody = errors.New("the key management daemon went away")

// Server lets clients use a data plane.
type Server struct {
	// Transient is told to clients: the process ends when nobody needs it.
	Transient bool

	b     dataplane.Backend
	log   *slog.Logger
	about notices // of clients
	allow func(peer) error

	mu       sync.Mutex
	clients  map[*session]bool
	waiting  map[dataplane.AcquireID]bool // nobody has answered them yet
	watchers map[*backlog[*dataplane.Message]]bool
	watched  atomic.Bool // there are watchers
	closed   bool
	retired  bool
	came     uint64        // clients so far
	left     chan struct{} // a client went
	stop     chan struct{}
	spis     spis
	dumps    struct{ root, others chan struct{} } // each holds a copy of the tables
	wg       sync.WaitGroup
}

// NewServer makes a server that lets root, its own user and the members of a
// group (a negative number: none) in. It takes the backend's events.
func NewServer(b dataplane.Backend, group int, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		b: b, log: log, about: notices{log: log}, allow: allow(group), clients: map[*session]bool{},
		waiting: map[dataplane.AcquireID]bool{}, watchers: map[*backlog[*dataplane.Message]]bool{},
		left: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	s.dumps.root, s.dumps.others = make(chan struct{}, maxDumps), make(chan struct{}, maxDumps)
	s.wg.Go(s.events)
	return s
}

// client serves one connection to its end.
func (s *Server) client(c *net.UnixConn) {
	p, err := peerOf(c)
	if err == nil {
		err = s.allow(p)
	}
	if err != nil {
		c.Close()
		s.about.warn("a client of the control socket was refused", "err", err)
		return
	}
	s.converse(c, p)
}

// converse serves a client that may be here.
func (s *Server) converse(c net.Conn, p peer) {
	defer c.Close()
	x := newSession(s, c, p)
	err := s.enter(x)
	if errors.Is(err, dataplane.ErrClosed) {
		return // it finds that out, and can do nothing about it
	}
	if err != nil {
		s.about.warn("a client of the control socket was refused", "err", err, "peer", p)
		return
	}
	defer s.leave(x)
	x.run()
}

func (s *Server) enter(x *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.retired {
		return dataplane.ErrClosed
	}
	if len(s.clients) >= maxClients {
		return fmt.Errorf("there are %d clients already", maxClients)
	}
	n := 0
	for o := range s.clients {
		if o.peer.uid == x.peer.uid {
			n++
		}
	}
	if x.peer.uid != 0 && n >= maxOfUser {
		return fmt.Errorf("user %d has %d clients already", x.peer.uid, maxOfUser)
	}
	s.clients[x] = true
	s.came++
	return nil
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
	s.giveBack(x)
	if !x.spoke {
		return // somebody who looked whether we are here
	}
	select {
	case s.left <- struct{}{}:
	default:
	}
}

// anybody tells whether a client takes acquires. Called with mu held.
func (s *Server) anybody() bool {
	for x := range s.clients {
		if x.wants&Acquires != 0 {
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

// Left has a value after a client went who had said what it came for.
func (s *Server) Left() <-chan struct{} { return s.left }

// Clients is how many there are.
func (s *Server) Clients() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

// Retire tells whether the process can end: there is no client, and empty says
// that there is nothing to keep. Then nobody is let in any more. A client that
// comes while empty looks has come in time: the answer is no.
func (s *Server) Retire(empty func() bool) bool {
	s.mu.Lock()
	clients, came := len(s.clients), s.came
	s.mu.Unlock()
	if clients > 0 || !empty() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = s.came == came
	return s.retired
}

// others is how many clients there are of other processes than x's.
func (s *Server) others(x *session) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := range s.clients {
		if o.peer.pid != x.peer.pid {
			n++
		}
	}
	return n
}

// events hands the data plane's events to the clients that want them.
func (s *Server) events() {
	for e := range s.b.Events() {
		s.tell(one(func() *dataplane.Message { return messageOf(e) }))
		ev, kind := &event{}, AllEvents
		var asked dataplane.AcquireID
		switch e := e.(type) {
		case dataplane.Acquire:
			ev.Acquire, asked, kind = &e, e.ID, Acquires
		case dataplane.Expire:
			ev.Expire, kind = &e, Expiries
		case dataplane.Mapping:
			ev.Mapping, kind = &e, Mappings
		case dataplane.Lost:
			ev.Lost = true
		}
		s.mu.Lock()
		heard := false
		for x := range s.clients {
			if x.wants&kind != 0 {
				heard = true
				x.events.put(ev)
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
	if !s.closed {
		close(s.stop)
	}
	s.closed = true
	for x := range s.clients {
		x.c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}
