package xfrm

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/xfrm/wire"
	"oakley/internal/ipsec"
)

// keeping is a plane with a journal, and what it logs.
func keeping(t testing.TB, k *fake, path string) (*Plane, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	p := planeOn(t, k, func(o *Options) {
		o.Journal, o.Log = path, slog.New(slog.NewTextHandler(&log, nil))
	})
	return p, &log
}

// picture is all that a plane says of its state, for comparing.
func picture(t *testing.T, p *Plane) string {
	t.Helper()
	st, err := p.Dump(ctx, dataplane.Query{Keys: true})
	must(t, err)
	var b strings.Builder
	for _, s := range st.SAs {
		s.Added = s.Added.Round(0).UTC()
		encap := s.SA.Encap
		s.SA.Encap = nil
		fmt.Fprintf(&b, "%+v %v\n", s, encap)
	}
	for _, f := range st.Flows {
		fmt.Fprintf(&b, "%+v\n", f)
	}
	fmt.Fprintf(&b, "off %v", st.Off)
	return b.String()
}

// furnish gives a plane one of everything.
func furnish(t *testing.T, p *Plane) {
	t.Helper()
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.ApplyFlows(ctx, tunnel("old", netA, netip.MustParsePrefix("10.9.0.0/24"), ipsec.FlowUse)))
	must(t, p.ApplyFlows(ctx, gone(tunnel("old", netA, netip.MustParsePrefix("10.9.0.0/24"), ipsec.FlowUse))))
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	spi, err := p.AllocSPI(ctx, dataplane.SPIRequest{Proto: ipsec.ProtoESP, Src: gw2, Dst: gw1})
	must(t, err)
	in := espIn("c", spi)
	in.Soft, in.Hard = ipsec.Lifetime{Bytes: 1000}, ipsec.Lifetime{Bytes: 2000, Time: time.Hour}
	in.IDs = ipsec.IDs{LocalID: "a.example", RemoteID: "b.example"}
	must(t, p.AddSA(ctx, in))
	udp := espOut("c", 0x1002)
	udp.ID.Port, udp.Encap = 4500, &ipsec.Encap{Local: netip.AddrPortFrom(gw1, 4500), Remote: netip.AddrPortFrom(gw2, 4500)}
	must(t, p.AddSA(ctx, udp))
	for i, proto := range []ipsec.Proto{ipsec.ProtoESP, ipsec.ProtoAH} {
		sa := espOut("m", ipsec.SPI(0x3000+i))
		sa.Owner, sa.Flow, sa.ID.Proto = ipsec.OwnerManual, "", proto
		sa.Bundle = ipsec.Place{ID: 9, Index: uint8(i), Of: 2}
		if proto == ipsec.ProtoAH {
			sa.Cipher, sa.Key, sa.Salt, sa.Auth, sa.AuthKey = ipsec.CipherNone, nil, nil, ipsec.AuthHMACSHA1, filled(20)
		}
		must(t, p.AddSA(ctx, sa))
	}
	moved := netip.MustParseAddrPort("192.0.2.2:1025")
	must(t, p.UpdateSA(ctx, udp.ID, ipsec.SAUpdate{Remote: &moved}))
	must(t, p.AddSA(ctx, espOut("c", 0x1009)))
	must(t, p.DeleteSA(ctx, espOut("c", 0x1009).ID))
	must(t, p.Enable(ctx, ipsec.ProtoIPComp, false))
}

// TestAdoptedAfterACrash: the next process finds everything as the last one left
// it, and tells the kernel nothing.
func TestAdoptedAfterACrash(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	furnish(t, p)
	before := picture(t, p)
	for i := range 3 {
		p.Close()
		clear(k.requests)
		p, _ = keeping(t, k, path)
		if after := picture(t, p); after != before {
			t.Fatalf("start %d:\n%s", i+2, cmp.Diff(before, after))
		}
		for typ, n := range k.requests {
			if typ != wire.GetSA {
				t.Errorf("start %d: %d times %s, want nothing changed", i+2, n, typ)
			}
		}
	}
	// What was adopted can be used and removed.
	must(t, p.AddSA(ctx, espOut("c", 0x1003)))
	must(t, p.Flush(ctx, ipsec.OwnerAny))
	if sas, policies := k.count(); sas+policies != 0 {
		t.Errorf("%d SAs and %d policies are left", sas, policies)
	}
}

