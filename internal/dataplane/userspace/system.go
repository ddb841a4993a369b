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
	k, err := hostnet.New(o.host(dev))
	if err != nil {
		return nil, err
	}
	return k, nil
}

// host is what o says of routes and filters.
func (o *Options) host(dev string) hostnet.Options {
	filter := "oakley"
	if o.Table != DefaultTable { // another plane's may be there
		filter = fmt.Sprintf("%s_%d", filter, o.Table)
	}
	return hostnet.Options{
		Device: dev, Mark: o.Mark, Table: o.Table, Priority: o.Priority,
		Filter: filter, NoFilters: o.NoFilters, EncapPort: o.EncapPort, Grace: o.Grace, Log: o.Log,
	}
}

// Clear removes routes and filters of a plane that ended without cleaning up, for
// those who begin without one: n there were. With a plane they protect until it
// has its flows again.
func Clear(o Options) (n int, err error) { return left(o, hostnet.Clear) }

// Left is how many routes and filters there are of a plane that ended without
// cleaning up. They keep what it protected from going out in clear.
func Left(o Options) (n int, err error) { return left(o, hostnet.Left) }

func left(o Options, do func(hostnet.Options) (int, error)) (n int, err error) {
	if err := o.defaults(); err != nil {
		return 0, err
	}
	if n, err = do(o.host(o.TUN)); err != nil {
		return n, fmt.Errorf("routes and filters of an ipsecd that carried the traffic itself and was killed: %w", err)
	}
	return n, nil
}
