package planetest

import (
	"errors"
	"math"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// pair installs an SA in both directions of its name, changed by f.
func pair(t *testing.T, h *Harness, s suite, f func(tx, rx *ipsec.SA)) (out, in ipsec.SAID) {
	t.Helper()
	spi, err := h.B.Backend.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: h.A.Addr, Dst: h.B.Addr})
	must(t, err)
	tx := newSA(h.A, h.B, spi, s, nets4)
	rx := *tx
	rx.ID.Dir, rx.ID.Port, rx.Flow = ipsec.In, 0, "c/in"
	if s.udp {
		rx.Encap = &ipsec.Encap{Local: tx.Encap.Remote, Remote: tx.Encap.Local}
	}
	f(tx, &rx)
	must(t, h.B.Backend.AddSA(ctx, &rx))
	must(t, h.A.Backend.AddSA(ctx, tx))
	return tx.ID, rx.ID
}

func timeLife(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	out, in := pair(t, h, gcm, func(tx, rx *ipsec.SA) {
		tx.Soft.Time, tx.Hard.Time = 50*time.Millisecond, 200*time.Millisecond
		rx.Hard.Time = time.Hour
	})
	for _, hard := range []bool{false, true} {
		e := event[dataplane.Expire](t, h.A)
		if e != (dataplane.Expire{SA: out, Hard: hard}) {
			t.Fatalf("event %+v, want that of %s, hard: %v", e, out, hard)
		}
	}
	if _, err := h.A.Backend.GetSA(ctx, out); !errors.Is(err, dataplane.ErrNoSA) {
		t.Errorf("the SA is still there after its hard limit: %v", err)
	}
	// Limits can be changed while the SA lives.
	short := ipsec.Lifetime{Time: time.Millisecond}
	must(t, h.B.Backend.UpdateSA(ctx, in, ipsec.SAUpdate{Hard: &short}))
	if e := event[dataplane.Expire](t, h.B); e != (dataplane.Expire{SA: in, Hard: true}) {
		t.Errorf("event %+v, want the hard one of %s", e, in)
	}
	wantErr(t, "updating what is gone", h.B.Backend.UpdateSA(ctx, in, ipsec.SAUpdate{Hard: &short}), dataplane.ErrNoSA)
}

// sequenceEnd: a rekey is asked for in time, the last number is sent, and
// nothing after it.
func sequenceEnd(t *testing.T, h *Harness) {
	if h.SetSequence == nil {
		h.notRun = true
		return
	}
	ready(t, h, nets4)
	out, _ := pair(t, h, gcm, func(tx, rx *ipsec.SA) {})
	h.SetSequence(out, math.MaxUint32-2)
	for i := range uint32(2) {
		passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), i))
	}
	if e := event[dataplane.Expire](t, h.A); e != (dataplane.Expire{SA: out}) {
		t.Errorf("event %+v, want the soft one of %s", e, out)
	}
	for i := range uint32(3) {
		h.A.Put(packet(host(nets4.a), host(nets4.b), 10+i))
	}
	nothing(t, h.B)
	st, err := h.A.Backend.GetSA(ctx, out)
	must(t, err)
	if n := h.A.drops(t, out, ipsec.DropSequenceEnd); st.Seq != math.MaxUint32 || n != 3 {
		t.Errorf("sequence number %d and %d drops, want %d and three for the sequence's end", st.Seq, n, uint32(math.MaxUint32))
	}
	// A new SA goes on.
	pair(t, h, gcm, func(tx, rx *ipsec.SA) {})
	passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), 99))
}

func extended(t *testing.T, h *Harness) {
	if !h.both().ESN {
		h.notRun = true
		return
	}
	ready(t, h, nets4)
	// The upper half is authenticated in two ways: with what is sent, and behind it.
	for _, s := range []suite{gcm, {cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA256}} {
		out, in := pair(t, h, s, func(tx, rx *ipsec.SA) { tx.ESN, rx.ESN = true, true })
		passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), 1))
		if h.SetSequence != nil {
			// From the last number of the first half into the second.
			h.SetSequence(out, math.MaxUint32-20)
			for i := range uint32(40) {
				passes(t, h.A, h.B, packet(host(nets4.a), host(nets4.b), i))
			}
			if st, err := h.A.Backend.GetSA(ctx, out); err != nil || st.Seq != math.MaxUint32+20 {
				t.Errorf("%s: sequence number %d, %v; want %d", s, st.Seq, err, uint64(math.MaxUint32+20))
			}
		}
		must(t, h.A.Backend.DeleteSA(ctx, out))
		must(t, h.B.Backend.DeleteSA(ctx, in))
	}
}

