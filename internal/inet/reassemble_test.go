package inet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/ipsec"
)

var (
	src4, dst4 = netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	src6, dst6 = netip.MustParseAddr("fd01::2"), netip.MustParseAddr("fd02::2")
)

// whole is a UDP packet with n bytes of payload that tell where they are; extra
// is options of IPv4 or extension headers of IPv6, the first of kind.
func whole(v6 bool, id uint16, extra []byte, kind uint8, n int) []byte {
	head := HeaderLen(v6)
	pkt := make([]byte, head+len(extra)+8+n)
	h := Header{Src: src4, Dst: dst4, Proto: 17, TTL: 64, ID: id}
	if v6 {
		h = Header{Src: src6, Dst: dst6, Proto: 17, TTL: 64}
		if len(extra) > 0 {
			h.Proto = kind
		}
	}
	copy(pkt[head:], extra)
	udp := pkt[head+len(extra):]
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], 53)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+n))
	for i := range n {
		udp[8+i] = byte(i ^ i>>8)
	}
	h.Put(pkt)
	if !v6 {
		pkt[0] = 0x45 + byte(len(extra)/4)
		Mend(pkt)
	}
	return pkt
}

// pieces divides a packet into pieces of at most size bytes.
func pieces(t testing.TB, pkt []byte, size int, id uint32) (all [][]byte) {
	t.Helper()
	for at := 0; at >= 0; {
		buf := make([]byte, size)
		n, next := Fragment(buf, pkt, at, id)
		if n == 0 {
			t.Fatalf("no piece of %d bytes at %d", size, at)
		}
		all = append(all, buf[:n])
		at = next
	}
	return all
}

func add(t testing.TB, r *Reassembler, pkt []byte, owner any, now int64) (whole []byte, lost int) {
	t.Helper()
	var info ipsec.PacketInfo
	if d := ipsec.ParsePacket(pkt, &info); d != ipsec.DropNone {
		t.Fatalf("a fragment is %s: %x", d, pkt)
	}
	if !info.Fragment {
		t.Fatalf("no fragment: %x", pkt)
	}
	return r.Add(pkt, &info, owner, now)
}

// What was divided is the same again, in whatever order the pieces come, some of
// them twice, divided again on the way, and among those of other packets.
func TestPiecesBecomeWhole(t *testing.T) {
	options := []byte{7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0} // a record of the route, and a router alert, which is copied
	headers := append([]byte{DestOpts, 0, 1, 4, 0, 0, 0, 0}, 17, 0, 1, 4, 0, 0, 0, 0)
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		v6 := seed&1 == 1
		var extra []byte
		kind := uint8(HopByHop)
		if seed&2 == 2 && v6 {
			extra = headers
		} else if seed&2 == 2 {
			extra = options
		}
		n := 1 + rnd.IntN(9000)
		if seed > 390 {
			n = 65535 - 60 - 8 - len(extra) - rnd.IntN(8)
		}
		pkt := whole(v6, uint16(seed+1), extra, kind, n)
		size := 100 + rnd.IntN(1400)
		if n > 9000 {
			size = max(size, 700)
		}
		if len(pkt) <= size {
			continue
		}
		all := pieces(t, pkt, size, uint32(seed))
		if !v6 && seed&4 == 4 && len(all) < 20 { // a narrower network behind
			var again [][]byte
			for _, p := range all {
				again = append(again, pieces(t, p, 92, 0)...)
			}
			all = again
		}
		if len(all) > MaxFragments {
			continue
		}
		rnd.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
		r := Reassembler{Head: 13, Tail: 7}
		other := pieces(t, whole(v6, uint16(seed+2), nil, 0, 3000), 500, uint32(seed)+1)
		var got []byte
		for i, p := range all {
			if got != nil {
				t.Fatal("whole before the last piece")
			}
			w, lost := add(t, &r, bytes.Clone(p), nil, 0)
			got = w
			if got == nil { // the same again, and somebody else's
				_, again := add(t, &r, bytes.Clone(p), nil, 0)
				lost += again
			}
			if i < 3 {
				add(t, &r, other[i], nil, 0)
			}
			if lost != 0 {
				t.Fatalf("seed %d: %d pieces were lost", seed, lost)
			}
		}
		if got == nil {
			t.Fatalf("seed %d: %d pieces of %d bytes never became whole", seed, len(all), len(pkt))
		}
		if got = got[13 : len(got)-7]; !bytes.Equal(got, pkt) {
			t.Fatalf("seed %d: %d bytes came back changed\n%x\n%x", seed, len(pkt), got[:80], pkt[:80])
		}
	}
}

