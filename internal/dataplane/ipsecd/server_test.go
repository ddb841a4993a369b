package ipsecd

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

var ctx = context.Background()

const patience = 10 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func someSA(spi ipsec.SPI) *ipsec.SA {
	return &ipsec.SA{
		ID:     ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: spi, Dst: netip.MustParseAddr("192.0.2.1")},
		Src:    netip.MustParseAddr("2001:db8::1"),
		Encap:  &ipsec.Encap{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("[2001:db8::1]:61000")},
		Cipher: ipsec.CipherAESGCM16, Key: []byte("0123456789abcdef"), Salt: []byte{1, 2, 3, 4},
		KeyLen: 16, Replay: 64, ESN: true, Mode: ipsec.Transport, Owner: ipsec.OwnerIKE, IDs: ipsec.IDs{LocalID: "a.example", RemoteID: "b.example"}, Conn: "a \"name\"", Interface: 7, Flow: "f/in", Defer: time.Second,
		Selector: ipsec.Selector{Src: netip.MustParsePrefix("10.0.0.0/8"), Dst: netip.MustParsePrefix("0.0.0.0/0"), Proto: 6, DstPort: 80},
		Soft:     ipsec.Lifetime{Bytes: 1 << 40, Time: time.Hour}, Hard: ipsec.Lifetime{Bytes: 1 << 60, Time: 2 * time.Hour},
		Bundle: ipsec.Place{ID: 1<<63 + 1, Index: 1, Of: 2}, Comp: ipsec.CompDeflate,
		NATOA: ipsec.NATOA{Peer: netip.MustParseAddr("10.0.0.1"), Ours: netip.MustParseAddr("10.0.0.2")},
	}
}

// recorder is a data plane that keeps what it was given.
type recorder struct {
	*null.Plane
	sa     *ipsec.SA
	update ipsec.SAUpdate
	flows  []ipsec.FlowChange
	ended  chan error
}

func (r *recorder) AddSA(_ context.Context, sa *ipsec.SA) error { r.sa = sa; return nil }
func (r *recorder) UpdateSA(_ context.Context, _ ipsec.SAID, u ipsec.SAUpdate) error {
	r.update = u
	return nil
}

func (r *recorder) ApplyFlows(_ context.Context, c []ipsec.FlowChange) error { r.flows = c; return nil }

func (r *recorder) EndAcquire(_ context.Context, _ dataplane.AcquireID, err error) error {
	r.ended <- err
	return nil
}

func newRecorder() *recorder {
	return &recorder{Plane: null.New(null.Options{}), ended: make(chan error, 10)}
}

// What goes through the socket comes out as it went in, every field of it.
func TestNothingIsLostOnTheWay(t *testing.T) {
	r := newRecorder()
	path, _ := serve(t, r)
	c := dial(t, path)
	sa := someSA(0x1234)
	for i, v := 0, reflect.ValueOf(*sa); i < v.NumField(); i++ {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Auth" && name != "AuthKey" {
			t.Errorf("the test's SA has no %s", name)
		}
	}
	must(t, c.AddSA(ctx, sa))
	if !reflect.DeepEqual(r.sa, sa) {
		t.Errorf("came out as\n%+v\nwant\n%+v", r.sa, sa)
	}
	remote := netip.MustParseAddrPort("[2001:db8::2]:7")
	u := ipsec.SAUpdate{Remote: &remote, Soft: &ipsec.Lifetime{Bytes: 1}, Hard: &ipsec.Lifetime{Time: 1}, Bundle: &ipsec.Place{ID: 1, Of: 2}}
	must(t, c.UpdateSA(ctx, sa.ID, u))
	if !reflect.DeepEqual(r.update, u) {
		t.Errorf("came out as %+v", r.update)
	}
	flows := []ipsec.FlowChange{{Remove: true, Flow: ipsec.Flow{ID: "gone"}}, {Flow: ipsec.Flow{
		ID: "there/out", Type: ipsec.FlowDeny, Selector: sa.Selector, Order: 7, Local: sa.Src, Remote: sa.ID.Dst,
		Mode: ipsec.Transport, Proto: ipsec.ProtoAH, Owner: ipsec.OwnerManual, Conn: "x", Interface: 9,
	}}}
	must(t, c.ApplyFlows(ctx, flows))
	if !reflect.DeepEqual(r.flows, flows) {
		t.Errorf("came out as %+v", r.flows)
	}
	for _, e := range []dataplane.Event{
		dataplane.Acquire{ID: 7, Flow: "f/out", Packet: sa.Selector},
		dataplane.Expire{SA: sa.ID, Hard: true},
		dataplane.Mapping{SA: sa.ID, Remote: remote},
		dataplane.Lost{},
	} {
		r.Inject(e)
		select {
		case got := <-c.Events():
			if got != e {
				t.Errorf("%+v came out as %+v", e, got)
			}
		case <-time.After(patience):
			t.Fatalf("%+v never came", e)
		}
	}
}

