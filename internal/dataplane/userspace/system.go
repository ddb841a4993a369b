package userspace

import (
	"fmt"

	"oakley/internal/dataplane/hostnet"
	"oakley/internal/ipsec"
)

// System is what the plane changes in the host besides its sockets and device:
// routes, routing rules and packet-filter rules.
type System interface {
	// Change takes flows away, of which the ID counts, and adds others. A flow
	// that changes is in both. All or nothing.
	Change(remove, add []ipsec.Flow) error
	// Refused is how many packets were dropped since the start since they were in
	// clear where a flow protects them.
	Refused() uint64
	// Detail is for the start-up line.
	Detail() string
	// Close takes everything back.
	Close() error
}

// newKernel is the System of the network namespace of the thread that calls it.
func newKernel(o *Options, dev string) (System, error) {
	filter := "oakley"
	if o.Table != DefaultTable { // another plane's may be there
		filter = fmt.Sprintf("%s_%d", filter, o.Table)
	}
	k, err := hostnet.New(hostnet.Options{
		Device: dev, Mark: o.Mark, Table: o.Table, Priority: o.Priority,
		Filter: filter, NoFilters: o.NoFilters, EncapPort: o.EncapPort, Grace: o.Grace, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	return k, nil
}
