package ipsecd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
)

// SPIs that a client had reserved when it went can be had again; those that have
// an SA, whoever made it, stay.
func TestSPIsOfADeadClientComeBack(t *testing.T) {
	b := null.New(null.Options{})
	path, s := serve(t, b)
	dead, other := dial(t, path), dial(t, path)
	asks := dataplane.SPIRequest{Proto: ipsec.ProtoESP, Dst: someSA(0).ID.Dst}
	var ids []ipsec.SAID
	for range 5 {
		spi, err := dead.AllocSPI(ctx, asks)
		must(t, err)
		ids = append(ids, ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: spi, Dst: asks.Dst})
	}
	must(t, dead.AddSA(ctx, someSA(ids[0].SPI)))
	must(t, other.AddSA(ctx, someSA(ids[1].SPI)))
	must(t, dead.DeleteSA(ctx, ids[2]))
	kept, err := other.AllocSPI(ctx, asks)
	must(t, err)
	dead.Close()
	eventually(t, "the client has gone", func() bool { return s.Clients() == 1 })
	eventually(t, "the SPIs are back", func() bool {
		s.spis.mu.Lock()
		defer s.spis.mu.Unlock()
		return len(s.spis.held) == 1
	})
	for i, want := range []bool{true, true, false, false, false} {
		err := b.DeleteSA(ctx, ids[i])
		if (err == nil) != want {
			t.Errorf("SPI %d of 5: %v", i+1, err)
		}
	}
	must(t, other.DeleteSA(ctx, ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: kept, Dst: asks.Dst}))
}

// A client cannot reserve without end.
func TestSPIsAreBounded(t *testing.T) {
	path, _ := serve(t, null.New(null.Options{}))
	c := dial(t, path)
	asks := dataplane.SPIRequest{Proto: ipsec.ProtoESP, Dst: someSA(0).ID.Dst}
	var first ipsec.SPI
	for i := range maxSPIs {
		spi, err := c.AllocSPI(ctx, asks)
		must(t, err)
		if i == 0 {
			first = spi
		}
	}
	if spi, err := c.AllocSPI(ctx, asks); err == nil {
		t.Errorf("SPI %s is one too many", spi)
	}
	_, err := dial(t, path).AllocSPI(ctx, asks)
	must(t, err)
	must(t, c.AddSA(ctx, someSA(first)))
	_, err = c.AllocSPI(ctx, asks)
	must(t, err)
}

// A thousand clients, one after the other, leave nothing behind.
func TestAThousandClients(t *testing.T) {
	path, s := serve(t, null.New(null.Options{}))
	count := func() (goroutines, files int) {
		all, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return runtime.NumGoroutine(), len(all)
	}
	goroutines, files := count()
	for i := range 1000 {
		c, err := Dial(ctx, path, AllEvents)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		if _, err := c.Totals(ctx); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		must(t, c.Close())
	}
	eventually(t, "all are gone", func() bool {
		g, f := count()
		return s.Clients() == 0 && g <= goroutines && f <= files
	})
}

// While one client takes its time over a dump of a hundred thousand SAs, and
// another none at all, the others go on.
func TestALongDump(t *testing.T) {
	b := null.New(null.Options{})
	path, _ := serve(t, b)
	const all = many
	for i := range all {
		must(t, b.AddSA(ctx, someSA(ipsec.SPI(1000+i))))
	}
	slow, other := dialTool(t, path), dial(t, path)
	deaf, err := net.Dial("unix", path)
	must(t, err)
	defer deaf.Close()
	say(t, deaf, &request{ID: 1, Op: opHello, Version: version})
	say(t, deaf, &request{ID: 2, Op: opDump, Query: &dataplane.Query{}})
	pages, n := 0, 0
	err = slow.pages(ctx, &request{Op: opDump, Query: &dataplane.Query{}}, func(a *answer) {
		if len(a.State.SAs) > pageSize {
			t.Errorf("a page of %d", len(a.State.SAs))
		}
		n += len(a.State.SAs)
		if pages++; pages%(all/pageSize/10) == 0 {
			must(t, other.AddSA(ctx, someSA(ipsec.SPI(all+1000+pages))))
			must(t, other.Enable(ctx, ipsec.ProtoAH, true))
		}
	})
	must(t, err)
	if n != all || pages != all/pageSize {
		t.Errorf("%d SAs in %d pages", n, pages)
	}
	st, err := b.Dump(ctx, dataplane.Query{})
	must(t, err)
	if len(st.SAs) != all+10 {
		t.Errorf("%d SAs", len(st.SAs))
	}
}

// Entries whose names are as long as may be come in shorter pages, and longer
// names are refused.
func TestLongNames(t *testing.T) {
	path, _ := serve(t, null.New(null.Options{}))
	c := dialTool(t, path)
	name := make([]byte, maxText)
	for i := range name {
		name[i] = '<' // six bytes in JSON
	}
	const n = 120 // more than a frame holds, less than a page
	for i := range n {
		sa := someSA(ipsec.SPI(1000 + i))
		sa.Conn, sa.LocalID, sa.RemoteID, sa.Flow = string(name), string(name), string(name), ipsec.FlowID(name)
		must(t, c.AddSA(ctx, sa))
		must(t, c.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: ipsec.Flow{ID: ipsec.FlowID(fmt.Sprint(i)), Conn: string(name)}}}))
	}
	st, err := c.Dump(ctx, dataplane.Query{})
	must(t, err)
	if len(st.SAs) != n || len(st.Flows) != n {
		t.Errorf("%d SAs and %d flows", len(st.SAs), len(st.Flows))
	}
	sa := someSA(1)
	sa.Conn = string(name) + "x"
	if err := c.AddSA(ctx, sa); err == nil {
		t.Error("a name without end")
	}
	if err := c.ApplyFlows(ctx, []ipsec.FlowChange{{Flow: ipsec.Flow{ID: ipsec.FlowID(sa.Conn)}}}); err == nil {
		t.Error("a name without end")
	}
	if err := c.ApplyFlows(ctx, make([]ipsec.FlowChange, maxFrame/100)); err == nil || errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("more than a frame: %v", err)
	}
	must(t, c.AddSA(ctx, someSA(1)))
}

// A few bytes of JSON do not become much memory.
func TestChangesAreBounded(t *testing.T) {
	doc := func(n int) string {
		s := make([]byte, 0, 3*n+2)
		for range n {
			s = append(s, ",{}"...)
		}
		s = append(s, ']')
		s[0] = '['
		return string(s)
	}
	var c flowChanges
	must(t, c.UnmarshalJSON([]byte(doc(maxChanges))))
	if len(c) != maxChanges {
		t.Errorf("%d changes", len(c))
	}
	for _, s := range []string{doc(maxChanges + 1), `{}`, `"x"`, `[1]`, `[{"Nope":1}]`} {
		if err := c.UnmarshalJSON([]byte(s)); err == nil {
			t.Errorf("%.20s was taken", s)
		}
	}
}
