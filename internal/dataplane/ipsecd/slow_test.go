package ipsecd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
)

// room is a server in a bubble with a clock of its own, whose clients come
// through pipes.
type room struct {
	t *testing.T
	s *Server
	b dataplane.Backend
}

// inRoom runs f with a server around b.
func inRoom(t *testing.T, b func() dataplane.Backend, f func(t *testing.T, r *room)) {
	synctest.Test(t, func(t *testing.T) {
		r := &room{t: t, b: b()}
		r.s = NewServer(r.b, -1, slog.New(slog.DiscardHandler))
		f(t, r)
		must(t, r.b.Close())
		r.s.Close()
	})
}

// pass lets time go by on the bubble's clock.
func pass(d time.Duration) { <-time.After(d) }

func noPlane() dataplane.Backend { return null.New(null.Options{}) }

// come is a connection as the server takes it.
func (r *room) come(p peer) net.Conn {
	ours, theirs := net.Pipe()
	r.s.wg.Go(func() { r.s.converse(theirs, p) })
	return ours
}

func (r *room) client(want Events) *Client {
	r.t.Helper()
	c, err := newClient(r.t.Context(), r.come(peer{}), "room", want)
	must(r.t, err)
	return c
}

// greeted is a raw connection whose first request was answered.
func (r *room) greeted(who peer) net.Conn {
	r.t.Helper()
	c := r.come(who)
	say(r.t, c, &request{ID: 1, Op: opHello, Version: version})
	var a answer
	_, err := readFrame(c, &a)
	must(r.t, err)
	return c
}

func say(t testing.TB, c net.Conn, v any) {
	t.Helper()
	f, err := frame(v)
	must(t, err)
	_, err = c.Write(f)
	must(t, err)
}

// ends tells whether the server has closed c.
func ends(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := io.Copy(io.Discard, c)
	var late net.Error
	return !errors.As(err, &late) || !late.Timeout()
}

// Who says nothing, begins a frame and says no more, or does not read, is given up
// after its time and not before.
func TestWhoKeepsTheServerWaiting(t *testing.T) {
	half := func(t *testing.T, c net.Conn) {
		_, err := c.Write([]byte{0, 0, 1, 0, '{'})
		must(t, err)
	}
	for name, c := range map[string]struct {
		greeted bool
		act     func(t *testing.T, c net.Conn)
		after   time.Duration // 0: never
	}{
		"silence from the start":      {act: func(*testing.T, net.Conn) {}, after: helloTime},
		"half a frame from the start": {act: half, after: frameTime},
		"half a frame":                {greeted: true, act: half, after: frameTime},
		"silence":                     {greeted: true, act: func(*testing.T, net.Conn) {}},
		"an answer that is not read": {greeted: true, after: writeTime, act: func(t *testing.T, c net.Conn) {
			say(t, c, &request{ID: 2, Op: opTotals})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inRoom(t, noPlane, func(t *testing.T, r *room) {
				conn := r.come(peer{})
				if c.greeted {
					conn.Close()
					synctest.Wait()
					conn = r.greeted(peer{})
				}
				good := r.client(AllEvents)
				c.act(t, conn)
				pass(max(c.after, time.Hour*24*bit(c.after == 0)) - time.Millisecond)
				synctest.Wait()
				if n := r.s.Clients(); n != 2 {
					t.Errorf("%d clients just before its time is up", n)
				}
				pass(2 * time.Millisecond)
				synctest.Wait()
				if n := r.s.Clients(); n != 1+int(bit(c.after == 0)) {
					t.Errorf("%d clients afterwards", n)
				}
				must(t, good.AddSA(t.Context(), someSA(1)))
				good.Close()
				conn.Close()
			})
		})
	}
}

func bit(b bool) time.Duration {
	if b {
		return 1
	}
	return 0
}

// counting counts what a data plane is asked for.
type counting struct {
	*null.Plane
	mu            sync.Mutex
	totals, dumps int
}

func (c *counting) Dump(ctx context.Context, q dataplane.Query) (dataplane.State, error) {
	c.mu.Lock()
	c.dumps++
	c.mu.Unlock()
	return c.Plane.Dump(ctx, q)
}

func (c *counting) Totals(context.Context) (dataplane.Totals, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals++
	return dataplane.Totals{}, nil
}

// count is how often Totals and Dump were asked.
func (c *counting) count() (totals, dumps int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.totals, c.dumps
}

