package xfrm

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// pairOfGates are two gateways with a cable between them.
func pairOfGates(t *testing.T, oa, ob Options) (a, b *gate, c *cable) {
	t.Helper()
	can, err := abilities()
	must(t, err)
	oa.Abilities, ob.Abilities = can, can
	n := lab.New(t)
	a = newGate(t, n, "a", "192.0.2.1", "2001:db8::1", routesA, oa)
	b = newGate(t, n, "b", "192.0.2.2", "2001:db8::2", routesB, ob)
	c = &cable{}
	c.join(t, a, b)
	return a, b, c
}

var (
	routesA = map[string]string{
		"10.1.0.0/24": "lan", "10.3.0.0/24": "lan", "10.4.0.0/24": "lan", "fd01::/64": "lan", "10.2.0.0/24": "wan", "fd02::/64": "wan",
	}
	routesB = map[string]string{
		"10.2.0.0/24": "lan", "fd02::/64": "lan", "10.1.0.0/24": "wan", "10.3.0.0/24": "wan", "10.4.0.0/24": "wan", "fd01::/64": "wan",
	}
)

// udpPacket is a packet with a number in it.
func udpPacket(src, dst string, number int) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	udp := append(make([]byte, 8), fmt.Sprintf("number %06d", number)...)
	udp[0], udp[2], udp[3], udp[5] = 4, udpPort>>8, udpPort&0xff, byte(len(udp))
	if s.Is6() {
		ip := append([]byte{0x60, 0, 0, 0, 0, byte(len(udp)), 17, 64}, s.AsSlice()...)
		return append(append(ip, d.AsSlice()...), udp...)
	}
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9], ip[3], ip[5] = 0x45, 64, 17, byte(20+len(udp)), byte(number)|1
	copy(ip[12:], s.AsSlice())
	copy(ip[16:], d.AsSlice())
	sumHeader(ip)
	return append(ip, udp...)
}

