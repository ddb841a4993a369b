package xfrm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

var (
	ctx      = context.Background()
	gw1, gw2 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	netA     = netip.MustParsePrefix("10.1.0.0/24")
	netB     = netip.MustParsePrefix("10.2.0.0/24")
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tunnel is a connection's two flows.
func tunnel(conn string, a, b netip.Prefix, typ ipsec.FlowType) []ipsec.FlowChange {
	f := ipsec.Flow{Type: typ, Local: gw1, Remote: gw2, Proto: ipsec.ProtoESP, Owner: ipsec.OwnerIKE, Conn: conn, Order: 65536}
	out, in := f, f
	out.ID, out.Dir, out.Selector = ipsec.FlowName(conn, ipsec.Out), ipsec.Out, ipsec.Selector{Src: a, Dst: b}
	in.ID, in.Dir, in.Selector = ipsec.FlowName(conn, ipsec.In), ipsec.In, ipsec.Selector{Src: b, Dst: a}
	return []ipsec.FlowChange{{Flow: out}, {Flow: in}}
}

func gone(changes []ipsec.FlowChange) []ipsec.FlowChange {
	var all []ipsec.FlowChange
	for _, c := range changes {
		all = append(all, ipsec.FlowChange{Remove: true, Flow: c.Flow})
	}
	return all
}

// espOut is an outgoing SA of a connection, espIn an incoming one.
func espOut(conn string, spi ipsec.SPI) *ipsec.SA {
	return &ipsec.SA{
		ID: ipsec.SAID{Dir: ipsec.Out, Proto: ipsec.ProtoESP, SPI: spi, Dst: gw2}, Src: gw1, Cipher: ipsec.CipherAESGCM16,
		Key: filled(16), Salt: filled(4), Replay: 64, Selector: ipsec.Selector{Src: netA, Dst: netB},
		Flow: ipsec.FlowName(conn, ipsec.Out), Owner: ipsec.OwnerIKE, Conn: conn,
	}
}

func espIn(conn string, spi ipsec.SPI) *ipsec.SA {
	sa := espOut(conn, spi)
	sa.ID.Dir, sa.ID.Dst, sa.Src, sa.Flow = ipsec.In, gw1, gw2, ipsec.FlowName(conn, ipsec.In)
	sa.Selector = sa.Selector.Reverse()
	return sa
}

// next waits for an event of a kind.
func next[T dataplane.Event](t *testing.T, p *Plane) (e T) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case ev := <-p.Events():
			if e, ok := ev.(T); ok {
				return e
			}
		case <-timeout:
			t.Fatalf("no event %T came", e)
		}
	}
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s never came true", what)
		}
		<-time.After(time.Millisecond)
	}
}

// TestRefusalsAreSentences: what was tried, why not, what to do; and callers can
// still tell them apart.
func TestRefusalsAreSentences(t *testing.T) {
	for _, c := range []struct {
		typ   wire.Type
		errno unix.Errno
		is    error
		says  []string
		do    func(p *Plane) error
	}{
		{wire.NewSA, unix.EEXIST, unix.EEXIST, []string{"192.0.2.1/00001001", "another program has one of that name", "ip xfrm state"}, func(p *Plane) error {
			return p.AddSA(ctx, espIn("c", 0x1001))
		}},
		{wire.NewSA, unix.EPROTONOSUPPORT, dataplane.ErrUnsupported, []string{"protocol or mode", "esp4", "gcm"}, func(p *Plane) error {
			return p.AddSA(ctx, espIn("c", 0x1001))
		}},
		{wire.NewSA, unix.ENOSYS, dataplane.ErrUnsupported, []string{"AES (GCM)", "does not know the algorithm", "modules are"}, func(p *Plane) error {
			return p.AddSA(ctx, espIn("c", 0x1001))
		}},
		{wire.NewSA, unix.EPERM, unix.EPERM, []string{"CAP_NET_ADMIN", "root"}, func(p *Plane) error { return p.AddSA(ctx, espIn("c", 0x1001)) }},
		{wire.NewPolicy, unix.EEXIST, unix.EEXIST, []string{"10.1.0.0/24 -> 10.2.0.0/24", `"c/out"`, "another program has", "ip xfrm policy"}, func(p *Plane) error {
			return p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire))
		}},
		{wire.AllocSPI, unix.ENOMEM, unix.ENOMEM, []string{"an SPI for esp", "memory"}, func(p *Plane) error {
			_, err := p.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: gw2, Dst: gw1})
			return err
		}},
		{wire.AllocSPI, unix.ENOBUFS, unix.ENOBUFS, []string{"room"}, func(p *Plane) error {
			_, err := p.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: gw2, Dst: gw1})
			return err
		}},
	} {
		k := newFake()
		p := planeOn(t, k, nil)
		k.refuse = func(typ wire.Type, _ []byte) error {
			if typ == c.typ {
				return c.errno
			}
			return nil
		}
		err := c.do(p)
		if !errors.Is(err, c.is) || !errors.Is(err, c.errno) {
			t.Errorf("%s, %s: %v, want one that is %v", c.typ, c.errno, err, c.is)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q", err, s)
			}
		}
		if sas, policies := k.count(); sas+policies != 0 {
			t.Errorf("%s: %d SAs and %d policies are there after a refusal", c.errno, sas, policies)
		}
		if st, err := p.Dump(ctx, dataplane.Query{}); err != nil || len(st.SAs)+len(st.Flows) != 0 {
			t.Errorf("%s: %d SAs and %d flows are in the book, %v", c.errno, len(st.SAs), len(st.Flows), err)
		}
	}
}