// The wrong kinds of pieces: RFC 5722's overlaps end the datagram, with what is
// still to come of it.
func TestPiecesThatLie(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		all := pieces(t, whole(v6, 1, nil, 0, 2000), 900, 9) // three
		if len(all) != 3 {
			t.Fatal(len(all))
		}
		shift := func(p []byte, by int, change func(p []byte)) []byte {
			p = bytes.Clone(p)
			at, unit := 6, 1
			if v6 {
				at, unit = 42, 8
			}
			binary.BigEndian.PutUint16(p[at:], binary.BigEndian.Uint16(p[at:])+uint16(by*unit))
			if change != nil {
				change(p)
			}
			Mend(p)
			return p
		}
		bare := 20
		if v6 {
			bare = 48
		}
		for _, c := range []struct {
			name string
			bad  []byte
			ends bool // the datagram
		}{
			{"one that overlaps by eight bytes", shift(all[1], -1, nil), true},
			{"behind the last", shift(all[1], 200, nil), true},
			{"of a length that is no multiple of eight", all[1][:len(all[1])-3], false},
			{"without bytes", all[1][:bare], false},
		} {
			r := Reassembler{}
			lost := 0
			for _, p := range [][]byte{all[0], all[2], c.bad, all[1]} {
				p = bytes.Clone(p)
				Mend(p)
				got, n := add(t, &r, p, nil, 0)
				lost += n
				if got != nil && (c.ends || !bytes.Equal(got, whole(v6, 1, nil, 0, 2000))) {
					t.Errorf("IPv6 %t, %s: became whole", v6, c.name)
				}
			}
			want := 1
			if c.ends {
				want = 4 // the two before, itself and the one that comes after
			}
			if lost != want {
				t.Errorf("IPv6 %t, %s: %d lost, want %d", v6, c.name, lost, want)
			}
		}
		// The same place and other bytes, while the datagram is not complete.
		other := bytes.Clone(all[1])
		other[len(other)-1] ^= 1
		r := Reassembler{}
		add(t, &r, all[1], nil, 0)
		if _, lost := add(t, &r, other, nil, 0); lost != 2 {
			t.Errorf("IPv6 %t: a second version of a piece: %d lost, want both", v6, lost)
		}
	}
}

func TestPiecesOfTwoOwnersAreNotMixed(t *testing.T) {
	r := Reassembler{}
	all := pieces(t, whole(false, 1, nil, 0, 1000), 900, 0)
	a, b := new(int), new(int)
	if got, _ := add(t, &r, all[0], a, 0); got != nil {
		t.Error("whole?")
	}
	if got, _ := add(t, &r, all[1], b, 0); got != nil {
		t.Error("a piece of another owner made it whole")
	}
	if got, _ := add(t, &r, all[1], a, 0); got == nil {
		t.Error("not whole")
	}
}

