package userspace_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/esp"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
	"oakley/internal/tun"
)

var (
	us, peer   = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	near, far  = netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")
	usNAT      = netip.AddrPortFrom(us, 4500)
	peerNAT    = netip.AddrPortFrom(peer, 4500)
	innerFlows = between(near, far, us, peer, ipsec.FlowRequire)
)

// stage is one plane, and a network and a device that the test plays.
type stage struct {
	*userspace.Plane
	hub *netio.Hub
	dev *tun.Pipe
	sys *fakeSystem
}

// fakeSystem refuses on demand.
type fakeSystem struct {
	noSystem
	fail  atomic.Bool
	flows atomic.Int64
}

func (s *fakeSystem) Change(remove, add []ipsec.Flow) error {
	if s.fail.Load() {
		return errors.New("the kernel does not want to")
	}
	s.flows.Add(int64(len(add) - len(remove)))
	return nil
}

func newStage(t *testing.T) *stage {
	s := &stage{hub: netio.NewHub(), dev: tun.NewPipe("stage", 1400), sys: &fakeSystem{}}
	s.hub.SetGRO(true)
	p, err := userspace.New(userspace.Options{
		Local: []netip.Addr{us}, Device: s.dev, Network: s.hub.Node(us), System: s.sys,
	})
	must(t, err)
	s.Plane = p
	t.Cleanup(func() { must(t, p.Close()) })
	return s
}

// sealer makes what the peer would send.
type sealer struct {
	t   *esp.Transform
	seq uint64
}

// listen makes an incoming SA live and returns its peer's half.
func (s *stage) listen(t *testing.T, spi ipsec.SPI, k keying) (*sealer, ipsec.SAID) {
	t.Helper()
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: spi, Dst: us}, Src: peer,
		Cipher: k.cipher, Key: someKey(k.cipher.Info().DefKey), Salt: make([]byte, k.cipher.Info().Salt),
		Auth: k.auth, AuthKey: make([]byte, k.auth.Info().Key), Replay: 64,
		Selector: ipsec.Selector{Src: far, Dst: near}, Flow: "vpn/in", Owner: ipsec.OwnerManual,
	}
	if k.udp {
		sa.Encap = &ipsec.Encap{Local: usNAT, Remote: peerNAT}
	}
	must(t, s.AddSA(ctx, sa))
	out := *sa
	out.ID.Dir = ipsec.Out
	tr, err := esp.New(&out)
	must(t, err)
	return &sealer{t: tr}, sa.ID
}

func (s *sealer) seal(t *testing.T, next uint8, inner []byte) []byte {
	t.Helper()
	s.seq++
	head := s.t.HeaderLen()
	buf := make([]byte, head+len(inner)+s.t.TrailerMax())
	copy(buf[head:], inner)
	pkt, err := s.t.Seal(buf, head, len(inner), next, s.seq)
	must(t, err)
	return pkt
}

func (s *stage) raw(pkt []byte) {
	s.hub.Inject(netio.HubPacket{Proto: 50, Src: netip.AddrPortFrom(peer, 0), Dst: netip.AddrPortFrom(us, 0), Data: pkt})
}

func (s *stage) udp(pkt []byte) {
	s.hub.Inject(netio.HubPacket{Proto: 17, Src: peerNAT, Dst: usNAT, Data: pkt})
}

func someKey(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*37 + 11)
	}
	return b
}

// ip4 is a packet of an unknown protocol with options and a number in it.
func ip4(src, dst string, options []byte, number int) []byte {
	p := make([]byte, 20, 64)
	p = append(append(p, options...), fmt.Sprintf("packet %08d", number)...)
	p[0], p[8], p[9] = 0x40|byte(5+len(options)/4), 64, 253
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], netip.MustParseAddr(src).AsSlice())
	copy(p[16:], netip.MustParseAddr(dst).AsSlice())
	return p
}

