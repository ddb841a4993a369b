package main

import (
	"bytes"
	"context"
	"flag"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/null"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

var update = flag.Bool("update", false, "write the golden files anew")

const patience = 10 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	lab.RemoveBuilds()
	os.Exit(code)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// told is a data plane in which there is what a test says, keys included.
type told struct {
	*null.Plane
	state  dataplane.State
	totals dataplane.Totals
}

func (p *told) Dump(ctx context.Context, q dataplane.Query) (dataplane.State, error) {
	if _, err := p.Plane.Dump(ctx, q); err != nil {
		return dataplane.State{}, err
	}
	return p.state, nil
}

func (p *told) Totals(context.Context) (dataplane.Totals, error) { return p.totals, nil }

func (p *told) Flush(ctx context.Context, o ipsec.Owner) error {
	p.state = dataplane.State{Off: p.state.Off}
	return p.Plane.Flush(ctx, o)
}

// serve lets programs use a data plane.
func serve(t testing.TB, b dataplane.Backend) (socket string, s *ipsecd.Server) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socket})
	must(t, err)
	s = ipsecd.NewServer(b, -1, nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		b.Close()
		s.Close()
	})
	return socket, s
}

// example is the state that ipsec.conf's documentation prints, and more.
func example() *told {
	began := time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)
	a, b := netip.MustParseAddr("192.168.3.1"), netip.MustParseAddr("192.168.3.2")
	ids := ipsec.IDs{LocalID: "a.example", RemoteID: "b.example"}
	out := ipsec.Flow{
		ID: "a-b/out", Selector: ipsec.Selector{Src: netip.MustParsePrefix("10.1.1.0/24"), Dst: netip.MustParsePrefix("10.1.2.0/24")},
		Order: 65536, Local: a, Remote: b, Proto: ipsec.ProtoESP, Owner: ipsec.OwnerIKE, Conn: "a-b", IDs: ids,
	}
	in := out
	in.ID, in.Dir, in.Selector = "a-b/in", ipsec.In, out.Selector.Reverse()
	sa := ipsec.SAState{
		SA: ipsec.SA{
			ID: ipsec.SAID{Proto: ipsec.ProtoESP, SPI: 0xabd9da39, Dst: b}, Src: a, Selector: out.Selector, Flow: out.ID,
			Cipher: ipsec.CipherAESCBC, Key: []byte("0123456789abcdef"), Auth: ipsec.AuthHMACSHA256, AuthKey: []byte("0123456789abcdef0123456789abcdef"),
			Owner: ipsec.OwnerIKE, Conn: "a-b", IDs: ids, Replay: 64,
			Soft: ipsec.Lifetime{Time: 18 * time.Minute}, Hard: ipsec.Lifetime{Time: 20 * time.Minute},
		},
		Added: began, LastUse: began.Add(time.Minute), Packets: 12, Bytes: 1440, Seq: 12,
	}
	back := sa
	back.SA.ID, back.SA.Src, back.SA.Selector, back.SA.Flow = ipsec.SAID{Dir: ipsec.In, Proto: ipsec.ProtoESP, SPI: 0x1234, Dst: a}, b, in.Selector, in.ID
	back.Added = began.Add(time.Second)
	back.Drops[ipsec.DropReplay], back.Drops[ipsec.DropAuth] = 3, 1
	p := &told{Plane: null.New(null.Options{})}
	p.state = dataplane.State{SAs: []ipsec.SAState{back, sa}, Flows: []ipsec.Flow{out, in}, Off: []ipsec.Proto{ipsec.ProtoAH}}
	p.state.Drops[ipsec.DropUnknownSPI] = 7
	p.totals = dataplane.Totals{Since: began, Drops: p.state.Drops, Protos: []dataplane.ProtoTotals{
		{Proto: ipsec.ProtoESP, SAs: 2, In: dataplane.Traffic{Packets: 12, Bytes: 1440}, Out: dataplane.Traffic{Packets: 12, Bytes: 1440}, DropsIn: back.Drops},
		{Proto: ipsec.ProtoAH},
	}}
	return p
}