func TestPiecesWaitForATime(t *testing.T) {
	r := Reassembler{}
	all := pieces(t, whole(true, 1, nil, 0, 2000), 900, 0)
	add(t, &r, all[0], nil, 0)
	add(t, &r, all[1], nil, int64(FragmentTimeout)-1)
	if n := r.Expire(int64(FragmentTimeout) - 1); n != 0 {
		t.Errorf("%d expired too early", n)
	}
	got, lost := add(t, &r, all[2], nil, int64(FragmentTimeout))
	if got != nil || lost != 2 {
		t.Errorf("whole %t, %d lost; want two that waited too long", got != nil, lost)
	}
	if r.Expire(int64(2*FragmentTimeout)) != 1 || r.Waiting() != 0 || len(r.all)+len(r.senders)+r.age.Len() != 0 {
		t.Errorf("%d bytes wait after all expired", r.Waiting())
	}
}

// Whoever sends pieces that never become whole costs what the bounds say, and
// one sender does not push out another's.
func TestWhatWaitsIsBounded(t *testing.T) {
	r := Reassembler{}
	rnd := rand.New(rand.NewPCG(1, 2))
	good := pieces(t, whole(false, 1, nil, 0, 1000), 900, 0)
	var info ipsec.PacketInfo
	add(t, &r, good[0], nil, 0)
	lost, sent := 0, 0
	for i := range 30000 {
		p := bytes.Clone(good[i&1])
		copy(p[12:], []byte{10, 9, 9, 9})
		binary.BigEndian.PutUint16(p[4:], uint16(i>>1))
		if i&1 == 1 { // tiny
			p = p[:28]
			binary.BigEndian.PutUint16(p[6:], 0x2000|uint16(8+rnd.IntN(8000)))
		}
		Mend(p)
		if d := ipsec.ParsePacket(p, &info); d != ipsec.DropNone {
			t.Fatal(d)
		}
		_, n := r.Add(p, &info, nil, 0)
		lost, sent = lost+n, sent+1
		if r.Waiting() > MaxOfOne+4096 {
			t.Fatalf("%d bytes wait of one sender", r.Waiting())
		}
	}
	if lost < sent/2 {
		t.Errorf("%d lost of %d", lost, sent)
	}
	if got, _ := add(t, &r, good[1], nil, 0); got == nil {
		t.Error("another sender's pieces were pushed out")
	}
	for i := range 100000 {
		p := bytes.Clone(good[0])
		binary.BigEndian.PutUint32(p[12:], 0x0b000000+uint32(i)*37)
		Mend(p)
		if d := ipsec.ParsePacket(p, &info); d != ipsec.DropNone {
			t.Fatal(d)
		}
		r.Add(p, &info, nil, 0)
		if r.Waiting() > MaxWaiting {
			t.Fatalf("%d bytes wait", r.Waiting())
		}
	}
	r.Expire(int64(time.Hour))
	if r.Waiting() != 0 || len(r.all) != 0 || len(r.senders) != 0 {
		t.Errorf("%d bytes are left", r.Waiting())
	}
}

// One congested piece makes the whole congested; not when another says that
// nobody looks at marks.
func TestMarksOfPieces(t *testing.T) {
	for _, c := range []struct {
		marks [3]uint8
		want  int // -1: dropped
	}{
		{[3]uint8{2, 2, 2}, 2},
		{[3]uint8{2, 3, 2}, 3},
		{[3]uint8{3, 1, 1}, 3},
		{[3]uint8{0, 0, 0}, 0},
		{[3]uint8{0, 3, 0}, -1},
	} {
		r := Reassembler{}
		all := pieces(t, whole(false, 1, nil, 0, 2000), 900, 0)
		var got []byte
		lost := 0
		for i, p := range all {
			SetTOS(p, 0xb8|c.marks[i])
			w, n := add(t, &r, p, nil, 0)
			got, lost = w, lost+n
		}
		switch {
		case c.want < 0 && (got != nil || lost != 3):
			t.Errorf("%v: %d lost, want all", c.marks, lost)
		case c.want >= 0 && (got == nil || TOS(got) != 0xb8|uint8(c.want)):
			t.Errorf("%v: want %d", c.marks, c.want)
		}
	}
}

