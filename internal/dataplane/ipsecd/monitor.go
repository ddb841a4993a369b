package ipsecd

import (
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// missed is told in place of messages that were lost.
func missed(n int) *dataplane.Message {
	return &dataplane.Message{At: time.Now(), Action: dataplane.ActionMissed, Missed: n}
}

// monitor makes the connection one of messages. The client has nothing more to
// say.
func (x *session) monitor(r *request) error {
	q := newBacklog(maxMessages, missed)
	x.s.watch(q, true)
	defer x.s.watch(q, false)
	x.send(&answer{ID: r.ID, Version: version})
	go func() {
		_ = x.c.SetReadDeadline(time.Time{})
		_, _ = x.c.Read(make([]byte, 1))
		x.c.Close()
		q.end()
	}()
	for m, ok := q.next(); ok; m, ok = q.next() {
		f, err := frame(m)
		if err == nil {
			err = x.write(f)
		}
		if err != nil {
			x.c.Close()
			return fmt.Errorf("it watches and does not read: %w", err)
		}
	}
	return io.EOF
}

func (s *Server) watch(q *backlog[*dataplane.Message], on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.watchers[q] = true
	} else {
		delete(s.watchers, q)
	}
	s.watched.Store(len(s.watchers) > 0)
}

// tell tells those who watch, if there are any.
func (s *Server) tell(all iter.Seq[*dataplane.Message]) {
	if !s.watched.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range all {
		for q := range s.watchers {
			q.put(m)
		}
	}
}

// one is a sequence of what make makes, unless that is nil.
func one(make func() *dataplane.Message) iter.Seq[*dataplane.Message] {
	return func(yield func(*dataplane.Message) bool) {
		if m := make(); m != nil {
			yield(m)
		}
	}
}

// messageOf is what an event is to those who watch.
func messageOf(e dataplane.Event) *dataplane.Message {
	m := &dataplane.Message{At: time.Now()}
	switch e := e.(type) {
	case dataplane.Acquire:
		m.Action, m.Packet = dataplane.ActionAcquire, e.Packet
		m.Flow = &ipsec.Flow{ID: e.Flow}
	case dataplane.Expire:
		m.Action, m.ID, m.Hard = dataplane.ActionExpire, e.SA, e.Hard
	case dataplane.Mapping:
		m.Action, m.ID, m.Remote = dataplane.ActionMapping, e.SA, e.Remote
	default:
		return nil
	}
	return m
}

// tellRequest tells of a request and its outcome. Those that change nothing are
// not told.
func (s *Server) tellRequest(p peer, r *request, a *answer, err error) {
	m := dataplane.Message{At: time.Now(), PID: p.pid}
	if err != nil {
		m.Error = shortened(err)
	}
	if r.Op == opFlows {
		s.tell(flowMessages(m, r.Flows))
		return
	}
	s.tell(one(func() *dataplane.Message { return requestMessage(m, r, a) }))
}

func requestMessage(m dataplane.Message, r *request, a *answer) *dataplane.Message {
	if r.Name != nil {
		m.ID = *r.Name
	}
	switch r.Op {
	case opAlloc:
		m.Action = dataplane.ActionGetSPI
		if r.SPI != nil {
			m.ID = ipsec.SAID{Dir: ipsec.In, Proto: r.SPI.Proto, Dst: r.SPI.Dst}
		}
		if a != nil {
			m.ID.SPI = a.SPI
		}
	case opAdd:
		m.Action = dataplane.ActionAdd
		if r.SA != nil {
			m.ID, m.SA = r.SA.ID, withoutKeys(r.SA)
		}
	case opUpdate:
		m.Action = dataplane.ActionUpdate
		if r.Update != nil && r.Update.Remote != nil {
			m.Remote = *r.Update.Remote
		}
	case opDelete:
		m.Action = dataplane.ActionDelete
	case opFlush:
		m.Action, m.Owner = dataplane.ActionFlush, r.Owner
	case opEnable:
		m.Action, m.Proto, m.On = dataplane.ActionSwitch, r.Proto, r.On
	default:
		return nil
	}
	return &m
}

// flowMessages are one for each change.
func flowMessages(m dataplane.Message, changes []ipsec.FlowChange) iter.Seq[*dataplane.Message] {
	return func(yield func(*dataplane.Message) bool) {
		for _, c := range changes {
			m := m
			m.Action = dataplane.ActionAddFlow
			if c.Remove {
				m.Action = dataplane.ActionDeleteFlow
			}
			c.Flow.ID, c.Flow.Conn = ipsec.FlowID(cut(string(c.Flow.ID))), cut(c.Flow.Conn)
			c.Flow.LocalID, c.Flow.RemoteID = cut(c.Flow.LocalID), cut(c.Flow.RemoteID)
			m.Flow = &c.Flow
			if !yield(&m) {
				return
			}
		}
	}
}

// withoutKeys is what may be shown of an SA.
func withoutKeys(sa *ipsec.SA) *ipsec.SA {
	c := sa.Public()
	c.Flow, c.Conn = ipsec.FlowID(cut(string(c.Flow))), cut(c.Conn)
	c.LocalID, c.RemoteID = cut(c.LocalID), cut(c.RemoteID)
	return &c
}

// cut keeps names that were refused for their length from filling the queues of
// those who watch.
func cut(s string) string { return strings.Clone(s[:min(len(s), maxText)]) }