// ages are those of now; what is printed of them is not to be in a golden file.
func withoutAges(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "\tadded:") || strings.HasPrefix(line, "\tlast use:") {
			line, _, _ = strings.Cut(line, ", ")
			line = strings.TrimSuffix(line, "\n") + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

func TestWhatIsPrinted(t *testing.T) {
	socket, _ := serve(t, example())
	for name, args := range map[string][]string{
		"flow":    {"-s", "flow"},
		"flow-vv": {"-vv", "-s", "f"},
		"sa":      {"-s", "sa"},
		"sa-k":    {"-k", "-ssa"},
		"sa-v":    {"-v", "-s", "sa"},
		"sa-vv":   {"-vvs", "sa"},
		"all":     {"-s", "all"},
		"encap":   {"-s", "enc"},
		"stats":   {"-s", "stats"},
	} {
		var out, errs bytes.Buffer
		if code := run(append(args, "-S", socket), &out, &errs); code != exitOK || errs.Len() > 0 {
			t.Errorf("%v: %d %s", args, code, &errs)
		}
		file := filepath.Join("testdata", name+".golden")
		got := withoutAges(out.String())
		if *update {
			must(t, os.WriteFile(file, []byte(got), 0o644))
			continue
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if got != string(want) {
			t.Errorf("%v printed\n%s\nwant\n%s", args, got, want)
		}
	}
}

func TestNothingIsThere(t *testing.T) {
	p := example()
	socket, _ := serve(t, p)
	for _, c := range []struct{ args, want string }{
		{"-F", ""},
		{"-s all", "FLOWS:\nNo flows\n\nSAD:\nNo entries\n"},
		{"-s flow", ""},
		{"-s sa", ""},
		{"-s encap", "Routing tables\n\nEncap:\nSource             Port  Destination        Port  Proto SA(Address/SPI/Proto/Type/Direction)\n"},
	} {
		var out, errs bytes.Buffer
		if code := run(append(strings.Fields(c.args), "--socket", socket), &out, &errs); code != exitOK || out.String() != c.want || errs.Len() > 0 {
			t.Errorf("%s: %d, printed\n%s%swant\n%s", c.args, code, &out, &errs, c.want)
		}
	}
}

func TestTheCommandLine(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	stale := filepath.Join(t.TempDir(), "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: stale})
	must(t, err)
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--help", exitOK, "--monitor"},
		{"", exitUsage, "one of -s, -F and -m is wanted"},
		{"-k", exitUsage, "one of -s, -F and -m is wanted"},
		{"-s", exitUsage, "flag needs an argument"},
		{"-s s", exitUsage, `"s" is short for sa and stats`},
		{"-s rules", exitUsage, "there are flow, sa, all, encap, stats"},
		{"-s sa more", exitUsage, `there is "more"`},
		{"-f /etc/ipsec.conf", exitUsage, "unknown shorthand flag: 'f'"},
		{"-n", exitUsage, "usage:"},
		{"-d", exitUsage, "usage:"},
		{"-D x=y", exitUsage, "usage:"},
		{"-c", exitUsage, "usage:"},
		{"-i fifo", exitUsage, "usage:"},
		{"-s sa -S " + nowhere, exitFailed, "nobody listens at " + nowhere},
		{"-s sa -S " + stale, exitFailed, "nobody listens at " + stale},
		{"-F -S " + nowhere, exitFailed, "nobody listens at " + nowhere},
		{"-m -S " + nowhere, exitFailed, "nobody listens at " + nowhere},
	} {
		var out, errs bytes.Buffer
		if code := run(strings.Fields(c.args), &out, &errs); code != c.code || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("%q: %d\n%s%s\nwant %d and %q", c.args, code, &out, &errs, c.code, c.says)
		}
	}
}

func TestTheManualKnowsEveryFlag(t *testing.T) {
	text, err := os.ReadFile("../../docs/man/ipsecctl.8")
	must(t, err)
	new(flags).set().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(string(text), "\n.It Fl "+f.Shorthand) || !strings.Contains(string(text), "Fl -"+f.Name) {
			t.Errorf("-%s, --%s is not in ipsecctl(8)", f.Shorthand, f.Name)
		}
		if !strings.Contains(usageLine, f.Shorthand) {
			t.Errorf("-%s is not in the usage line", f.Shorthand)
		}
	})
}

// hungUp is an output whose reader is gone.
type hungUp struct{}

func (hungUp) Write([]byte) (int, error) { return 0, unix.EPIPE }

// full is an output without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestOutputs(t *testing.T) {
	socket, _ := serve(t, example())
	var errs bytes.Buffer
	if code := run([]string{"-s", "sa", "-S", socket}, hungUp{}, &errs); code != exitOK || errs.Len() > 0 {
		t.Errorf("our reader had enough: %d %s", code, &errs)
	}
	if code := run([]string{"-s", "sa", "-S", socket}, full{}, &errs); code != exitFailed || !strings.Contains(errs.String(), "printing: no space left") {
		t.Errorf("no room: %d %s", code, &errs)
	}
}