// TestMappedAddresses: what the kernel has no word for does not get there: it would
// come back under another name.
func TestMappedAddresses(t *testing.T) {
	p := planeOn(t, newFake(), nil)
	in6 := func(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
	mapped := netip.PrefixFrom(in6(netA.Addr()), 120)
	if err := p.ApplyFlows(ctx, tunnel("c", mapped, mapped, ipsec.FlowRequire)); !errors.Is(err, ipsec.ErrSelector) {
		t.Errorf("a flow: %v", err)
	}
	sa := espOut("c", 0x1001)
	sa.Flow, sa.Src, sa.ID.Dst = "", in6(gw1), in6(gw2)
	if err := p.AddSA(ctx, sa); err == nil || !strings.Contains(err.Error(), "two addresses of one family") {
		t.Errorf("an SA: %v", err)
	}
}

// TestTransactionGoesBack: wherever the kernel refuses, nothing is left, or all
// that was there before.
func TestTransactionGoesBack(t *testing.T) {
	for n := range 6 { // three policies for each of two directions' flows
		k := newFake()
		p := planeOn(t, k, nil)
		old := tunnel("old", netA, netB, ipsec.FlowRequire)
		must(t, p.ApplyFlows(ctx, old))
		before := fmt.Sprint(k.policy(wire.DirOut, "10.2.0.0/24"), k.policy(wire.DirIn, "10.1.0.0/24"), k.policy(wire.DirFwd, "10.1.0.0/24"))
		left := n
		k.refuse = func(typ wire.Type, _ []byte) error {
			if typ != wire.NewPolicy && typ != wire.UpdPolicy {
				return nil
			}
			if left--; left == -1 { // going back is not refused
				return unix.ENOMEM
			}
			return nil
		}
		changes := append(gone(old), tunnel("deny", netA, netB, ipsec.FlowDeny)...)
		changes = append(changes, tunnel("new", netA, netip.MustParsePrefix("10.9.0.0/24"), ipsec.FlowRequire)...)
		if err := p.ApplyFlows(ctx, changes); !errors.Is(err, unix.ENOMEM) {
			t.Fatalf("refusal %d: %v", n, err)
		}
		if _, policies := k.count(); policies != 3 {
			t.Errorf("refusal %d left %d policies, want the old ones", n, policies)
		}
		after := fmt.Sprint(k.policy(wire.DirOut, "10.2.0.0/24"), k.policy(wire.DirIn, "10.1.0.0/24"), k.policy(wire.DirFwd, "10.1.0.0/24"))
		if before != after {
			t.Errorf("refusal %d:\n%s\n%s", n, before, after)
		}
		st, err := p.Dump(ctx, dataplane.Query{})
		must(t, err)
		if len(p.book.groups) != 2 || len(p.reqids.of) != 2 {
			t.Errorf("refusal %d: %d groups and %d reqids are kept for two flows", n, len(p.book.groups), len(p.reqids.of))
		}
		if len(st.Flows) != 2 || st.Flows[0].Conn != "old" {
			t.Errorf("refusal %d: flows %v", n, st.Flows)
		}
		must(t, p.ApplyFlows(ctx, changes)) // and now it is not refused
		if _, policies := k.count(); policies != 6 {
			t.Errorf("%d policies at the end", policies)
		}
	}
}

// TestOneSelectorManyFlows: the kernel has one policy for a selector, that of
// the flow that is looked at first; the next one takes its place.
func TestOneSelectorManyFlows(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	add := func(conn string, order uint32, typ ipsec.FlowType) []ipsec.FlowChange {
		c := tunnel(conn, netA, netB, typ)
		c[0].Flow.Order, c[1].Flow.Order = order, order
		must(t, p.ApplyFlows(ctx, c))
		return c
	}
	action := func(want wire.Action, templates int) {
		t.Helper()
		w := k.policy(wire.DirOut, "10.2.0.0/24")
		if w.Action != want || len(w.Templates) != templates {
			t.Errorf("action %d and %d templates, want %d and %d", w.Action, len(w.Templates), want, templates)
		}
	}
	add("b", 5, ipsec.FlowBypass)
	action(wire.Allow, 0)
	first := add("a", 4, ipsec.FlowDeny)
	action(wire.Block, 0)
	add("c", 6, ipsec.FlowRequire)
	action(wire.Block, 0)
	if _, n := k.count(); n != 3 {
		t.Errorf("%d policies, want 3", n)
	}
	must(t, p.ApplyFlows(ctx, gone(first)))
	action(wire.Allow, 0)
	must(t, p.ApplyFlows(ctx, gone(tunnel("b", netA, netB, ipsec.FlowBypass))))
	action(wire.Allow, 1)
}

// TestOthersSelector: a policy of another program is left alone, and said.
func TestOthersSelector(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	theirs := wire.Policy{Sel: selectorOf(&ipsec.Selector{Src: netA, Dst: netB}), Limits: wire.NoLimits(), Dir: wire.DirOut, Priority: 1, Action: wire.Block}
	must(t, k.as(othersPID, wire.NewPolicy, theirs.Append(nil)))
	err := p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire))
	if !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want that it is there already", err)
	}
	must(t, p.Flush(ctx, ipsec.OwnerAny))
	if _, n := k.count(); n != 1 || k.policy(wire.DirOut, "10.2.0.0/24").Action != wire.Block {
		t.Errorf("%d policies, want theirs", n)
	}
}

