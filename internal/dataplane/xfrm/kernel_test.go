package xfrm

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// bare is a plane on this machine's own kernel, in a host of its own. Whether
// that kernel has ESP is of no importance: policies, acquires and reserved SPIs
// every one has.
type bare struct {
	host *lab.Host
	t    *testing.T
}

func newBare(t *testing.T) *bare {
	t.Helper()
	n := lab.New(t)
	h, err := n.Host("a")
	must(t, err)
	other, err := n.Host("b")
	must(t, err)
	must(t, n.Connect(
		lab.End{Host: h, If: "wan", Addrs: []string{"192.0.2.1/24", "10.1.0.1/32", "2001:db8::1/64"}},
		lab.End{Host: other, If: "wan", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}},
	))
	must(t, h.Route("10.0.0.0/8", "192.0.2.2"))
	return &bare{h, t}
}

func (b *bare) plane(o Options) *Plane {
	b.t.Helper()
	o.Abilities = all()
	var p *Plane
	err := b.host.Do(func() (err error) {
		p, err = New(o)
		return err
	})
	must(b.t, err)
	b.t.Cleanup(func() { p.Close() })
	return p
}

// send sends a datagram from the host, whether or not anything comes of it.
func (b *bare) send(to string) {
	b.t.Helper()
	must(b.t, b.host.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 1, 0, 1}, Port: 1000}); err != nil {
			return err
		}
		_ = unix.Sendto(fd, []byte("hello"), 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4(), Port: 2000}) // a policy may refuse
		return nil
	}))
}

// tables is what the host's kernel has, of whomever it is.
func (b *bare) tables() (policies []*wire.Policy, sas []*wire.SA) {
	b.t.Helper()
	return tablesOf(b.t, b.host)
}

func tablesOf(t *testing.T, h *lab.Host) (policies []*wire.Policy, sas []*wire.SA) {
	t.Helper()
	must(t, h.Do(func() error {
		k, err := openKernel(0)
		if err != nil {
			return err
		}
		defer k.close()
		if err := k.dump(wire.GetPolicy, nil, func(d []byte) error {
			p, err := wire.ParsePolicy(d)
			if err == nil && p.Dir <= wire.DirFwd { // else of a socket
				policies = append(policies, p)
			}
			return err
		}); err != nil {
			return err
		}
		return k.dump(wire.GetSA, nil, func(d []byte) error {
			s, err := wire.ParseSA(d)
			sas = append(sas, s)
			return err
		})
	}))
	return policies, sas
}

// as does something to the kernel's tables as another program would.
func (b *bare) as(typ wire.Type, data []byte) {
	b.t.Helper()
	stranger(b.t, b.host, typ, data)
}

func stranger(t *testing.T, h *lab.Host, typ wire.Type, data []byte) {
	t.Helper()
	must(t, h.Do(func() error {
		k, err := openKernel(0)
		if err != nil {
			return err
		}
		defer k.close()
		return k.do(typ, data)
	}))
}

func shape(all []*wire.Policy) []string {
	var lines []string
	for _, p := range all {
		lines = append(lines, fmt.Sprintf("%s %s %d action %d %+v added %d index %x", p.Dir, selectorFrom(&p.Sel), p.Priority, p.Action, p.Templates, p.Usage.Added, p.Index))
	}
	slices.Sort(lines)
	return lines
}

