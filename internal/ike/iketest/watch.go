package iketest

import "time"

// A network at rest is watched less closely: nothing changes what becomes of a
// packet but what an engine does. When one is given anything at all the packets
// come as closely as ever, and until calm has passed.
const (
	calm     = 2 * time.Second
	restfuls = 20 // pauses between two packets at rest
)

// watching is a stream whose packets are closer together when something happens.
type watching struct {
	*Stream
	world *World
	pause time.Duration
	next  int // counts what was scheduled: only the last one counts
	rests bool
}

// Watch makes a stream that sends a packet each pause while engines are at work,
// and few when they rest, until Stop.
func (w *World) Watch(from, to *Node, conn string, pause time.Duration) *Stream {
	s := &watching{Stream: w.NewStream(from, to, conn), world: w, pause: pause}
	w.watches = append(w.watches, s)
	s.schedule()
	return s.Stream
}

func (s *watching) schedule() {
	d := s.pause
	if s.rests = s.world.Now.Sub(s.world.stirred) > calm; s.rests {
		d *= restfuls
	}
	s.next++
	at := s.next
	s.world.After(d, func() {
		if at == s.next && !s.stopped {
			s.Send()
			s.schedule()
		}
	})
}

// stir notes that an engine has something to do.
func (w *World) stir() {
	w.stirred = w.Now
	for _, s := range w.watches {
		if s.rests && !s.stopped {
			s.schedule()
		}
	}
}
