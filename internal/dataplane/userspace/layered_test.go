package userspace

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"

	"oakley/internal/inet"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/replay"
)

// pot is a network that keeps what is sent in room that it has.
type pot struct {
	mu   sync.Mutex
	n    int
	room [2 * batchSize][2048]byte
	size [2 * batchSize]int
}

type potConn struct {
	*pot
	local netip.AddrPort
	done  chan struct{}
}

func (n *pot) OpenUDP(o netio.UDPOptions) (netio.Conn, error) {
	return &potConn{n, o.Local, make(chan struct{})}, nil
}

func (n *pot) OpenRaw(o netio.RawOptions) (netio.Conn, error) {
	return &potConn{n, netip.AddrPortFrom(o.Local, 0), make(chan struct{})}, nil
}

func (c *potConn) Recv(*netio.RecvBatch) error {
	<-c.done
	return net.ErrClosed
}

func (c *potConn) Send(b *netio.SendBatch) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.Each(func(pkt []byte, _, _ netip.AddrPort) {
		i := c.n % len(c.room)
		c.size[i] = copy(c.room[i][:], pkt)
		c.n++
	})
	b.Reset()
	return 0, nil
}

func (c *potConn) LocalAddr() netip.AddrPort { return c.local }
func (c *potConn) Offload() (gso, gro bool)  { return true, true }
func (c *potConn) Close() error              { close(c.done); return nil }

// layers of which the way through the plane is measured.
var benchLayers = []struct {
	name  string
	coats []coat
}{
	{"AH", []coat{{proto: ipsec.ProtoAH, auth: ipsec.AuthHMACSHA256}}},
	{"IP in IP", []coat{{proto: ipsec.ProtoIPIP}}},
	{"AH over ESP", []coat{{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}}},
	{"ESP over IP in IP", []coat{{proto: ipsec.ProtoIPIP}, {proto: ipsec.ProtoESP, mode: ipsec.Transport, cipher: ipsec.CipherAESGCM16}}},
	{"AH over AES-CBC", []coat{{proto: ipsec.ProtoESP, cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1}, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}}},
	{"ESP over IPComp", []coat{{proto: ipsec.ProtoIPComp}, {proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}}},
}