func (g *gate) takes(t *testing.T, want []byte) {
	t.Helper()
	select {
	case got := <-g.Got:
		if !bytes.Equal(got, want) {
			t.Fatalf("arrived\n%x, was sent\n%x", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrived")
	}
}

func (g *gate) takesNothing(t *testing.T) {
	t.Helper()
	select {
	case got := <-g.Got:
		t.Fatalf("a packet arrived that should not: %x", got)
	case <-time.After(150 * time.Millisecond):
	}
}

// reverse is the other gateway's view of flows.
func reverse(changes []ipsec.FlowChange) []ipsec.FlowChange {
	var all []ipsec.FlowChange
	for _, c := range changes {
		f := &c.Flow
		f.Selector, f.Local, f.Remote = f.Selector.Reverse(), f.Remote, f.Local
		all = append(all, c)
	}
	return all
}

// oneWay makes the way from a to b live.
func oneWay(t *testing.T, a, b *gate, conn string, spi ipsec.SPI) {
	t.Helper()
	out := espOut(conn, spi)
	out.ID.Dst, out.Src = b.Addr, a.Addr
	in := *out
	in.ID.Dir, in.Flow = ipsec.In, ipsec.FlowName(conn, ipsec.In)
	must(t, b.plane.AddSA(ctx, &in))
	must(t, a.plane.AddSA(ctx, out))
}

// inClear: flows that let packets pass without an SA do, ask if they are to,
// and protect once there is one.
func inClear(t *testing.T) {
	a, b, _ := pairOfGates(t, Options{}, Options{})
	spi := ipsec.SPI(0x1000)
	for _, typ := range []ipsec.FlowType{ipsec.FlowUse, ipsec.FlowAcquire, ipsec.FlowBypass} {
		there := tunnel("c", netA, netB, typ)
		must(t, a.plane.ApplyFlows(ctx, there))
		must(t, b.plane.ApplyFlows(ctx, reverse(there)))
		pkt := udpPacket("10.1.0.2", "10.2.0.2", 1)
		a.put(pkt)
		b.takes(t, pkt)
		if typ == ipsec.FlowAcquire {
			if e := next[dataplane.Acquire](t, a.plane); e.Flow != "c/out" {
				t.Errorf("%+v", e)
			}
		}
		if typ != ipsec.FlowBypass {
			spi++
			oneWay(t, a, b, "c", spi)
			a.put(pkt)
			b.takes(t, pkt)
			id := ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: spi, Dst: b.Addr}
			if st, err := a.plane.GetSA(ctx, id); err != nil || st.Packets != 1 {
				t.Errorf("%s: the SA has %d packets, %v; want one", typ, st.Packets, err)
			}
			must(t, a.plane.DeleteSA(ctx, id))
			a.put(pkt)
			b.takes(t, pkt) // in clear again
		}
		must(t, a.plane.Flush(ctx, ipsec.OwnerAny))
		must(t, b.plane.Flush(ctx, ipsec.OwnerAny))
	}
	select {
	case e := <-a.plane.Events():
		if _, ok := e.(dataplane.Acquire); ok {
			t.Errorf("%+v of a flow that does not ask", e)
		}
	default:
	}
}

// clearIsDropped: what is to be protected and comes in clear goes no further,
// neither to the network nor to the gateway itself, before there is an SA and
// after; what no flow speaks of passes.
func clearIsDropped(t *testing.T) {
	a, b, _ := pairOfGates(t, Options{}, Options{})
	there := tunnel("c", netA, netB, ipsec.FlowRequire)
	host := netip.PrefixFrom(b.Addr, 32)
	self := tunnel("self", netip.PrefixFrom(a.Addr, 32), host, ipsec.FlowRequire)
	for i := range self {
		self[i].Flow.Mode = ipsec.Transport
	}
	must(t, b.plane.ApplyFlows(ctx, append(reverse(there), reverse(self)...)))
	dropped := uint64(0)
	forged := func(src, dst string, sockets uint64) { // each socket that wants it is a drop
		t.Helper()
		b.wan.write(udpPacket(src, dst, 1))
		b.takesNothing(t)
		d, err := b.plane.Dump(ctx, dataplane.Query{})
		must(t, err)
		if dropped += sockets; d.Drops[ipsec.DropClear] != dropped {
			t.Errorf("from %s to %s: drops %v, want %d in clear", src, dst, d.Drops, dropped)
		}
	}
	forged("10.1.0.2", "10.2.0.2", 1)
	forged("192.0.2.1", "192.0.2.2", 2)
	must(t, a.plane.ApplyFlows(ctx, there))
	oneWay(t, a, b, "c", 0x1001)
	pkt := udpPacket("10.1.0.2", "10.2.0.2", 1)
	a.put(pkt)
	b.takes(t, pkt)
	forged("10.1.0.2", "10.2.0.2", 1)
	other := udpPacket("10.3.0.2", "10.2.0.2", 1)
	a.put(other)
	b.takes(t, other)
}

// killedUnderTraffic: the process goes and another takes over, again and
// again, and no packet is lost; then everything goes on.
func killedUnderTraffic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	can, err := abilities()
	must(t, err)
	a, b, _ := pairOfGates(t, Options{Journal: path}, Options{})
	there := tunnel("c", netA, netB, ipsec.FlowRequire)
	must(t, a.plane.ApplyFlows(ctx, there))
	must(t, b.plane.ApplyFlows(ctx, reverse(there)))
	oneWay(t, a, b, "c", 0x1001)
	number := 0
	send := func(n int) {
		for range n {
			number++
			pkt := udpPacket("10.1.0.2", "10.2.0.2", number)
			a.put(pkt)
			b.takes(t, pkt)
		}
	}
	for i := range 5 {
		send(20)
		a.plane.Close()
		send(20) // nobody is there
		starting := make(chan error, 1)
		go func() {
			starting <- a.host.Do(func() (err error) {
				a.plane, err = New(Options{Abilities: can, Journal: path})
				return err
			})
		}()
		send(20) // it is being taken over
		must(t, <-starting)
		st, err := a.plane.GetSA(ctx, ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: ipsec.SPI(0x1001 + i), Dst: b.Addr})
		if err != nil || st.SA.Conn != "c" || st.Packets == 0 {
			t.Fatalf("start %d: %+v, %v", i+2, st, err)
		}
		oneWay(t, a, b, "c", ipsec.SPI(0x1002+i)) // a rekey
		send(5)
		must(t, a.plane.DeleteSA(ctx, st.SA.ID))
	}
	must(t, a.plane.Flush(ctx, ipsec.OwnerAny))
	if d, err := a.plane.Dump(ctx, dataplane.Query{}); err != nil || len(d.SAs)+len(d.Flows) != 0 {
		t.Errorf("%+v %v", d, err)
	}
}

