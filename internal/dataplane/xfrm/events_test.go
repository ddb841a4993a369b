package xfrm

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// TestRawMessages: events that are cut, empty or of nobody's SAs do no harm.
func TestRawMessages(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	foreign := encode(espOut("x", 0x6666), encoding{reqid: 7})
	for _, b := range [][]byte{nil, {1, 2, 3}, (&wire.Expire{SA: *foreign, Hard: true}).Append(nil), make([]byte, 400)} {
		for typ := wire.NewSA; typ <= wire.GetDefault; typ++ {
			k.event(wire.GroupExpire, typ, b)
		}
	}
	w := encode(espOut("c", 0x1001), encoding{reqid: p.book.sas[espOut("c", 0x1001).ID].reqid})
	k.event(wire.GroupExpire, wire.MsgExpire, (&wire.Expire{SA: *w}).Append(nil))
	k.event(wire.GroupExpire, wire.MsgExpire, (&wire.Expire{SA: *w}).Append(nil))
	k.event(wire.GroupExpire, wire.MsgExpire, (&wire.Expire{SA: *w, Hard: true}).Append(nil))
	for _, hard := range []bool{false, true} { // the soft one is told once
		if e := next[dataplane.Expire](t, p); e != (dataplane.Expire{SA: espOut("c", 0x1001).ID, Hard: hard}) {
			t.Errorf("%+v, want hard %t", e, hard)
		}
	}
}

// TestMapping: a peer's new address is told once until it is taken.
func TestMapping(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	in := espIn("c", 0x2001)
	in.Encap = &ipsec.Encap{Local: netip.AddrPortFrom(gw1, 4500), Remote: netip.AddrPortFrom(gw2, 4500)}
	must(t, p.AddSA(ctx, in))
	m := wire.Mapping{SA: wire.ID{Dst: gw1, SPI: 0x2001, Family: wire.FamilyIPv4, Proto: 50}, Old: in.Encap.Remote, New: netip.AddrPortFrom(gw2, 1025)}
	for range 10 {
		k.event(wire.GroupMapping, wire.MsgMapping, m.Append(nil))
	}
	if e := next[dataplane.Mapping](t, p); e != (dataplane.Mapping{SA: in.ID, Remote: m.New}) {
		t.Errorf("%+v", e)
	}
	must(t, p.UpdateSA(ctx, in.ID, ipsec.SAUpdate{Remote: &m.New}))
	if w := k.sas[kernelKey{gw1, 0x2001, 50}]; w.Encap.SrcPort != 1025 {
		t.Errorf("the kernel still expects port %d", w.Encap.SrcPort)
	}
	// It moves to another address: what the kernel then tells is known already.
	other := netip.MustParseAddrPort("198.51.100.7:3000")
	must(t, p.UpdateSA(ctx, in.ID, ipsec.SAUpdate{Remote: &other}))
	m.New = other
	k.event(wire.GroupMapping, wire.MsgMapping, m.Append(nil))
	must(t, p.AddSA(ctx, espIn("c", 0x2002)))
	w := encode(espIn("c", 0x2002), encoding{reqid: p.book.sas[espIn("c", 0x2002).ID].reqid})
	k.event(wire.GroupExpire, wire.MsgExpire, (&wire.Expire{SA: *w}).Append(nil))
	if e, ok := (<-p.Events()).(dataplane.Expire); !ok {
		t.Errorf("%+v, want the expiry that came after it", e)
	}
}

// TestMovedPeer: an outgoing SA follows to another address, with its keys and
// numbers, and its policy with it.
func TestMovedPeer(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	sa := espOut("c", 0x1001)
	sa.ID.Port, sa.Encap = 4500, &ipsec.Encap{Local: netip.AddrPortFrom(gw1, 4500), Remote: netip.AddrPortFrom(gw2, 4500)}
	sa.ESN = true
	must(t, p.AddSA(ctx, sa))
	k.sas[kernelKey{gw2, 0x1001, 50}].ESN.Sent = 1<<32 + 5
	k.sas[kernelKey{gw2, 0x1001, 50}].Usage.Packets = 99
	to := netip.MustParseAddrPort("198.51.100.7:3000")
	must(t, p.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Remote: &to}))
	w := k.sas[kernelKey{to.Addr(), 0x1001, 50}]
	if n, _ := k.count(); n != 1 || w == nil {
		t.Fatalf("%d SAs, %v", n, w)
	}
	if w.Encap.DstPort != 3000 || w.ESN.Sent != 1<<32+5+seqSkip || w.Usage.Packets != 99 || string(w.AEAD.Key) != string(append(filled(16), filled(4)...)) {
		t.Errorf("%+v %+v", w, w.ESN)
	}
	if tm := k.policy(wire.DirOut, "10.2.0.0/24").Templates[0]; tm.Dst != to.Addr() {
		t.Errorf("the policy still leads to %s", tm.Dst)
	}
	st, err := p.GetSA(ctx, sa.ID)
	if err != nil || st.SA.Encap.Remote != to || st.SA.ID != sa.ID {
		t.Errorf("%+v %v", st.SA, err)
	}
	// Somebody has that name there already.
	other := espOut("c", 0x1002)
	must(t, p.AddSA(ctx, other))
	third := espOut("c", 0x1001)
	third.ID.Dst = gw2
	must(t, p.AddSA(ctx, third))
	back := netip.AddrPortFrom(gw2, 4500)
	if err := p.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Remote: &back}); !errors.Is(err, dataplane.ErrExists) {
		t.Errorf("two SAs of one name for the kernel: %v", err)
	}
	// A kernel that hides keys cannot do it.
	clear(w.AEAD.Key)
	to = netip.MustParseAddrPort("198.51.100.8:3000")
	if err := p.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Remote: &to}); err == nil {
		t.Error("an SA moved with keys of zeros")
	}
}