// TestRealTables: a real kernel takes what we say of flows of every type and
// family, tells the same when asked, and has nothing left at the end.
func TestRealTables(t *testing.T) {
	b := newBare(t)
	path := filepath.Join(t.TempDir(), "journal")
	p := b.plane(Options{Journal: path})
	for i, typ := range []ipsec.FlowType{ipsec.FlowRequire, ipsec.FlowUse, ipsec.FlowAcquire, ipsec.FlowDontAcq, ipsec.FlowDeny, ipsec.FlowBypass} {
		for _, mode := range []ipsec.Mode{ipsec.Tunnel, ipsec.Transport} {
			for j, proto := range []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH, ipsec.ProtoIPComp} {
				src, dst := netip.MustParsePrefix("10.1.0.0/24"), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(10*i + 3*int(mode) + j + 2), 0, 0}), 24)
				if j == 1 {
					src, dst = netip.MustParsePrefix("fd01::/64"), netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(10*i + 3*int(mode) + j + 2)}), 64)
				}
				c := tunnel(fmt.Sprintf("%s-%s-%s", typ, mode, proto), src, dst, typ)
				for k := range c {
					c[k].Flow.Mode, c[k].Flow.Proto = mode, proto
					c[k].Flow.Selector.Proto = 17
					c[k].Flow.Selector.DstPort = uint16(1000 + j)
					if j == 2 {
						c[k].Flow.Remote = netip.Addr{} // a peer that may be anywhere
					}
				}
				must(t, p.ApplyFlows(ctx, c))
			}
		}
	}
	policies, _ := b.tables()
	const want = 6*2*3*3 + 3*2*3*2 // three of the types have others for fragments
	if len(policies) != want {
		t.Errorf("%d policies, want %d", len(policies), want)
	}
	for _, w := range policies {
		g := p.book.policies[w.Index]
		if g == nil || !samePolicy(w, g.has[w.Dir]) {
			t.Errorf("the kernel has %+v, and we think %+v", w, g)
		}
	}
	before := shape(policies)
	p.Close()
	p = b.plane(Options{Journal: path}) // another process
	policies, _ = b.tables()
	if d := cmp.Diff(before, shape(policies)); d != "" {
		t.Errorf("taking over has changed the tables:\n%s", d)
	}
	must(t, p.Flush(ctx, ipsec.OwnerAny))
	if policies, sas := b.tables(); len(policies)+len(sas) != 0 {
		t.Errorf("%d policies and %d SAs are left", len(policies), len(sas))
	}
}

