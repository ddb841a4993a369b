// Package planetest is one conformance suite for data planes: whatever stands
// behind dataplane.Backend passes it, those that carry no traffic the part
// without.
package planetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
)

// Site is one of two gateways.
type Site struct {
	Backend dataplane.Backend
	Addr    netip.Addr // outer
	Addr6   netip.Addr
	Put     func(pkt []byte) // from the network behind it
	Got     <-chan []byte    // what comes out towards that network
	// Coarse: it counts what it drops for the host and not for an SA, and not by
	// all of our reasons; what waits for an SA it does not count.
	Coarse bool
	past   ipsec.Drops // what it had dropped of no SA's when the case began
}

// Harness is two gateways that reach each other. Twice, if not nil, makes the
// network between them deliver everything two times.
type Harness struct {
	A, B  *Site
	Name  string // of the planes, in the table; empty: as they call themselves
	Twice func(on bool)
	// SetSequence, if not nil, lets an outgoing SA of A have sent n packets.
	SetSequence func(id ipsec.SAID, n uint64)
	// Readdress, if not nil, makes A's UDP packets come from an address of A's
	// and another port, as a NAT would, and brings to A what is sent there.
	Readdress func(seen netip.AddrPort)
	// Few: of ciphers and hashes each comes once, and not each with each; of modes
	// each comes in one address family. Odd: in the other one.
	Few, Odd bool

	notRun bool // a case needs what the harness or its planes do not have
}

// both is what both planes can do.
func (h *Harness) both() dataplane.Info {
	a, b := h.A.Backend.Info(), h.B.Backend.Info()
	a.Ciphers, a.Auths, a.Protos = common(a.Ciphers, b.Ciphers), common(a.Auths, b.Auths), common(a.Protos, b.Protos)
	a.Transport, a.ESN, a.UDPEncap = a.Transport && b.Transport, a.ESN && b.ESN, a.UDPEncap && b.UDPEncap
	return a
}

func common[T comparable](a, b []T) []T {
	return slices.DeleteFunc(slices.Clone(a), func(v T) bool { return !slices.Contains(b, v) })
}

// drops is how many packets s dropped because of why, of the SA id or of none;
// if it is coarse, all that it dropped.
func (s *Site) drops(t *testing.T, id ipsec.SAID, why ipsec.Drop) (n uint64) {
	t.Helper()
	all, err := s.Backend.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
	must(t, err)
	if s.Coarse {
		return sum(all.Drops) - sum(s.past)
	}
	if id == (ipsec.SAID{}) {
		return all.Drops[why] - s.past[why]
	}
	st, err := s.Backend.GetSA(ctx, id)
	must(t, err)
	return st.Drops[why]
}

func sum(all ipsec.Drops) (n uint64) {
	for _, d := range all {
		n += d
	}
	return n
}

// begin is for a plane that has served before.
func (s *Site) begin(t *testing.T) {
	t.Helper()
	all, err := s.Backend.Dump(ctx, dataplane.Query{Only: dataplane.Flows})
	must(t, err)
	s.past = all.Drops
}

// patience is how long something that must happen may take, and calm how long
// nothing must happen before it is believed.
const (
	patience = 10 * time.Second
	calm     = 150 * time.Millisecond
)

// Run runs the suite for planes that carry traffic. make gives a fresh pair each
// time and cleans up with the test.
func Run(t *testing.T, make func(t *testing.T) *Harness) { run(t, make, true) }

// RunWithoutTraffic runs the part for planes that carry none.
func RunWithoutTraffic(t *testing.T, make func(t *testing.T) *Harness) { run(t, make, false) }

func run(t *testing.T, make func(t *testing.T) *Harness, traffic bool) {
	for _, c := range cases {
		if c.traffic && !traffic {
			continue
		}
		plane, ran := "", true
		passed := t.Run(c.name, func(t *testing.T) {
			h := make(t)
			plane = h.name()
			if h.A.Backend.Info().CarriesData != traffic {
				t.Fatalf("%s carries traffic, or does not: another part of the suite is for it", plane)
			}
			h.A.begin(t)
			h.B.begin(t)
			c.run(t, h)
			ran = !h.notRun
		})
		if plane != "" && ran { // -run may have left it out, too
			note(plane, c.name, passed)
		}
	}
}

