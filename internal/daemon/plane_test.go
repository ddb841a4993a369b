package daemon

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// fakePlane is a plane over a recording back end whose results go to a mailbox.
func fakePlane(t *testing.T) (*plane, *carrying, *mailbox[ike.Input]) {
	t.Helper()
	b := &carrying{Plane: null.New(null.Options{})}
	results := newMailbox[ike.Input]()
	p := newPlane(b, NewLog(newLines()), results.put)
	t.Cleanup(func() {
		p.close()
		_ = b.Close()
	})
	return p, b, results
}

func testSA(spi ipsec.SPI, d ipsec.Direction) *ipsec.SA {
	return &ipsec.SA{
		ID: ipsec.SAID{Dir: d, Proto: ipsec.ProtoESP, SPI: spi, Dst: netip.MustParseAddr("192.0.2.1")}, Owner: ipsec.OwnerIKE,
	}
}

func testFlow(id ipsec.FlowID, net string) ipsec.Flow {
	return ipsec.Flow{ID: id, Owner: ipsec.OwnerIKE, Selector: ipsec.Selector{Src: netip.MustParsePrefix(net), Dst: netip.MustParsePrefix("10.0.0.0/8")}}
}

func (p *plane) set(want ...ipsec.Flow) error {
	errs := make(chan error, 1)
	p.setFlows(want, func(err error) { errs <- err })
	return <-errs
}

func TestAllSAsOrNone(t *testing.T) {
	p, b, results := fakePlane(t)
	if err := p.set(testFlow("c/out", "10.1.0.0/24")); err != nil {
		t.Fatal(err)
	}
	b.add = func(sa *ipsec.SA) error {
		if sa.ID.SPI == 302 {
			return errors.New("no room")
		}
		return nil
	}
	p.installSA(ike.InstallSA{
		ID: 9, SAs: []*ipsec.SA{testSA(301, ipsec.In), testSA(302, ipsec.Out)},
		Flows: []ipsec.FlowChange{{Flow: testFlow("c/out", "10.9.0.0/24")}, {Flow: testFlow("new/out", "10.2.0.0/24")}},
	})
	p.wait()
	in := results.take()
	if len(in) != 1 {
		t.Fatalf("results %v", in)
	}
	if r := in[0].(ike.SAInstalled); r.ID != 9 || r.Err == nil || !strings.Contains(r.Err.Error(), "no room") || !strings.Contains(r.Err.Error(), "0000012e") {
		t.Errorf("result %+v", r)
	}
	st := b.state(t)
	if len(st.SAs) != 0 {
		t.Errorf("SAs stayed: %v", st.SAs)
	}
	if len(st.Flows) != 1 || st.Flows[0].Selector.Src.String() != "10.1.0.0/24" {
		t.Errorf("flows are not what they were: %+v", st.Flows)
	}
}

func TestAFlowThatIsThereIsNotTouchedByARekey(t *testing.T) {
	p, b, _ := fakePlane(t)
	flow := ipsec.FlowChange{Flow: testFlow("dyn/out", "10.2.0.0/24")}
	p.installSA(ike.InstallSA{ID: 1, SAs: []*ipsec.SA{testSA(301, ipsec.In)}, Flows: []ipsec.FlowChange{flow}})
	p.installSA(ike.InstallSA{ID: 2, SAs: []*ipsec.SA{testSA(302, ipsec.In)}, Flows: []ipsec.FlowChange{flow}})
	p.wait()
	if n := slices.Index(b.Calls(), "ApplyFlows 1"); n < 0 || slices.Contains(b.Calls()[n+1:], "ApplyFlows 1") {
		t.Errorf("calls %v", b.Calls())
	}
	gone := ipsec.FlowChange{Remove: true, Flow: flow.Flow}
	p.deleteSA(ike.DeleteSA{SAs: []ipsec.SAID{testSA(301, ipsec.In).ID, testSA(999, ipsec.In).ID}, Flows: []ipsec.FlowChange{gone}})
	p.deleteSA(ike.DeleteSA{SAs: []ipsec.SAID{testSA(302, ipsec.In).ID}, Flows: []ipsec.FlowChange{gone}})
	p.wait()
	if st := b.state(t); len(st.SAs) != 0 || len(st.Flows) != 0 {
		t.Errorf("left: %+v", st)
	}
	if p.log.Debugs(ClassMisc, 1) {
		t.Error("debug is on")
	}
}

