package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"oakley/internal/daemon"
	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/dataplane/xfrm"
)

// openPlane opens the data plane that the flags ask for, with the rights of
// root: what happens later is done with fewer.
func openPlane(fl *flags, log *daemon.Log) (dataplane.Backend, error) {
	which, err := choose(fl, xfrm.Probe, log)
	if err != nil {
		return nil, err
	}
	fl.kind = which
	if which == own {
		return openOwn(fl, log)
	}
	return openKernel(fl, log)
}

// openOwn opens the stack of our own. What another ipsecd left in the kernel would
// come before it, and goes.
func openOwn(fl *flags, log *daemon.Log) (dataplane.Backend, error) {
	fl.own.Log = log.Logger
	b, err := userspace.New(fl.own)
	if err != nil {
		return nil, fmt.Errorf("the data plane cannot be opened: %w", err)
	}
	sas, policies, err := xfrm.Clear(fl.kernel.Journal, log.Logger)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("what an ipsecd left in the kernel cannot be taken away, and it would have the traffic: %w", err), b.Close())
	}
	if sas+policies > 0 {
		log.Notice("an ipsecd had left SAs and policies in the kernel; they are taken away, since the kernel is not to carry the traffic any more", "SAs", sas, "policies", policies)
	}
	return b, nil
}

// openKernel opens the kernel's IPsec, which cannot work behind the routes that
// lead into a stack of our own.
func openKernel(fl *flags, log *daemon.Log) (dataplane.Backend, error) {
	fl.kernel.Log = log.Logger
	b, err := xfrm.New(fl.kernel)
	if err != nil {
		return nil, fmt.Errorf("the kernel's IPsec cannot be used: %w", err)
	}
	n, err := userspace.Clear(fl.own)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if n > 0 {
		log.Notice("an ipsecd that carried the traffic itself was killed and left routes and filters; they are taken away, since the kernel carries the traffic now", "rules and routes", n)
	}
	if st, err := b.Dump(context.Background(), dataplane.Query{}); err == nil && len(st.SAs)+len(st.Flows) > 0 {
		log.Notice("the last ipsecd's SAs and flows are taken over", "SAs", len(st.SAs), "flows", len(st.Flows))
	}
	if lacks := b.Info().Lacks; len(lacks) > 0 {
		log.Notice("this kernel's IPsec has less than ipsecd's own", "lacks", strings.Join(lacks, "; "))
	}
	return b, nil
}

// choose is which plane it is to be, own or kernel. Probe is asked once: what it
// told is what the kernel's plane goes by.
func choose(fl *flags, probe func() (*xfrm.Abilities, error), log *daemon.Log) (kind, error) {
	if fl.kind == own {
		return own, nil
	}
	can, err := probe()
	if err == nil {
		err = can.Usable()
	}
	fl.kernel.Abilities = can
	if fl.kind == kernel {
		if err != nil {
			return kernel, fmt.Errorf("the kernel's IPsec cannot be used: %w", err)
		}
		return kernel, nil
	}
	which, other, why := kernel, own, "this kernel has ESP"
	if err != nil {
		which, other, why = own, kernel, err.Error()
	}
	args := []any{"plane", which.String(), "why", why}
	if unused := fl.given[other]; len(unused) > 0 {
		args = append(args, "of no account then", strings.Join(unused, ", "))
	}
	log.Notice("data plane chosen", args...)
	return which, nil
}