// Who asks and asks and reads nothing is answered maxRequests times, and then not
// listened to.
func TestUnreadAnswersAreBounded(t *testing.T) {
	b := &counting{}
	inRoom(t, func() dataplane.Backend { b.Plane = null.New(null.Options{}); return b }, func(t *testing.T, r *room) {
		conn := r.greeted(peer{})
		defer conn.Close()
		good := r.client(AllEvents)
		defer good.Close()
		var said atomic.Int64
		f, err := frame(&request{ID: 2, Op: opTotals})
		must(t, err)
		go func() {
			for {
				if _, err := conn.Write(f); err != nil {
					return
				}
				said.Add(1)
			}
		}()
		synctest.Wait()
		if done, _ := b.count(); done != maxRequests || said.Load() != maxRequests+1 {
			t.Errorf("%d requests were carried out and %d read, want %d and one more", done, said.Load(), maxRequests)
		}
		must(t, good.AddSA(t.Context(), someSA(1)))
		pass(writeTime)
		synctest.Wait()
		if n := r.s.Clients(); n != 1 {
			t.Errorf("%d clients, want the good one", n)
		}
	})
}

// Events that a client does not read are lost, and it is told so when it reads
// again; others get all of them.
func TestEventsOverflow(t *testing.T) {
	inRoom(t, noPlane, func(t *testing.T, r *room) {
		b := r.b.(*null.Plane)
		conn := r.greeted(peer{})
		defer conn.Close()
		say(t, conn, &request{ID: 2, Op: opRegister, Events: AllEvents})
		var a answer
		_, err := readFrame(conn, &a)
		must(t, err)
		good := r.client(AllEvents)
		defer good.Close()
		const all = maxEvents + 100
		for i := range all {
			b.Inject(dataplane.Expire{SA: ipsec.SAID{SPI: ipsec.SPI(i)}})
			if e := <-good.Events(); e.(dataplane.Expire).SA.SPI != ipsec.SPI(i) {
				t.Fatalf("event %d is %+v", i, e)
			}
		}
		got, lost := 0, false
		for !lost {
			var a answer
			_, err := readFrame(conn, &a)
			must(t, err)
			lost = a.Event.Lost
			if !lost {
				got++
			}
		}
		if got < maxEvents || got >= all {
			t.Errorf("%d events of %d before the news that some were lost", got, all)
		}
		b.Inject(dataplane.Expire{Hard: true})
		a = answer{}
		_, err = readFrame(conn, &a)
		must(t, err)
		if a.Event == nil || a.Event.Expire == nil || !a.Event.Expire.Hard {
			t.Errorf("%+v is told afterwards", a)
		}
	})
}

// A client whose owner reads no events goes on asking, and its owner hears that
// some were lost.
func TestEventsThatTheClientsOwnerDoesNotRead(t *testing.T) {
	inRoom(t, noPlane, func(t *testing.T, r *room) {
		c := r.client(AllEvents)
		defer c.Close()
		const all = clientEvents + maxEvents
		for range all {
			r.b.(*null.Plane).Inject(dataplane.Expire{})
			synctest.Wait()
		}
		must(t, c.AddSA(t.Context(), someSA(1)))
		lost, got := false, 0
		for !lost {
			_, lost = (<-c.Events()).(dataplane.Lost)
			got++
		}
		if got < clientEvents || got >= all {
			t.Errorf("%d events before the news that some were lost", got)
		}
	})
}

// A server that does not read is not waited for longer than a frame may take, and
// nothing more is asked of it.
func TestServerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		go func() {
			var r request
			_, _ = readFrame(theirs, &r)
			f, _ := frame(&answer{ID: r.ID, Version: version, Info: &dataplane.Info{}})
			_, _ = theirs.Write(f)
		}()
		c, err := newClient(t.Context(), ours, "stuck", NoEvents)
		must(t, err)
		began := time.Now()
		if err := c.AddSA(context.Background(), someSA(1)); !errors.Is(err, dataplane.ErrClosed) || time.Since(began) != writeTime {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, open := <-c.Events(); open {
			t.Error("events go on")
		}
		if err := c.AddSA(context.Background(), someSA(1)); !errors.Is(err, dataplane.ErrClosed) || time.Since(began) != writeTime {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		c.Close()
	})
}

// Closing a client ends calls, those too whose answers nobody takes just now.
func TestClosingInTheMidstOfADump(t *testing.T) {
	inRoom(t, noPlane, func(t *testing.T, r *room) {
		c := r.client(NoEvents)
		for i := range 10 * pageSize {
			must(t, r.b.AddSA(t.Context(), someSA(ipsec.SPI(1000+i))))
		}
		pages, closed := 0, make(chan error)
		err := c.pages(t.Context(), &request{Op: opDump, Query: &dataplane.Query{}}, func(*answer) {
			if pages++; pages == 2 {
				go func() { closed <- c.Close() }()
				synctest.Wait()
			}
		})
		if pages < 2 || pages == 10 || !errors.Is(err, dataplane.ErrClosed) {
			t.Errorf("%d pages, %v", pages, err)
		}
		must(t, <-closed)
	})
}