// TestRealAcquire: a packet asks, the answer is no, the flow rests, and asks again.
func TestRealAcquire(t *testing.T) {
	b := newBare(t)
	p := b.plane(Options{Hold: true})
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.ApplyFlows(ctx, tunnel("perhaps", netA, netip.MustParsePrefix("10.3.0.0/24"), ipsec.FlowAcquire)))
	must(t, p.ApplyFlows(ctx, tunnel("silent", netA, netip.MustParsePrefix("10.4.0.0/24"), ipsec.FlowDontAcq)))
	must(t, p.ApplyFlows(ctx, tunnel("clear", netA, netip.MustParsePrefix("10.5.0.0/24"), ipsec.FlowUse)))
	b.send("10.5.0.9")
	b.send("10.4.0.9")
	b.send("10.2.0.9")
	a := next[dataplane.Acquire](t, p)
	want := ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.1/32"), Dst: netip.MustParsePrefix("10.2.0.9/32"), Proto: 17, SrcPort: 1000, DstPort: 2000}
	if a.Flow != "c/out" || a.Packet != want {
		t.Errorf("%+v, want %s of c/out: the others do not ask", a, want)
	}
	b.send("10.3.0.9")
	if a := next[dataplane.Acquire](t, p); a.Flow != "perhaps/out" {
		t.Errorf("%+v, want perhaps/out", a)
	}
	b.send("10.2.0.10")
	b.send("10.2.0.11")
	must(t, p.EndAcquire(ctx, a.ID, errors.New("no")))
	if _, sas := b.tables(); slices.ContainsFunc(sas, func(s *wire.SA) bool { return s.Dst == gw2 }) {
		t.Errorf("the kernel's question is still there: %+v", sas[0])
	}
	again := make(chan dataplane.Acquire, 1)
	go func() { again <- next[dataplane.Acquire](t, p) }()
	eventually(t, "that the flow asks again", func() bool {
		b.send("10.2.0.12")
		select {
		case e := <-again:
			return e.Flow == "c/out" && e.ID != a.ID
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
}

// TestRealSPIs: the kernel gives SPIs, no two alike at a time, keeps them from
// others, and takes them back, after which it may give one again: of a CPI's 16
// bits it does so within 20 in one run of some hundred.
func TestRealSPIs(t *testing.T) {
	b := newBare(t)
	p := b.plane(Options{})
	held := map[ipsec.SAID]bool{}
	for _, r := range []dataplane.SPIRequest{
		{Proto: ipsec.ProtoESP, Src: gw2, Dst: gw1},
		{Proto: ipsec.ProtoAH, Src: gw2, Dst: gw1},
		{Proto: ipsec.ProtoIPComp, Src: gw2, Dst: gw1},
		{Proto: ipsec.ProtoESP, Src: netip.MustParseAddr("2001:db8::2"), Dst: netip.MustParseAddr("2001:db8::1")},
		{Proto: ipsec.ProtoESP, Dst: gw1}, // a peer that may be anywhere
	} {
		for range 20 {
			spi, err := p.AllocSPI(ctx, r)
			must(t, err)
			id := ipsec.SAID{Dir: ipsec.In, Proto: r.Proto, SPI: spi, Dst: r.Dst}
			if spi < 256 || held[id] || r.Proto == ipsec.ProtoIPComp && spi > lastCPI {
				t.Errorf("%s: SPI %s, held before: %t", r.Proto, spi, held[id])
			}
			held[id] = true
			if spi%2 == 0 {
				must(t, p.DeleteSA(ctx, id))
				delete(held, id)
				if err := p.DeleteSA(ctx, id); !errors.Is(err, dataplane.ErrNoSA) {
					t.Errorf("giving back twice: %v", err)
				}
			}
		}
	}
	if n, err := func() (n int, err error) {
		err = b.host.Do(func() error { n, err = acqExpires.get(); return err })
		return n, err
	}(); err != nil || n != spiHold {
		t.Errorf("the kernel keeps an SPI for %d seconds, %v; want %d", n, err, spiHold)
	}
}

// TestRealMeddling: another program flushes everything.
func TestRealMeddling(t *testing.T) {
	b := newBare(t)
	p := b.plane(Options{})
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	before, _ := b.tables()
	b.as(wire.FlushPolicy, nil)
	eventually(t, "that the policies are back", func() bool { now, _ := b.tables(); return len(now) == len(before) })
	now, _ := b.tables()
	w := now[0]
	b.as(wire.DelPolicy, (&wire.PolicyID{Sel: w.Sel, Dir: w.Dir}).Append(nil))
	eventually(t, "that the policy is back", func() bool { now, _ := b.tables(); return len(now) == len(before) })
}

// TestRealTwo: another process with a journal, addresses and a port of its own does
// not take what the first one has for the rest of a crash.
func TestRealTwo(t *testing.T) {
	b := newBare(t)
	path := filepath.Join(t.TempDir(), "journal")
	must(t, os.WriteFile(path, []byte("{}\n"), 0o600))
	p := b.plane(Options{Journal: path + ".first"})
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	before, _ := b.tables()
	must(t, b.host.Do(func() error {
		second, err := New(Options{Abilities: all(), Journal: path, EncapPort: 4501})
		if err == nil {
			second.Close()
		}
		if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "another process has the kernel's IPsec") {
			t.Errorf("a second one: %v", err)
		}
		if _, _, err := Clear(path, slog.New(slog.DiscardHandler)); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("one that would clear the tables: %v", err)
		}
		return nil
	}))
	if now, _ := b.tables(); len(now) != len(before) {
		t.Errorf("%d policies, and there were %d", len(now), len(before))
	}
	p.Close()
	b.plane(Options{Journal: path, EncapPort: 4501})
}

// TestRealOverrun: ten thousand questions, more than fit. The loss is told, and who was not
// heard is heard when it sends again, which the kernel does not keep it from.
func TestRealOverrun(t *testing.T) {
	const flows = 10000
	b := newBare(t)
	p := b.plane(Options{})
	raw, err := p.ends[0].(*events).conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20) }))
	must(t, err)
	var changes []ipsec.FlowChange
	at := map[ipsec.FlowID][4]byte{}
	for i := range flows {
		dst := [4]byte{10, 128, byte(i >> 8), byte(i)}
		c := tunnel(fmt.Sprint("c", i), netA, netip.PrefixFrom(netip.AddrFrom4(dst), 32), ipsec.FlowRequire)[0]
		changes, at[c.Flow.ID] = append(changes, c), dst
	}
	must(t, p.ApplyFlows(ctx, changes))
	var fd int
	must(t, b.host.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 1, 0, 1}})
	}))
	defer unix.Close(fd)
	lost := 0
	for deadline := time.Now().Add(3 * time.Minute); len(at) > 0; {
		p.mu.Lock() // nobody reads meanwhile
		for _, dst := range at {
			_ = unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Addr: dst, Port: 9})
		}
		p.mu.Unlock()
		for quiet := false; !quiet; {
			select {
			case e := <-p.Events():
				switch e := e.(type) {
				case dataplane.Acquire:
					delete(at, e.Flow)
				case dataplane.Lost:
					lost++
				}
			case <-time.After(20 * time.Millisecond):
				quiet = true
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d flows of %d have not asked", len(at), flows)
		}
	}
	if lost == 0 {
		t.Error("nothing was lost: the test shows nothing")
	}
	t.Logf("%d times events were lost", lost)
}

