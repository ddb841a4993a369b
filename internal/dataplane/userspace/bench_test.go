package userspace

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/tun"
)

// sink is a network that keeps the last batch's packets, and nothing else.
type sink struct {
	local netip.AddrPort
	done  chan struct{}
	keep  *[][]byte
}

type sinkNet struct{ kept [][]byte }

func (n *sinkNet) OpenUDP(o netio.UDPOptions) (netio.Conn, error) {
	return &sink{local: o.Local, done: make(chan struct{}), keep: &n.kept}, nil
}

func (n *sinkNet) OpenRaw(o netio.RawOptions) (netio.Conn, error) {
	return &sink{local: netip.AddrPortFrom(o.Local, 0), done: make(chan struct{}), keep: &n.kept}, nil
}

func (s *sink) Recv(*netio.RecvBatch) error {
	<-s.done
	return net.ErrClosed
}

func (s *sink) Send(b *netio.SendBatch) (int, error) {
	*s.keep = (*s.keep)[:0]
	b.EachTOS(func(pkt []byte, _, _ netip.AddrPort, _ uint8) { *s.keep = append(*s.keep, pkt) })
	b.Reset()
	return 0, nil
}

func (s *sink) LocalAddr() netip.AddrPort { return s.local }
func (s *sink) Offload() (gso, gro bool)  { return true, true }
func (s *sink) Close() error              { close(s.done); return nil }

// hole is a device that swallows.
type hole struct {
	done    chan struct{}
	swallow int
}

func (h *hole) Name() string  { return "hole" }
func (h *hole) MTU() int      { return 1400 }
func (h *hole) Offload() bool { return true }
func (h *hole) Close() error  { close(h.done); return nil }
func (h *hole) Read([][]byte, []int, int) (int, error) {
	<-h.done
	return 0, tun.ErrClosed
}

func (h *hole) Write(pkts [][]byte) (int, error) {
	h.swallow += len(pkts)
	return 0, nil
}

type still struct{}

func (still) Change(_, _ []ipsec.Flow) error { return nil }
func (still) Detail() string                 { return "" }
func (still) Refused() uint64                { return 0 }
func (still) Close() error                   { return nil }

var (
	benchUs   = netip.MustParseAddr("192.0.2.1")
	benchPeer = netip.MustParseAddr("192.0.2.2")
)

func benchPlane(t testing.TB, o Options) (*Plane, *hole, *sinkNet) {
	dev, net := &hole{done: make(chan struct{})}, &sinkNet{kept: make([][]byte, 0, batchSize)}
	o.Local, o.Device, o.Network, o.System = []netip.Addr{benchUs, benchPeer}, dev, net, still{}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, dev, net
}

// loop makes an SA from us to us, so that what is sealed can be opened.
func loop(t testing.TB, p *Plane, c ipsec.Cipher, a ipsec.Auth, udp bool) *outSA {
	ctx := context.Background()
	sel := ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.0/16"), Dst: netip.MustParsePrefix("10.2.0.0/16")}
	err := p.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: ipsec.Flow{
		ID: "bench/out", Dir: ipsec.Out, Selector: sel, Proto: ipsec.ProtoESP, Local: benchUs, Remote: benchPeer,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: 0x1000, Dst: benchPeer}, Src: benchUs,
		Cipher: c, Auth: a, Key: fill(c.Info().DefKey, 3), Salt: fill(c.Info().Salt, 7), AuthKey: fill(a.Info().Key, 11),
		Replay: 64, Selector: sel, Flow: "bench/out",
	}
	if udp {
		sa.ID.Port = 4500
		sa.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(benchUs, 4500), Remote: netip.AddrPortFrom(benchPeer, 4500)}
	}
	in := *sa
	in.ID.Dir, in.ID.Port, in.Replay = ipsec.In, 0, 0 // the same packets again and again
	if udp {
		in.Encap = &ipsec.Encap{Local: sa.Encap.Remote, Remote: sa.Encap.Local}
	}
	if err := p.AddSA(ctx, &in); err != nil {
		t.Fatal(err)
	}
	if err := p.AddSA(ctx, sa); err != nil {
		t.Fatal(err)
	}
	return p.out[sa.ID]
}

func fill(n int, step byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i+1) * step
	}
	return b
}

// plainPacket is a UDP packet of size bytes from 10.1.0.2 to 10.2.0.2.
func plainPacket(b []byte, size int) {
	b = b[:size]
	clear(b[:28]) // what Seal left there
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(size))
	copy(b[12:], []byte{10, 1, 0, 2, 10, 2, 0, 2})
	binary.BigEndian.PutUint16(b[24:], uint16(size-20))
}