// name is what the table calls the planes.
func (h *Harness) name() string {
	a, b := h.A.Backend.Info().Name, h.B.Backend.Info().Name
	switch {
	case h.Name != "":
		return h.Name
	case a != b:
		return a + " to " + b
	}
	return a
}

var cases = []struct {
	name    string
	traffic bool
	run     func(t *testing.T, h *Harness)
}{
	{"SPIs are unique, unreserved and given back", false, spis},
	{"an SA is there once", false, once},
	{"a transaction of flows is all or nothing", false, transaction},
	{"dump and flush keep to the owner", false, owners},
	{"a closed plane says so", false, closed},
	{"an SA's lifetimes are changed", false, limits},
	{"a flow is changed in one call", false, changed},
	{"a dump has what it is asked for", false, asked},
	{"a call whose time is over changes nothing", false, late},
	{"every cipher and hash, raw and in UDP", true, everySuite},
	{"IPv4 and IPv6, inside and outside", true, families},
	{"the newest outgoing SA is used, and the older one when it goes", true, newest},
	{"a packet waits for its SA", true, acquire},
	{"a refused acquire drops what waited", true, refused},
	{"an inner packet outside the selectors is dropped", true, selectors},
	{"a packet counts once", true, replayed},
	{"lifetimes in bytes", true, byteLife},
	{"an unknown SPI is counted", true, unknownSPI},
	{"lifetimes in time", true, timeLife},
	{"no packet after the last sequence number", true, sequenceEnd},
	{"extended sequence numbers", true, extended},
	{"a peer behind NAT moves", true, moved},
	{"rekeys under a stream lose nothing", true, stream},
	{"flow types", true, types},
	{"one acquire, and back-off", true, backOff},
	{"what waits is bounded", true, bounded},
	{"what cannot be done is refused", true, refuses},
	{"SAs keyed by hand serve the flows to their end", true, byHand},
	{"keys are shown to who asks", true, keys},
	{"a protocol is switched off and on", true, switches},
	{"every mode, singly and in bundles", true, everyMode},
	{"half a bundle carries nothing", true, halfBundle},
	{"the wrong SA", true, wrongSA},
	{"SAs are put together", true, grouped},
}

var ctx = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func spis(t *testing.T, h *Harness) {
	b := h.A.Backend
	seen := map[ipsec.SPI]bool{}
	for range 100 {
		spi, err := b.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: h.B.Addr, Dst: h.A.Addr})
		must(t, err)
		if spi < 256 || seen[spi] {
			t.Fatalf("SPI %s is reserved, or was given twice", spi)
		}
		seen[spi] = true
	}
	for spi := range seen {
		id := ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: spi, Dst: h.A.Addr}
		must(t, b.DeleteSA(ctx, id))
		wantErr(t, "giving an SPI back twice", b.DeleteSA(ctx, id), dataplane.ErrNoSA)
		break
	}
}

func once(t *testing.T, h *Harness) {
	b := h.A.Backend
	spi, err := b.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: h.B.Addr, Dst: h.A.Addr})
	must(t, err)
	sa := newSA(h.B, h.A, spi, suite{cipher: ipsec.CipherAESCBC, auth: ipsec.AuthHMACSHA1}, nets4)
	in := *sa
	in.ID.Dir, in.Flow = ipsec.In, "c/in"
	must(t, b.AddSA(ctx, &in))
	wantErr(t, "the same SA twice", b.AddSA(ctx, &in), dataplane.ErrExists)
	st, err := b.GetSA(ctx, in.ID)
	must(t, err)
	if st.SA.ID != in.ID || len(st.SA.Key) > 0 || len(st.SA.AuthKey) > 0 {
		t.Errorf("GetSA gave %+v, its name and no keys are wanted", st.SA)
	}
	must(t, b.DeleteSA(ctx, in.ID))
	wantErr(t, "deleting it twice", b.DeleteSA(ctx, in.ID), dataplane.ErrNoSA)
	_, err = b.GetSA(ctx, in.ID)
	wantErr(t, "asking for what was deleted", err, dataplane.ErrNoSA)
}

