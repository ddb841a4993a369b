package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"oakley/internal/dh"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
	"oakley/internal/lab"
)

// A session is the life of one engine as lines of text: what came in, with its
// time, and what the engine made of it. Randomness has a fixed seed, so the same
// inputs make the same outputs, byte for byte, without a network:
//
//	0.012345678 in datagram 192.0.2.2:500 198.51.100.2:500 6f2c...
//	out transmit 192.0.2.2:500 198.51.100.2:500 6f2c...
//
// It is recorded by an engine in the test's own process, with sockets on a host
// of the lab; isakmpd has no switch for it.
type session struct {
	engine *ike.Engine
	dhRand *rand.ChaCha8
	dh     map[ike.RequestID]ike.DiffieHellman // asked for, not answered
	spis   uint32
	lines  []string
	events []ike.Output
	todo   []string                                 // answers to requests, as lines of input
	send   func(local, to netip.AddrPort, b []byte) // nil in a replay
}

// epoch is the time at which every session begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newSession(cfg *ike.Config, seed byte) *session {
	return &session{
		engine: ike.New(cfg, rand.NewChaCha8([32]byte{seed})),
		dhRand: rand.NewChaCha8([32]byte{seed, 1}),
		dh:     map[ike.RequestID]ike.DiffieHellman{},
		spis:   0x1000,
	}
}

// input gives the engine one line of input, and then the answers to what it
// asked for because of it.
func (s *session) input(at time.Duration, line string) error {
	in, err := s.parse(line)
	if err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	s.lines = append(s.lines, fmt.Sprintf("%.9f in %s", at.Seconds(), line))
	s.engine.Handle(epoch.Add(at), in)
	for {
		o, ok := s.engine.Poll()
		if !ok {
			return nil
		}
		s.lines = append(s.lines, "out "+s.output(o))
	}
}

// parse makes an input of a line without its time.
func (s *session) parse(line string) (ike.Input, error) {
	word, rest, _ := strings.Cut(line, " ")
	var id ike.RequestID
	switch word {
	case "start":
		return ike.Start{}, nil
	case "timeout":
		return ike.Timeout{}, nil
	case "shutdown":
		return ike.Shutdown{}, nil
	case "datagram":
		var local, remote, data string
		if _, err := fmt.Sscan(rest, &local, &remote, &data); err != nil {
			return nil, err
		}
		b, err := hex.DecodeString(data)
		l, err1 := netip.ParseAddrPort(local)
		r, err2 := netip.ParseAddrPort(remote)
		return ike.Datagram{Local: l, Remote: r, Data: b}, errors.Join(err, err1, err2)
	case "spi":
		var spi uint32
		_, err := fmt.Sscanf(rest, "%d %x", &id, &spi)
		return ike.SPIAllocated{ID: id, SPI: ipsec.SPI(spi)}, err
	case "installed":
		_, err := fmt.Sscanf(rest, "%d", &id)
		return ike.SAInstalled{ID: id}, err
	case "allowed":
		n := 0
		_, err := fmt.Sscanf(rest, "%d %d", &id, &n)
		return ike.PolicyAnswer{ID: id, Allow: allYes(n)}, err
	case "dh":
		if _, err := fmt.Sscanf(rest, "%d", &id); err != nil {
			return nil, err
		}
		return s.diffieHellman(id)
	}
	return nil, errors.New("no such input")
}

// allYes is n times yes.
func allYes(n int) []bool {
	all := make([]bool, n)
	for i := range all {
		all[i] = true
	}
	return all
}

func (s *session) diffieHellman(id ike.RequestID) (ike.Input, error) {
	q, ok := s.dh[id]
	if !ok {
		return nil, errors.New("the engine did not ask for it")
	}
	delete(s.dh, id)
	g, err := dh.Lookup(q.Group)
	if err != nil {
		return nil, err
	}
	r := ike.DHDone{ID: id, Private: q.Private}
	if r.Private == nil {
		r.Private, r.Err = g.Generate(s.dhRand)
	}
	if q.Peer != nil && r.Err == nil {
		r.Shared, r.Err = r.Private.Shared(q.Peer)
	}
	return r, nil
}

