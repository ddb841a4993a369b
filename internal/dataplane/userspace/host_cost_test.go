package userspace_test

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// wiretap counts what a host's kernel tells about changes of routes, rules and
// packet filters.
type wiretap struct{ route, filter *nl.NetlinkSocket }

func tap(t *testing.T, h *lab.Host) *wiretap {
	t.Helper()
	w := &wiretap{}
	must(t, h.Do(func() (err error) {
		if w.route, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE); err != nil {
			return err
		}
		w.filter, err = nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
		return err
	}))
	t.Cleanup(func() { w.route.Close(); w.filter.Close() })
	for _, s := range []*nl.NetlinkSocket{w.route, w.filter} {
		must(t, s.SetReceiveBufferSize(8<<20, true))
		must(t, s.SetReceiveTimeout(&unix.Timeval{Usec: 200_000}))
	}
	return w
}

// messages since the last call.
func (w *wiretap) messages(t *testing.T) (n int) {
	t.Helper()
	for _, s := range []*nl.NetlinkSocket{w.route, w.filter} {
		for {
			list, _, err := s.Receive()
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			must(t, err)
			n += len(list)
		}
	}
	return n
}

// One more pair of flows is a few messages to the kernel and as many bytes among
// thousands as among a handful: with a local network that all share, with one for
// each, and when there are some that exempt.
func TestOneMoreFlowIsAFewMessages(t *testing.T) {
	shared := netip.MustParsePrefix("10.1.0.0/24")
	far := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + i>>8), byte(i), 0}), 24)
	}
	near := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + i>>12), byte(i >> 4), byte(i << 4)}), 28)
	}
	for _, c := range []struct {
		name string
		near func(i int) netip.Prefix
		most int                      // messages for the pair that comes and goes
		also []ipsec.FlowChange       // what is there first
		typ  func(int) ipsec.FlowType // of the others
	}{
		{"a local network that all share", func(int) netip.Prefix { return shared }, 16, nil, nil},
		{"a local network for each", near, 16, nil, nil},
		{
			"some that exempt", func(int) netip.Prefix { return shared }, 16,
			append(both("wide", shared, netip.MustParsePrefix("0.0.0.0/0")),
				outgoing("hole", netip.MustParsePrefix("10.1.0.7/32"), netip.MustParsePrefix("10.100.0.7/32"), ipsec.FlowBypass),
				outgoing("large hole", shared, netip.MustParsePrefix("10.0.0.0/8"), ipsec.FlowBypass)), nil,
		},
		{
			"every second is used when it can be", func(int) netip.Prefix { return shared }, 16, nil,
			func(i int) ipsec.FlowType {
				if i%2 == 0 {
					return ipsec.FlowUse
				}
				return ipsec.FlowRequire
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			const step = 20
			cost := func(many int) (messages int, bytes uint64, spent time.Duration) {
				n := howTo(t)
				ipTool(t, n.Ragweed, "link add oakley0 type veth peer name other0")
				var sys userspace.System
				must(t, n.Ragweed.Do(func() (err error) {
					sys, err = userspace.NewSystem(userspace.Options{}, device)
					return err
				}))
				defer sys.Close()
				flows := func(changes []ipsec.FlowChange) (l []ipsec.Flow) {
					for i := range changes {
						l = append(l, changes[i].Flow)
					}
					return l
				}
				pair := func(i int) []ipsec.FlowChange {
					l := both(fmt.Sprint(i), c.near(i), far(i))
					if c.typ != nil {
						l[0].Flow.Type, l[1].Flow.Type = c.typ(i), c.typ(i)
					}
					return l
				}
				all := c.also
				for i := range many {
					all = append(all, pair(i)...)
				}
				must(t, sys.Change(nil, flows(all)))
				var ms [2]runtime.MemStats
				w := tap(t, n.Ragweed)
				runtime.ReadMemStats(&ms[0])
				start := time.Now()
				for i := many; i < many+step; i++ {
					f := flows(pair(i))
					must(t, sys.Change(nil, f))
					must(t, sys.Change(f, f))
					must(t, sys.Change(f, nil))
				}
				spent = time.Since(start) / step
				runtime.ReadMemStats(&ms[1])
				return w.messages(t), (ms[1].TotalAlloc - ms[0].TotalAlloc) / step, spent
			}
			m1, b1, t1 := cost(300)
			m2, b2, t2 := cost(2000)
			t.Logf("a pair of flows that comes and goes: %.1f messages, %d bytes, %s among 300; %.1f messages, %d bytes, %s among 2000",
				float64(m1)/step, b1, t1, float64(m2)/step, b2, t2)
			if m2 > step*c.most || m2 > m1+step || m2 == 0 {
				t.Errorf("%d messages for %d pairs among 2000, %d among 300", m2, step, m1)
			}
			if b2 > 2*b1+8192 {
				t.Errorf("%d bytes for a pair among 2000, %d among 300", b2, b1)
			}
		})
	}
}
