package ipsecctl

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/show"
)

// fixed is a data plane that says what it was told to say.
type fixed struct {
	st       dataplane.State
	totals   dataplane.Totals
	messages chan dataplane.Message
	err      error
	asked    []string
	kernel   bool
}

func (f *fixed) Info() dataplane.Info { return dataplane.Info{Kernel: f.kernel} }

func (f *fixed) Dump(_ context.Context, q dataplane.Query) (dataplane.State, error) {
	f.asked = append(f.asked, "dump")
	return f.st, f.err
}

func (f *fixed) Totals(context.Context) (dataplane.Totals, error) {
	f.asked = append(f.asked, "totals")
	return f.totals, f.err
}

func (f *fixed) Flush(_ context.Context, o ipsec.Owner) error {
	f.asked = append(f.asked, "flush")
	if o != ipsec.OwnerAny {
		return errors.New("whose?")
	}
	f.st = dataplane.State{}
	return f.err
}

func (f *fixed) Monitor(context.Context) (<-chan dataplane.Message, error) {
	f.asked = append(f.asked, "monitor")
	return f.messages, f.err
}

func TestWords(t *testing.T) {
	for s, want := range map[string]What{
		"flow": Flows, "f": Flows, "sa": SAs, "a": All, "all": All, "e": Encap, "enc": Encap, "st": Stats, "stats": Stats,
	} {
		if got, err := ParseWhat(s); err != nil || got != want {
			t.Errorf("%s is %q, %v", s, got, err)
		}
	}
	for s, says := range map[string]string{
		"s":     `"s" is short for sa and stats`,
		"":      "there are flow, sa, all, encap, stats",
		"flows": `"flows" cannot be shown`,
		"SA":    `"SA" cannot be shown`,
		"rules": `"rules" cannot be shown`,
	} {
		if got, err := ParseWhat(s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is %q, %v; want an error with %q", s, got, err, says)
		}
	}
	for _, w := range whats {
		if seeing[w] == nil {
			t.Errorf("%s is a word, and nothing prints it", w)
		}
	}
}

func TestFlushComesFirst(t *testing.T) {
	p := &fixed{st: dataplane.State{SAs: make([]ipsec.SAState, 3)}, messages: make(chan dataplane.Message, 1)}
	p.messages <- dataplane.Message{Action: dataplane.ActionFlush}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that the end of the messages is what was wanted
	close(p.messages)
	var out strings.Builder
	c := Command{Monitor: true, Show: All, Flush: true}
	if err := c.Run(ctx, p, &out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.asked, " "); got != "flush dump monitor" {
		t.Errorf("asked for %s", got)
	}
	if want := "FLOWS:\nNo flows\n\nSAD:\nNo entries\n0001-01-01 00:00:00.000000 flush all SAs and flows\n"; out.String() != want {
		t.Errorf("printed %q", out.String())
	}
}

func TestAnEndThatNobodyWanted(t *testing.T) {
	p := &fixed{messages: make(chan dataplane.Message)}
	close(p.messages)
	c := Command{Monitor: true}
	if err := c.Run(t.Context(), p, &strings.Builder{}); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []Command{{Flush: true}, {Show: Flows}, {Show: SAs}, {Show: All}, {Show: Encap}, {Show: Stats}, {Monitor: true}} {
		var out strings.Builder
		if err := c.Run(t.Context(), &fixed{err: dataplane.ErrClosed}, &out); !errors.Is(err, dataplane.ErrClosed) || out.Len() > 0 {
			t.Errorf("%+v: %v, printed %q", c, err, &out)
		}
	}
}

// full takes some bytes and no more.
type full struct{ room, calls int }

var errFull = errors.New("no room")

func (f *full) Write(b []byte) (int, error) {
	f.calls++
	if len(b) > f.room {
		return 0, errFull
	}
	f.room -= len(b)
	return len(b), nil
}

// An output that takes no more ends the printing, at once and with its own error;
// nothing is collected before it is printed.
func TestOutputsThatEnd(t *testing.T) {
	p := &fixed{st: dataplane.State{SAs: make([]ipsec.SAState, 100_000), Flows: make([]ipsec.Flow, 100_000)}, messages: make(chan dataplane.Message, 1)}
	p.messages <- dataplane.Message{}
	for _, c := range []Command{{Show: Flows}, {Show: SAs, Verbose: 2}, {Show: All}, {Show: Encap}, {Monitor: true}} {
		var out *OutputError
		w := &full{room: 10}
		if err := c.Run(t.Context(), p, w); !errors.As(err, &out) || !errors.Is(err, errFull) || w.calls != 1 {
			t.Errorf("%+v: %v after %d calls", c, err, w.calls)
		}
	}
	w := &full{room: 1 << 30}
	c := Command{Show: SAs}
	if err := c.Run(t.Context(), p, w); err != nil || w.calls < 50 {
		t.Errorf("%v; %d SAs in %d writes", err, len(p.st.SAs), w.calls)
	}
}

// Keys come along for the names of algorithms; only -k prints them.
func TestKeysAreForThoseWhoAsk(t *testing.T) {
	p := &fixed{st: dataplane.State{SAs: []ipsec.SAState{{SA: ipsec.SA{
		ID: ipsec.SAID{Proto: ipsec.ProtoESP}, Cipher: ipsec.CipherAESCBC, Key: []byte("0123456789abcdef0123456789abcdef"), Auth: ipsec.AuthHMACSHA1,
	}}}}}
	for _, c := range []Command{{Show: SAs}, {Show: SAs, Verbose: 2}, {Show: All, Keys: true}} {
		var out strings.Builder
		if err := c.Run(t.Context(), p, &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "enc aes-256") || strings.Contains(out.String(), "30313233") != c.Keys {
			t.Errorf("%+v prints\n%s", c, &out)
		}
	}
}

func TestAgesAreThoseOfNow(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := &fixed{st: dataplane.State{SAs: []ipsec.SAState{{Added: at}}}}
	var out strings.Builder
	c := Command{Show: SAs, Verbose: 1, Now: at.Add(time.Minute)}
	if err := c.Run(t.Context(), p, &out); err != nil || !strings.Contains(out.String(), "2026-01-02 03:04:05 UTC, 1m0s ago") {
		t.Errorf("%v\n%s", err, &out)
	}
}

// The order does not depend on the order in which the data plane tells.
func TestSorted(t *testing.T) {
	flow := func(id ipsec.FlowID, order uint32) ipsec.Flow { return ipsec.Flow{ID: id, Order: order} }
	p := &fixed{st: dataplane.State{
		Flows: []ipsec.Flow{flow("b", 2), flow("c", 1), flow("a", 2)},
		SAs:   []ipsec.SAState{{SA: ipsec.SA{ID: ipsec.SAID{SPI: 2}}}, {SA: ipsec.SA{ID: ipsec.SAID{SPI: 1}}}},
	}}
	var out, want strings.Builder
	c := Command{Show: Flows, Verbose: 2}
	if err := c.Run(t.Context(), p, &out); err != nil {
		t.Fatal(err)
	}
	for _, f := range []ipsec.Flow{flow("c", 1), flow("a", 2), flow("b", 2)} {
		show.Flow(&want, &f, show.Options{Verbose: 2})
	}
	if out.String() != want.String() {
		t.Errorf("printed\n%swant\n%s", &out, &want)
	}
}
