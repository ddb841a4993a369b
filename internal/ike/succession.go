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
	if crossed := older.role != newer.role && !older.born.Before(newer.begun); crossed {
		olderGoes = bytes.Compare(older.mark, newer.mark) <= 0
		ours = olderGoes == (older.role == Initiator)
	}
	if ours {
		return olderGoes, e.now.Add(e.cfg.Grace)
	}
	return olderGoes, e.now.Add(6 * e.cfg.Grace)
}