// TestWithoutAJournal: what a predecessor left that nobody knows is cleared, and
// what others left is not.
func TestWithoutAJournal(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	theirs := wire.Policy{Sel: selectorOf(&ipsec.Selector{Src: netB, Dst: netB}), Limits: wire.NoLimits(), Dir: wire.DirOut, Templates: []wire.Template{{ReqID: 7, Proto: 50, Family: wire.FamilyIPv4}}}
	must(t, k.as(othersPID, wire.NewPolicy, theirs.Append(nil)))
	sa := encode(espOut("x", 0x7777), encoding{reqid: 7})
	must(t, k.as(othersPID, wire.NewSA, sa.Append(nil)))

	p, _ := keeping(t, k, path)
	furnish(t, p)
	p.Close()
	must(t, os.Remove(path))
	p, log := keeping(t, k, path)
	if sas, policies := k.count(); sas != 1 || policies != 1 {
		t.Errorf("%d SAs and %d policies, want those of others", sas, policies)
	}
	if !strings.Contains(log.String(), "cleared") {
		t.Errorf("nothing was said: %s", log)
	}
	if st, err := p.Dump(ctx, dataplane.Query{}); err != nil || len(st.SAs)+len(st.Flows) != 0 {
		t.Errorf("%v %v", st, err)
	}
}

// TestKilledWhileOneWaits: an SA that is to wait does so in the next process too,
// and no longer: its peer may not listen on it yet.
func TestKilledWhileOneWaits(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	second := espOut("c", 0x1002)
	second.Defer = time.Hour
	must(t, p.AddSA(ctx, second))
	pinned := func(want uint32) {
		t.Helper()
		if got := k.policy(wire.DirOut, "10.2.0.0/24").Templates[0].SPI; got != want {
			t.Errorf("pinned to %x, want %x", got, want)
		}
	}
	pinned(0x1001)
	p.Close()
	p, _ = keeping(t, k, path)
	pinned(0x1001)
	p.book.sas[second.ID].added = p.book.sas[second.ID].added.Add(-time.Hour)
	p.journal.rewrite(p.records())
	p.Close()
	keeping(t, k, path)
	pinned(0) // the kernel takes the newest by itself
}

// TestHalfAnUpdate: of an update the first part went well and the second did not.
// The next process finds the SA as it is.
func TestHalfAnUpdate(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	sa := espOut("c", 0x1001)
	sa.Flow = ""
	must(t, p.AddSA(ctx, sa))
	k.refuse = func(typ wire.Type, _ []byte) error {
		if typ == wire.UpdSA {
			return unix.ENOMEM
		}
		return nil
	}
	u := ipsec.SAUpdate{Bundle: &ipsec.Place{ID: 3, Index: 0, Of: 2}, Hard: &ipsec.Lifetime{Bytes: 7}}
	if err := p.UpdateSA(ctx, sa.ID, u); !errors.Is(err, unix.ENOMEM) {
		t.Fatal(err)
	}
	k.refuse = nil
	before := picture(t, p)
	p.Close()
	p, _ = keeping(t, k, path)
	if after := picture(t, p); after != before || len(p.book.sas) != 1 {
		t.Errorf("%d SAs\n%s", len(p.book.sas), cmp.Diff(before, after))
	}
}

// TestAnotherMark: what bears another mark than now wanted is made anew.
func TestAnotherMark(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	furnish(t, p)
	p.Close()
	p = planeOn(t, k, func(o *Options) { o.Journal, o.Mark = path, &wire.Mark{Value: 5, Mask: 0xff} })
	if sas, policies := k.count(); sas != 0 || policies != 3 {
		t.Errorf("%d SAs and %d policies, want the policies of two flows", sas, policies)
	}
	for _, w := range k.policies {
		if !sameMark(w.Mark, p.opt.Mark) {
			t.Errorf("mark %+v", w.Mark)
		}
	}
}

// TestWhileNobodyWasThere: what happened between two processes.
func TestWhileNobodyWasThere(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	furnish(t, p)
	p.Close()
	k.mu.Lock()
	delete(k.sas, kernelKey{gw2, 0x1001, 50}) // its time was over
	k.policies = slices.DeleteFunc(k.policies, func(w *wire.Policy) bool { return w.Dir == wire.DirFwd })
	for _, w := range k.policies {
		if w.Dir == wire.DirOut {
			w.Action = wire.Block // somebody meddled
		}
	}
	k.mu.Unlock()
	p, _ = keeping(t, k, path)
	if _, err := p.GetSA(ctx, espOut("c", 0x1001).ID); !errors.Is(err, dataplane.ErrNoSA) {
		t.Errorf("an SA that ended: %v", err)
	}
	if w := k.policy(wire.DirOut, "10.2.0.0/24"); w.Action != wire.Allow || len(w.Templates) != 1 {
		t.Errorf("the policy is still as somebody made it: %+v", w)
	}
	if k.policy(wire.DirFwd, "10.1.0.0/24") == nil {
		t.Error("the policy for what passes through is not back")
	}
}