// moved: the peer's address follows authentic packets alone.
func moved(t *testing.T, h *Harness) {
	if h.Readdress == nil {
		h.notRun = true
		return
	}
	ready(t, h, nets4)
	udp := suite{cipher: ipsec.CipherAESGCM16, udp: true}
	_, in := pair(t, h, udp, func(tx, rx *ipsec.SA) {})
	back, _ := connect(t, h.B, h.A, udp, nets4)
	there, here := packet(host(nets4.a), host(nets4.b), 1), packet(host(nets4.b), host(nets4.a), 2)
	passes(t, h.A, h.B, there)
	passes(t, h.B, h.A, here)

	seen := netip.AddrPortFrom(h.A.Addr, 40001)
	h.Readdress(seen)
	passes(t, h.A, h.B, there)
	e := event[dataplane.Mapping](t, h.B)
	if e != (dataplane.Mapping{SA: in, Remote: seen}) {
		t.Fatalf("event %+v, want %s at %s", e, in, seen)
	}
	must(t, h.B.Backend.UpdateSA(ctx, back, ipsec.SAUpdate{Remote: &seen}))
	must(t, h.B.Backend.UpdateSA(ctx, in, ipsec.SAUpdate{Remote: &seen}))
	passes(t, h.B, h.A, here) // the harness brings what is sent to that address
	st, err := h.B.Backend.GetSA(ctx, back)
	must(t, err)
	if st.SA.ID != back || st.SA.Encap.Remote != seen {
		t.Errorf("SA %s sends to %s, want the same name and %s", st.SA.ID, st.SA.Encap.Remote, seen)
	}
	v6 := netip.MustParseAddrPort("[2001:db8::9]:4500")
	if h.B.Backend.UpdateSA(ctx, back, ipsec.SAUpdate{Remote: &v6}) == nil {
		t.Error("an SA of IPv4 moved to IPv6")
	}
}

// stream: every packet of a stream arrives once, while the SAs under it are
// replaced in both directions again and again.
func stream(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	const packets, rekeys = 400, 40
	out, in := pair(t, h, gcm, func(tx, rx *ipsec.SA) {})
	seen := map[string]bool{}
	for i := range uint32(packets) {
		if i%(packets/rekeys) == 5 {
			newOut, newIn := pair(t, h, gcm, func(tx, rx *ipsec.SA) {})
			must(t, h.A.Backend.DeleteSA(ctx, out))
			defer func(id ipsec.SAID) { must(t, h.B.Backend.DeleteSA(ctx, id)) }(in)
			out, in = newOut, newIn
		}
		h.A.Put(packet(host(nets4.a), host(nets4.b), i))
		if i%8 == 7 { // no more in flight than a queue holds
			for len(seen) <= int(i) {
				select {
				case p := <-h.B.Got:
					if seen[string(p)] {
						t.Fatal("a packet came twice")
					}
					seen[string(p)] = true
				case <-time.After(patience):
					t.Fatalf("after %d packets %d had come", i+1, len(seen))
				}
			}
		}
	}
	if len(seen) != packets {
		t.Errorf("%d packets of %d came", len(seen), packets)
	}
}

// types: what a flow lets through without an SA, and whether it asks.
func types(t *testing.T, h *Harness) {
	for _, c := range []struct {
		typ  ipsec.FlowType
		asks bool
		drop ipsec.Drop
	}{
		{ipsec.FlowRequire, true, ipsec.DropNone},
		{ipsec.FlowDontAcq, false, ipsec.DropNoSA},
		{ipsec.FlowDeny, false, ipsec.DropDeny},
	} {
		f := flows(h.A, h.B, nets4, ipsec.OwnerIKE)
		f[0].Flow.Type, f[1].Flow.Type = c.typ, c.typ
		must(t, h.A.Backend.ApplyFlows(ctx, f))
		before := h.A.drops(t, ipsec.SAID{}, c.drop)
		h.A.Put(packet(host(nets4.a), host(nets4.b), 1))
		if c.asks {
			event[dataplane.Acquire](t, h.A)
		}
		nothing(t, h.B)
		if n := h.A.drops(t, ipsec.SAID{}, c.drop); c.drop != ipsec.DropNone && n != before+1 {
			t.Errorf("%s: %d drops for %s, want one more than %d", c.typ, n, c.drop, before)
		}
		must(t, h.A.Backend.Flush(ctx, ipsec.OwnerAny))
	}
	select {
	case e := <-h.A.Backend.Events():
		t.Errorf("a flow that does not ask asked: %+v", e)
	default:
	}
}