// throughInterface: a connection whose packets go through an xfrm interface: routes
// decide, and what comes another way is not for it.
func throughInterface(t *testing.T) {
	const ifid = 7
	path := filepath.Join(t.TempDir(), "journal")
	var log bytes.Buffer
	a, b, _ := pairOfGates(t, Options{Journal: path, Log: slog.New(slog.NewTextHandler(&log, nil))}, Options{})
	all := netip.MustParsePrefix("0.0.0.0/0")
	there := tunnel("c", all, all, ipsec.FlowRequire)
	for i := range there {
		there[i].Flow.Interface = ifid
	}
	missing := func(when string, want int) {
		t.Helper()
		if n := strings.Count(log.String(), "not there"); n != want {
			t.Errorf("%s an interface it is missed %d times, want %d\n%s", when, n, want, &log)
		}
	}
	must(t, a.plane.ApplyFlows(ctx, there))
	must(t, a.plane.ApplyFlows(ctx, gone(there)))
	missing("without", 2)
	for _, g := range []*gate{a, b} {
		must(t, g.host.Do(func() error {
			x := &netlink.Xfrmi{LinkAttrs: netlink.LinkAttrs{Name: "ipsec7"}, Ifid: ifid}
			if err := netlink.LinkAdd(x); err != nil {
				return err
			}
			if err := netlink.LinkSetUp(x); err != nil {
				return err
			}
			dst := netB
			if g == b {
				dst = netA
			}
			_, ipnet, err := parseCIDR(dst.String())
			if err != nil {
				return err
			}
			return netlink.RouteReplace(&netlink.Route{LinkIndex: x.Attrs().Index, Dst: ipnet, Scope: netlink.SCOPE_LINK})
		}))
	}
	must(t, a.plane.ApplyFlows(ctx, there))
	must(t, b.plane.ApplyFlows(ctx, reverse(there)))
	missing("with", 2)
	spi, err := b.plane.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: a.Addr, Dst: b.Addr})
	must(t, err)
	out := espOut("c", spi)
	if err := a.plane.AddSA(ctx, out); err == nil || !strings.Contains(err.Error(), "if_id 7") {
		t.Errorf("an SA without the interface of its flow: %v", err)
	}
	out.Selector, out.Interface = ipsec.Selector{Src: all, Dst: all}, ifid
	in := *out
	in.ID.Dir, in.Flow = ipsec.In, "c/in"
	must(t, b.plane.AddSA(ctx, &in))
	must(t, a.plane.AddSA(ctx, out))
	pkt := udpPacket("10.1.0.2", "10.2.0.2", 1)
	a.put(pkt)
	b.takes(t, pkt)
	clear := udpPacket("192.0.2.1", "192.0.2.2", 2) // not through the interface: no policy of ours
	a.put(clear)
	b.takes(t, clear)
	st, err := a.plane.GetSA(ctx, out.ID)
	if err != nil || st.Packets != 1 {
		t.Errorf("%d packets, %v; want one", st.Packets, err)
	}
	can, err := abilities() // the next process knows which interface they are of
	must(t, err)
	a.plane.Close()
	must(t, a.host.Do(func() (err error) {
		a.plane, err = New(Options{Abilities: can, Journal: path})
		return err
	}))
	a.put(pkt)
	b.takes(t, pkt)
	st, err = a.plane.GetSA(ctx, out.ID)
	if err != nil || st.Packets != 2 || st.SA.Interface != ifid {
		t.Errorf("after a restart %d packets, interface %d, %v; want two and %d", st.Packets, st.SA.Interface, err, ifid)
	}
}

