package xfrm

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// protectsPorts are flows for the UDP packets between the networks of a tunnel
// that go to a port.
func protectsPorts(conn string, a, b netip.Prefix, typ ipsec.FlowType, port uint16) []ipsec.FlowChange {
	all := tunnel(conn, a, b, typ)
	for i := range all {
		s := &all[i].Flow.Selector
		s.Proto, s.DstPort = 17, port
	}
	return all
}

// TestFragmentsPolicies: who has ports and does not want them in clear, or not at
// all, has policies for what has lost them; two have the same one, which comes
// before what has none.
func TestFragmentsPolicies(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "journal")
	p, _ := keeping(t, k, path)
	lost := func() (n int) {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, w := range k.policies {
			if onlyFragments(&w.Sel) {
				n++
				if w.Action != wire.Block || w.Dir == wire.DirIn || w.Sel.Proto != 17 {
					t.Errorf("policy %+v", w)
				}
			}
		}
		return n
	}
	for _, c := range []struct {
		typ  ipsec.FlowType
		want int
	}{
		{ipsec.FlowRequire, 2},
		{ipsec.FlowDontAcq, 2},
		{ipsec.FlowDeny, 2},
		{ipsec.FlowUse, 0},
		{ipsec.FlowAcquire, 0},
		{ipsec.FlowBypass, 0},
	} {
		all := protectsPorts("c", netA, netB, c.typ, 2000)
		must(t, p.ApplyFlows(ctx, all))
		if n := lost(); n != c.want {
			t.Errorf("%s: %d policies for fragments, want %d", c.typ, n, c.want)
		}
		must(t, p.ApplyFlows(ctx, gone(all)))
		if _, n := k.count(); n != 0 {
			t.Errorf("%s: %d policies are left", c.typ, n)
		}
	}
	must(t, p.ApplyFlows(ctx, tunnel("all", netA, netB, ipsec.FlowRequire)))
	udp := tunnel("udp", netA, netB, ipsec.FlowRequire)
	for i := range udp {
		udp[i].Flow.Selector.Proto = 17
	}
	must(t, p.ApplyFlows(ctx, udp))
	must(t, p.ApplyFlows(ctx, protectsPorts("c", netA, netB, ipsec.FlowRequire, 2000)))
	must(t, p.ApplyFlows(ctx, protectsPorts("d", netA, netB, ipsec.FlowDontAcq, 3000)))
	if n := lost(); n != 2 {
		t.Errorf("%d policies for fragments of two flows between the same networks, want 2", n)
	}
	for _, w := range k.policies {
		for _, o := range k.policies {
			if onlyFragments(&w.Sel) && o.Sel.DstMask == 0 && o.Priority <= w.Priority {
				t.Errorf("what has no ports comes before fragments, or with them: %d and %d", o.Priority, w.Priority)
			}
		}
	}
	p.Close()
	clear(k.requests)
	p, _ = keeping(t, k, path)
	for typ, n := range k.requests {
		if typ != wire.GetSA {
			t.Errorf("after a restart %d times %s, want nothing changed", n, typ)
		}
	}
	must(t, p.ApplyFlows(ctx, gone(protectsPorts("c", netA, netB, ipsec.FlowRequire, 2000))))
	if n := lost(); n != 2 {
		t.Errorf("%d policies for fragments, one of their flows being there, want 2", n)
	}
	must(t, p.Flush(ctx, ipsec.OwnerAny))
	if _, n := k.count(); n != 0 {
		t.Errorf("%d policies are left", n)
	}
}

// last is the size in bytes of the last datagram.
const last = 99

// untilLast tells how long the datagrams are that come, the last one included.
func untilLast(t *testing.T, c *net.UDPConn) (sizes []int) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	for buf := make([]byte, 8192); ; {
		n, err := c.Read(buf)
		must(t, err)
		if sizes = append(sizes, n); n == last {
			return sizes
		}
	}
}

// come tells how long the datagrams are that have come.
func come(t *testing.T, c *net.UDPConn) (sizes []int) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		for buf := make([]byte, 8192); ; {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			sizes = append(sizes, n)
		}
	}))
	return sizes
}

