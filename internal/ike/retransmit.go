package ike

import (
	"net/netip"
	"time"
)

// sending is one side's part in keeping an exchange going over a lossy network:
// the last message sent, when to send it again, and the last message received,
// whose duplicate gets the same answer (RFC 2408 section 5.1).
type sending struct {
	last          []byte
	local, remote netip.AddrPort
	in            [16]byte // digest of the last message accepted
	haveIn        bool
	tries         int
	next          time.Time // of the next retransmission; zero: none
}

// send transmits b and, when repeat is set, has it repeated until an answer
// comes.
func (e *Engine) send(s *sending, b []byte, local, remote netip.AddrPort, repeat bool) {
	s.last, s.local, s.remote, s.tries, s.next = b, local, remote, 0, time.Time{}
	if repeat {
		s.next = e.now.Add(e.cfg.RetransmitAfter)
	}
	e.emit(Transmit{Local: local, Remote: remote, Data: b})
}

// again repeats the last message when its time has come, each time after twice
// the pause. False: it was repeated often enough, and nobody answered.
func (e *Engine) again(s *sending) bool {
	if !e.due(s.next) {
		return true
	}
	if s.tries >= e.cfg.Retransmits {
		s.next = time.Time{}
		return false
	}
	s.tries++
	s.next = e.now.Add(e.cfg.RetransmitAfter << min(s.tries, 5))
	e.emit(Transmit{Local: s.local, Remote: s.remote, Data: s.last})
	return true
}

// accepted notes that d was taken, so that a copy of it can be told.
func (s *sending) accepted(d Datagram) {
	s.in, s.haveIn, s.next = digest(d.Data), true, time.Time{}
}

// duplicate answers a copy of the last accepted message with the last reply, to
// where the copy came from when it is the same host: never to somebody else's
// address, and never longer than what the first one got.
func (e *Engine) duplicate(s *sending, d Datagram) bool {
	if !s.haveIn || s.in != digest(d.Data) {
		return false
	}
	if s.last != nil {
		e.emit(Transmit{Local: s.local, Remote: s.remote, Data: s.last})
	}
	return true
}