// TestWornMeanwhile: a soft limit that was reached while nobody listened, or of
// which the word was lost, is told later, once.
func TestWornMeanwhile(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	byBytes, byTime, fresh := espIn("c", 0x2001), espIn("c", 0x2002), espIn("c", 0x2003)
	byBytes.Soft.Bytes, byTime.Soft.Time, fresh.Soft = 100, time.Hour, ipsec.Lifetime{Bytes: 100, Time: time.Hour}
	for _, sa := range []*ipsec.SA{byBytes, byTime, fresh} {
		must(t, p.AddSA(ctx, sa))
	}
	p.Close()
	k.sas[kernelKey{gw1, 0x2001, 50}].Usage.Bytes = 100
	p, _ = keeping(t, k, path)
	if e := next[dataplane.Expire](t, p); e != (dataplane.Expire{SA: byBytes.ID}) {
		t.Errorf("%+v after a restart", e)
	}
	k.mu.Lock()
	k.sas[kernelKey{gw1, 0x2002, 50}].Usage.Added -= 3600
	k.mu.Unlock()
	k.lose(wire.GroupExpire)
	if e := next[dataplane.Expire](t, p); e != (dataplane.Expire{SA: byTime.ID}) {
		t.Errorf("%+v after events were lost", e)
	}
	next[dataplane.Lost](t, p)
	p.Close()
	p, _ = keeping(t, k, path)
	must(t, p.DeleteSA(ctx, fresh.ID))
	select {
	case e := <-p.Events():
		t.Errorf("%+v is told twice", e)
	default:
	}
}

// TestHalfALine: the machine lost power, or the disk was full.
func TestHalfALine(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	furnish(t, p)
	before := picture(t, p)
	p.Close()
	whole, err := os.ReadFile(path)
	must(t, err)
	if bytes.Contains(whole, []byte(`"Key":"`)) || bytes.Contains(whole, filled(16)) {
		t.Error("keys are in the journal")
	}
	must(t, os.WriteFile(path, append(whole, `{"DelFlow":"c/o`...), 0o600))
	p, log := keeping(t, k, path)
	if after := picture(t, p); after != before || !strings.Contains(log.String(), "left out") {
		t.Errorf("%s\n%s", cmp.Diff(before, after), log)
	}
	p.Close()
	must(t, os.Remove(path+".2"))
	for n := 0; n < len(whole); n += 97 { // wherever it ends, it is read
		must(t, os.WriteFile(path, whole[:n], 0o600))
		j, _, err := openJournal(path, "", slog.New(slog.DiscardHandler))
		must(t, err)
		j.close()
	}
	must(t, os.WriteFile(path, []byte(strings.Repeat("x", maxLine+10)+"\n{}\n"), 0o600))
	j, _, err := openJournal(path, "", slog.New(slog.DiscardHandler))
	must(t, err)
	j.close()
}

// TestTheJournalStaysShort: it does not grow for ever.
func TestTheJournalStaysShort(t *testing.T) {
	k, path := newFake(), filepath.Join(t.TempDir(), "kernel.journal")
	p, _ := keeping(t, k, path)
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	for i := range 3000 {
		must(t, p.AddSA(ctx, espOut("c", ipsec.SPI(0x1000+i))))
		if i > 0 {
			must(t, p.DeleteSA(ctx, espOut("c", ipsec.SPI(0x1000+i-1)).ID))
		}
	}
	before := picture(t, p)
	p.Close()
	text, err := os.ReadFile(path)
	must(t, err)
	second, err := os.ReadFile(path + ".2")
	must(t, err)
	if n := bytes.Count(text, []byte("\n")) + bytes.Count(second, []byte("\n")); n == 0 || n > 1100 {
		t.Errorf("%d lines for one SA and two flows", n)
	}
	p, _ = keeping(t, k, path)
	if after := picture(t, p); after != before {
		t.Error(cmp.Diff(before, after))
	}
}

// TestOneAtATime: two processes cannot have the kernel.
func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kernel.journal")
	keeping(t, newFake(), path)
	_, err := New(Options{Abilities: all(), kernel: newFake(), noPort: true, Journal: path})
	if !errors.Is(err, unix.EWOULDBLOCK) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second one: %v", err)
	}
}

// TestADiskThatIsFull: traffic goes on, and it is said once.
func TestADiskThatIsFull(t *testing.T) {
	k := newFake()
	p, log := keeping(t, k, filepath.Join(t.TempDir(), "kernel.journal"))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	for i := range p.journal.files {
		p.journal.files[i].Close()
		p.journal.files[i] = full
	}
	must(t, p.ApplyFlows(ctx, tunnel("c", netA, netB, ipsec.FlowRequire)))
	must(t, p.AddSA(ctx, espOut("c", 0x1001)))
	if n := strings.Count(log.String(), "cannot be kept"); n != 1 {
		t.Errorf("it is said %d times: %s", n, log)
	}
}
