package iketest

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"oakley/internal/dh"
	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// duo is two engines with nothing between them: what one sends the other gets at
// once, and requests are carried out on the spot and kept nowhere. For measuring
// engines alone.
type duo struct {
	tb     testing.TB
	now    time.Time
	side   [2]*ike.Engine
	spent  [2]time.Duration // by each side, its arithmetic included
	dh     [2]time.Duration // of which arithmetic
	clock  bool             // measure spent
	spi    ipsec.SPI
	queue  []parcel
	phase2 int
}

type parcel struct {
	to int
	in ike.Input
}

func (d *duo) input(to int, in ike.Input) {
	d.queue = append(d.queue, parcel{to, in})
	for len(d.queue) > 0 {
		p := d.queue[0]
		d.queue = d.queue[1:]
		d.handle(p)
	}
}

func (d *duo) handle(p parcel) {
	var began time.Time
	if d.clock {
		began = time.Now()
	}
	e := d.side[p.to]
	e.Handle(d.now, p.in)
	for {
		o, ok := e.Poll()
		if !ok {
			break
		}
		d.output(p.to, o)
	}
	if d.clock {
		d.spent[p.to] += time.Since(began)
	}
}

func (d *duo) output(from int, o ike.Output) {
	back := func(in ike.Input) { d.queue = append(d.queue, parcel{from, in}) }
	switch o := o.(type) {
	case ike.Transmit:
		d.queue = append(d.queue, parcel{1 - from, ike.Datagram{Local: o.Remote, Remote: o.Local, Data: o.Data}})
	case ike.AllocSPI:
		d.spi++
		back(ike.SPIAllocated{ID: o.ID, SPI: 0x1000 + d.spi})
	case ike.InstallSA:
		back(ike.SAInstalled{ID: o.ID})
	case ike.QueryPolicy:
		back(ike.PolicyAnswer{ID: o.ID, Allow: []bool{true}})
	case ike.DiffieHellman:
		began := time.Now()
		r := ike.DHDone{ID: o.ID, Private: o.Private}
		if r.Private == nil {
			g, err := dh.Lookup(o.Group)
			if err != nil {
				d.tb.Fatal(err)
			}
			if r.Private, err = g.Generate(rand.Reader); err != nil {
				d.tb.Fatal(err)
			}
		}
		if o.Peer != nil {
			if r.Shared, r.Err = r.Private.Shared(o.Peer); r.Err != nil {
				d.tb.Fatal(r.Err)
			}
		}
		d.dh[from] += time.Since(began)
		back(r)
	case ike.Phase2Up:
		d.phase2++
	case ike.Failed:
		d.tb.Fatal(o)
	}
}

// BenchmarkHandshake is main mode and quick mode with a pre-shared key, and what
// each side spends on them: its own arithmetic included, the data plane's work
// not.
func BenchmarkHandshake(b *testing.B) {
	for _, c := range []struct {
		name string
		t    ike.Phase1Transform
		s    ike.Suite
	}{
		{"modp2048", Phase1(doi.CipherAES, 128, doi.HashSHA1, doi.GroupMODP2048), AESESP},
		{"modp2048-pfs", Phase1(doi.CipherAES, 128, doi.HashSHA1, doi.GroupMODP2048), ESP(doi.ESPAES, 128, doi.AuthHMACSHA1, doi.GroupMODP2048)},
		{"modp1024-3des", Phase1(doi.Cipher3DES, 0, doi.HashSHA1, doi.GroupMODP1024), ESP(doi.ESP3DES, 0, doi.AuthHMACSHA1, 0)},
		{"curve25519", AES, AESESP},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := Setup{Phase1: []ike.Phase1Transform{c.t}, Suites: []ike.Suite{c.s}}
			d := &duo{tb: b, now: Epoch, clock: true}
			b.ReportAllocs()
			for b.Loop() {
				west := Config("east", "198.51.100.2", "10.1.0.0/16", "10.2.0.0/16", s)
				west.Peers[0].Local = addr("192.0.2.1")
				d.side[0] = ike.New(west, rand.Reader)
				d.side[1] = ike.New(Config("west", "192.0.2.1", "10.2.0.0/16", "10.1.0.0/16", s), rand.Reader)
				d.input(0, ike.Initiate{Conn: "vpn"})
			}
			if d.phase2 != 2*b.N {
				b.Fatalf("%d of %d came up", d.phase2/2, b.N)
			}
			ms := func(t time.Duration) float64 { return t.Seconds() * 1000 / float64(b.N) }
			b.ReportMetric(ms(d.spent[0]), "initiator-ms")
			b.ReportMetric(ms(d.spent[1]), "responder-ms")
			b.ReportMetric(ms(d.dh[0]), "initiator-dh-ms")
			b.ReportMetric(ms(d.dh[1]), "responder-dh-ms")
		})
	}
}

// TestHeapPerPair measures what an established ISAKMP SA with a pair of IPsec SAs
// keeps alive in an engine that has thousands of them, keys and caches for
// duplicates included, configuration not.
func TestHeapPerPair(t *testing.T) {
	n := 4000
	if raceEnabled || testing.Short() {
		n = 500
	}
	d := &duo{tb: t, now: Epoch}
	at := func(net byte, i int) netip.Addr { return netip.AddrFrom4([4]byte{10, net, byte(i >> 8), byte(i)}) }
	names := make([]string, n)
	for side := range 2 {
		cfg := &ike.Config{}
		for i := range n {
			names[i] = fmt.Sprintf("c%05d", i)
			p := &ike.Peer{
				Name: fmt.Sprintf("p%05d", i), Local: at(byte(1+side), i), Address: at(byte(2-side), i),
				Key: []byte(PSK), Transforms: []ike.Phase1Transform{AES},
			}
			cfg.Peers = append(cfg.Peers, p)
			cfg.Connections = append(cfg.Connections, &ike.Connection{Name: names[i], Peer: p, Suites: []ike.Suite{AESESP}})
		}
		d.side[side] = ike.New(cfg.Defaults(), rand.Reader)
	}
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	for i := range n {
		d.input(0, ike.Initiate{Conn: names[i]})
		d.now = d.now.Add(time.Millisecond)
	}
	if d.phase2 != 2*n {
		t.Fatalf("%d of %d pairs came up", d.phase2/2, n)
	}
	d.queue = nil
	report := func(when string, limit float64) {
		per := (float64(live()) - float64(before)) / float64(2*n) / 1024
		t.Logf("%s: %.2f KiB for each of %d pairs", when, per, n)
		if per > limit && !raceEnabled {
			t.Errorf("%s: %.2f KiB for each pair, %.0f are the bound", when, per, limit)
		}
	}
	report("just up", 6)
	d.now = d.now.Add(3 * time.Minute) // the caches for duplicates go
	for side := range 2 {
		d.input(side, ike.Timeout{})
	}
	report("three minutes later", 6)
	runtime.KeepAlive(d)
}