// marks: policies for marked packets alone leave others in clear.
func marks(t *testing.T) {
	a, b, _ := pairOfGates(t, Options{Mark: &wire.Mark{Value: 5, Mask: 0xff}, OutMark: &wire.Mark{Value: 6, Mask: 0xff}}, Options{})
	there := tunnel("c", netA, netB, ipsec.FlowDeny)
	must(t, a.plane.ApplyFlows(ctx, there))
	pkt := udpPacket("10.1.0.2", "10.2.0.2", 1)
	a.put(pkt)
	b.takes(t, pkt)
	out := espOut("m", 0x1001)
	out.Flow, out.Owner = "", ipsec.OwnerManual
	must(t, a.plane.AddSA(ctx, out))
	spi, err := a.plane.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: b.Addr, Dst: a.Addr})
	must(t, err)
	must(t, a.plane.AddSA(ctx, espIn("m", spi)))
	st, err := a.plane.GetSA(ctx, out.ID)
	must(t, err)
	if st.SA.ID != out.ID {
		t.Errorf("%+v", st.SA)
	}
	must(t, a.plane.Flush(ctx, ipsec.OwnerAny))
	d, err := a.plane.Dump(ctx, dataplane.Query{})
	must(t, err)
	if len(d.SAs)+len(d.Flows) != 0 {
		t.Errorf("%+v", d)
	}
}

var manyTunnels = flag.Int("tunnels", 500, "tunnels of the test that counts what SAs and policies cost")

// many: SAs and policies in numbers, in a machine whose processor is ten to
// twenty times slower than the one it runs on.
func many(t *testing.T) {
	tunnels := *manyTunnels
	can, err := abilities()
	must(t, err)
	g := newGate(t, lab.New(t), "a", "192.0.2.1", "2001:db8::1", nil, Options{Abilities: can, Thresholds4: &wire.Thresholds{Local: 24, Remote: 24}, Journal: filepath.Join(t.TempDir(), "journal")})
	p := g.plane
	memory := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what finalizers kept
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := memory()
	began := time.Now()
	for i := range tunnels {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24)
		must(t, p.ApplyFlows(ctx, tunnel(fmt.Sprint("c", i), netA, dst, ipsec.FlowRequire)))
	}
	flows := time.Since(began)
	began = time.Now()
	for i := range tunnels {
		must(t, p.AddSA(ctx, espOut(fmt.Sprint("c", i), ipsec.SPI(0x10000+i))))
		must(t, p.AddSA(ctx, espIn(fmt.Sprint("c", i), ipsec.SPI(0x10000+i))))
	}
	sas := time.Since(began)
	grown := memory() - before
	began = time.Now()
	d, err := p.Dump(ctx, dataplane.Query{})
	must(t, err)
	dump := time.Since(began)
	began = time.Now()
	must(t, p.Flush(ctx, ipsec.OwnerAny))
	t.Logf("%d flows (%d policies): %.0f a second; %d SAs: %.0f a second; our memory: %d bytes a tunnel; listing them %v, removing all %v",
		len(d.Flows), 3*tunnels, float64(2*tunnels)/flows.Seconds(), len(d.SAs), float64(2*tunnels)/sas.Seconds(),
		grown/tunnels, dump.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if len(d.Flows) != 2*tunnels || len(d.SAs) != 2*tunnels {
		t.Errorf("%d flows and %d SAs", len(d.Flows), len(d.SAs))
	}
}
