package xfrm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// way is a tunnel between the networks, from the first gateway's view.
type way struct {
	conn    string
	a, b    string // hosts in the networks
	v6, udp bool   // outside
}

var ways = []way{
	{conn: "four", a: "10.1.0.2", b: "10.2.0.2"},
	{conn: "six", a: "fd01::2", b: "fd02::2", v6: true},
	{conn: "udp-four", a: "10.3.0.2", b: "10.2.0.2", udp: true},
	{conn: "udp-six", a: "10.4.0.2", b: "10.2.0.2", v6: true, udp: true},
}

func netOf(host string) netip.Prefix {
	a := netip.MustParseAddr(host)
	bits := 24
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

func (w *way) ends(a, b *keyed) (netip.Addr, netip.Addr) {
	if w.v6 {
		return a.Addr6, b.Addr6
	}
	return a.Addr, b.Addr
}

// flows are those of the first gateway.
func (w *way) flows(a, b *keyed) []ipsec.FlowChange {
	all := tunnel(w.conn, netOf(w.a), netOf(w.b), ipsec.FlowRequire)
	for i := range all {
		all[i].Flow.Local, all[i].Flow.Remote = w.ends(a, b)
	}
	return all
}

// key makes both directions live, with SPIs from spi on.
func (w *way) key(t *testing.T, a, b *keyed, spi ipsec.SPI) {
	t.Helper()
	w.oneWay(t, a, b, ipsec.Selector{Src: netOf(w.a), Dst: netOf(w.b)}, spi)
	w.oneWay(t, b, a, ipsec.Selector{Src: netOf(w.b), Dst: netOf(w.a)}, spi+0x100)
}

func (w *way) oneWay(t *testing.T, from, to *keyed, sel ipsec.Selector, spi ipsec.SPI) {
	t.Helper()
	out := espOut(w.conn, spi)
	out.Src, out.ID.Dst = w.ends(from, to)
	out.Selector = sel
	in := *out
	in.ID.Dir, in.Flow = ipsec.In, ipsec.FlowName(w.conn, ipsec.In)
	if w.udp {
		src, dst := netip.AddrPortFrom(out.Src, DefaultEncapPort), netip.AddrPortFrom(out.ID.Dst, DefaultEncapPort)
		out.ID.Port, out.Encap, in.Encap = dst.Port(), &ipsec.Encap{Local: src, Remote: dst}, &ipsec.Encap{Local: dst, Remote: src}
	}
	must(t, to.Backend.AddSA(ctx, &in))
	must(t, from.Backend.AddSA(ctx, out))
}

// tunnels are all ways between two gateways, keyed and tried.
func tunnels(t *testing.T) (a, b *keyed) {
	t.Helper()
	a, b, _ = pairOfPrograms(t, "kernel", "kernel")
	a.Backend, b.Backend = a.dial(t), b.dial(t)
	for i, w := range ways {
		there := w.flows(a, b)
		must(t, a.Backend.ApplyFlows(ctx, there))
		must(t, b.Backend.ApplyFlows(ctx, reverse(there)))
		w.key(t, a, b, ipsec.SPI(0x1000+i))
		w.send(t, a, b, 1)
		w.back(t, a, b, 1)
	}
	return a, b
}

// send and back send n packets, one after the other has arrived.
func (w *way) send(t *testing.T, a, b *keyed, n int) {
	t.Helper()
	for i := range n {
		pkt := udpPacket(w.a, w.b, i)
		a.put(pkt)
		b.takes(t, pkt)
	}
}

func (w *way) back(t *testing.T, a, b *keyed, n int) {
	t.Helper()
	for i := range n {
		pkt := udpPacket(w.b, w.a, i)
		b.put(pkt)
		a.takes(t, pkt)
	}
}

// known is what a gateway says of its SAs and flows, without what changes with
// every packet.
func (k *keyed) known(t *testing.T) (lines []string) {
	t.Helper()
	st, err := k.Backend.Dump(ctx, dataplane.Query{})
	must(t, err)
	for _, s := range st.SAs {
		lines = append(lines, fmt.Sprintf("%s of %s and flow %q, made at %d", s.SA.ID, s.SA.Conn, s.SA.Flow, s.Added.Unix()))
	}
	for _, f := range st.Flows {
		lines = append(lines, fmt.Sprintf("%+v", f))
	}
	slices.Sort(lines)
	return lines
}

// table is what is in a gateway's kernel.
func (k *keyed) table(t *testing.T) []string {
	t.Helper()
	policies, sas := tablesOf(t, k.host)
	lines := shape(policies)
	for _, s := range sas {
		lines = append(lines, fmt.Sprintf("SA %d %#x from %s to %s reqid %#x, made at %d", s.Proto, s.SPI, s.Src, s.Dst, s.ReqID, s.Usage.Added))
	}
	slices.Sort(lines)
	return lines
}

// others puts what another program would have into a gateway's kernel.
func (k *keyed) others(t *testing.T) (lines []string) {
	t.Helper()
	before := k.table(t)
	w := encode(espOut("x", 0x7777), encoding{reqid: 77, dst: netip.MustParseAddr("192.0.2.77")})
	stranger(t, k.host, wire.NewSA, w.Append(nil))
	sel := ipsec.Selector{Src: netip.MustParsePrefix("10.77.0.0/16"), Dst: netip.MustParsePrefix("10.78.0.0/16")}
	p := wire.Policy{Sel: selectorOf(&sel), Dir: wire.DirOut, Limits: wire.NoLimits(), Priority: 77, Action: wire.Block}
	stranger(t, k.host, wire.NewPolicy, p.Append(nil))
	lines = slices.DeleteFunc(k.table(t), func(s string) bool { return slices.Contains(before, s) })
	if len(lines) != 2 {
		t.Fatalf("another program has %q", lines)
	}
	return lines
}

// programKilled: ipsecd is killed, or stopped, under traffic, and another one
// goes on: the same SAs and policies, none twice, nothing of others touched, and
// no packet lost but those that came encapsulated while no socket was there.
func programKilled(t *testing.T) {
	a, b := tunnels(t)
	strangers := a.others(t)
	known, table := a.known(t), a.table(t)
	ike := netip.AddrPortFrom(a.Addr, DefaultEncapPort)
	for _, how := range []struct {
		name string
		end  func()
		says string // at its end
		unit bool   // the next one has the rights that systemd's unit leaves
	}{
		{"killed", func() { a.proc.Kill() }, "", true},
		{"killed again", func() { a.proc.Kill() }, "", true},
		{"stopped", func() { must(t, a.proc.Stop(patience)) }, "SAs and flows stay in the kernel", false},
	} {
		log := a.proc.Log
		how.end()
		since := time.Now()
		if !strings.Contains(log.String(), how.says) {
			t.Errorf("%s: it does not say %q\n%s", how.name, how.says, log)
		}
		const n = 10
		for _, w := range ways {
			w.send(t, a, b, n)
			if !w.udp {
				w.back(t, a, b, n)
				continue
			}
			for i := range n { // nothing of these arrives, now or later
				b.put(udpPacket(w.b, w.a, i))
			}
		}
		ways[0].back(t, a, b, 1) // they have come by then
		ways[1].back(t, a, b, 1)
		a.unit = how.unit
		a.begin("--transient")
		for _, w := range ways { // while it is being taken over
			w.send(t, a, b, n)
		}
		ways[0].back(t, a, b, n)
		ways[1].back(t, a, b, n)
		a.served()
		if want := fmt.Sprintf("taken over SAs=%d flows=%d", 2*len(ways), 2*len(ways)); !strings.Contains(a.proc.Log.String(), want) {
			t.Errorf("%s: no %q\n%s", how.name, want, a.proc.Log)
		}
		t.Logf("%s: there was no socket for %v, and the %d packets in UDP that came meanwhile were lost", how.name, time.Since(since).Round(time.Millisecond), 2*n)
		a.isNobody()
		a.Backend = a.dial(t)
		if d := cmp.Diff(known, a.known(t)); d != "" {
			t.Errorf("%s: what it knows has changed:\n%s", how.name, d)
		}
		if d := cmp.Diff(table, a.table(t)); d != "" {
			t.Errorf("%s: the kernel's tables have changed:\n%s", how.name, d)
		}
		for _, w := range ways {
			w.back(t, a, b, n)
			w.send(t, a, b, n)
		}
		marked(t, a, b, ike)
	}
	// What was adopted is changed, rekeyed and removed like any other.
	for i, w := range ways {
		w.key(t, a, b, ipsec.SPI(0x2000+i))
		w.send(t, a, b, 1)
		w.back(t, a, b, 1)
	}
	must(t, a.Backend.Flush(ctx, ipsec.OwnerAny))
	if d := cmp.Diff(strangers, a.table(t)); d != "" {
		t.Errorf("after a flush the kernel has what is not another program's:\n%s", d)
	}
	must(t, a.Backend.Close())
	must(t, a.proc.Wait(patience)) // nobody needs it any more
}

// marked sends a message of IKE's to a gateway's encapsulation port, while a
// policy wants all UDP between the gateways protected.
func marked(t *testing.T, a, b *keyed, to netip.AddrPort) {
	t.Helper()
	self := tunnel("self", netip.PrefixFrom(a.Addr, 32), netip.PrefixFrom(b.Addr, 32), ipsec.FlowRequire)
	for i := range self {
		self[i].Flow.Mode, self[i].Flow.Selector.Proto = ipsec.Transport, 17
	}
	must(t, a.Backend.ApplyFlows(ctx, self))
	must(t, b.Backend.ApplyFlows(ctx, reverse(self)))
	from := netip.AddrPortFrom(b.Addr, DefaultEncapPort)
	at, err := a.Backend.EncapConn(ctx, to)
	must(t, err)
	defer at.Close()
	of, err := b.Backend.EncapConn(ctx, from)
	must(t, err)
	defer of.Close()
	must(t, of.WriteTo([]byte("a message"), from, to))
	buf := make([]byte, 100)
	n, remote, _, err := at.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "a message" || remote != from {
		t.Errorf("arrived %q from %s, %v", buf[:n], remote, err)
	}
	must(t, a.Backend.ApplyFlows(ctx, gone(self)))
	must(t, b.Backend.ApplyFlows(ctx, gone(reverse(self))))
}

// hears waits for events until there were so many of each.
func (k *keyed) hears(t *testing.T, hard, lost int) {
	t.Helper()
	timeout := time.After(patience)
	for hard > 0 || lost > 0 {
		select {
		case e := <-k.Backend.Events():
			switch e := e.(type) {
			case dataplane.Expire:
				if e.Hard {
					hard--
				}
			case dataplane.Lost:
				lost--
			}
		case <-timeout:
			t.Fatalf("%d ends of SAs and %d words that events were lost are missing\n%s", hard, lost, k.proc.Log)
		}
	}
}

// policies are the gateway's, without what differs when one is made anew.
func (k *keyed) policies(t *testing.T) (lines []string) {
	t.Helper()
	all, _ := tablesOf(t, k.host)
	for _, p := range all {
		lines = append(lines, fmt.Sprintf("%s %s priority %d action %d %d templates", p.Dir, selectorFrom(&p.Sel), p.Priority, p.Action, len(p.Templates)))
	}
	slices.Sort(lines)
	return lines
}

// tablesChanged: somebody else deletes and flushes what is ours. Policies are put
// back, SAs have ended, and who keys is told.
func tablesChanged(t *testing.T) {
	a, b := tunnels(t)
	before := a.policies(t)
	back := func(what string) {
		t.Helper()
		eventually(t, "the policies are there again after "+what, func() bool { return slices.Equal(a.policies(t), before) })
		for _, w := range ways {
			w.send(t, a, b, 2)
			w.back(t, a, b, 2)
		}
	}
	all, sas := tablesOf(t, a.host)
	for _, p := range all[:2] {
		id := wire.PolicyID{Sel: p.Sel, Dir: p.Dir}
		stranger(t, a.host, wire.DelPolicy, id.Append(nil))
	}
	back("two were deleted")
	stranger(t, a.host, wire.FlushPolicy, nil)
	a.hears(t, 0, 1)
	back("all were flushed")
	w := sas[0]
	id := wire.ID{Dst: w.Dst, SPI: w.SPI, Family: w.Family, Proto: w.Proto}
	stranger(t, a.host, wire.DelSA, id.Append(nil))
	a.hears(t, 1, 0)
	stranger(t, a.host, wire.FlushSA, wire.AppendFlush(nil, 0))
	a.hears(t, len(sas)-1, 1)
	if st, err := a.Backend.Dump(ctx, dataplane.Query{}); err != nil || len(st.SAs) > 0 || len(st.Flows) != 2*len(ways) {
		t.Errorf("%d SAs and %d flows after a flush, %v", len(st.SAs), len(st.Flows), err)
	}
	asks := udpPacket(ways[0].a, ways[0].b, 77)
	a.put(asks)
	for i, w := range ways {
		w.key(t, a, b, ipsec.SPI(0x2000+i))
	}
	b.takes(t, asks) // it was held
	back("the SAs were flushed, and made anew")
	if n := a.proc.Log.Count("another program"); n < 4 {
		t.Errorf("it is said %d times\n%s", n, a.proc.Log)
	}
}