func flows(from, to *Site, n nets, owner ipsec.Owner) []ipsec.FlowChange {
	f := ipsec.Flow{Type: ipsec.FlowRequire, Local: from.Addr, Remote: to.Addr, Proto: ipsec.ProtoESP, Owner: owner, Conn: "c"}
	out, in := f, f
	sel := ipsec.Selector{Src: n.a, Dst: n.b}
	if from.Addr.Compare(to.Addr) > 0 {
		sel = sel.Reverse()
	}
	out.ID, out.Dir, out.Selector = "c/out", ipsec.Out, sel
	in.ID, in.Dir, in.Selector = "c/in", ipsec.In, sel.Reverse()
	return []ipsec.FlowChange{{Flow: out}, {Flow: in}}
}

func transaction(t *testing.T, h *Harness) {
	b := h.A.Backend
	bad := append(flows(h.A, h.B, nets4, ipsec.OwnerIKE), ipsec.FlowChange{Remove: true, Flow: ipsec.Flow{ID: "nobody/out"}})
	wantErr(t, "removing a flow that is not there", b.ApplyFlows(ctx, bad), dataplane.ErrNoFlow)
	st, err := b.Dump(ctx, dataplane.Query{Owner: ipsec.OwnerAny})
	must(t, err)
	if len(st.Flows) != 0 {
		t.Errorf("a transaction that failed left %d flows", len(st.Flows))
	}
	good := flows(h.A, h.B, nets4, ipsec.OwnerIKE)
	must(t, b.ApplyFlows(ctx, good))
	for i := range good {
		good[i].Remove = true
	}
	must(t, b.ApplyFlows(ctx, good))
}

func owners(t *testing.T, h *Harness) {
	b := h.A.Backend
	must(t, b.ApplyFlows(ctx, flows(h.A, h.B, nets4, ipsec.OwnerIKE)))
	must(t, b.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: ipsec.Flow{
		ID: "m/out", Dir: ipsec.Out, Owner: ipsec.OwnerManual, Proto: ipsec.ProtoESP, Local: h.A.Addr, Remote: h.B.Addr,
		Selector: ipsec.Selector{Src: netip.MustParsePrefix("10.8.0.0/24"), Dst: netip.MustParsePrefix("10.9.0.0/24")},
	}}}))
	count := func(o ipsec.Owner) int {
		st, err := b.Dump(ctx, dataplane.Query{Owner: o})
		must(t, err)
		return len(st.Flows)
	}
	if a, i, m := count(ipsec.OwnerAny), count(ipsec.OwnerIKE), count(ipsec.OwnerManual); a != 3 || i != 2 || m != 1 {
		t.Errorf("flows of all, IKE and manual: %d %d %d, want 3 2 1", a, i, m)
	}
	must(t, b.Flush(ctx, ipsec.OwnerIKE))
	if a, m := count(ipsec.OwnerAny), count(ipsec.OwnerManual); a != 1 || m != 1 {
		t.Errorf("after a flush of IKE's: %d flows, %d manual; want 1 and 1", a, m)
	}
}

func closed(t *testing.T, h *Harness) {
	b := h.A.Backend
	must(t, b.Close())
	must(t, b.Close())
	_, err := b.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: h.B.Addr, Dst: h.A.Addr})
	wantErr(t, "AllocSPI", err, dataplane.ErrClosed)
	wantErr(t, "Flush", b.Flush(ctx, ipsec.OwnerAny), dataplane.ErrClosed)
	select {
	case _, ok := <-b.Events():
		if ok {
			t.Error("an event of a closed plane")
		}
	case <-time.After(patience):
		t.Error("Events is still open")
	}
}