// output writes an output down, and does what it asks for.
func (s *session) output(o ike.Output) string {
	answer := func(format string, args ...any) { s.todo = append(s.todo, fmt.Sprintf(format, args...)) }
	switch o := o.(type) {
	case ike.Transmit:
		if s.send != nil {
			s.send(o.Local, o.Remote, o.Data)
		}
		return fmt.Sprintf("transmit %s %s %x", o.Local, o.Remote, o.Data)
	case ike.KeepAlive:
		return fmt.Sprintf("keepalive %s %s", o.Local, o.Remote)
	case ike.AllocSPI:
		s.spis++
		answer("spi %d %08x", o.ID, s.spis)
		return fmt.Sprintf("alloc-spi %d %s %s %s", o.ID, o.Proto, o.Src, o.Dst)
	case ike.InstallSA:
		answer("installed %d", o.ID)
		text := fmt.Sprintf("install %d", o.ID)
		for _, sa := range o.SAs {
			// Keys are pinned by their digest: a recording shows none.
			sum := sha256.Sum256(bytes.Join([][]byte{sa.Key, sa.Salt, sa.AuthKey}, []byte{0}))
			text += fmt.Sprintf("; %s %s %s %s keys %x encap %v", sa.ID, sa.Cipher, sa.Auth, sa.Selector, sum[:8], encap(sa.Encap))
		}
		return text
	case ike.DiffieHellman:
		s.dh[o.ID] = o
		answer("dh %d", o.ID)
		return fmt.Sprintf("diffie-hellman %d %s peer %x", o.ID, o.Group, o.Peer)
	case ike.QueryPolicy:
		answer("allowed %d %d", o.ID, len(o.Proposals))
		return fmt.Sprintf("query-policy %d %s %d proposals", o.ID, o.Conn, len(o.Proposals))
	case ike.DeleteSA:
		return fmt.Sprintf("delete %v", o.SAs)
	case ike.UpdateSA:
		return fmt.Sprintf("update %s", o.SA)
	}
	s.events = append(s.events, o)
	return fmt.Sprintf("event %T", o) // its words may change
}

func encap(e *ipsec.Encap) string {
	if e == nil {
		return "none"
	}
	return fmt.Sprintf("%s-%s", e.Local, e.Remote)
}

// arrival is a datagram that came in.
type arrival struct {
	local, remote netip.AddrPort
	data          []byte
}

// live is a session with sockets on a host.
type live struct {
	*session
	start time.Time
	in    chan arrival
	conns map[uint16]*net.UDPConn
}

// startLive opens the ports of IKE on a host and starts an engine on them.
func startLive(h *lab.Host, addr netip.Addr, cfg *ike.Config, seed byte) (*live, error) {
	l := &live{session: newSession(cfg, seed), start: time.Now(), in: make(chan arrival, 100), conns: map[uint16]*net.UDPConn{}}
	for _, port := range []uint16{500, 4500} {
		c, err := h.ListenUDP(netip.AddrPortFrom(addr, port))
		if err != nil {
			l.close()
			return nil, err
		}
		l.conns[port] = c
		go l.read(c, netip.AddrPortFrom(addr, port))
	}
	l.send = l.write
	return l, nil
}

func (l *live) close() {
	for _, c := range l.conns {
		c.Close()
	}
}

var marker = []byte{0, 0, 0, 0} // RFC 3948 section 2.2

func (l *live) read(c *net.UDPConn, local netip.AddrPort) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		data := bytes.Clone(buf[:n])
		if local.Port() == 4500 {
			ok := false
			if data, ok = bytes.CutPrefix(data, marker); !ok {
				continue // ESP, or a keepalive
			}
		}
		l.in <- arrival{local, from, data}
	}
}

func (l *live) write(local, to netip.AddrPort, b []byte) {
	port := local.Port()
	if port == 0 {
		port = 500
	}
	if port == 4500 {
		b = append(bytes.Clone(marker), b...)
	}
	_, _ = l.conns[port].WriteToUDPAddrPort(b, to) // what is lost is sent again
}

// give is an input that happens now, with all that follows at once.
func (l *live) give(line string) error {
	l.todo = append(l.todo, line)
	for len(l.todo) > 0 {
		next := l.todo[0]
		l.todo = l.todo[1:]
		if err := l.input(time.Since(l.start), next); err != nil {
			return err
		}
	}
	return nil
}

// run passes datagrams and time on to the engine until done says so.
func (l *live) run(ctx context.Context, done func() bool) error {
	look := time.NewTicker(20 * time.Millisecond) // done may depend on the other side
	defer look.Stop()
	for !done() {
		now := epoch.Add(time.Since(l.start))
		var due <-chan time.Time
		if at, ok := l.engine.Deadline(); ok {
			due = time.After(at.Sub(now))
		}
		var err error
		select {
		case a := <-l.in:
			err = l.give(fmt.Sprintf("datagram %s %s %x", a.local, a.remote, a.data))
		case <-due:
			err = l.give("timeout")
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: the session so far:\n%s\n%s", ctx.Err(), strings.Join(l.lines, "\n"), l.engine.Dump())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replay feeds a recording's inputs to a new engine and returns where what it
// does differs from what is recorded.
func replay(cfg *ike.Config, seed byte, recorded []string) error {
	s := newSession(cfg, seed)
	for i, line := range recorded {
		at, in, isInput := strings.Cut(line, " in ")
		if !isInput || strings.HasPrefix(line, "out ") {
			continue
		}
		d, err := time.ParseDuration(at + "s")
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if err := s.input(d, in); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if len(s.lines) > len(recorded) {
			return fmt.Errorf("line %d: the engine does more than was recorded:\n%s", i+1, strings.Join(s.lines[len(recorded):], "\n"))
		}
		for k := i; k < len(s.lines); k++ {
			if s.lines[k] != recorded[k] {
				return fmt.Errorf("line %d: expected %.300s\ngot %.300s", k+1, recorded[k], s.lines[k])
			}
		}
	}
	if len(s.lines) != len(recorded) {
		return fmt.Errorf("%d lines were recorded, and %d made", len(recorded), len(s.lines))
	}
	return nil
}
