package netio_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/lab"
	"oakley/internal/netio"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire is two hosts with a cable and, each, two addresses of a family.
type wire struct {
	a, b *lab.Host
}

func newWire(t *testing.T, mtu int) *wire {
	n := lab.New(t)
	a, err := n.Host("a")
	must(t, err)
	b, err := n.Host("b")
	must(t, err)
	must(t, n.Connect(
		lab.End{Host: a, If: "eth", Addrs: []string{"192.0.2.1/24", "192.0.2.11/24", "2001:db8::1/64", "2001:db8::11/64"}},
		lab.End{Host: b, If: "eth", Addrs: []string{"192.0.2.2/24", "192.0.2.12/24", "2001:db8::2/64", "2001:db8::12/64"}}))
	if mtu > 0 {
		must(t, a.SetMTU("eth", mtu))
		must(t, b.SetMTU("eth", mtu))
	}
	return &wire{a, b}
}

func udp(t *testing.T, h *lab.Host, local string, offload bool) (c netio.Conn) {
	t.Helper()
	must(t, h.Do(func() (err error) {
		c, err = netio.Host{}.OpenUDP(netio.UDPOptions{Local: netip.MustParseAddrPort(local), Mark: 7, Offload: offload})
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

func raw(t *testing.T, h *lab.Host, local string) (c netio.Conn) {
	t.Helper()
	must(t, h.Do(func() (err error) {
		c, err = netio.Host{}.OpenRaw(netio.RawOptions{Local: netip.MustParseAddr(local), Proto: 50, Mark: 7})
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// got is one packet as it came.
type got struct {
	data          string
	remote, local netip.AddrPort
}

// take reads packets until n came; rows is how many messages they came in.
func take(t *testing.T, c netio.Conn, n int) (all []got, rows int) {
	t.Helper()
	type res struct {
		all  []got
		rows int
	}
	done := make(chan res, 1)
	go func() {
		b := netio.NewRecvBatch(16)
		var r res
		for len(r.all) < n && c.Recv(b) == nil {
			for i := range b.Msgs {
				m := &b.Msgs[i]
				r.rows++
				for {
					d, ok := m.Next()
					if !ok {
						break
					}
					r.all = append(r.all, got{string(d), m.Remote, m.Local})
				}
			}
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.all, r.rows
	case <-time.After(10 * time.Second):
		c.Close()
		r := <-done
		t.Fatalf("%d packets of %d came", len(r.all), n)
		return nil, 0
	}
}

func numbered(i, size int) []byte {
	return []byte((fmt.Sprintf("%06d", i) + strings.Repeat("x", size))[:size])
}

func TestUDPBatches(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to string
		via      string // the address it is to leave from
		offload  bool
		mtu      int
		fewer    bool // rows than packets
	}{
		{"IPv4 with offload", "0.0.0.0:4500", "192.0.2.2:4500", "192.0.2.1", true, 0, true},
		{"IPv4 from the second address", "0.0.0.0:4500", "192.0.2.12:4500", "192.0.2.11", true, 0, true},
		{"IPv6 with offload", "[::]:4500", "[2001:db8::2]:4500", "2001:db8::1", true, 0, true},
		{"IPv6 from the second address", "[::]:4500", "[2001:db8::12]:4500", "2001:db8::11", true, 0, true},
		{"without offload", "0.0.0.0:4500", "192.0.2.2:4500", "192.0.2.1", false, 0, false},
		{"a path too small for the packets: GSO is refused, they are fragmented", "0.0.0.0:4500", "192.0.2.2:4500", "192.0.2.1", true, 900, false},
		{"the same for IPv6", "[::]:4500", "[2001:db8::2]:4500", "2001:db8::1", true, 1280, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, c.mtu)
			local := "0.0.0.0:4500"
			if strings.HasPrefix(c.to, "[") {
				local = "[::]:4500"
			}
			tx, rx := udp(t, w.a, c.from, c.offload), udp(t, w.b, local, c.offload)
			b := netio.NewSendBatch(128, c.offload)
			to, via := netip.MustParseAddrPort(c.to), netip.AddrPortFrom(netip.MustParseAddr(c.via), 0)
			// The neighbour has to be found before a burst, which a kernel that is
			// still asking for it does not keep whole.
			b.Add([]byte("hello"), via, to)
			if failed, err := tx.Send(b); failed != 0 {
				t.Fatal(err)
			}
			take(t, rx, 1)
			var want []string
			for i := range 100 {
				size := 1400
				if i%30 == 29 {
					size = 700 // a row ends
				}
				p := numbered(i, size)
				want = append(want, string(p))
				if !b.Add(p, via, to) {
					t.Fatal("the batch is full too soon")
				}
			}
			failed, err := tx.Send(b)
			if failed != 0 || err != nil {
				t.Fatalf("%d packets failed: %v", failed, err)
			}
			if b.Len() != 0 {
				t.Error("Send did not empty the batch")
			}
			all, rows := take(t, rx, 100)
			for i, g := range all {
				if g.data != want[i] {
					t.Fatalf("packet %d is %.10q with %d bytes", i, g.data, len(g.data))
				}
				if g.remote != netip.AddrPortFrom(via.Addr(), 4500) || g.local != to {
					t.Fatalf("from %s to %s, want %s and %s", g.remote, g.local, via.Addr(), to)
				}
			}
			if c.fewer != (rows < 100) {
				t.Errorf("%d packets came in %d messages", len(all), rows)
			}
		})
	}
}

func TestRawESP(t *testing.T) {
	for _, c := range []struct{ from, to, any string }{
		{"192.0.2.11", "192.0.2.12", "0.0.0.0"},
		{"2001:db8::11", "2001:db8::12", "::"},
	} {
		for _, size := range []int{8, 1400, 9000} { // the last in fragments
			w := newWire(t, 0)
			tx, rx := raw(t, w.a, c.any), raw(t, w.b, c.any)
			from, to := netip.AddrPortFrom(netip.MustParseAddr(c.from), 0), netip.AddrPortFrom(netip.MustParseAddr(c.to), 0)
			b := netio.NewSendBatch(16, false)
			for i := range 10 {
				b.Add(numbered(i, size), from, to)
			}
			if failed, err := tx.Send(b); failed != 0 {
				t.Fatalf("%d packets failed: %v", failed, err)
			}
			all, _ := take(t, rx, 10)
			for i, g := range all {
				if g != (got{string(numbered(i, size)), from, to}) {
					t.Fatalf("packet %d: %d bytes from %s to %s", i, len(g.data), g.remote, g.local)
				}
			}
		}
	}
}

func TestReplyLeavesFromWhereTheRequestCameTo(t *testing.T) {
	w := newWire(t, 0)
	for _, c := range []struct{ any, ask, at string }{
		{"0.0.0.0:500", "192.0.2.1:500", "192.0.2.12:500"},
		{"[::]:500", "[2001:db8::1]:500", "[2001:db8::12]:500"},
	} {
		listen := func(h *lab.Host, local string) (d *netio.Datagrams) {
			must(t, h.Do(func() (err error) {
				d, err = netio.ListenUDP(netio.Host{}, netip.MustParseAddrPort(local), 7)
				return err
			}))
			t.Cleanup(func() { d.Close() })
			return d
		}
		asker, server := listen(w.a, c.ask), listen(w.b, c.any)
		must(t, asker.WriteTo([]byte("question"), netip.AddrPort{}, netip.MustParseAddrPort(c.at)))
		buf := make([]byte, 100)
		n, remote, local, err := server.ReadFrom(buf)
		must(t, err)
		if string(buf[:n]) != "question" || local != netip.MustParseAddrPort(c.at) {
			t.Fatalf("%q came to %s", buf[:n], local)
		}
		must(t, server.WriteTo([]byte("answer"), local, remote))
		n, remote, _, err = asker.ReadFrom(buf)
		must(t, err)
		if string(buf[:n]) != "answer" || remote != local {
			t.Errorf("%q came from %s, want from %s", buf[:n], remote, local)
		}
		must(t, server.Keepalive(local, netip.MustParseAddrPort(c.ask)))
		if n, _, _, err = asker.ReadFrom(buf); err != nil || n != 1 || buf[0] != 0xff {
			t.Errorf("a keepalive of %x, %v", buf[:n], err)
		}
	}
}

func TestWhatCannotBeOpenedSaysWhy(t *testing.T) {
	w := newWire(t, 0)
	udp(t, w.a, "0.0.0.0:500", false)
	for local, want := range map[string]string{
		"0.0.0.0:500":   "IKE daemon",
		"192.0.2.9:500": "no interface",
	} {
		err := w.a.Do(func() error {
			_, err := netio.Host{}.OpenUDP(netio.UDPOptions{Local: netip.MustParseAddrPort(local)})
			return err
		})
		var open *netio.OpenError
		if !errors.As(err, &open) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "500") {
			t.Errorf("%s: %v, want an error with %q", local, err, want)
		}
	}
}

func TestCloseEndsRecv(t *testing.T) {
	w := newWire(t, 0)
	c := udp(t, w.a, "0.0.0.0:4500", true)
	done := make(chan error, 1)
	go func() { done <- c.Recv(netio.NewRecvBatch(4)) }()
	must(t, c.Close())
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Recv after Close: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Recv does not end")
	}
	b := netio.NewSendBatch(4, false)
	b.Add([]byte("x"), netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.2:1"))
	if failed, err := c.Send(b); failed != 1 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %d failed, %v", failed, err)
	}
}

func TestSocketsBearTheMark(t *testing.T) {
	w := newWire(t, 0)
	// A rule sends marked packets nowhere; unmarked ones pass.
	ip, err := lab.Program("ip")
	if err != nil {
		lab.Need(t, "ip")
	}
	if _, err := w.a.Run(10*time.Second, ip, "rule", "add", "fwmark", "7", "unreachable"); err != nil {
		t.Fatal(err)
	}
	c := udp(t, w.a, "0.0.0.0:4500", false)
	b := netio.NewSendBatch(4, false)
	b.Add([]byte("x"), netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.2:1"))
	b.Add([]byte("y"), netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.2:1"))
	failed, err := c.Send(b)
	if failed != 2 || err == nil {
		t.Errorf("%d marked packets were refused, %v; want 2", failed, err)
	}
}

func TestRowsOfDatagrams(t *testing.T) {
	r := netio.Received{Data: []byte("aabbc"), Seg: 2}
	var all []string
	for {
		d, ok := r.Next()
		if !ok {
			break
		}
		if cap(d) != len(d) {
			t.Error("a datagram could grow into the next")
		}
		all = append(all, string(d))
	}
	if strings.Join(all, " ") != "aa bb c" {
		t.Errorf("taken apart: %q", all)
	}
}

func TestHub(t *testing.T) {
	h := netio.NewHub()
	a4, b4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	na, nb := h.Node(a4), h.Node(b4)
	tx, err := na.OpenUDP(netio.UDPOptions{Local: netip.MustParseAddrPort("0.0.0.0:4500"), Offload: true})
	must(t, err)
	rx, err := nb.OpenUDP(netio.UDPOptions{Local: netip.MustParseAddrPort("0.0.0.0:4500"), Offload: true})
	must(t, err)
	if _, err := nb.OpenUDP(netio.UDPOptions{Local: netip.MustParseAddrPort("0.0.0.0:4500")}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a port twice: %v", err)
	}
	h.SetGRO(true)
	h.SetFilter(func(p *netio.HubPacket) bool { return !bytes.HasPrefix(p.Data, []byte("lost")) })
	b := netio.NewSendBatch(8, true)
	to := netip.AddrPortFrom(b4, 4500)
	for _, s := range []string{"aaaa", "lost", "bbbb", "cc", "dddd"} {
		b.Add([]byte(s), netip.AddrPort{}, to)
	}
	if failed, err := tx.Send(b); failed != 0 {
		t.Fatal(failed, err)
	}
	all, rows := take(t, rx, 4)
	if rows != 2 || all[1].data != "bbbb" || all[2].data != "cc" || all[3].data != "dddd" || all[0].remote != netip.AddrPortFrom(a4, 4500) {
		t.Errorf("%d rows: %v", rows, all)
	}
}

func TestNothingIsAllocatedForAMessage(t *testing.T) {
	w := newWire(t, 0)
	tx, rx := udp(t, w.a, "192.0.2.1:4500", true), udp(t, w.b, "192.0.2.2:4500", true)
	to := netip.MustParseAddrPort("192.0.2.2:4500")
	sb, rb := netio.NewSendBatch(64, true), netio.NewRecvBatch(32)
	pkt := numbered(0, 1200)
	n := testing.AllocsPerRun(20, func() {
		for range 64 {
			sb.Add(pkt, netip.AddrPort{}, to)
		}
		if failed, err := tx.Send(sb); failed > 0 {
			t.Error(failed, err)
		}
		for bytes := 0; bytes < 64*1200; {
			if err := rx.Recv(rb); err != nil {
				t.Error(err)
				return
			}
			for i := range rb.Msgs {
				bytes += len(rb.Msgs[i].Data)
			}
		}
	})
	if n >= 1 {
		t.Errorf("%v allocations for 64 packets", n)
	}
}
