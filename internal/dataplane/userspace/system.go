package userspace

import "oakley/internal/ipsec"

// System is what the plane changes in the host besides its sockets and device:
// routes, routing rules and packet-filter rules.
type System interface {
	// SetFlows makes the host be as these flows, all there are, ask for; they
	// come in the order in which the SPD looks at them. All or nothing.
	SetFlows(flows []ipsec.Flow) error
	// Detail is for the start-up line.
	Detail() string
	// Close takes everything back.
	Close() error
}