var benchSuites = []struct {
	name string
	c    ipsec.Cipher
	a    ipsec.Auth
	udp  bool
}{
	{"AES-128-GCM raw", ipsec.CipherAESGCM16, ipsec.AuthNone, false},
	{"AES-128-GCM UDP", ipsec.CipherAESGCM16, ipsec.AuthNone, true},
	{"NULL-SHA2-256 UDP", ipsec.CipherNull, ipsec.AuthHMACSHA256, true},
}

// outBatch gives a function that carries a full batch of packets out.
func outBatch(t testing.TB, p *Plane, size int) func() {
	w := newOutWork(p)
	return func() {
		for i := range batchSize {
			plainPacket(w.bufs[i][headRoom:], size)
			w.sizes[i] = size
		}
		w.batch(batchSize)
	}
}

// inBatch gives a function that carries the sealed packets of net in. Opening
// destroys them, so they are copied each time, as a socket would.
func inBatch(t testing.TB, p *Plane, net *sinkNet, sa *outSA) func() {
	var l *link
	for _, x := range p.links {
		if x.local == benchPeer && x.encap == sa.link.encap && x.proto == sa.link.proto {
			l = x
		}
	}
	w := newInWork(p, l)
	var sealed [][]byte
	for _, k := range net.kept {
		sealed = append(sealed, append([]byte(nil), k...))
	}
	room := make([][]byte, len(sealed))
	for i := range room {
		room[i] = make([]byte, len(sealed[i]))
	}
	msgs := make([]netio.Received, len(sealed))
	remote, local := netip.AddrPortFrom(benchUs, 4500), netip.AddrPortFrom(benchPeer, 4500)
	if !l.encap {
		remote, local = netip.AddrPortFrom(benchUs, 0), netip.AddrPortFrom(benchPeer, 0)
	}
	return func() {
		for i := range msgs {
			copy(room[i], sealed[i])
			msgs[i] = netio.Received{Data: room[i], Remote: remote, Local: local}
		}
		w.messages(msgs)
	}
}

func TestNothingIsAllocatedForAPacket(t *testing.T) {
	for _, s := range benchSuites {
		t.Run(s.name, func(t *testing.T) {
			p, dev, net := benchPlane(t, Options{})
			sa := loop(t, p, s.c, s.a, s.udp)
			out := outBatch(t, p, 1400)
			out()
			if len(net.kept) != batchSize {
				t.Fatalf("%d packets were sent of %d; drops %v", len(net.kept), batchSize, p.drops.read())
			}
			in := inBatch(t, p, net, sa)
			in()
			if dev.swallow != batchSize {
				t.Fatalf("%d packets came out of %d; drops %v", dev.swallow, batchSize, p.drops.read())
			}
			if raceEnabled {
				return // the race detector makes sync.Pool forget; make test counts without it too
			}
			if n := leastAllocs(out); n != 0 {
				t.Errorf("out: %v allocations for %d packets", n, batchSize)
			}
			if n := leastAllocs(in); n != 0 {
				t.Errorf("in: %v allocations for %d packets", n, batchSize)
			}
		})
	}
}

// leastAllocs is the least of several counts: the collector, and a busy machine
// that moves us to another processor, empty pools now and then, while an
// allocation of ours would be in every count.
func leastAllocs(f func()) float64 {
	least := testing.AllocsPerRun(50, f)
	for range 10 {
		if least == 0 {
			break
		}
		least = min(least, testing.AllocsPerRun(50, f))
	}
	return least
}

func BenchmarkOut(b *testing.B) {
	for _, s := range benchSuites {
		b.Run(s.name, func(b *testing.B) {
			p, _, _ := benchPlane(b, Options{})
			loop(b, p, s.c, s.a, s.udp)
			out := outBatch(b, p, 1400)
			perPacket(b, out)
			if d := p.drops.read(); d != (ipsec.Drops{}) {
				b.Errorf("packets were dropped: %v", d)
			}
		})
	}
}

func BenchmarkIn(b *testing.B) {
	for _, s := range benchSuites {
		b.Run(s.name, func(b *testing.B) {
			p, _, net := benchPlane(b, Options{})
			sa := loop(b, p, s.c, s.a, s.udp)
			outBatch(b, p, 1400)()
			perPacket(b, inBatch(b, p, net, sa))
		})
	}
}

// perPacket makes one op one packet.
func perPacket(b *testing.B, batch func()) {
	b.SetBytes(1400)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += batchSize {
		batch()
	}
}
