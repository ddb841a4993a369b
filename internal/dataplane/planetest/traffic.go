package planetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// nets are the two networks behind the gateways.
type nets struct{ a, b netip.Prefix }

var (
	nets4 = nets{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")}
	nets6 = nets{netip.MustParsePrefix("fd01::/64"), netip.MustParsePrefix("fd02::/64")}
)

type suite struct {
	cipher ipsec.Cipher
	auth   ipsec.Auth
	keyLen int
	udp    bool
	outer6 bool
}

func (s suite) String() string {
	how := "raw"
	if s.udp {
		how = "UDP"
	}
	return fmt.Sprintf("%s-%d %s %s", s.cipher, s.keyLen*8, s.auth, how)
}

// newSA is the outgoing SA of a gateway towards another.
func newSA(from, to *Site, spi ipsec.SPI, s suite, n nets) *ipsec.SA {
	src, dst := from.Addr, to.Addr
	if s.outer6 {
		src, dst = from.Addr6, to.Addr6
	}
	i := s.cipher.Info()
	if s.keyLen == 0 {
		s.keyLen = i.DefKey
	}
	sel := ipsec.Selector{Src: n.a, Dst: n.b}
	if from.Addr.Compare(to.Addr) > 0 {
		sel = sel.Reverse()
	}
	sa := &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: spi, Dst: dst}, Src: src, Cipher: s.cipher, Auth: s.auth,
		Key: pattern(s.keyLen, byte(spi)), Salt: pattern(i.Salt, byte(spi)+1), AuthKey: pattern(s.auth.Info().Key, byte(spi)+2),
		Replay: 64, Selector: sel, Flow: "c/out", Owner: ipsec.OwnerIKE, Conn: "c",
	}
	if s.udp {
		sa.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(src, 4500), Remote: netip.AddrPortFrom(dst, 4500)}
		sa.ID.Port = 4500
	}
	return sa
}

// pattern is a key in which no byte equals its neighbour: no weak DES key.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i)*37 + 11
	}
	return b
}

// connect makes one direction live: the receiver first.
func connect(t *testing.T, from, to *Site, s suite, n nets) (out, in ipsec.SAID) {
	t.Helper()
	src, dst := ends(from, to, s.outer6)
	spi, err := to.Backend.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: src, Dst: dst})
	must(t, err)
	sa := newSA(from, to, spi, s, n)
	rx := *sa
	rx.ID.Dir, rx.ID.Port, rx.Flow = ipsec.In, 0, "c/in"
	if s.udp {
		rx.Encap = &ipsec.Encap{Local: sa.Encap.Remote, Remote: sa.Encap.Local}
	}
	must(t, to.Backend.AddSA(ctx, &rx))
	must(t, from.Backend.AddSA(ctx, sa))
	return sa.ID, rx.ID
}

// packet is a UDP packet with a number in it.
func packet(src, dst netip.Addr, number uint32) []byte {
	udp := make([]byte, 8+64)
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], 2000)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint32(udp[8:], number)
	if src.Is6() {
		ip := make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, 17, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
		copy(ip[8:], src.AsSlice())
		copy(ip[24:], dst.AsSlice())
		return append(ip, udp...)
	}
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(udp)))
	binary.BigEndian.PutUint16(ip[4:], uint16(number)|1) // AH covers it; 0 would be filled in
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return append(ip, udp...)
}

func host(p netip.Prefix) netip.Addr { return p.Addr().Next().Next() }

// passes sends a packet and demands that it arrives as it was.
func passes(t *testing.T, from, to *Site, pkt []byte) {
	t.Helper()
	from.Put(pkt)
	select {
	case got := <-to.Got:
		if !bytes.Equal(got, pkt) {
			t.Fatalf("what arrived is not what was sent:\n%x\n%x", got, pkt)
		}
	case <-time.After(patience):
		st, _ := to.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
		fr, _ := from.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
		t.Fatalf("nothing arrived; the sender dropped %v, the receiver %v", fr.Drops, st.Drops)
	}
}

func nothing(t *testing.T, to *Site) {
	t.Helper()
	select {
	case got := <-to.Got:
		t.Fatalf("a packet arrived that should not: %x", got)
	case <-time.After(calm):
	}
}

func ready(t *testing.T, h *Harness, n nets) {
	t.Helper()
	must(t, h.A.Backend.ApplyFlows(ctx, flows(h.A, h.B, n, ipsec.OwnerIKE)))
	must(t, h.B.Backend.ApplyFlows(ctx, flows(h.B, h.A, n, ipsec.OwnerIKE)))
}