// There is no room for more than a bound of clients, and one user does not take
// it all.
func TestTooManyClients(t *testing.T) {
	inRoom(t, noPlane, func(t *testing.T, r *room) {
		var all []net.Conn
		for range maxOfUser {
			all = append(all, r.come(peer{uid: 7}))
		}
		synctest.Wait()
		if !ends(r.come(peer{uid: 7})) {
			t.Errorf("more than %d clients of one user", maxOfUser)
		}
		for len(all) < maxClients {
			all = append(all, r.come(peer{uid: 0}))
		}
		synctest.Wait()
		if n := r.s.Clients(); n != maxClients {
			t.Errorf("%d clients, want %d", n, maxClients)
		}
		if !ends(r.come(peer{uid: 0})) {
			t.Errorf("more than %d clients", maxClients)
		}
		for _, c := range all {
			c.Close()
		}
		synctest.Wait()
		if n := r.s.Clients(); n != 0 {
			t.Errorf("%d clients at the end", n)
		}
	})
}

// full stands for a listener for which there are no descriptors for a while.
type full struct {
	errs []error
	at   []time.Time
}

func (f *full) AcceptUnix() (*net.UnixConn, error) {
	f.at = append(f.at, time.Now())
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, &net.OpError{Op: "accept", Err: err}
}

// A process that has no descriptors left waits until it has, longer each time.
func TestNoDescriptorsForAWhile(t *testing.T) {
	inRoom(t, noPlane, func(t *testing.T, r *room) {
		var errs []error
		for range 12 {
			errs = append(errs, unix.EMFILE)
		}
		l := &full{errs: append(errs, net.ErrClosed)}
		must(t, r.s.Serve(l))
		pause := firstPause
		for i := 1; i < len(l.at); i++ {
			if d := l.at[i].Sub(l.at[i-1]); d != pause {
				t.Errorf("pause %d is %v, want %v", i, d, pause)
			}
			pause = min(2*pause, lastPause)
		}
		if err := r.s.Serve(&full{errs: []error{unix.EBADF}}); !errors.Is(err, unix.EBADF) {
			t.Errorf("%v", err)
		}
	})
}

// A client that is refused and comes back at once does not fill the log.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		n := notices{log: slog.New(slog.NewTextHandler(&text, nil))}
		for range 10_000 {
			n.warn("refused")
			pass(time.Millisecond)
		}
		n.warn("refused")
		if k := strings.Count(text.String(), "\n"); k != 11 || strings.Count(text.String(), "999") != 10 {
			t.Errorf("%d lines:\n%s", k, &text)
		}
	})
}

// Dumps that are not read are few at a time, come to an end, and do not keep root
// from its own.
func TestDumpsThatAreNotRead(t *testing.T) {
	b := &counting{}
	inRoom(t, func() dataplane.Backend { b.Plane = null.New(null.Options{}); return b }, func(t *testing.T, r *room) {
		for range 3 * maxDumps {
			c := r.greeted(peer{uid: 7})
			defer c.Close()
			say(t, c, &request{ID: 2, Op: opDump, Query: &dataplane.Query{}})
		}
		synctest.Wait()
		if _, n := b.count(); n != maxDumps {
			t.Errorf("%d dumps at the same time, want %d", n, maxDumps)
		}
		root := r.client(NoEvents)
		defer root.Close()
		_, err := root.Dump(t.Context(), dataplane.Query{})
		must(t, err)
		pass(opTime + 2*writeTime)
		synctest.Wait()
		if n := r.s.Clients(); n != 1 {
			t.Errorf("%d clients, want root's", n)
		}
	})
}

// deaf is a data plane that answers to a dump when it is told to.
type deaf struct {
	*null.Plane
	resume chan struct{}
}

func (d *deaf) Dump(ctx context.Context, q dataplane.Query) (dataplane.State, error) {
	<-d.resume
	return d.Plane.Dump(ctx, q)
}

// A call ends with its context; the answer that comes later is nobody's, and does
// not hold up those of others.
func TestACallThatIsGivenUp(t *testing.T) {
	d := &deaf{}
	inRoom(t, func() dataplane.Backend {
		d.Plane, d.resume = null.New(null.Options{}), make(chan struct{})
		return d
	}, func(t *testing.T, r *room) {
		for i := range 3 * pageSize {
			must(t, d.AddSA(t.Context(), someSA(ipsec.SPI(1000+i))))
		}
		c := r.client(NoEvents)
		defer c.Close()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Dump(short, dataplane.Query{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		close(d.resume)
		synctest.Wait()
		_, err := c.Totals(t.Context())
		must(t, err)
		st, err := c.Dump(t.Context(), dataplane.Query{})
		must(t, err)
		if len(st.SAs) != 3*pageSize {
			t.Errorf("%d SAs", len(st.SAs))
		}
	})
}