func TestConfiguredFlowsChangeInOneTransaction(t *testing.T) {
	p, b, _ := fakePlane(t)
	a, c := testFlow("a/out", "10.1.0.0/24"), testFlow("c/out", "10.3.0.0/24")
	if err := p.set(a, testFlow("b/out", "10.2.0.0/24")); err != nil {
		t.Fatal(err)
	}
	p.installSA(ike.InstallSA{ID: 1, Flows: []ipsec.FlowChange{{Flow: testFlow("dyn/out", "10.7.0.0/24")}}})
	p.wait()
	a.Selector.Src = netip.MustParsePrefix("10.4.0.0/24")
	if err := p.set(a, c); err != nil {
		t.Fatal(err)
	}
	if last := b.Calls()[len(b.Calls())-1]; last != "ApplyFlows 4" { // b goes, a goes and comes, c comes
		t.Errorf("%s", last)
	}
	var names []string
	for _, f := range b.state(t).Flows {
		names = append(names, string(f.ID)+" "+f.Selector.Src.String())
	}
	if got := strings.Join(names, ", "); got != "a/out 10.4.0.0/24, c/out 10.3.0.0/24, dyn/out 10.7.0.0/24" {
		t.Errorf("flows %s", got)
	}
	calls := len(b.Calls())
	if err := p.set(a, c); err != nil || len(b.Calls()) != calls {
		t.Errorf("the same flows again: %v, %v", err, b.Calls()[calls:])
	}
}

func TestWhatIsGoneAfterLostEventsIsToldAsExpired(t *testing.T) {
	p, b, results := fakePlane(t)
	p.installSA(ike.InstallSA{ID: 1, SAs: []*ipsec.SA{testSA(301, ipsec.In), testSA(302, ipsec.Out)}})
	p.wait()
	results.take()
	if err := b.DeleteSA(t.Context(), testSA(302, ipsec.Out).ID); err != nil {
		t.Fatal(err)
	}
	p.compare()
	p.wait()
	p.compare() // once is enough
	p.wait()
	in := results.take()
	if len(in) != 1 || in[0] != (ike.Expire{SA: testSA(302, ipsec.Out).ID, Hard: true}) {
		t.Errorf("results %+v", in)
	}
}

func TestSPIsComeFromTheDataPlane(t *testing.T) {
	p, b, results := fakePlane(t)
	p.allocSPI(ike.AllocSPI{ID: 4, Proto: ipsec.ProtoESP, Dst: netip.MustParseAddr("192.0.2.1")})
	p.wait()
	if r := results.take()[0].(ike.SPIAllocated); r.ID != 4 || r.SPI == 0 || r.Err != nil {
		t.Errorf("%+v", r)
	}
	_ = b.Close()
	p.allocSPI(ike.AllocSPI{ID: 5, Proto: ipsec.ProtoESP})
	p.wait()
	if r := results.take()[0].(ike.SPIAllocated); !errors.Is(r.Err, dataplane.ErrClosed) {
		t.Errorf("%+v", r)
	}
}

func TestWorkersDoDiffieHellman(t *testing.T) {
	done := make(chan ike.DHDone, 2)
	p := newDHPool(2, rand.Reader, func(in ike.Input) { done <- in.(ike.DHDone) })
	defer p.close()
	p.ask(ike.DiffieHellman{ID: 1, Group: doi.GroupCurve25519})
	a := <-done
	if a.ID != 1 || a.Err != nil || a.Private == nil || a.Shared != nil {
		t.Fatalf("%+v", a)
	}
	p.ask(ike.DiffieHellman{ID: 2, Group: doi.GroupCurve25519, Peer: a.Private.Public()}) // both at once
	b := <-done
	p.ask(ike.DiffieHellman{ID: 3, Group: doi.GroupCurve25519, Private: a.Private, Peer: b.Private.Public()})
	c := <-done
	if b.Err != nil || c.Err != nil || len(b.Shared) == 0 || string(b.Shared) != string(c.Shared) {
		t.Errorf("the two sides do not share: %+v, %+v", b, c)
	}
	for _, bad := range []ike.DiffieHellman{{ID: 4, Group: 999}, {ID: 5, Group: doi.GroupCurve25519, Peer: []byte{1}}} {
		p.ask(bad)
		if r := <-done; r.ID != bad.ID || r.Err == nil {
			t.Errorf("%+v", r)
		}
	}
}

func TestTheDiffieHellmanQueueIsBounded(t *testing.T) {
	p := &dhPool{rand: rand.Reader}
	refused := 0
	p.result = func(in ike.Input) {
		if errors.Is(in.(ike.DHDone).Err, errDHBusy) {
			refused++
		}
	}
	p.more = sync.NewCond(&p.mu)
	for i := range maxDH + 3 { // nobody works
		p.ask(ike.DiffieHellman{ID: ike.RequestID(i)})
	}
	if refused != 3 || len(p.queue) != maxDH {
		t.Errorf("%d refused, %d wait", refused, len(p.queue))
	}
}
