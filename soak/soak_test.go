package soak

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

var (
	length = flag.Duration("for", 5*time.Second, "how long")
	pairs  = flag.Int("pairs", 250, "pairs of hosts, each with a tunnel of its own: four SAs in two gateways")
	rate   = flag.Int("rate", 4000, "packets a second each way, over all pairs")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	ctx      = context.Background()
	eastNet  = netip.MustParsePrefix("10.100.0.0/16")
	westNet  = netip.MustParsePrefix("10.200.0.0/16")
	listenOn = uint16(7)
)

// host is the i-th host of a network.
func host(n netip.Prefix, i int) netip.Addr {
	b := n.Addr().As4()
	binary.BigEndian.PutUint16(b[2:], uint16(i+1))
	return netip.AddrFrom4(b)
}

// anyOf makes all addresses of a network addresses of h.
func anyOf(h *lab.Host, n netip.Prefix) error {
	return h.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		_, dst, err := net.ParseCIDR(n.String())
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST,
		})
	})
}

// gateway is one end: its plane and what it calls its side and the other.
type gateway struct {
	plane     *userspace.Plane
	addr      netip.Addr
	near, far netip.Prefix
}

// soak is a run.
type soak struct {
	t    *testing.T
	ends [2]*gateway
	spi  atomic.Uint32
	late sync.WaitGroup // old SAs that are still to be deleted
	old  []tunnel       // by pair: what is live
}

// tunnel are the SAs of a pair: by direction, the sender's and the receiver's.
type tunnel [2][2]ipsec.SAID

func flowID(pair int, d ipsec.Direction) ipsec.FlowID {
	return ipsec.FlowName(fmt.Sprintf("pair%d", pair), d)
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// flows makes the flows of all pairs at one end.
func (s *soak) flows(me, peer *gateway) {
	var all []ipsec.FlowChange
	for i := range *pairs {
		out := ipsec.Flow{
			ID: flowID(i, ipsec.Out), Dir: ipsec.Out, Type: ipsec.FlowRequire,
			Selector: ipsec.Selector{Src: single(host(me.near, i)), Dst: single(host(me.far, i))},
			Local:    me.addr, Remote: peer.addr, Proto: ipsec.ProtoESP, Owner: ipsec.OwnerIKE,
		}
		in := out
		in.ID, in.Dir, in.Selector = flowID(i, ipsec.In), ipsec.In, out.Selector.Reverse()
		all = append(all, ipsec.FlowChange{Flow: out}, ipsec.FlowChange{Flow: in})
	}
	must(s.t, me.plane.ApplyFlows(ctx, all))
}

// sa are the two halves of an SA from one end to the other.
func (s *soak) sa(pair, from int) (out, in *ipsec.SA) {
	a, b := s.ends[from], s.ends[1-from]
	c := ipsec.CipherAESGCM16
	out = &ipsec.SA{
		ID:  ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: ipsec.SPI(0x1000 + s.spi.Add(1)), Dst: b.addr},
		Src: a.addr, Cipher: c, Replay: 64, Owner: ipsec.OwnerIKE, Flow: flowID(pair, ipsec.Out),
		Selector: ipsec.Selector{Src: single(host(a.near, pair)), Dst: single(host(a.far, pair))},
	}
	out.Key, out.Salt = make([]byte, 16), make([]byte, 4)
	binary.BigEndian.PutUint32(out.Key, uint32(out.ID.SPI)) // another key for each
	half := *out
	half.ID.Dir, half.Flow = ipsec.In, flowID(pair, ipsec.In)
	return out, &half
}

// rekey gives a pair new SAs, in the order in which a negotiation does it, and
// takes the old ones away when packets on their way have arrived.
func (s *soak) rekey(pair int) {
	var next tunnel
	var outs [2]*ipsec.SA
	for d := range 2 {
		out, in := s.sa(pair, d)
		must(s.t, s.ends[1-d].plane.AddSA(ctx, in))
		outs[d], next[d] = out, [2]ipsec.SAID{out.ID, in.ID}
	}
	for d := range 2 {
		must(s.t, s.ends[d].plane.AddSA(ctx, outs[d]))
	}
	old := s.old[pair]
	s.old[pair] = next
	if old[0][0].SPI == 0 {
		return
	}
	for d := range 2 {
		must(s.t, s.ends[d].plane.DeleteSA(ctx, old[d][0]))
	}
	s.late.Add(1)
	time.AfterFunc(time.Second, func() {
		defer s.late.Done()
		for d := range 2 {
			if err := s.ends[1-d].plane.DeleteSA(ctx, old[d][1]); err != nil {
				s.t.Error(err)
			}
		}
	})
}

