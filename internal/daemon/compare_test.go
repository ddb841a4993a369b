package daemon

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"oakley/internal/dataplane"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// Somebody flushes the data plane: the flows of the configuration are there again,
// and the tunnel is made anew.
func TestAFlushIsMendedByTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, east, west)
		if err := a.plane.Flush(t.Context(), ipsec.OwnerAny); err != nil {
			t.Fatal(err)
		}
		a.plane.Inject(dataplane.Lost{})
		a.log.await(t, "flows of tunnel were not in the data plane any more", 1)
		a.log.await(t, "phase 2 (quick mode) done", 2)
		synctest.Wait()
		if st := a.plane.state(t); len(st.Flows) != 2 || len(st.SAs) != 2 {
			t.Errorf("%d flows and %d SAs", len(st.Flows), len(st.SAs))
		}
		a.end(t)
		b.end(t)
	})
}

func TestFlowsThatCannotBePutBackAreMadeByTheNextReload(t *testing.T) {
	p, b, results := fakePlane(t)
	lines := newLines()
	p.log = NewLog(lines)
	a, c := testFlow("a/out", "10.1.0.0/24"), testFlow("c/out", "10.3.0.0/24")
	a.Conn, c.Conn = "a", "c"
	if err := p.set(a, c); err != nil {
		t.Fatal(err)
	}
	if err := b.Flush(t.Context(), ipsec.OwnerAny); err != nil {
		t.Fatal(err)
	}
	b.failFlows(errors.New("somebody is in the way"))
	p.compare()
	p.wait()
	if lines.count("flows of a, c were removed from the data plane and cannot be put back") != 1 || lines.count("somebody is in the way") != 1 {
		t.Errorf("logged:\n%s", lines)
	}
	b.failFlows(nil)
	if err := p.set(a); err != nil { // c is out of the configuration, and not there to be removed
		t.Fatal(err)
	}
	if st := b.state(t); len(st.Flows) != 1 || st.Flows[0].ID != "a/out" {
		t.Errorf("flows %+v", st.Flows)
	}
	if in := results.take(); len(in) > 0 {
		t.Errorf("the engine was told %v", in)
	}
}

// Flows that negotiations brought are put back as such: the configuration's next
// change leaves them alone.
func TestFlowsOfNegotiationsArePutBack(t *testing.T) {
	p, b, results := fakePlane(t)
	dyn := testFlow("dyn/out", "10.2.0.0/24")
	sa := testSA(301, ipsec.In)
	p.installSA(ike.InstallSA{ID: 1, SAs: []*ipsec.SA{sa}, Flows: []ipsec.FlowChange{{Flow: dyn}}})
	p.wait()
	results.take()
	if err := b.Flush(t.Context(), ipsec.OwnerAny); err != nil {
		t.Fatal(err)
	}
	p.compare()
	p.wait()
	if err := p.set(testFlow("a/out", "10.1.0.0/24")); err != nil {
		t.Fatal(err)
	}
	if st := b.state(t); len(st.Flows) != 2 {
		t.Errorf("flows %+v", st.Flows)
	}
	if in := results.take(); len(in) != 1 || in[0] != (ike.Expire{SA: sa.ID, Hard: true}) {
		t.Errorf("the engine was told %v", in)
	}
}

func TestManyConnectionsAreNotAllNamed(t *testing.T) {
	var changes []ipsec.FlowChange
	for _, n := range strings.Fields("h g f e d c b a a b c") {
		changes = append(changes, ipsec.FlowChange{Flow: ipsec.Flow{Conn: n}})
	}
	if got := connsOf(changes); got != "a, b, c, d, e and 3 connections more" {
		t.Error(got)
	}
	if got := connsOf(changes[6:9]); got != "a, b" {
		t.Error(got)
	}
}
