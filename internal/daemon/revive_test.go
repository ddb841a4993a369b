package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// mortals are data planes that come one after the other.
type mortals struct {
	mu  sync.Mutex
	all []*carrying
	err error // why there is no other one
}

// live makes a daemon's data planes mortal.
func (m *mortals) live(h *fakeHost) func(*Options) {
	return func(o *Options) {
		o.Plane = func(context.Context, PlaneOptions) (dataplane.Backend, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.err != nil {
				return nil, m.err
			}
			p := &carrying{Plane: null.New(null.Options{Network: h.node, FirstSPI: ipsec.SPI(0x1000 * (len(m.all) + 1))})}
			m.all = append(m.all, p)
			return p, nil
		}
	}
}

func (m *mortals) last() *carrying {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[len(m.all)-1]
}

func (m *mortals) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func mortalPair(t *testing.T) (m *mortals, a, b *node) {
	hub := netio.NewHub()
	b = run(t, newFakeHost(hub, west.own), west.conf())
	h := newFakeHost(hub, east.own)
	m = &mortals{}
	a = run(t, h, east.conf(), m.live(h))
	for _, n := range []*node{a, b} { // both: b hears of it after a
		n.log.await(t, "phase 2 (quick mode) done", 1)
	}
	return m, a, b
}

// Another data plane has the flows, the peer hears that the SAs are gone, and there
// are new ones.
func TestTheDaemonOutlivesItsDataPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := mortalPair(t)
		_ = m.last().Close()
		a.log.await(t, "phase 2 (quick mode) done", 2)
		b.log.await(t, "the peer deleted them", 1)
		synctest.Wait()
		if len(m.all) != 2 {
			t.Fatalf("%d data planes", len(m.all))
		}
		if st := m.last().state(t); len(st.Flows) != 2 || len(st.SAs) != 2 {
			t.Errorf("the other one has %d flows and %d SAs", len(st.Flows), len(st.SAs))
		}
		if a.log.count("phase 1 (main mode) done") != 1 {
			t.Error("the ISAKMP SA, which is ours, was negotiated anew")
		}
		a.end(t)
		b.end(t)
		if _, err := m.last().Dump(t.Context(), dataplane.Query{}); !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("the other one is still open: %v", err)
		}
	})
}

// What goes wrong for a while is tried again; the daemon can be ended meanwhile.
func TestADataPlaneThatCannotBeOpenedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := mortalPair(t)
		m.refuse(errors.New("no program"))
		_ = m.last().Close()
		a.log.await(t, "no other data plane yet", 2)
		m.refuse(nil)
		a.log.await(t, "phase 2 (quick mode) done", 2)
		m.refuse(errors.New("no program"))
		_ = m.last().Close()
		a.log.await(t, "no other data plane yet", 3)
		a.cancel()
		if err := <-a.done; !errors.Is(err, dataplane.ErrClosed) { // it could not clean up
			t.Errorf("the daemon ended with %v", err)
		}
		b.end(t)
	})
}

func TestADataPlaneThatIsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := mortalPair(t)
		m.refuse(errors.New("no program"))
		_ = m.last().Close()
		err := <-a.done
		if err == nil || !strings.Contains(err.Error(), "no program") || a.log.count("error: there is no data plane any more: no program") != 1 {
			t.Errorf("%v\n%s", err, a.log)
		}
		b.end(t)
	})
}

func TestADataPlaneThatEndsAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := mortalPair(t)
		for n := range mostDeaths + 1 {
			a.log.await(t, "data plane: null", n+1)
			synctest.Wait()
			_ = m.last().Close()
		}
		err := <-a.done
		if err == nil || !strings.Contains(err.Error(), "it has ended 6 times within 1m0s") {
			t.Errorf("%v\n%s", err, a.log)
		}
		b.end(t)
	})
}

// A connection that broke, and a data plane that is still the same: what is there
// goes on, and what nobody knows of goes.
func TestADataPlaneThatOnlySeemedToEnd(t *testing.T) {
	p, b, results := fakePlane(t)
	a := testFlow("a/out", "10.1.0.0/24")
	if err := p.set(a); err != nil {
		t.Fatal(err)
	}
	other := &carrying{Plane: null.New(null.Options{})}
	defer other.Close()
	p.sas[testSA(301, ipsec.In).ID] = true
	for _, sa := range []*ipsec.SA{testSA(301, ipsec.In), testSA(302, ipsec.In)} {
		if err := other.AddSA(t.Context(), sa); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.ApplyFlows(t.Context(), []ipsec.FlowChange{{Flow: a}, {Flow: testFlow("old/out", "10.3.0.0/24")}}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	p.jobs.put(func(ctx context.Context) { done <- p.moveTo(ctx, other) })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	st := other.state(t)
	if len(st.Flows) != 1 || st.Flows[0].ID != "a/out" || len(st.SAs) != 1 || st.SAs[0].SA.ID.SPI != 301 {
		t.Errorf("it has %+v", st)
	}
	if in := results.take(); len(in) > 0 || p.backend() != other {
		t.Errorf("the engine was told %v", in)
	}
	_ = b
}
