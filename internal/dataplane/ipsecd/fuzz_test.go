package ipsecd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
	"oakley/internal/netio"
)

// frames are documents as they are sent.
func frames(t testing.TB, docs ...any) (all []byte) {
	t.Helper()
	for _, d := range docs {
		f, err := frame(d)
		must(t, err)
		all = append(all, f...)
	}
	return all
}

// Whatever a client sends, it is answered or sent away, and the next one is served.
func FuzzServer(f *testing.F) {
	sa := someSA(0x1234)
	local := netip.MustParseAddrPort("192.0.2.1:4500")
	hello := &request{ID: 1, Op: opHello, Version: version}
	f.Add(frames(f, hello))
	f.Add(frames(
		f, hello,
		&request{ID: 2, Op: opAdd, SA: sa},
		&request{ID: 3, Op: opFlows, Flows: []ipsec.FlowChange{{Flow: ipsec.Flow{ID: "x/out"}}}},
		&request{ID: 4, Op: opDump, Query: &dataplane.Query{Keys: true}},
		&request{ID: 5, Op: opRegister, Events: AllEvents},
		&request{ID: 6, Op: opAlloc, SPI: &dataplane.SPIRequest{Proto: ipsec.ProtoESP, Dst: sa.ID.Dst}},
		&request{ID: 7, Op: opUpdate, Name: &sa.ID, Update: &ipsec.SAUpdate{Soft: &ipsec.Lifetime{Bytes: 1}}},
		&request{ID: 8, Op: opGet, Name: &sa.ID},
		&request{ID: 9, Op: opTotals},
		&request{ID: 10, Op: opEnable, Proto: ipsec.ProtoAH, On: true},
		&request{ID: 11, Op: opEndAcquire, Acquire: 7, Failed: "no"},
		&request{ID: 12, Op: opDelete, Name: &sa.ID},
		&request{ID: 13, Op: opFlush},
	))
	f.Add(frames(f, &request{ID: 1, Op: opEncap, Version: version, Local: local}, &datagram{local, local, []byte("x")}, &datagram{}))
	f.Add(frames(f, &request{ID: 1, Op: opMonitor, Version: version}))
	b := null.New(null.Options{Network: netio.NewHub().Node(local.Addr())})
	s := NewServer(b, -1, slog.New(slog.DiscardHandler))
	f.Cleanup(func() { b.Close(); s.Close() })
	come := func() net.Conn {
		ours, theirs := net.Pipe()
		s.wg.Go(func() { s.converse(theirs, peer{}) })
		return ours
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn := come()
		defer conn.Close()
		go func() {
			_, _ = conn.Write(sent)
			conn.Close()
		}()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connection stays")
		}
		good, err := newClient(context.Background(), come(), "fuzz", NoEvents)
		must(t, err)
		if _, err := good.Totals(context.Background()); err != nil {
			t.Fatal(err)
		}
		must(t, good.Close())
	})
}

// Whatever a server answers, the client's calls end, and so do its events.
func FuzzClient(f *testing.F) {
	sa := someSA(0x1234)
	st := ipsec.SAState{SA: *sa}
	f.Add(frames(f, &answer{ID: 2, SPI: 7}, &answer{ID: 3, SA: &st}))
	f.Add(frames(
		f, &answer{ID: 2}, &answer{ID: 3}, &answer{ID: 4, State: &dataplane.State{SAs: []ipsec.SAState{st}}, More: true},
		&answer{ID: 4, State: &dataplane.State{}}, &answer{ID: 5, Totals: &dataplane.Totals{}},
	))
	f.Add(frames(f, &answer{ID: 4, More: true}, &answer{ID: 4, More: true}, &answer{ID: 4, More: true}, &answer{ID: 99, More: true}))
	f.Add(frames(f, &answer{Event: &event{Expire: &dataplane.Expire{}}}, &answer{Event: &event{Acquire: &dataplane.Acquire{}}}, &answer{Event: &event{}}, &answer{ID: 2, Error: "no", Kind: "exists"}))
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		go func() {
			var r request
			if _, err := readFrame(theirs, &r); err != nil {
				return
			}
			_, _ = theirs.Write(frames(t, &answer{ID: r.ID, Version: version, Info: &dataplane.Info{}}))
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			_, _ = theirs.Write(sent)
			theirs.Close()
		}()
		c, err := newClient(context.Background(), ours, "fuzz", NoEvents)
		must(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, _ = c.AllocSPI(ctx, dataplane.SPIRequest{})
		_, _ = c.GetSA(ctx, sa.ID)
		_, _ = c.Dump(ctx, dataplane.Query{})
		_, _ = c.Totals(ctx)
		if ctx.Err() != nil {
			t.Fatal("a call does not end")
		}
		for range c.Events() {
		}
		must(t, c.Close())
	})
}

// Whatever one who watches is told, reading it ends.
func FuzzFrames(f *testing.F) {
	f.Add(frames(f, &dataplane.Message{Action: dataplane.ActionAdd, SA: someSA(1)}, &dataplane.Message{Action: dataplane.ActionMissed, Missed: 3}))
	f.Add(frames(f, &datagram{Data: []byte("x")}))
	f.Fuzz(func(t *testing.T, sent []byte) {
		for _, v := range []func() any{
			func() any { return &dataplane.Message{} },
			func() any { return &datagram{} },
			func() any { return &request{} },
			func() any { return &answer{} },
		} {
			r := bytes.NewReader(sent)
			for {
				doc := v()
				n, err := readFrame(r, doc)
				if err != nil {
					break
				}
				if n > len(sent) {
					t.Fatalf("a frame of %d bytes in %d", n, len(sent))
				}
				if _, err := frame(doc); err != nil {
					t.Fatalf("what was read cannot be written: %v", err)
				}
			}
		}
	})
}