// TestRealPort: on the encapsulation port IKE comes and goes with the marker,
// whatever policies there are; keepalives do not come up.
func TestRealPort(t *testing.T) {
	b := newBare(t)
	p := b.plane(Options{})
	all := netip.MustParsePrefix("0.0.0.0/0")
	must(t, p.ApplyFlows(ctx, tunnel("deny", all, all, ipsec.FlowDeny)))
	conn, err := p.EncapConn(ctx, netip.MustParseAddrPort("0.0.0.0:4500"))
	must(t, err)
	if _, err := p.EncapConn(ctx, netip.MustParseAddrPort("0.0.0.0:4500")); !errors.Is(err, dataplane.ErrExists) {
		t.Errorf("a second reader: %v", err)
	}
	if _, err := p.EncapConn(ctx, netip.MustParseAddrPort("0.0.0.0:4501")); !errors.Is(err, dataplane.ErrUnsupported) {
		t.Errorf("another port: %v", err)
	}
	var peer *net.UDPConn
	must(t, b.host.Do(func() error {
		peer, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		return BypassConn(peer, false)
	}))
	defer peer.Close()
	to := netip.MustParseAddrPort("127.0.0.2:4500")
	for _, data := range [][]byte{{0xff}, {0, 0, 0, 0}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, append(make([]byte, 4), "main mode"...)} {
		_, err := peer.WriteToUDPAddrPort(data, to)
		must(t, err)
	}
	buf := make([]byte, 100)
	n, remote, local, err := conn.ReadFrom(buf)
	must(t, err)
	if string(buf[:n]) != "main mode" || local != to || remote != peer.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Errorf("%q from %s to %s", buf[:n], remote, local)
	}
	must(t, conn.WriteTo([]byte("answer"), local, remote))
	must(t, conn.Keepalive(local, remote))
	for _, want := range [][]byte{append(make([]byte, 4), "answer"...), {0xff}} {
		must(t, peer.SetReadDeadline(time.Now().Add(10*time.Second)))
		n, from, err := peer.ReadFromUDPAddrPort(buf)
		must(t, err)
		if !bytes.Equal(buf[:n], want) || from != to {
			t.Errorf("%q from %s, want %q from %s", buf[:n], from, want, to)
		}
	}
	must(t, conn.Close())
	if _, _, _, err := conn.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading what is closed: %v", err)
	}
	if conn.WriteTo([]byte("x"), local, remote) == nil {
		t.Error("writing to what is closed")
	}
	again, err := p.EncapConn(ctx, to)
	must(t, err)
	p.Close()
	if _, _, _, err := again.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading when the plane is closed: %v", err)
	}
}

// TestRealIKE: port 500 is as free of policies as 4500, in both families.
func TestRealIKE(t *testing.T) {
	b := newBare(t)
	p := b.plane(Options{})
	for _, family := range []string{"0.0.0.0/0", "::/0"} {
		all := netip.MustParsePrefix(family)
		c := tunnel("deny "+family, all, all, ipsec.FlowDeny)
		for i := range c {
			c[i].Flow.Local, c[i].Flow.Remote = netip.Addr{}, netip.Addr{}
		}
		must(t, p.ApplyFlows(ctx, c))
	}
	for _, own := range []string{"192.0.2.1", "2001:db8::1"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(own), 500)
		var ike, peer dataplane.IKEConn
		must(t, b.host.Do(func() (err error) {
			if ike, err = ListenIKE(at); err != nil {
				return err
			}
			_, err = ListenIKE(at)
			if err == nil || !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("a second one: %v", err)
			}
			peer, err = ListenIKE(netip.AddrPortFrom(at.Addr(), 5000))
			return err
		}))
		must(t, peer.WriteTo([]byte("aggressive"), netip.AddrPort{}, at))
		buf := make([]byte, 100)
		n, remote, local, err := ike.ReadFrom(buf)
		must(t, err)
		if string(buf[:n]) != "aggressive" || local != at || remote != peer.LocalAddr() {
			t.Errorf("%q from %s to %s", buf[:n], remote, local)
		}
		must(t, ike.Keepalive(local, remote))
		if n, from, _, err := peer.ReadFrom(buf); err != nil || n != 1 || buf[0] != dataplane.Keepalive || from != at {
			t.Errorf("%x from %s, %v", buf[:n], from, err)
		}
		must(t, ike.Close())
		must(t, peer.Close())
		if _, _, _, err := ike.ReadFrom(buf); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading what is closed: %v", err)
		}
	}
}