// stream sends packets over all pairs and counts what arrives.
type stream struct {
	out            []*net.UDPConn
	in             *net.UDPConn
	sent, received atomic.Int64
}

func newStream(t *testing.T, from, to *lab.Host, near, far netip.Prefix) *stream {
	s := &stream{}
	var err error
	s.in, err = to.ListenUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), listenOn))
	must(t, err)
	must(t, s.in.SetReadBuffer(4<<20))
	t.Cleanup(func() { s.in.Close() })
	must(t, from.Do(func() error {
		for i := range *pairs {
			c, err := net.DialUDP("udp", &net.UDPAddr{IP: host(near, i).AsSlice()}, &net.UDPAddr{IP: host(far, i).AsSlice(), Port: int(listenOn)})
			if err != nil {
				return err
			}
			s.out = append(s.out, c)
			t.Cleanup(func() { c.Close() })
		}
		return nil
	}))
	go s.receive()
	return s
}

func (s *stream) receive() {
	b := make([]byte, 2000)
	for {
		if _, err := s.in.Read(b); err != nil {
			return
		}
		s.received.Add(1)
	}
}

// send keeps to the rate until stop is closed.
func (s *stream) send(stop <-chan struct{}, rng *rand.Rand) {
	const every = 5 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	packet := make([]byte, 1000)
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for range *rate / int(time.Second/every) {
			if _, err := s.out[rng.IntN(len(s.out))].Write(packet[:64+rng.IntN(900)]); err == nil {
				s.sent.Add(1)
			}
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestSAsRekeyedAtRandom(t *testing.T) {
	lab.Need(t, "root", "tun")
	n, err := lab.New(t).HowTo(lab.HowToOptions{})
	must(t, err)
	must(t, anyOf(n.Dandelion, eastNet))
	must(t, anyOf(n.Icy, westNet))
	must(t, n.Ragweed.Route(eastNet.String(), n.V4.Dandelion.String()))
	must(t, n.Slippery.Route(westNet.String(), n.V4.Icy.String()))
	s := &soak{t: t, old: make([]tunnel, *pairs)}
	s.ends[0] = &gateway{addr: n.V4.Ragweed, near: eastNet, far: westNet}
	s.ends[1] = &gateway{addr: n.V4.Slippery, near: westNet, far: eastNet}
	for i, h := range []*lab.Host{n.Ragweed, n.Slippery} {
		must(t, h.Do(func() (err error) {
			s.ends[i].plane, err = userspace.New(userspace.Options{})
			return err
		}))
		t.Cleanup(func() { s.ends[i].plane.Close() })
	}
	s.flows(s.ends[0], s.ends[1])
	s.flows(s.ends[1], s.ends[0])
	for i := range *pairs {
		s.rekey(i)
	}

	there, back := newStream(t, n.Dandelion, n.Icy, eastNet, westNet), newStream(t, n.Icy, n.Dandelion, westNet, eastNet)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, x := range []*stream{there, back} {
		wg.Go(func() { x.send(stop, rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	rng := rand.New(rand.NewPCG(2, 3))
	end := time.Now().Add(*length)
	rekeys, before := 0, uint64(0)
	for time.Now().Before(end) {
		for range 20 {
			s.rekey(rng.IntN(*pairs))
			rekeys++
		}
		if before == 0 && rekeys > 2**pairs { // everybody was rekeyed about twice: what is there is what stays
			before = heap()
		}
		<-time.After(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	arrived := lab.Until(3*time.Second, func() bool {
		return there.received.Load() == there.sent.Load() && back.received.Load() == back.sent.Load()
	})
	s.late.Wait()
	after := heap()
	t.Logf("%d SAs in the two gateways, %d rekeys in %v, sent %d and %d, lost %d and %d, heap %d KiB then %d KiB", 4**pairs, rekeys, *length,
		there.sent.Load(), back.sent.Load(), there.sent.Load()-there.received.Load(), back.sent.Load()-back.received.Load(), before>>10, after>>10)
	if !arrived {
		t.Errorf("packets were lost; the planes say %v and %v", s.drops(0), s.drops(1))
	}
	if before != 0 && after > before+before/2+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

// drops are an end's drops by reason, those of its SAs included.
func (s *soak) drops(i int) string {
	st, err := s.ends[i].plane.Dump(ctx, dataplane.Query{})
	must(s.t, err)
	total := st.Drops
	for _, sa := range st.SAs {
		for r, k := range sa.Drops {
			total[r] += k
		}
	}
	text := ""
	for r, k := range total {
		if k > 0 {
			text += fmt.Sprintf(" %s %d", ipsec.Drop(r), k)
		}
	}
	return text
}
