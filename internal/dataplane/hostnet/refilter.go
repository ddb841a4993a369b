package hostnet

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Those who load packet-filter rules anew remove all that there are, ours too.
// They are made again: nothing else would refuse what comes in clear.

// refilter changes the packet filter. If its table is not there, it is made again
// with what there is and what is different from that.
func (k *Kernel) refilter(come, leave []element, ipip bool, different map[element]int) error {
	err := k.filter.change(come, leave, ipip)
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	all := maps.Clone(k.elements)
	settle(all, different)
	return k.filterAnew(all, ipip)
}

func (k *Kernel) filterAnew(all map[element]int, ipip bool) error {
	k.log.Warn("somebody removed the packet filter's table, and what came in clear since then was not refused; it is made again", "table", k.filter.table.Name)
	k.filter.lost()
	return k.filter.change(slices.Collect(maps.Keys(all)), nil, ipip)
}

// guard makes the table again when somebody removed it, until k.done is closed. It
// is called on a thread in the network namespace.
func (k *Kernel) guard() {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		k.log.Warn("changes of the packet filter are not followed: if somebody removes our rules, they come back with the next change of flows alone", "err", err)
		return
	}
	changed := make(chan struct{}, 1)
	go func() {
		<-k.done
		c.Close()
	}()
	go func() {
		for {
			// What they say does not matter, and neither do those that are lost.
			if _, err := c.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	go func() {
		var quiet <-chan time.Time
		for {
			select {
			case <-changed:
				if quiet == nil {
					quiet = time.After(settleDown)
				}
			case <-quiet:
				quiet = nil
				if err := k.checkFilter(); err != nil {
					k.log.Warn("the packet filter could not be made again: what comes in clear is not refused", "err", err)
				}
			case <-k.done:
				return
			}
		}
	}()
}

func (k *Kernel) checkFilter() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.filter.live == 0 {
		return nil
	}
	all, err := k.filter.nft.ListTablesOfFamily(k.filter.table.Family)
	if err != nil || slices.ContainsFunc(all, func(t *nftables.Table) bool { return t.Name == k.filter.table.Name }) {
		return err
	}
	return k.filterAnew(k.elements, k.ipip > 0)
}