// backOff: one acquire a flow at a time, and after a refusal none for a while.
func backOff(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	for i := range uint32(50) {
		h.A.Put(packet(host(nets4.a), host(nets4.b), i))
	}
	a := event[dataplane.Acquire](t, h.A)
	must(t, h.A.Backend.EndAcquire(ctx, a.ID, errors.New("no")))
	must(t, h.A.Backend.EndAcquire(ctx, a.ID, errors.New("no, again"))) // an answer to nothing
	h.A.Put(packet(host(nets4.a), host(nets4.b), 100))
	select {
	case e := <-h.A.Backend.Events():
		t.Errorf("event %+v right after a refusal", e)
	case <-time.After(calm):
	}
	e := event2(t, h.A, func() { h.A.Put(packet(host(nets4.a), host(nets4.b), 101)) })
	if e.ID == a.ID || e.Flow != a.Flow {
		t.Errorf("acquire %+v after %+v", e, a)
	}
}

// event2 sends until an acquire comes.
func event2(t *testing.T, s *Site, send func()) dataplane.Acquire {
	t.Helper()
	deadline := time.After(patience)
	for {
		send()
		select {
		case ev := <-s.Backend.Events():
			if a, ok := ev.(dataplane.Acquire); ok {
				return a
			}
		case <-time.After(calm):
		case <-deadline:
			t.Fatal("after the back-off nothing asks")
		}
	}
}

// bounded: what waits for an SA is bounded, and the newest is kept.
func bounded(t *testing.T, h *Harness) {
	ready(t, h, nets4)
	const sent = 100
	for i := range uint32(sent) {
		h.A.Put(packet(host(nets4.a), host(nets4.b), i))
	}
	a := event[dataplane.Acquire](t, h.A)
	deadline := time.Now().Add(patience)
	for !h.A.Coarse {
		n := h.A.drops(t, ipsec.SAID{}, ipsec.DropQueueFull)
		if n >= sent/2 && n < sent {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d packets are dropped for a full queue, want most", n, sent)
		}
		<-time.After(time.Millisecond)
	}
	connect(t, h.A, h.B, gcm, nets4)
	must(t, h.A.Backend.EndAcquire(ctx, a.ID, nil))
	last := packet(host(nets4.a), host(nets4.b), sent-1)
	for {
		select {
		case p := <-h.B.Got:
			if string(p) == string(last) {
				return
			}
		case <-time.After(patience):
			t.Fatal("the newest packet that waited did not come")
		}
	}
}

// refuses: what a plane cannot do it says, and it is not there afterwards.
func refuses(t *testing.T, h *Harness) {
	must(t, h.A.Backend.ApplyFlows(ctx, flows(h.A, h.B, nets4, ipsec.OwnerIKE)))
	info := h.A.Backend.Info()
	base := func() *ipsec.SA { return newSA(h.A, h.B, 0x1234, gcm, nets4) }
	for name, c := range map[string]struct {
		skip   bool
		change func(sa *ipsec.SA)
		want   error
	}{
		"transport mode":       {info.Transport, func(sa *ipsec.SA) { sa.Mode = ipsec.Transport }, dataplane.ErrUnsupported},
		"AH":                   {len(info.Protos) > 1, func(sa *ipsec.SA) { sa.ID.Proto = ipsec.ProtoAH }, dataplane.ErrUnsupported},
		"a flow nobody has":    {false, func(sa *ipsec.SA) { sa.Flow = "nobody/out" }, dataplane.ErrNoFlow},
		"a reserved SPI":       {false, func(sa *ipsec.SA) { sa.ID.SPI = 255 }, nil},
		"a key that is short":  {false, func(sa *ipsec.SA) { sa.Key = sa.Key[:3] }, nil},
		"no salt":              {false, func(sa *ipsec.SA) { sa.Salt = nil }, nil},
		"two address families": {false, func(sa *ipsec.SA) { sa.Src = netip.MustParseAddr("2001:db8::1") }, nil},
		"a source not our own": {false, func(sa *ipsec.SA) { sa.Src = netip.MustParseAddr("203.0.113.77") }, nil},
		"UDP from another port": {false, func(sa *ipsec.SA) {
			sa.ID.Port = 4500
			sa.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(sa.Src, 4999), Remote: netip.AddrPortFrom(sa.ID.Dst, 4500)}
		}, dataplane.ErrUnsupported},
	} {
		if c.skip {
			continue
		}
		sa := base()
		c.change(sa)
		err := h.A.Backend.AddSA(ctx, sa)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want a refusal (%v)", name, err, c.want)
		}
	}
	st, err := h.A.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
	must(t, err)
	if len(st.SAs) != 0 {
		t.Errorf("%d refused SAs are there", len(st.SAs))
	}
}
