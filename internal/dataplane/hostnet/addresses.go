package hostnet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// This host's addresses come and go, and with them those that its own packets may
// have which have none yet. The kernel removes a route with an address that goes.

// settleDown is how long after a change flows are looked at, since changes seldom
// come alone.
const settleDown = 300 * time.Millisecond

// home are this host's addresses, read when first asked for.
type home struct {
	k    *Kernel
	own  []netip.Addr
	read bool
}

// unfit are the flags of addresses that no packet can come from yet or should
// come from any more.
const unfit = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED

// addresses are in a stable order.
func (h *home) addresses() ([]netip.Addr, error) {
	if h.read {
		return h.own, nil
	}
	list, err := h.k.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("reading this host's addresses: %w", err)
	}
	for _, l := range list {
		a, ok := netip.AddrFromSlice(l.IP)
		if a = a.Unmap(); ok && !a.IsLoopback() && !a.IsLinkLocalUnicast() && l.LinkIndex != h.k.index && l.Flags&unfit == 0 {
			h.own = append(h.own, a)
		}
	}
	slices.SortFunc(h.own, netip.Addr.Compare)
	h.read = true
	return h.own, nil
}

// watch looks at the flows again when addresses changed, until k.done is closed.
// It is called on a thread in the network namespace.
func (k *Kernel) watch() {
	events := make(chan netlink.AddrUpdate, 64)
	err := netlink.AddrSubscribeWithOptions(events, k.done, netlink.AddrSubscribeOptions{ErrorCallback: func(error) {}})
	if err != nil {
		k.log.Warn("changes of this host's addresses are not followed: its own packets may not find into the tunnel after one", "err", err)
		return
	}
	go func() {
		var quiet <-chan time.Time
		back := map[netip.Addr]bool{}
		for {
			select {
			case e, ok := <-events:
				if !ok {
					return
				}
				if a, ok := netip.AddrFromSlice(e.LinkAddress.IP); ok && e.NewAddr {
					back[a.Unmap()] = true
				}
				if quiet == nil {
					quiet = time.After(settleDown)
				}
			case <-quiet:
				quiet = nil
				if err := k.rehint(back); err != nil {
					k.log.Warn("this host's addresses changed, and its own packets may not find into the tunnel", "err", err)
				}
				clear(back)
			case <-k.done:
				return
			}
		}
	}()
}

// rehint gives flows the addresses that this host has now. Routes with addresses
// that went and came back are made again.
func (k *Kernel) rehint(back map[netip.Addr]bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	h := &home{k: k}
	own, err := h.addresses()
	if err != nil {
		return err
	}
	gone := func(r routeKey) bool { return back[r.src] }
	if slices.Equal(own, k.own) && !slices.ContainsFunc(slices.Collect(maps.Values(k.hints)), gone) {
		return nil
	}
	c, err := k.newChange(nil, nil)
	if err != nil {
		return err
	}
	defer func() { k.release(c.tables) }()
	all := make([]*kept, 0, len(k.alike))
	c.needs = make(map[*kept]*needs, len(k.alike))
	for _, list := range k.alike {
		all = append(all, list[0])
		c.needs[list[0]] = &needs{entries: list[0].needs.entries} // the levels stay
	}
	c.ladders = k.ladders
	if err := k.count(c, all, all, h); err != nil {
		return err
	}
	steps := k.steps(c)
	for r := range k.routes {
		if gone(r) && c.routes[r] > 0 {
			steps = append(steps, step{func() error { return k.enterRoute(r) }, func() error { return nil }, fmt.Sprintf("route to %s", r.dst)})
		}
	}
	if err := run(steps); err != nil {
		return err
	}
	k.record(c)
	k.own = own
	return nil
}