// layeredBench gives functions that carry a batch out, and the same in.
func layeredBench(t testing.TB, coats []coat) (out, in func(), swallowed func() int) {
	net := &pot{}
	p, err := New(Options{Local: []netip.Addr{benchUs, benchPeer}, Device: &hole{done: make(chan struct{})}, Network: net, System: still{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	s := &scene{t: t, p: p}
	s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, coats...)
	batch := outBatch(t, p, 1300)
	out = func() {
		net.n = 0
		batch()
		s.settle()
	}
	out()
	if net.n != batchSize {
		t.Fatalf("%d packets left of %d; drops %v", net.n, batchSize, p.drops.read())
	}
	proto := net.room[0][9]
	var w *inWork
	for _, l := range p.links {
		if l.local == benchPeer && l.proto == proto && !l.encap {
			w = newInWork(p, l)
		}
	}
	sealed := make([][]byte, batchSize)
	room := make([][]byte, batchSize)
	for i := range sealed {
		sealed[i] = append([]byte(nil), net.room[i][:net.size[i]]...)
		room[i] = make([]byte, len(sealed[i]))
	}
	msgs := make([]netio.Received, batchSize)
	in = func() {
		for i := range msgs {
			copy(room[i], sealed[i])
			msgs[i] = netio.Received{
				Packet: room[i], Data: room[i][20:], TTL: 64,
				Remote: netip.AddrPortFrom(benchUs, 0), Local: netip.AddrPortFrom(benchPeer, 0),
			}
		}
		w.messages(msgs)
		s.settle()
	}
	return out, in, func() int { return p.dev.(*hole).swallow }
}

// TestNothingIsAllocatedForALayeredPacket: as for the fast way.
func TestNothingIsAllocatedForALayeredPacket(t *testing.T) {
	for _, b := range benchLayers {
		t.Run(b.name, func(t *testing.T) {
			out, in, swallowed := layeredBench(t, b.coats)
			in()
			if n := swallowed(); n != batchSize {
				t.Fatalf("%d packets came out of %d", n, batchSize)
			}
			if raceEnabled {
				return
			}
			// settle has a list of a few lines.
			for name, f := range map[string]func(){"out": out, "in": in} {
				if n := leastAllocs(f); n > settleAllocs {
					t.Errorf("%s: %v allocations for %d packets", name, n, batchSize)
				}
			}
		})
	}
}

// settleAllocs is what a scene's settle takes.
const settleAllocs = 4

func BenchmarkLayered(b *testing.B) {
	for _, l := range benchLayers {
		out, in, _ := layeredBench(b, l.coats)
		b.Run(l.name+" out", func(b *testing.B) { perPacket(b, out) })
		b.Run(l.name+" in", func(b *testing.B) { perPacket(b, in) })
	}
}

// TestWorkersKeepTheOrderOfLayers: packets leave and arrive in their order though
// several workers have them, and a small window loses none; what comes twice is a
// replay.
func TestWorkersKeepTheOrderOfLayers(t *testing.T) {
	for _, coats := range [][]coat{
		{{proto: ipsec.ProtoESP, cipher: ipsec.Cipher3DES, auth: ipsec.AuthHMACSHA1}, {proto: ipsec.ProtoAH, mode: ipsec.Transport, auth: ipsec.AuthHMACSHA1}},
		{{proto: ipsec.ProtoIPComp}, {proto: ipsec.ProtoESP, cipher: ipsec.CipherAESGCM16}},
	} {
		s := newScene(t, Options{})
		for range 6 { // more workers than processors
			s.p.wg.Go(s.p.work.run)
		}
		sa := s.wear(1, false, ipsec.Selector{Src: nearNet, Dst: farNet}, coats...)
		for _, in := range s.p.in {
			in.window = replay.New(32)
		}
		const n = 60 * jobSize
		var left []outer
		for from := 0; from < n; from += batchSize {
			var pkts [][]byte
			for i := from; i < min(from+batchSize, n); i++ {
				pkt := datagram(nearest, farthest, 200, false)
				binary.BigEndian.PutUint32(pkt[30:], uint32(i))
				pkts = append(pkts, pkt)
			}
			left = append(left, s.send(pkts...)...)
		}
		if len(left) != n {
			t.Fatalf("%d packets left of %d; drops %v %v", len(left), n, s.p.drops.read(), sa.drops.read())
		}
		for round, want := range []int{n, 0} {
			var got [][]byte
			for from := 0; from < n; from += batchSize {
				got = append(got, s.burst(left[from:min(from+batchSize, n)])...)
			}
			if len(got) != want {
				t.Fatalf("round %d: %d packets came of %d; replays %d", round, len(got), want, s.drops(ipsec.DropReplay))
			}
			for i, pkt := range got {
				if k := int(binary.BigEndian.Uint32(pkt[30:])); k != i {
					t.Fatalf("packet %d came as number %d", k, i)
				}
			}
		}
		if d := s.drops(ipsec.DropReplay); d != n {
			t.Errorf("%d replays were dropped, want %d", d, n)
		}
	}
}

// burst gives the plane packets with their own IPv4 header in one batch.
func (s *scene) burst(pkts []outer) [][]byte {
	s.t.Helper()
	s.dev.kept = nil
	var msgs []netio.Received
	proto := pkts[0].data[9]
	for i := range pkts {
		data := append([]byte(nil), pkts[i].data...)
		msgs = append(msgs, netio.Received{
			Packet: data, Data: data[20:], TTL: 64, TOS: inet.TOS(data),
			Remote: netip.AddrPortFrom(inet.Source(data), 0), Local: netip.AddrPortFrom(inet.Destination(data), 0),
		})
	}
	for _, l := range s.p.links {
		if l.local == msgs[0].Local.Addr() && !l.encap && l.proto == proto {
			newInWork(s.p, l).messages(msgs)
			s.settle()
			return s.dev.kept
		}
	}
	s.t.Fatalf("no socket for protocol %d", proto)
	return nil
}
