package esp

import "sync"

// scratch is what one packet needs while it is worked on.
type scratch struct {
	block [16]byte // nonce, counter or IV
	aad   [12]byte
	high  [4]byte
	wide  []byte // grown once, for what cannot be done in place
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}