// TestDeferred: an SA that is to wait does, its flow is pinned to the old one,
// and then it takes over.
func TestDeferred(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	pinned := func() uint32 { return k.policy(wire.DirOut, "10.2.0.0/24").Templates[0].SPI }
	if pinned() != 0 {
		t.Errorf("pinned to %x without a reason", pinned())
	}
	second := espOut("c", 0x1002)
	second.Defer = 50 * time.Millisecond
	must(t, p.AddSA(ctx, second))
	if pinned() != 0x1001 {
		t.Errorf("pinned to %x, want the old one", pinned())
	}
	eventually(t, "that the new one is used", func() bool { return pinned() == 0x1002 })
	third := espOut("c", 0x1003)
	third.Defer = time.Hour
	must(t, p.AddSA(ctx, third))
	must(t, p.DeleteSA(ctx, second.ID))
	if pinned() != 0x1001 {
		t.Errorf("pinned to %x, want the one that is left", pinned())
	}
	must(t, p.DeleteSA(ctx, espOut("c", 0x1001).ID))
	if pinned() != 0 {
		t.Errorf("pinned to %x, want nothing: only the one that waits is left", pinned())
	}
}

// TestRekeyedWithinASecond: the kernel takes any of the SAs that were made in one
// second, so it is told which is the newest, as long as there is another.
func TestRekeyedWithinASecond(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	pinned := func(want ipsec.SPI) {
		t.Helper()
		if got := k.policy(wire.DirOut, "10.2.0.0/24").Templates[0].SPI; got != uint32(want) {
			t.Errorf("pinned to %x, want %x", got, want)
		}
	}
	first := espOut("c", 0x1001)
	must(t, p.AddSA(ctx, first))
	pinned(0)
	must(t, p.AddSA(ctx, espOut("c", 0x1002)))
	pinned(0x1002)
	must(t, p.DeleteSA(ctx, first.ID))
	pinned(0)
	p.book.sas[espOut("c", 0x1002).ID].added = time.Now().Add(-sameTime)
	must(t, p.AddSA(ctx, espOut("c", 0x1003)))
	pinned(0)
}

// TestAcquires: one is outstanding a flow; after a refusal the flow drops, the
// kernel may ask again, and later the flow too.
func TestAcquires(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	packet := ipsec.Selector{Src: netip.MustParsePrefix("10.1.0.2/32"), Dst: netip.MustParsePrefix("10.2.0.2/32"), Proto: 17, SrcPort: 1, DstPort: 2}
	if !k.acquire(packet) || k.acquire(packet) {
		t.Fatal("the kernel asks once")
	}
	a := next[dataplane.Acquire](t, p)
	if a.Flow != "c/out" || a.Packet != packet {
		t.Errorf("%+v", a)
	}
	must(t, p.EndAcquire(ctx, a.ID, errors.New("no")))
	if w := k.policy(wire.DirOut, "10.2.0.0/24"); w.Action != wire.Block {
		t.Errorf("after a refusal: %+v", w)
	}
	if len(k.larvae) != 0 {
		t.Errorf("%d questions are left in the kernel", len(k.larvae))
	}
	eventually(t, "that the flow may ask again", func() bool { return k.acquire(packet) })
	b := next[dataplane.Acquire](t, p)
	if b.ID == a.ID {
		t.Errorf("two questions of one name, %d", b.ID)
	}
	if err := p.EndAcquire(ctx, b.ID, nil); !errors.Is(err, dataplane.ErrNoSA) {
		t.Errorf("an answer without an SA: %v", err)
	}
	must(t, p.AddSA(ctx, espOut("c", 0x1001))) // the peer began, in the flow's rest
	if w := k.policy(wire.DirOut, "10.2.0.0/24"); w.Action != wire.Allow || len(w.Templates) != 1 {
		t.Errorf("an SA is there: %+v", w)
	}
}

