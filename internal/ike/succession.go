package ike

import (
	"bytes"
	"time"
)

// rival is one of two SAs for the same thing, as the choice between them sees it.
type rival struct {
	role        Role
	begun, born time.Time
	mark        []byte // the same on both sides
}

// crossed tells whether two negotiations went on at the same time. Each side sees
// other moments: the one that has finished its own knows nothing of a first
// message that is on its way. So that both come to the same answer, what began
// soon after the end of the other one counts too.
func (e *Engine) crossed(newer, older rival) bool {
	return older.role != newer.role && newer.begun.Before(older.born.Add(2*e.cfg.RetransmitAfter))
}

// succession decides whether the older of two rivals goes, and when whichever
// goes does. The newer one stays, except when two negotiations crossed: then both
// sides must come to the same choice, and keep the one with the greater mark.
//
// The one that goes still receives for a while. It is ended by the side that
// started what replaces it, and of two that crossed by the side that started the
// one that goes, so that never both are ended; the other side does it later,
// should the first not do it.
func (e *Engine) succession(newer, older rival) (olderGoes bool, at time.Time) {
	olderGoes = true
	ours := newer.role == Initiator
	if e.crossed(newer, older) {
		olderGoes = bytes.Compare(older.mark, newer.mark) <= 0
		ours = olderGoes == (older.role == Initiator)
	}
	if ours {
		return olderGoes, e.now.Add(e.cfg.Grace)
	}
	return olderGoes, e.now.Add(6 * e.cfg.Grace)
}