func everySuite(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	info := h.both()
	number := uint32(0)
	try := func(s suite) {
		t.Helper()
		out, in := connect(t, h.A, h.B, s, nets4)
		back, backIn := connect(t, h.B, h.A, s, nets4)
		number++
		passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), number))
		passes(t, h.B, h.A, packet(host(nets4.b), host(nets4.a), number))
		for _, x := range []struct {
			site *Site
			id   ipsec.SAID
		}{{h.A, out}, {h.B, in}, {h.B, back}, {h.A, backIn}} {
			st, err := x.site.Backend.GetSA(ctx, x.id)
			must(t, err)
			if st.Packets != 1 || st.Bytes == 0 || st.Seq != 1 {
				t.Errorf("%s: %s counted %d packets, %d bytes, sequence %d", s, x.id, st.Packets, st.Bytes, st.Seq)
			}
			must(t, x.site.Backend.DeleteSA(ctx, x.id))
		}
	}
	for i, c := range info.Ciphers {
		ci := c.Info()
		auths := slices.DeleteFunc(slices.Clone(info.Auths), func(a ipsec.Auth) bool {
			return a == ipsec.AuthAESGMAC // AH's alone
		})
		if ci.ICV != 0 {
			auths = []ipsec.Auth{ipsec.AuthNone}
		} else if h.Few {
			auths = auths[i%len(auths):][:1]
		}
		for _, a := range auths {
			for _, udp := range []bool{false, true} {
				try(suite{cipher: c, auth: a, keyLen: ci.DefKey, udp: udp})
			}
		}
		for _, n := range otherKeys(c) {
			try(suite{cipher: c, auth: auths[i%len(auths)], keyLen: n})
		}
	}
}

// otherKeys are the lengths of a cipher's keys, in bytes, beside the one that it has
// when nobody names one: the shortest, the longest, and what AES has between.
func otherKeys(c ipsec.Cipher) (all []int) {
	ci := c.Info()
	for _, n := range []int{ci.MinKey, 24, ci.MaxKey} {
		if n != ci.DefKey && n > 0 && c.KeyLenOK(n) && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return all
}

func families(t *testing.T, h *Harness) {
	for _, n := range []nets{nets4, nets6} {
		for _, outer6 := range []bool{false, true} {
			for _, udp := range []bool{false, true} {
				ready(t, h, n)
				s := suite{cipher: ipsec.CipherAESGCM16, udp: udp, outer6: outer6}
				connect(t, h.A, h.B, s, n)
				connect(t, h.B, h.A, s, n)
				passes(t, h.A, h.B, packet(host(n.a), host(n.b), 1))
				passes(t, h.B, h.A, packet(host(n.b), host(n.a), 2))
				must(t, h.A.Backend.Flush(ctx, ipsec.OwnerIKE))
				must(t, h.B.Backend.Flush(ctx, ipsec.OwnerIKE))
			}
		}
	}
}

var gcm = suite{cipher: ipsec.CipherAESGCM16}

func newest(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	uses := func(id ipsec.SAID, want uint64) {
		t.Helper()
		st, err := h.A.Backend.GetSA(ctx, id)
		must(t, err)
		if st.Packets != want {
			t.Fatalf("%s has %d packets, want %d", id, st.Packets, want)
		}
	}
	pkt := packet(host(nets4.a), host(nets4.b), 7)
	first, _ := connect(t, h.A, h.B, gcm, nets4)
	passes(t, h.A, h.B, pkt)
	uses(first, 1)
	second, _ := connect(t, h.A, h.B, gcm, nets4)
	passes(t, h.A, h.B, pkt)
	uses(first, 1)
	uses(second, 1)
	must(t, h.A.Backend.DeleteSA(ctx, second))
	passes(t, h.A, h.B, pkt)
	uses(first, 2)
}

// event waits for an event of a kind.
func event[T dataplane.Event](t *testing.T, s *Site) (e T) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case ev := <-s.Backend.Events():
			if e, ok := ev.(T); ok {
				return e
			}
		case <-timeout:
			t.Fatalf("no event %T came", e)
		}
	}
}