// TestWhatComesOutOfATunnel (E2, E4): authentic packets are not good packets.
func TestWhatComesOutOfATunnel(t *testing.T) {
	s := newStage(t)
	must(t, s.ApplyFlows(ctx, innerFlows))
	peer, id := s.listen(t, 0x1000, gcm)
	good := ip4("10.2.0.2", "10.1.0.2", nil, 1)
	padded := append(slices.Clone(good), make([]byte, 50)...) // RFC 4303 section 2.7
	short := slices.Clone(good)
	short[3] = 0xff
	ip6 := make([]byte, 40)
	ip6[0], ip6[6] = 0x60, 59
	forged := peer.seal(t, 4, good)
	forged[len(forged)-1] ^= 1
	for _, c := range []struct {
		name string
		pkt  []byte
		want ipsec.Drop
	}{
		{"a good one", peer.seal(t, 4, good), ipsec.DropNone},
		{"a padded one", peer.seal(t, 4, padded), ipsec.DropNone},
		{"a dummy", peer.seal(t, 59, good), ipsec.DropNone},
		{"from another network", peer.seal(t, 4, ip4("10.3.0.2", "10.1.0.2", nil, 1)), ipsec.DropSelector},
		{"to another network", peer.seal(t, 4, ip4("10.2.0.2", "10.9.0.2", nil, 1)), ipsec.DropSelector},
		{"a loose source route", peer.seal(t, 4, ip4("10.2.0.2", "10.1.0.2", []byte{131, 7, 4, 9, 9, 9, 9, 0}, 1)), ipsec.DropSelector},
		{"a length that lies", peer.seal(t, 4, short), ipsec.DropMalformed},
		{"IPv4 that says IPv6", peer.seal(t, 41, good), ipsec.DropNextHeader},
		{"IPv6 that says IPv4", peer.seal(t, 4, ip6), ipsec.DropNextHeader},
		{"a bare UDP datagram", peer.seal(t, 17, good[20:]), ipsec.DropNextHeader},
		{"nothing", peer.seal(t, 4, nil), ipsec.DropMalformed},
		{"a forged one", forged, ipsec.DropAuth},
		{"one with a header alone", peer.seal(t, 4, good)[:20], ipsec.DropShort},
	} {
		before, err := s.GetSA(ctx, id)
		must(t, err)
		s.raw(c.pkt)
		if c.want == ipsec.DropNone {
			continue
		}
		waitFor(t, fmt.Sprintf("%s is dropped: %s", c.name, c.want), func() bool {
			now, err := s.GetSA(ctx, id)
			return err == nil && now.Drops[c.want] == before.Drops[c.want]+1
		})
	}
	for range 2 {
		if got := s.dev.Take(); !bytes.Equal(got, good) {
			t.Errorf("out came %x, want %x", got, good)
		}
	}
	if got := s.dev.TryTake(); got != nil {
		t.Errorf("out came %x too", got)
	}
	st, err := s.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
	must(t, err)
	s.raw([]byte{0, 0, 0x10})
	waitFor(t, "a packet shorter than a header is counted", func() bool {
		now, err := s.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
		return err == nil && now.Drops[ipsec.DropShort] == st.Drops[ipsec.DropShort]+1
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// An IKE datagram at the end of a row of ESP packets, and keepalives between.
func TestIKEHidesInABatchOfESP(t *testing.T) {
	s := newStage(t)
	must(t, s.ApplyFlows(ctx, innerFlows))
	p, _ := s.listen(t, 0x1000, keying{cipher: ipsec.CipherAESGCM16, udp: true})
	c, err := s.EncapConn(ctx, usNAT)
	must(t, err)
	if _, err := s.EncapConn(ctx, usNAT); !errors.Is(err, dataplane.ErrExists) {
		t.Errorf("a second reader: %v", err)
	}
	var want [][]byte
	for i := range 20 {
		want = append(want, ip4("10.2.0.2", "10.1.0.2", nil, i))
		s.udp(p.seal(t, 4, want[i]))
		if i%5 == 4 {
			s.udp(append([]byte{0, 0, 0, 0}, "IKE"...)) // shorter: the last of its row
			s.udp([]byte{0xff})
		}
	}
	buf := make([]byte, 100)
	for range 4 {
		n, remote, local, err := c.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "IKE" || remote != peerNAT || local != usNAT {
			t.Fatalf("read %q from %s to %s, %v", buf[:n], remote, local, err)
		}
	}
	for i := range want {
		if got := s.dev.Take(); !bytes.Equal(got, want[i]) {
			t.Fatalf("packet %d came out as %x", i, got)
		}
	}
	// And the way out: the marker before IKE, nothing before a keepalive.
	far, err := s.hub.Node(peer).OpenUDP(netio.UDPOptions{Local: peerNAT})
	must(t, err)
	must(t, c.WriteTo([]byte("answer"), usNAT, peerNAT))
	must(t, c.Keepalive(usNAT, peerNAT))
	b := netio.NewRecvBatch(4)
	var got []string
	for len(got) < 2 {
		must(t, far.Recv(b))
		for _, m := range b.Msgs {
			got = append(got, string(m.Data))
		}
	}
	if got[0] != "\x00\x00\x00\x00answer" || got[1] != "\xff" {
		t.Errorf("sent %q", got)
	}
	must(t, c.Close())
	if _, _, _, err := c.ReadFrom(buf); err == nil {
		t.Error("a closed reader reads")
	}
	if err := c.WriteTo([]byte("x"), usNAT, peerNAT); err == nil {
		t.Error("a closed reader writes")
	}
	c, err = s.EncapConn(ctx, usNAT)
	must(t, err)
	must(t, s.Close())
	if _, _, _, err := c.ReadFrom(buf); err == nil {
		t.Error("the reader of a closed plane reads")
	}
}

// ESP in UDP does not reach an SA of raw ESP, nor the other way round.
func TestEncapsulationIsPartOfTheSA(t *testing.T) {
	s := newStage(t)
	must(t, s.ApplyFlows(ctx, innerFlows))
	raw, _ := s.listen(t, 0x1000, gcm)
	udp, _ := s.listen(t, 0x1001, keying{cipher: ipsec.CipherAESGCM16, udp: true})
	pkt := ip4("10.2.0.2", "10.1.0.2", nil, 1)
	s.udp(raw.seal(t, 4, pkt))
	s.raw(udp.seal(t, 4, pkt))
	waitFor(t, "both are unknown", func() bool {
		st, err := s.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
		return err == nil && st.Drops[ipsec.DropUnknownSPI] == 2
	})
	if s.dev.TryTake() != nil {
		t.Error("one came out")
	}
}

// Workers finish in any order; packets leave in theirs.
func TestSlowCiphersKeepTheOrder(t *testing.T) {
	s := newStage(t)
	must(t, s.ApplyFlows(ctx, innerFlows))
	k := keying{cipher: ipsec.Cipher3DES, auth: ipsec.AuthHMACSHA1}
	in, _ := s.listen(t, 0x1000, k)
	out := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: 0x2000, Dst: peer}, Src: us,
		Cipher: k.cipher, Key: someKey(24), Auth: k.auth, AuthKey: make([]byte, 20),
		Selector: ipsec.Selector{Src: near, Dst: far}, Flow: "vpn/out", Owner: ipsec.OwnerManual,
	}
	must(t, s.AddSA(ctx, out))
	there, err := s.hub.Node(peer).OpenRaw(netio.RawOptions{Local: peer, Proto: 50})
	must(t, err)
	const n = 600
	var pkts [][]byte
	for i := range n {
		pkts = append(pkts, ip4("10.1.0.2", "10.2.0.2", nil, i))
	}
	s.dev.Put(pkts...)
	b := netio.NewRecvBatch(16)
	for next := uint32(1); next <= n; {
		must(t, there.Recv(b))
		for _, m := range b.Msgs {
			_, seq, _ := esp.ParseHeader(m.Data)
			if seq != next {
				t.Fatalf("sequence number %d left before %d", seq, next)
			}
			next++
		}
	}
	for i := range n {
		s.raw(in.seal(t, 4, ip4("10.2.0.2", "10.1.0.2", nil, i)))
	}
	for i := range n {
		if got := s.dev.Take(); !bytes.Equal(got, ip4("10.2.0.2", "10.1.0.2", nil, i)) {
			t.Fatalf("packet %d is %q", i, got)
		}
	}
}

// What the kernel refuses does not half happen.
func TestFlowsOfWhichTheKernelWantsNone(t *testing.T) {
	s := newStage(t)
	must(t, s.ApplyFlows(ctx, innerFlows))
	s.sys.fail.Store(true)
	other := between(netip.MustParsePrefix("10.5.0.0/24"), far, us, peer, ipsec.FlowRequire)
	other[0].Flow.ID, other[1].Flow.ID = "other/out", "other/in"
	change := append([]ipsec.FlowChange{{Remove: true, Flow: innerFlows[0].Flow}}, other...)
	if err := s.ApplyFlows(ctx, change); err == nil {
		t.Fatal("no error")
	}
	st, err := s.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
	must(t, err)
	if len(st.Flows) != 2 || st.Flows[0].ID != "vpn/out" || st.Flows[1].ID != "vpn/in" {
		t.Errorf("flows %+v, want those from before", st.Flows)
	}
	s.sys.fail.Store(false)
	must(t, s.ApplyFlows(ctx, change))
	if n := s.sys.flows.Load(); n != 3 {
		t.Errorf("the kernel knows %d flows, want 3", n)
	}
}