// TestOthersMeddle: what another program deletes of ours.
func TestOthersMeddle(t *testing.T) {
	k := newFake()
	p := planeOn(t, k, nil)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	out := espOut("c", 0x1001)
	must(t, p.AddSA(ctx, out))
	must(t, p.AddSA(ctx, espIn("c", 0x2001)))

	w := k.policy(wire.DirOut, "10.2.0.0/24")
	must(t, k.as(othersPID, wire.DelPolicy, (&wire.PolicyID{Sel: w.Sel, Index: w.Index, Dir: w.Dir}).Append(nil)))
	eventually(t, "that the policy is back", func() bool { return k.policy(wire.DirOut, "10.2.0.0/24") != nil })

	must(t, k.as(othersPID, wire.FlushPolicy, nil))
	eventually(t, "that all policies are back", func() bool { _, n := k.count(); return n == 3 })

	must(t, k.as(othersPID, wire.DelSA, (&wire.ID{Dst: gw2, SPI: 0x1001, Family: wire.FamilyIPv4, Proto: 50}).Append(nil)))
	if e := next[dataplane.Expire](t, p); e != (dataplane.Expire{SA: out.ID, Hard: true}) {
		t.Errorf("%+v, want the end of %s", e, out.ID)
	}
	must(t, k.as(othersPID, wire.FlushSA, []byte{0}))
	if e := next[dataplane.Expire](t, p); e.SA.SPI != 0x2001 || !e.Hard {
		t.Errorf("%+v, want the end of the other", e)
	}
	if st, err := p.Dump(ctx, dataplane.Query{}); err != nil || len(st.SAs) != 0 || len(st.Flows) != 2 {
		t.Errorf("%d SAs, %d flows, %v", len(st.SAs), len(st.Flows), err)
	}
}