func acquire(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	pkt := packet(host(nets4.a), host(nets4.b), 1)
	h.A.Put(pkt)
	a := event[dataplane.Acquire](t, h.A)
	if a.Flow != "c/out" || a.Packet.Dst.Addr() != host(nets4.b) {
		t.Errorf("acquire %+v, want flow c/out and the packet's own addresses", a)
	}
	nothing(t, h.B)
	connect(t, h.A, h.B, gcm, nets4)
	must(t, h.A.Backend.EndAcquire(ctx, a.ID, nil))
	select {
	case got := <-h.B.Got:
		if !bytes.Equal(got, pkt) {
			t.Errorf("what waited arrived changed")
		}
	case <-time.After(patience):
		t.Error("what waited never arrived")
	}
}

func refused(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	h.A.Put(packet(host(nets4.a), host(nets4.b), 1))
	a := event[dataplane.Acquire](t, h.A)
	must(t, h.A.Backend.EndAcquire(ctx, a.ID, errors.New("no")))
	connect(t, h.A, h.B, gcm, nets4)
	nothing(t, h.B)
	passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), 2))
}

func selectors(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	// The sender's flow is wider than what the receiver agreed to.
	wide := flows(h.A, h.B, nets{netip.MustParsePrefix("10.0.0.0/8"), nets4.b}, ipsec.OwnerIKE)
	gone := []ipsec.FlowChange{{Remove: true, Flow: wide[0].Flow}, {Remove: true, Flow: wide[1].Flow}}
	wantErr(t, "adding flows that are there", h.A.Backend.ApplyFlows(ctx, wide), dataplane.ErrExists)
	must(t, h.A.Backend.ApplyFlows(ctx, append(gone, wide...)))
	_, in := connect(t, h.A, h.B, gcm, nets4)
	h.A.Put(packet(netip.MustParseAddr("10.3.0.1"), host(nets4.b), 1))
	nothing(t, h.B)
	if n := h.B.drops(t, in, ipsec.DropSelector); n != 1 {
		t.Errorf("%d drops for the selector, want one", n)
	}
	passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), 2))
}

func replayed(t *testing.T, h *Harness) {
	if h.Twice == nil {
		h.notRun = true
		return
	}
	ready(t, h, nets4)
	_, in := connect(t, h.A, h.B, gcm, nets4)
	h.Twice(true)
	for i := range uint32(5) {
		passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), i))
	}
	nothing(t, h.B)
	st, err := h.B.Backend.GetSA(ctx, in)
	must(t, err)
	if st.Drops[ipsec.DropReplay] != 5 {
		t.Errorf("drops %v, want five replays", st.Drops)
	}
}

func byteLife(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	if !h.A.Backend.Info().ByteExpiry {
		h.notRun = true
		return
	}
	spi, err := h.B.Backend.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: h.A.Addr, Dst: h.B.Addr})
	must(t, err)
	sa := newSA(h.A, h.B, spi, gcm, nets4)
	rx := *sa
	rx.ID.Dir, rx.Flow = ipsec.In, "c/in"
	sa.Soft.Bytes, sa.Hard.Bytes = 300, 600
	must(t, h.B.Backend.AddSA(ctx, &rx))
	must(t, h.A.Backend.AddSA(ctx, sa))
	var seen []bool
	for i := range uint32(12) {
		h.A.Put(packet(host(nets4.a), host(nets4.b), i))
		for done := false; !done && len(seen) < 2; {
			select {
			case ev := <-h.A.Backend.Events():
				if x, ok := ev.(dataplane.Expire); ok && x.SA == sa.ID {
					seen = append(seen, x.Hard)
				}
			case <-h.B.Got:
				done = true
			case <-time.After(calm):
				done = true
			}
		}
	}
	if !slices.Equal(seen, []bool{false, true}) {
		t.Errorf("expiries (hard?) %v, want the soft one and then the hard one", seen)
	}
	if _, err := h.A.Backend.GetSA(ctx, sa.ID); !errors.Is(err, dataplane.ErrNoSA) {
		t.Errorf("the SA is still there after its hard limit: %v", err)
	}
}

func unknownSPI(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	_, in := connect(t, h.A, h.B, gcm, nets4)
	must(t, h.B.Backend.DeleteSA(ctx, in))
	h.A.Put(packet(host(nets4.a), host(nets4.b), 1))
	deadline := time.Now().Add(patience)
	for {
		st, err := h.B.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
		must(t, err)
		if st.Drops[ipsec.DropUnknownSPI]-h.B.past[ipsec.DropUnknownSPI] == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("drops %v, want one for an unknown SPI", st.Drops)
		}
		<-time.After(time.Millisecond)
	}
	nothing(t, h.B)
}