// SAs stay when their client goes, and another finds them.
func TestSAsOutliveTheirClient(t *testing.T) {
	path, s := serve(t, null.New(null.Options{}))
	c := dial(t, path)
	if i := c.Info(); i.Name != "ipsecd" || !i.OutlivesUs {
		t.Errorf("%+v", i)
	}
	const n = 3*pageSize + 1
	for i := range n {
		must(t, c.AddSA(ctx, someSA(ipsec.SPI(0x1000+i))))
	}
	c.Close()
	lab.Eventually(t, patience, "the client has gone", func() bool { return s.Clients() == 0 })
	st, err := dial(t, path).Dump(ctx, dataplane.Query{Owner: ipsec.OwnerIKE})
	must(t, err)
	if len(st.SAs) != n {
		t.Errorf("%d SAs, want %d", len(st.SAs), n)
	}
}

// An acquire that nobody will answer any more fails.
func TestAcquiresOfADeadClientFail(t *testing.T) {
	r := newRecorder()
	path, s := serve(t, r)
	ended := func(want string) {
		t.Helper()
		select {
		case err := <-r.ended:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("ended with %v, want %q", err, want)
			}
		case <-time.After(patience):
			t.Fatal("never ended")
		}
	}
	r.Inject(dataplane.Acquire{ID: 1})
	ended("went away") // nobody is there
	dialTool(t, path)
	others, err := Dial(ctx, path, Expiries|Mappings)
	must(t, err)
	defer others.Close()
	r.Inject(dataplane.Acquire{ID: 1})
	ended("went away") // nobody who wants acquires is there
	r.Inject(dataplane.Expire{Hard: true})
	if e := <-others.Events(); e != (dataplane.Expire{Hard: true}) {
		t.Errorf("%+v was told", e)
	}
	c := dial(t, path)
	r.Inject(dataplane.Acquire{ID: 2})
	<-c.Events()
	must(t, c.EndAcquire(ctx, 2, errors.New("no proposal")))
	ended("no proposal")
	r.Inject(dataplane.Acquire{ID: 3})
	<-c.Events()
	c.Close()
	ended("went away")
	lab.Eventually(t, patience, "the client has gone", func() bool { return s.Clients() == 2 })
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	path, _ := serve(t, null.New(null.Options{}))
	c := dial(t, path)
	err := c.DeleteSA(ctx, someSA(1).ID)
	if !errors.Is(err, dataplane.ErrNoSA) || errors.Is(err, dataplane.ErrExists) || err.Error() != dataplane.ErrNoSA.Error() {
		t.Errorf("%v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.AddSA(gone, someSA(0x1000)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// What is to be kept is seen, by data planes that count their SAs and by those that
// do not.
func TestEmpty(t *testing.T) {
	b := null.New(null.Options{})
	path, _ := serve(t, b)
	for name, b := range map[string]dataplane.Backend{"null": b, "through the socket": dialTool(t, path)} {
		is := func(want bool) {
			t.Helper()
			if empty, err := Empty(ctx, b); err != nil || empty != want {
				t.Errorf("%s: empty %t, %v, want %t", name, empty, err, want)
			}
		}
		is(true)
		must(t, b.AddSA(ctx, someSA(0x5000)))
		is(false)
		must(t, b.Flush(ctx, ipsec.OwnerAny))
		is(true)
		must(t, b.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: ipsec.Flow{ID: "f/out"}}}))
		is(false)
		must(t, b.Flush(ctx, ipsec.OwnerAny))
	}
	must(t, b.Close())
	if _, err := Empty(ctx, b); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("%v", err)
	}
}