func TestAtomicFragmentsAreWhole(t *testing.T) {
	pkt := whole(true, 1, []byte{17, 0, 1, 4, 0, 0, 0, 0}, HopByHop, 100)
	s, ok := Payload(pkt)
	if !ok {
		t.Fatal("no whole packet")
	}
	atomic := bytes.Clone(pkt[:s.At])
	atomic = append(append(atomic, 17, 0, 0, 0, 1, 2, 3, 4), pkt[s.At:]...)
	atomic[s.Next] = fragment
	Mend(atomic)
	if got := Atomic(atomic); !bytes.Equal(got, pkt) {
		t.Errorf("%x, want %x", got, pkt)
	}
	if got := Atomic(bytes.Clone(pkt)); !bytes.Equal(got, pkt) {
		t.Error("a packet without fragment header changed")
	}
	piece := pieces(t, pkt, 120, 7)[0]
	if got := Atomic(bytes.Clone(piece)); !bytes.Equal(got, piece) {
		t.Error("a fragment changed")
	}
}

// FuzzReassembler gives it rows of packets: what comes out is a whole packet of
// the bytes that went in, and the bounds hold.
func FuzzReassembler(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		var row []byte
		for _, p := range pieces(f, whole(v6, 1, nil, 0, 300), 136, 5) {
			row = append(append(row, byte(len(p))), p...)
		}
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		r := Reassembler{Head: 3, Tail: 5}
		in, lost := 0, 0
		var info ipsec.PacketInfo
		for len(row) > 0 {
			n := min(int(row[0]), len(row)-1)
			pkt := row[1:][:n:n]
			row = row[1+n:]
			Atomic(bytes.Clone(pkt))
			if ipsec.ParsePacket(pkt, &info) != ipsec.DropNone || !info.Fragment {
				continue
			}
			in++
			whole, k := r.Add(pkt, &info, nil, int64(in)*int64(time.Second))
			if lost += k; lost > in {
				t.Fatalf("%d of %d lost", lost, in)
			}
			if whole == nil {
				continue
			}
			got := whole[3 : len(whole)-5]
			if d := ipsec.ParsePacket(got, &info); d == ipsec.DropNone && (info.Fragment || info.TotalLen != len(got)) {
				t.Fatalf("what became whole is none: %x", got)
			}
		}
		if r.Waiting() > MaxWaiting {
			t.Fatal("too much waits")
		}
		r.Expire(1 << 62)
		if r.Waiting() != 0 || len(r.senders) != 0 {
			t.Fatal("something stays")
		}
	})
}

// FuzzHeaders gives bytes to what reads headers: nothing panics, and what is
// found lies in the packet.
func FuzzHeaders(f *testing.F) {
	f.Add(whole(false, 1, []byte{7, 7, 4, 0, 0, 0, 0, 0}, 0, 30), 100)
	f.Add(whole(true, 1, []byte{17, 0, 1, 4, 0, 0, 0, 0}, HopByHop, 300), 120)
	f.Add(pieces(f, whole(true, 1, nil, 0, 300), 136, 5)[0], 130)
	f.Fuzz(func(t *testing.T, pkt []byte, size int) {
		for _, find := range []func([]byte) (Spot, bool){Payload, Last} {
			if s, ok := find(pkt); ok && (s.At > len(pkt) || s.Next >= len(pkt)) {
				t.Fatalf("%+v of %d bytes", s, len(pkt))
			}
		}
		Quoted(pkt)
		Atomic(bytes.Clone(pkt))
		if size < 0 || size > 65535 {
			return
		}
		for at, rounds := 0, 0; at >= 0 && rounds < 70000; rounds++ {
			buf := make([]byte, size)
			n, next := Fragment(buf, pkt, at, 1)
			if n == 0 {
				break
			}
			if next >= 0 && next <= at {
				t.Fatal("no way forward")
			}
			at = next
		}
	})
}
