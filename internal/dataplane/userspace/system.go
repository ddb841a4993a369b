package userspace

import "oakley/internal/ipsec"

// System is what the plane changes in the host besides its sockets and device:
// routes, routing rules and packet-filter rules.
type System interface {
	// Change takes flows away, of which the ID counts, and adds others. A flow
	// that changes is in both. All or nothing.
	Change(remove, add []ipsec.Flow) error
	// Detail is for the start-up line.
	Detail() string
	// Close takes everything back.
	Close() error
}