// TestOthersChange: another program changes a policy of ours. That is said, and it
// stays so until the flow's next SA.
func TestOthersChange(t *testing.T) {
	k := newFake()
	p, log := keeping(t, k, "")
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.AddSA(ctx, espIn("c", 0x1001)))
	w := k.policy(wire.DirFwd, "10.1.0.0/24")
	clear := wire.Policy{Sel: w.Sel, Limits: wire.NoLimits(), Dir: w.Dir, Priority: 7}
	must(t, k.as(othersPID, wire.UpdPolicy, clear.Append(nil)))
	said := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return strings.Contains(log.String(), "another program changed a policy of ours")
	}
	eventually(t, "that it is said", said)
	if n := len(k.policy(wire.DirFwd, "10.1.0.0/24").Templates); n != 0 {
		t.Errorf("%d templates: two programs fight", n)
	}
	must(t, p.AddSA(ctx, espIn("c", 0x1002)))
	if now := k.policy(wire.DirFwd, "10.1.0.0/24"); len(now.Templates) != 1 || now.Priority != w.Priority || now.Index != w.Index {
		t.Errorf("the policy is %+v, and was %+v", now, w)
	}
}

// TestOthersWhileNobodyWasThere: another program has put its policy in the place of
// one of ours. The next process serves the other flows, and all can be switched.
func TestOthersWhileNobodyWasThere(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "journal")
	p, _ := keeping(t, k, path)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	p.Close()
	theirs := wire.Policy{Sel: selectorOf(&ipsec.Selector{Src: netA, Dst: netB}), Limits: wire.NoLimits(), Dir: wire.DirOut}
	must(t, k.as(othersPID, wire.FlushPolicy, nil))
	must(t, k.as(othersPID, wire.NewPolicy, theirs.Append(nil)))
	p, log := keeping(t, k, path)
	if _, n := k.count(); n != 3 || !strings.Contains(log.String(), "another program has") {
		t.Errorf("%d policies, want theirs and two of ours\n%s", n, log)
	}
	must(t, p.Enable(ctx, ipsec.ProtoESP, false))
	if w := k.policy(wire.DirFwd, "10.1.0.0/24"); w.Action != wire.Block {
		t.Errorf("ESP is off, and the policy is %+v", w)
	}
}

// TestOthersInOurPlace: another program deletes a policy of ours and puts its own
// there. That is said as what it is, and ours is back as soon as there is room.
func TestOthersInOurPlace(t *testing.T) {
	k := newFake()
	p, log := keeping(t, k, "")
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	theirs := wire.Policy{Sel: selectorOf(&ipsec.Selector{Src: netA, Dst: netB}), Limits: wire.NoLimits(), Dir: wire.DirOut}
	usurp := func() *wire.Policy {
		t.Helper()
		p.mu.Lock() // nothing is heard until both have happened
		defer p.mu.Unlock()
		w := k.policy(wire.DirOut, "10.2.0.0/24")
		must(t, k.as(othersPID, wire.DelPolicy, (&wire.PolicyID{Sel: w.Sel, Index: w.Index, Dir: w.Dir}).Append(nil)))
		must(t, k.as(othersPID, wire.NewPolicy, theirs.Append(nil)))
		return k.policy(wire.DirOut, "10.2.0.0/24")
	}
	lacks := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.book.groups[p.groupOf(&theirs)].has[wire.DirOut] == nil
	}
	ours := func() bool { w := k.policy(wire.DirOut, "10.2.0.0/24"); return w != nil && ourIndex(w.Index) }
	for _, leave := range []func(w *wire.Policy){
		func(w *wire.Policy) {
			must(t, k.as(othersPID, wire.DelPolicy, (&wire.PolicyID{Sel: w.Sel, Index: w.Index, Dir: w.Dir}).Append(nil)))
		},
		func(*wire.Policy) { must(t, k.as(othersPID, wire.FlushPolicy, nil)) },
	} {
		w := usurp()
		eventually(t, "that the place is found taken", lacks)
		leave(w)
		eventually(t, "that ours is back", ours)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if said := log.String(); !strings.Contains(said, "putting back a policy") || !strings.Contains(said, "another program has") || strings.Contains(said, "makes no sense") {
		t.Error(said)
	}
}

