package userspace_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane/userspace"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// deck draws flows that overlap a lot, and packets that meet them.
type deck struct {
	*rand.Rand
	v6 bool
	n  int
}

func (d *deck) addr() netip.Addr {
	a := [16]byte{0xfd, 0x77}
	b := a[12:]
	copy(b, []byte{10, byte(64 + 16*d.IntN(2)), byte(16 * d.IntN(3)), byte(d.IntN(3))})
	if !d.v6 {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16(a)
}

func (d *deck) prefix() netip.Prefix {
	bits, most := []int{0, 8, 12, 20, 24, 32}[d.IntN(6)], 0
	if d.v6 && bits > 0 {
		most = 96
	}
	return netip.PrefixFrom(d.addr(), bits+most).Masked()
}

func (d *deck) proto() uint8 { return []uint8{0, 0, 0, 6, 17}[d.IntN(5)] }

func (d *deck) flow(types []ipsec.FlowType) ipsec.Flow {
	d.n++
	s := ipsec.Selector{Src: d.prefix(), Dst: d.prefix(), Proto: d.proto()}
	if s.Proto != 0 {
		s.SrcPort, s.DstPort = uint16(d.IntN(2)), uint16(d.IntN(2))
	}
	return ipsec.Flow{
		ID: ipsec.FlowID(fmt.Sprintf("%04d/out", d.IntN(5000)*2+d.n%2)), Dir: ipsec.Out, Type: types[d.IntN(len(types))],
		Selector: s, Order: uint32(d.IntN(3)), Proto: ipsec.ProtoESP, Owner: ipsec.OwnerManual,
	}
}

func (d *deck) packet() packet {
	p := packet{src: d.addr(), dst: d.addr(), proto: []uint8{6, 17}[d.IntN(2)], sport: uint16(1 + d.IntN(2)), dport: uint16(1 + d.IntN(2)), iif: "lan"}
	return p
}

// oracle is what the SPD says of packets.
type oracle struct {
	spd ipsec.SPD[ipsec.Flow]
	all map[ipsec.FlowID]ipsec.Flow
}

func (o *oracle) apply(t testing.TB, changes []ipsec.FlowChange) {
	t.Helper()
	var l []ipsec.Change[ipsec.Flow]
	for i := range changes {
		c := &changes[i]
		l = append(l, ipsec.Change[ipsec.Flow]{Remove: c.Remove, Flow: c.Flow, Value: &c.Flow})
		if delete(o.all, c.Flow.ID); !c.Remove {
			o.all[c.Flow.ID] = c.Flow
		}
	}
	must(t, o.spd.Apply(l))
}

// way is where a packet is to go that has no other way than the default route.
func (o *oracle) way(p *packet) string {
	info := ipsec.PacketInfo{Dir: ipsec.Out, Version: 4, Src: p.src, Dst: p.dst, Proto: p.proto, HasPorts: true, SrcPort: p.sport, DstPort: p.dport}
	if p.dst.Is6() {
		info.Version = 6
	}
	if f := o.spd.Lookup(&info); f == nil || f.Type == ipsec.FlowBypass {
		return "wan"
	}
	return device
}

// Whatever flows there are, of types that protect and that exempt, overlapping in
// all ways: the host does with every packet what the SPD says, and nothing stays
// behind. Few flows or many are changed at once.
func TestTheHostAgreesWithTheSPD(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, c := range []struct {
			name  string
			types []ipsec.FlowType
		}{
			{"protecting", []ipsec.FlowType{ipsec.FlowRequire, ipsec.FlowUse, ipsec.FlowDeny}},
			{"some exempting", []ipsec.FlowType{ipsec.FlowRequire, ipsec.FlowAcquire, ipsec.FlowDeny, ipsec.FlowRequire, ipsec.FlowBypass}},
			{"half exempting", []ipsec.FlowType{ipsec.FlowRequire, ipsec.FlowBypass}},
		} {
			t.Run(fmt.Sprintf("%s, IPv6 %v", c.name, v6), func(t *testing.T) {
				n := howTo(t)
				before, err := n.Ragweed.State()
				must(t, err)
				east := open(t, n.Ragweed, userspace.Options{})
				seed := rand.Uint64()
				d := &deck{Rand: rand.New(rand.NewPCG(seed, 1)), v6: v6}
				o := &oracle{all: map[ipsec.FlowID]ipsec.Flow{}}
				for round := range 60 {
					changes := d.changes(o, c.types, 30)
					must(t, east.ApplyFlows(ctx, changes))
					o.apply(t, changes)
					for range 40 {
						p := d.packet()
						if got, _ := way(t, n.Ragweed, p); got != o.way(&p) {
							t.Fatalf("seed %d, round %d: with the flows\n%s%+v goes to %q, not to %q", seed, round, o, p, got, o.way(&p))
						}
					}
				}
				must(t, east.Close())
				now, err := n.Ragweed.State()
				must(t, err)
				if diff := before.Diff(now); diff != "" {
					t.Errorf("seed %d: after the end Ragweed is not as it was:\n%s", seed, diff)
				}
			})
		}
	}
}