// TestRealFragments: long packets that a gateway forwards do not pass a flow with
// ports by being in pieces. Others in pieces do not either, unless the kernel makes
// them whole.
func TestRealFragments(t *testing.T) {
	n := lab.New(t)
	var hosts [3]*lab.Host
	for i, name := range []string{"left", "gate", "right"} {
		h, err := n.Host(name)
		must(t, err)
		hosts[i] = h
	}
	left, gate, right := hosts[0], hosts[1], hosts[2]
	must(t, gate.Forward())
	must(t, n.Connect(
		lab.End{Host: left, If: "lan", Addrs: []string{"10.1.0.2/24", "fd01::2/64"}},
		lab.End{Host: gate, If: "lan", Addrs: []string{"10.1.0.1/24", "fd01::1/64"}},
	))
	must(t, n.Connect(
		lab.End{Host: right, If: "lan", Addrs: []string{"10.2.0.2/24", "fd02::2/64"}},
		lab.End{Host: gate, If: "wan", Addrs: []string{"10.2.0.1/24", "fd02::1/64"}},
	))
	must(t, left.Route("10.2.0.0/24", "10.1.0.1"))
	must(t, left.Route("fd02::/64", "fd01::1"))
	must(t, right.Route("10.1.0.0/24", "10.2.0.1"))
	must(t, right.Route("fd01::/64", "fd02::1"))
	p := (&bare{gate, t}).plane(Options{AnySource: true})
	for _, fam := range []struct{ left, right string }{{"fd01::2", "fd02::2"}, {"10.1.0.2", "10.2.0.2"}} {
		type socket struct{ flow, other *net.UDPConn }
		open := func(h *lab.Host, addr string) (s socket) {
			for port, to := range map[uint16]**net.UDPConn{2000: &s.flow, 2001: &s.other} {
				c, err := h.ListenUDP(netip.AddrPortFrom(netip.MustParseAddr(addr), port))
				must(t, err)
				t.Cleanup(func() { c.Close() })
				*to = c
			}
			return s
		}
		a, b := open(left, fam.left), open(right, fam.right)
		send := func(from, to *net.UDPConn, size int) {
			t.Helper()
			_, err := from.WriteToUDPAddrPort(make([]byte, size), to.LocalAddr().(*net.UDPAddr).AddrPort())
			must(t, err)
		}
		// try sends all that there is to send, and tells what came to either port.
		try := func(from, to socket) string {
			t.Helper()
			for _, c := range []*net.UDPConn{to.flow, to.other} {
				for _, size := range []int{100, 3000} {
					send(from.other, c, size)
				}
			}
			send(from.other, to.other, last)
			other := untilLast(t, to.other)
			return fmt.Sprint(come(t, to.flow), other) // what there is came before the last one
		}
		if s := try(a, b); s != "[100 3000] [100 3000 99]" {
			t.Errorf("%s: without flows %s came", fam.left, s)
		}
		for _, typ := range []ipsec.FlowType{ipsec.FlowDeny, ipsec.FlowDontAcq, ipsec.FlowRequire} {
			flows := protectsPorts("c", netOf(fam.left), netOf(fam.right), typ, 2000)
			must(t, p.ApplyFlows(ctx, flows))
			for way, s := range map[string]string{"out": try(a, b), "in": try(b, a)} {
				if s != "[] [100 99]" {
					t.Errorf("%s %s, %s: %s came", typ, way, fam.left, s)
				}
			}
			must(t, p.ApplyFlows(ctx, gone(flows)))
		}
		if netOf(fam.left).Addr().Is6() {
			continue // its addresses are not translated, nor its connections tracked
		}
		must(t, gate.Masquerade("wan", netip.MustParseAddr("10.2.0.1"), false))
		must(t, p.ApplyFlows(ctx, protectsPorts("c", netOf(fam.left), netOf(fam.right), ipsec.FlowDeny, 2000)))
		if s := try(a, b); s != "[] [100 3000 99]" {
			t.Errorf("connections are tracked: %s came", s)
		}
	}
}
