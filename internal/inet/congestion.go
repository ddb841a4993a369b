package inet

// Congestion marks (RFC 3168 section 5), the low bits of the class octet.
const (
	MarkMask = 3
	markNot  = 0 // the ends know no marks
	mark1    = 1
	mark0    = 2
	markCE   = 3 // the packet met congestion
)

// Inward gives a packet out of a tunnel the mark of its outer header (RFC 6040
// section 4.2). False: the outer header says that the packet met congestion, and
// the inner one that its ends know no marks: it is to be dropped.
func Inward(pkt []byte, outer uint8) bool {
	in := TOS(pkt)
	out := outer & MarkMask
	switch {
	case out == markCE && in&MarkMask == markNot:
		return false
	case out == markCE && in&MarkMask != markCE, out == mark1 && in&MarkMask == mark0:
		SetTOS(pkt, in&^MarkMask|out)
	}
	return true
}