// changes takes some flows away, changes some and adds some, so that there are
// never many more than a number.
func (d *deck) changes(o *oracle, types []ipsec.FlowType, most int) (l []ipsec.FlowChange) {
	for id, f := range o.all {
		switch d.IntN(max(6, 2*(most-len(o.all)))) {
		case 0:
			l = append(l, ipsec.FlowChange{Remove: true, Flow: f})
		case 1:
			l = append(l, ipsec.FlowChange{Remove: true, Flow: f})
			f = d.flow(types)
			f.ID = id
			l = append(l, ipsec.FlowChange{Flow: f})
		}
	}
	for range d.IntN(4) {
		f := d.flow(types)
		if _, ok := o.all[f.ID]; !ok && !slices.ContainsFunc(l, func(c ipsec.FlowChange) bool { return c.Flow.ID == f.ID }) {
			l = append(l, ipsec.FlowChange{Flow: f})
		}
	}
	return l
}

func (o *oracle) String() string {
	var b strings.Builder
	for f := range o.spd.All() {
		fmt.Fprintf(&b, "  %s %s order %d %s\n", f.ID, f.Type, f.Order, f.Selector)
	}
	return b.String()
}

// After a crash nothing that was protected leaves, whatever exempting flows there
// were; and a successor to which all flows are given again, in whatever order,
// lets nothing out that they protect, before the grace is over and behind it.
func TestFlowsInOrderAfterACrash(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		n := howTo(t)
		before, err := n.Ragweed.State()
		must(t, err)
		seed := rand.Uint64()
		types := []ipsec.FlowType{ipsec.FlowRequire, ipsec.FlowRequire, ipsec.FlowBypass}
		d := &deck{Rand: rand.New(rand.NewPCG(seed, 2)), v6: v6}
		for range 4 {
			o := &oracle{all: map[ipsec.FlowID]ipsec.Flow{}}
			east := open(t, n.Ragweed, userspace.Options{})
			for range 8 {
				changes := d.changes(o, types, 20)
				must(t, east.ApplyFlows(ctx, changes))
				o.apply(t, changes)
			}
			check := func(when string, protected ...string) {
				t.Helper()
				for range 60 {
					p := d.packet()
					want := []string{"wan"}
					if o.way(&p) == device {
						want = protected
					}
					if got, _ := way(t, n.Ragweed, p); !slices.Contains(want, got) {
						t.Fatalf("seed %d: %s: with the flows\n%s%+v goes to %q, not to %q", seed, when, o, p, got, want)
					}
				}
			}
			check("before the crash", device)
			east.Crash()
			check("after the crash", nowhere)
			var all []ipsec.FlowChange
			for _, f := range o.all {
				all = append(all, ipsec.FlowChange{Flow: f})
			}
			east = open(t, n.Ragweed, userspace.Options{Grace: time.Hour})
			check("with a new process", nowhere)
			for part := range slices.Chunk(all, 3) {
				must(t, east.ApplyFlows(ctx, part))
			}
			check("with all flows and the leftovers", device, nowhere)
			must(t, east.Close())
			east = open(t, n.Ragweed, userspace.Options{})
			must(t, east.ApplyFlows(ctx, all))
			east.Crash()
			east = open(t, n.Ragweed, userspace.Options{Grace: 100 * time.Millisecond})
			for part := range slices.Chunk(all, 3) {
				must(t, east.ApplyFlows(ctx, part))
			}
			lab.Eventually(t, 10*time.Second, "the grace ends", func() bool { return !east.HasLeftovers() })
			check("behind the grace", device)
			must(t, east.Close())
			now, err := n.Ragweed.State()
			must(t, err)
			if diff := before.Diff(now); diff != "" {
				t.Errorf("seed %d: after the end Ragweed is not as it was:\n%s", seed, diff)
			}
		}
	}
}