// TestOverrun: ten thousand acquires at once. Some get lost on the way; all
// flows ask in the end, and the reader is told.
func TestOverrun(t *testing.T) {
	const flows = 10000
	k := newFake()
	p := planeOn(t, k, nil)
	var changes []ipsec.FlowChange
	dst := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24)
	}
	for i := range flows {
		changes = append(changes, tunnel(fmt.Sprint("c", i), netA, dst(i), ipsec.FlowRequire)[0])
	}
	must(t, p.ApplyFlows(ctx, changes))
	larvae := func(i int) *wire.SA {
		return &wire.SA{ReqID: p.book.flows[changes[i].Flow.ID].reqid, Proto: 50, Family: wire.FamilyIPv4, Src: gw1, Dst: gw2, Seq: uint32(i + 1), Mode: wire.ModeTunnel, Sel: selectorOf(&changes[i].Flow.Selector)}
	}
	for i := range flows {
		l := larvae(i)
		k.mu.Lock()
		k.larvae = append(k.larvae, l)
		if i%2 == 0 { // half of them are never heard
			w := p.book.groups[p.book.flows[changes[i].Flow.ID].groupKey()].has[wire.DirOut]
			k.tell(wire.GroupAcquire, 0, wire.MsgAcquire, (&wire.Acquire{Src: gw1, Dst: gw2, Proto: 50, Sel: l.Sel, Policy: *w, Seq: l.Seq}).Append(nil))
		}
		k.mu.Unlock()
	}
	k.lose(wire.GroupAcquire)
	asked, lost := map[ipsec.FlowID]int{}, 0
	timeout := time.After(20 * time.Second)
	for len(asked) < flows || lost == 0 {
		select {
		case e := <-p.Events():
			switch e := e.(type) {
			case dataplane.Acquire:
				asked[e.Flow]++
				if asked[e.Flow] > 1 {
					t.Fatalf("%s asks twice", e.Flow)
				}
			case dataplane.Lost:
				lost++
			}
		case <-timeout:
			t.Fatalf("%d flows of %d asked, %d times the loss was told", len(asked), flows, lost)
		}
	}
}

// TestLimits: the kernel's seconds, of which no SA loses one, and the end of the
// sequence numbers.
func TestLimits(t *testing.T) {
	sa := espOut("c", 0x1001)
	sa.Soft = ipsec.Lifetime{Time: 50 * time.Millisecond, Bytes: 7}
	sa.Hard = ipsec.Lifetime{Time: 200 * time.Millisecond}
	l := limits(sa)
	want := wire.Limits{SoftBytes: 7, HardBytes: wire.Infinite, SoftPackets: softSequence, HardPackets: wire.Infinite, SoftAddSeconds: 1, HardAddSeconds: 2}
	if l != want {
		t.Errorf("%+v, want %+v", l, want)
	}
	sa.ESN, sa.Soft, sa.Hard = true, ipsec.Lifetime{}, ipsec.Lifetime{Time: 3 * time.Second}
	if l := limits(sa); l.SoftPackets != wire.Infinite || l.SoftAddSeconds != 0 || l.HardAddSeconds != 4 {
		t.Errorf("%+v", l)
	}
}

// TestWindows: what the kernel's two forms of a replay window can hold.
func TestWindows(t *testing.T) {
	for _, c := range []struct {
		replay int
		dir    ipsec.Direction
		esn    bool
		small  uint8
		large  uint32
	}{
		{0, ipsec.In, false, 0, 0},
		{32, ipsec.In, false, 32, 0},
		{33, ipsec.In, false, 0, 33},
		{64, ipsec.In, true, 0, 64},
		{16, ipsec.In, true, 0, 32},
		{100000, ipsec.In, false, 0, wire.MaxWindow},
		{64, ipsec.Out, false, 0, 0},
		{64, ipsec.Out, true, 0, 32},
	} {
		sa := espOut("c", 0x1001)
		sa.ID.Dir, sa.Replay, sa.ESN = c.dir, c.replay, c.esn
		w := encode(sa, encoding{})
		large := uint32(0)
		if w.ESN != nil {
			large = w.ESN.Window
		}
		if w.Window != c.small || large != c.large || (w.Flags&wire.FlagESN != 0) != c.esn {
			t.Errorf("%+v: %d, %d, flags %x", c, w.Window, large, w.Flags)
		}
	}
}