// TestTypes: what each type of flow is, for the kernel.
func TestTypes(t *testing.T) {
	type shape struct {
		action    wire.Action
		templates int
		optional  bool
		mode      wire.Mode
	}
	of := func(w *wire.Policy) shape {
		s := shape{action: w.Action, templates: len(w.Templates)}
		if s.templates > 0 {
			s.optional, s.mode = w.Templates[0].Optional, w.Templates[0].Mode
		}
		return s
	}
	passes, drops := shape{}, shape{action: wire.Block}
	sa := shape{wire.Allow, 1, false, wire.ModeTunnel}
	maybe := shape{wire.Allow, 1, true, wire.ModeTunnel}
	asks := shape{wire.Allow, 1, true, wire.ModeTransport}
	for _, c := range []struct {
		typ           ipsec.FlowType
		without, with shape // out
		in            shape
	}{
		{ipsec.FlowRequire, sa, sa, sa},
		{ipsec.FlowUse, passes, sa, maybe},
		{ipsec.FlowAcquire, asks, sa, maybe},
		{ipsec.FlowDontAcq, drops, sa, sa},
		{ipsec.FlowDeny, drops, drops, drops},
		{ipsec.FlowBypass, passes, passes, passes},
	} {
		k := newFake()
		p := planeOn(t, k, nil)
		must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, c.typ)))
		if got := of(k.policy(wire.DirOut, "10.2.0.0/24")); got != c.without {
			t.Errorf("%s without an SA: %+v, want %+v", c.typ, got, c.without)
		}
		for _, dir := range []wire.Dir{wire.DirIn, wire.DirFwd} {
			if got := of(k.policy(dir, "10.1.0.0/24")); got != c.in {
				t.Errorf("%s %s: %+v, want %+v", c.typ, dir, got, c.in)
			}
		}
		must(t, p.AddSA(ctx, espOut("c", 0x1001)))
		if got := of(k.policy(wire.DirOut, "10.2.0.0/24")); got != c.with {
			t.Errorf("%s with an SA: %+v, want %+v", c.typ, got, c.with)
		}
		must(t, p.DeleteSA(ctx, espOut("c", 0x1001).ID))
		if got := of(k.policy(wire.DirOut, "10.2.0.0/24")); got != c.without {
			t.Errorf("%s when it is gone: %+v, want %+v", c.typ, got, c.without)
		}
	}
}

// TestMonitor: who watches sees requests, refusals and what the kernel does.
func TestMonitor(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	c, end := context.WithCancel(ctx)
	ch, err := p.Monitor(c)
	must(t, err)
	want := func(a dataplane.Action) dataplane.Message {
		t.Helper()
		select {
		case m := <-ch:
			if m.Action != a || m.At.IsZero() {
				t.Fatalf("%+v, want %s", m, a)
			}
			return m
		case <-time.After(10 * time.Second):
			t.Fatalf("no message %s", a)
		}
		panic("not reached")
	}
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	want(dataplane.ActionAddFlow)
	want(dataplane.ActionAddFlow)
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	if m := want(dataplane.ActionAdd); m.SA == nil || len(m.SA.Key) > 0 || m.Error != "" || m.PID == 0 {
		t.Errorf("%+v", m)
	}
	if p.AddSA(ctx, espOut("c", 0x1001)) == nil || want(dataplane.ActionAdd).Error == "" {
		t.Error("a refusal is not told")
	}
	w := encode(espOut("c", 0x1001), encoding{reqid: p.book.sas[espOut("c", 0x1001).ID].reqid})
	k.event(wire.GroupExpire, wire.MsgExpire, (&wire.Expire{SA: *w, Hard: true}).Append(nil))
	if m := want(dataplane.ActionExpire); m.PID != 0 || !m.Hard {
		t.Errorf("%+v", m)
	}
	for range 3 * watcherRoom { // nobody reads
		_ = p.Enable(ctx, ipsec.ProtoIPComp, false)
	}
	for range watcherRoom - 1 {
		<-ch
	}
	must(t, p.Enable(ctx, ipsec.ProtoIPComp, true))
	if m := want(dataplane.ActionMissed); m.Missed != 2*watcherRoom+1 {
		t.Errorf("%d messages missed, want %d", m.Missed, 2*watcherRoom+1)
	}
	want(dataplane.ActionSwitch)
	end()
	eventually(t, "that the channel is closed", func() bool {
		select {
		case _, ok := <-ch:
			return !ok
		default:
			return false
		}
	})
}