// TestRealNeighbours: two hosts on one link that protect everything between them
// over IPv6. Before there is an SA they have to find each other, or IKE never
// begins.
func TestRealNeighbours(t *testing.T) {
	n := lab.New(t)
	addrs := []string{"2001:db8::1", "2001:db8::2"}
	var hosts [2]*lab.Host
	for i := range hosts {
		h, err := n.Host(addrs[i])
		must(t, err)
		hosts[i] = h
	}
	must(t, n.Connect(
		lab.End{Host: hosts[0], If: "wan", Addrs: []string{addrs[0] + "/64"}},
		lab.End{Host: hosts[1], If: "wan", Addrs: []string{addrs[1] + "/64"}},
	))
	var conns, plain [2]dataplane.IKEConn
	for i, h := range hosts {
		b := bare{h, t}
		p := b.plane(Options{})
		own, other := netip.MustParseAddr(addrs[i]), netip.MustParseAddr(addrs[1-i])
		flows := tunnel("c", netip.PrefixFrom(own, 128), netip.PrefixFrom(other, 128), ipsec.FlowRequire)
		for k := range flows {
			f := &flows[k].Flow
			f.Mode, f.Local, f.Remote = ipsec.Transport, own, other
		}
		must(t, p.ApplyFlows(ctx, flows))
		c, err := p.EncapConn(ctx, netip.AddrPortFrom(netip.IPv6Unspecified(), 4500))
		must(t, err)
		conns[i] = c
		must(t, h.Do(func() (err error) {
			plain[i], err = ListenIKE(netip.AddrPortFrom(own, 500))
			return err
		}))
		defer plain[i].Close()
	}
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 100)
		if n, _, _, err := conns[1].ReadFrom(b); err == nil {
			got <- string(b[:n])
		}
	}()
	eventually(t, "that IKE gets through", func() bool {
		_ = conns[0].WriteTo([]byte("main mode"), netip.AddrPort{}, netip.MustParseAddrPort("[2001:db8::2]:4500")) // until the neighbour is known
		select {
		case s := <-got:
			return s == "main mode"
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	must(t, plain[0].WriteTo([]byte("main mode"), netip.AddrPort{}, plain[1].LocalAddr()))
	buf := make([]byte, 100)
	if n, _, _, err := plain[1].ReadFrom(buf); err != nil || string(buf[:n]) != "main mode" {
		t.Errorf("on port 500: %q, %v", buf[:n], err)
	}
	// A socket like any other does not get out.
	must(t, hosts[0].Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_ = unix.Sendto(fd, []byte("in clear"), 0, &unix.SockaddrInet6{Port: 500, Addr: netip.MustParseAddr(addrs[1]).As16()}) // refused here or dropped there
		return nil
	}))
	must(t, plain[0].WriteTo([]byte("quick mode"), netip.AddrPort{}, plain[1].LocalAddr()))
	if n, _, _, err := plain[1].ReadFrom(buf); err != nil || string(buf[:n]) != "quick mode" {
		t.Errorf("after what is in clear: %q, %v", buf[:n], err)
	}
}

// TestRealProbe: what this kernel says of itself; that there is no ESP is an
// error that says what to do.
func TestRealProbe(t *testing.T) {
	lab.Need(t, "root")
	can, err := Probe()
	must(t, err)
	t.Logf("%+v", can)
	if slices.Contains(can.Protos, ipsec.ProtoESP) {
		return // the machine of TestAbilities has it, and is looked at there
	}
	if _, err := New(Options{Abilities: can}); !errors.Is(err, ErrNoESP) {
		t.Errorf("a kernel without ESP: %v", err)
	}
	if len(can.Lacks) < 6 {
		t.Errorf("it lacks %q", can.Lacks)
	}
}
