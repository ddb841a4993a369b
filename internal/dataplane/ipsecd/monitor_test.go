package ipsecd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
)

// next is the next message of one who watches.
func next(t *testing.T, ch <-chan dataplane.Message) dataplane.Message {
	t.Helper()
	select {
	case m, ok := <-ch:
		if !ok {
			t.Fatal("no more messages")
		}
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
	}
	return dataplane.Message{}
}

// Those who watch are told what every client asks, what is refused and why, and
// what the data plane does by itself; keys they are not told.
func TestWhoWatchesIsTold(t *testing.T) {
	b := null.New(null.Options{})
	path, _ := serve(t, b)
	km, tool, watcher := dial(t, path), dialTool(t, path), dialTool(t, path)
	ch, err := watcher.Monitor(t.Context())
	must(t, err)
	other, err := tool.Monitor(t.Context())
	must(t, err)

	sa := someSA(0x4321)
	asks := dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: sa.Src, Dst: sa.ID.Dst}
	spi, err := km.AllocSPI(ctx, asks)
	must(t, err)
	must(t, tool.AddSA(ctx, sa))
	if err := tool.AddSA(ctx, sa); err == nil {
		t.Fatal("an SA twice")
	}
	_, err = tool.Dump(ctx, dataplane.Query{}) // nobody is told
	must(t, err)
	moved := netip.MustParseAddrPort("[2001:db8::5]:5")
	must(t, km.UpdateSA(ctx, sa.ID, ipsec.SAUpdate{Remote: &moved}))
	must(t, km.DeleteSA(ctx, sa.ID))
	flow := ipsec.Flow{ID: "f/out", Owner: ipsec.OwnerManual, Selector: sa.Selector}
	must(t, tool.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: flow}}))
	must(t, tool.ApplyFlows(ctx, []ipsec.FlowChange{{Remove: true, Flow: flow}}))
	must(t, tool.Flush(ctx, ipsec.OwnerManual))
	must(t, tool.Enable(ctx, ipsec.ProtoAH, true))
	for _, e := range []dataplane.Event{
		dataplane.Acquire{ID: 3, Flow: "f/out", Packet: sa.Selector},
		dataplane.Expire{SA: sa.ID, Hard: true},
		dataplane.Mapping{SA: sa.ID, Remote: moved},
	} {
		b.Inject(e)
		<-km.Events()
	}

	me := os.Getpid()
	for i, want := range []dataplane.Message{
		{Action: dataplane.ActionGetSPI, PID: me, ID: ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: spi, Dst: sa.ID.Dst}},
		{Action: dataplane.ActionAdd, PID: me, ID: sa.ID, SA: sa},
		{Action: dataplane.ActionAdd, PID: me, ID: sa.ID, SA: sa, Error: dataplane.ErrExists.Error()},
		{Action: dataplane.ActionUpdate, PID: me, ID: sa.ID, Remote: moved},
		{Action: dataplane.ActionDelete, PID: me, ID: sa.ID},
		{Action: dataplane.ActionAddFlow, PID: me, Flow: &flow},
		{Action: dataplane.ActionDeleteFlow, PID: me, Flow: &flow},
		{Action: dataplane.ActionFlush, PID: me, Owner: ipsec.OwnerManual},
		{Action: dataplane.ActionSwitch, PID: me, Proto: ipsec.ProtoAH, On: true},
		{Action: dataplane.ActionAcquire, Flow: &ipsec.Flow{ID: "f/out"}, Packet: sa.Selector},
		{Action: dataplane.ActionExpire, ID: sa.ID, Hard: true},
		{Action: dataplane.ActionMapping, ID: sa.ID, Remote: moved},
	} {
		m := next(t, ch)
		if again := next(t, other); again.Action != m.Action {
			t.Errorf("%d: one was told %s, the other %s", i, m.Action, again.Action)
		}
		if m.At.IsZero() || (m.Flow == nil) != (want.Flow == nil) || m.Flow != nil && *m.Flow != *want.Flow || (m.SA == nil) != (want.SA == nil) {
			t.Errorf("%d: %+v\nwant %+v", i, m, want)
		}
		if m.SA != nil && (m.SA.Conn != sa.Conn || len(m.SA.Key)+len(m.SA.Salt)+len(m.SA.AuthKey) > 0) {
			t.Errorf("%d: SA %+v", i, m.SA)
		}
		m.At, m.Flow, m.SA, want.Flow, want.SA = time.Time{}, nil, nil, nil, nil
		if m != want {
			t.Errorf("%d: %+v\nwant %+v", i, m, want)
		}
	}
}

// Watching ends with its context, and with the client.
func TestWatchingEnds(t *testing.T) {
	path, s := serve(t, null.New(null.Options{}))
	c := dialTool(t, path)
	one, cancel := context.WithCancel(ctx)
	first, err := c.Monitor(one)
	must(t, err)
	second, err := c.Monitor(ctx)
	must(t, err)
	cancel()
	for range first {
	}
	c.Close()
	for range second {
	}
	if _, err := c.Monitor(ctx); err == nil {
		t.Error("a closed client watches")
	}
	eventually(t, "all are gone", func() bool { return s.Clients() == 0 && !s.watched.Load() })
}

// One who watches and does not read holds nobody up, and is told how many
// messages it missed.
func TestWhoWatchesAndDoesNotReadMisses(t *testing.T) {
	path, _ := serve(t, null.New(null.Options{}))
	c := dialTool(t, path)
	ch, err := c.Monitor(t.Context())
	must(t, err)
	const all = maxMessages + 2000
	conn, err := net.Dial("unix", path) // another one, who reads nothing at all
	must(t, err)
	defer conn.Close()
	f, err := frame(&request{ID: 1, Op: opMonitor, Version: version})
	must(t, err)
	_, err = conn.Write(f)
	must(t, err)
	long := strings.Repeat("x", 200)
	for i := range all / 50 {
		changes := make([]ipsec.FlowChange, 0, 50)
		for k := range 50 {
			changes = append(changes, ipsec.FlowChange{Flow: ipsec.Flow{ID: ipsec.FlowID(fmt.Sprint(i, " ", k)), Conn: long}})
		}
		must(t, c.ApplyFlows(ctx, changes))
	}
	must(t, c.Enable(ctx, ipsec.ProtoAH, false))
	told, lost := 0, 0
	for told+lost < all/50*50+1 {
		m := next(t, ch)
		if m.Action == dataplane.ActionMissed {
			lost += m.Missed
			continue
		}
		told++
	}
	if lost == 0 || told < maxMessages || told+lost != all/50*50+1 {
		t.Errorf("%d messages came and %d were missed", told, lost)
	}
}
