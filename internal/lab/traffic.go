package lab

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Counts tells what became of numbered packets.
type Counts struct {
	Sent, Received  int
	Duplicates      int
	Late            int           // came after one that was sent later
	First           time.Duration // from the start to the first answer
	MinRTT, MaxRTT  time.Duration
	SendErrors      int // the host itself refused: no route, unreachable
	lastSendFailure error
}

// Lost is what was sent and not answered; what could not be sent is lost too.
func (c Counts) Lost() int { return c.Sent - c.Received }

func (c Counts) String() string {
	s := fmt.Sprintf("%d sent, %d answered, %d lost", c.Sent, c.Received, c.Lost())
	if c.Duplicates > 0 {
		s += fmt.Sprintf(", %d twice", c.Duplicates)
	}
	if c.Late > 0 {
		s += fmt.Sprintf(", %d late", c.Late)
	}
	if c.SendErrors > 0 {
		s += fmt.Sprintf(", %d not sent (%v)", c.SendErrors, c.lastSendFailure)
	}
	return s
}

// Stream sends numbered packets at an interval and counts their echoes.
type Stream struct {
	send  func(seq uint32) error
	close func() error
	every time.Duration

	mu     sync.Mutex
	counts Counts
	sentAt []time.Time
	seen   []bool
	latest int
	start  time.Time
	got    chan struct{} // one token: something came

	stop     chan struct{}
	stopOnce sync.Once
	sender   sync.WaitGroup
	reader   sync.WaitGroup
}

func newStream(every time.Duration) *Stream {
	return &Stream{every: every, latest: -1, start: time.Now(), got: make(chan struct{}, 1), stop: make(chan struct{})}
}

func (s *Stream) run(read func() (seq uint32, ok bool, err error)) {
	s.reader.Go(func() {
		for {
			seq, ok, err := read()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && ok {
				s.answered(int(seq))
			}
		}
	})
	s.sender.Go(func() {
		tick := time.NewTicker(s.every)
		defer tick.Stop()
		for seq := 0; ; seq++ {
			s.mu.Lock()
			s.counts.Sent++
			s.sentAt, s.seen = append(s.sentAt, time.Now()), append(s.seen, false)
			s.mu.Unlock()
			if err := s.send(uint32(seq)); err != nil {
				s.mu.Lock()
				s.counts.SendErrors++
				s.counts.lastSendFailure = err
				s.mu.Unlock()
			}
			select {
			case <-tick.C:
			case <-s.stop:
				return
			}
		}
	})
}

func (s *Stream) answered(seq int) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq >= len(s.seen) {
		return // not ours
	}
	if s.seen[seq] {
		s.counts.Duplicates++
		return
	}
	s.seen[seq] = true
	rtt := now.Sub(s.sentAt[seq])
	if s.counts.Received == 0 {
		s.counts.First, s.counts.MinRTT = now.Sub(s.start), rtt
	}
	s.counts.Received++
	s.counts.MinRTT, s.counts.MaxRTT = min(s.counts.MinRTT, rtt), max(s.counts.MaxRTT, rtt)
	if seq < s.latest {
		s.counts.Late++
	}
	s.latest = max(s.latest, seq)
	select {
	case s.got <- struct{}{}:
	default:
	}
}

// Counts is the state of things while it runs; the newest packets are under way.
func (s *Stream) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Began is when the stream started.
func (s *Stream) Began() time.Time { return s.start }

// Missing lists the numbers that were not answered, at most n of them, with the
// time at which they were sent.
func (s *Stream) Missing(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for seq, seen := range s.seen {
		if !seen && len(out) < n {
			out = append(out, fmt.Sprintf("%d (%s)", seq, s.sentAt[seq].Format("15:04:05.000")))
		}
	}
	return out
}

// AwaitAnswers waits until n more packets than now were answered.
func (s *Stream) AwaitAnswers(n int, timeout time.Duration) error {
	want := s.Counts().Received + n
	t := time.NewTimer(timeout)
	defer t.Stop()
	for {
		if s.Counts().Received >= want {
			return nil
		}
		select {
		case <-s.got:
		case <-t.C:
			return fmt.Errorf("no %d answers within %v: %v", n, timeout, s.Counts())
		}
	}
}

// Stop sends no more, gives what is under way up to grace to come back, and
// returns the counts.
func (s *Stream) Stop(grace time.Duration) Counts {
	s.stopOnce.Do(func() {
		close(s.stop)
		s.sender.Wait()
		Until(grace, func() bool { return s.Counts().Lost() == 0 })
		_ = s.close()
		s.reader.Wait()
	})
	return s.Counts()
}

// StartPing pings an address from the host, one echo request an interval.
func (h *Host) StartPing(to netip.Addr, every time.Duration) (*Stream, error) {
	v6 := to.Is6()
	c, err := h.listenICMP(v6)
	if err != nil {
		return nil, fmt.Errorf("host %s: ping: %w", h.Name, err)
	}
	id := int(rand.Uint32() & 0xffff)
	var typ, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	proto := 1
	if v6 {
		typ, reply, proto = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 58
	}
	s := newStream(every)
	s.close = c.Close
	dst := &net.IPAddr{IP: to.AsSlice()}
	s.send = func(seq uint32) error {
		data := append([]byte(pingMark), binary.BigEndian.AppendUint32(nil, seq)...)
		m := icmp.Message{Type: typ, Body: &icmp.Echo{ID: id, Seq: int(seq & 0xffff), Data: data}}
		b, err := m.Marshal(nil) // for IPv6 the kernel fills in the checksum
		if err != nil {
			return err
		}
		_, err = c.WriteTo(b, dst)
		return err
	}
	buf := make([]byte, 2048)
	s.run(func() (uint32, bool, error) {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return 0, false, err
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != reply {
			return 0, false, nil
		}
		e, ok := m.Body.(*icmp.Echo)
		ip, isIP := from.(*net.IPAddr)
		if !ok || e.ID != id || len(e.Data) != len(pingMark)+4 || !isIP || !ip.IP.Equal(dst.IP) {
			return 0, false, nil
		}
		return binary.BigEndian.Uint32(e.Data[len(pingMark):]), true, nil
	})
	return s, nil
}

// pingMark is in every ping, so that a spy can look for it.
const pingMark = "a ping between two hosts of the lab: nobody else is to read this"

// PingMark is in every ping of the lab; in clear text on a cable it is a leak.
func PingMark() []byte { return []byte(pingMark) }

// Ping pings until n answers came, and fails if that takes longer than the timeout.
func (h *Host) Ping(to netip.Addr, n int, timeout time.Duration) (Counts, error) {
	s, err := h.StartPing(to, 50*time.Millisecond)
	if err != nil {
		return Counts{}, err
	}
	err = s.AwaitAnswers(n, timeout)
	c := s.Stop(time.Second)
	if err != nil {
		return c, fmt.Errorf("ping %s - %s: %w", h.Name, to, err)
	}
	return c, nil
}

// Echo answers UDP datagrams at an address of the host until it is closed.
func (h *Host) Echo(on netip.AddrPort) (io.Closer, error) {
	c, err := h.ListenUDP(on)
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = c.WriteToUDPAddrPort(buf[:n], from)
			}
		}
	}()
	h.net.onClose(func() { c.Close() })
	return c, nil
}

// StartUDP sends numbered datagrams of size bytes (at least 4) to an Echo.
func (h *Host) StartUDP(to netip.AddrPort, size int, every time.Duration) (*Stream, error) {
	any := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if to.Addr().Is6() {
		any = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	c, err := h.ListenUDP(any)
	if err != nil {
		return nil, fmt.Errorf("host %s: udp: %w", h.Name, err)
	}
	s := newStream(every)
	s.close = c.Close
	s.send = func(seq uint32) error {
		b := make([]byte, max(size, 4))
		binary.BigEndian.PutUint32(b, seq)
		_, err := c.WriteToUDPAddrPort(b, to)
		return err
	}
	buf := make([]byte, 65536)
	s.run(func() (uint32, bool, error) {
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil || n != max(size, 4) {
			return 0, false, err
		}
		return binary.BigEndian.Uint32(buf), true, nil
	})
	return s, nil
}

// Job is a TCP transfer, as both ends saw it.
type Job struct {
	Bytes           int64
	Took            time.Duration // from the connect to the last byte at the far end
	SentSum, GotSum [sha256.Size]byte
}

// Intact says whether what arrived is what was sent.
func (j Job) Intact() bool { return j.SentSum == j.GotSum }

// MbitPerSecond is the throughput.
func (j Job) MbitPerSecond() float64 { return float64(j.Bytes) * 8 / 1e6 / j.Took.Seconds() }

// Send sends size random bytes from the host to another's TCP port, where a
// listener is made for it, and compares checksums.
func (h *Host) Send(far *Host, to netip.AddrPort, size int64, timeout time.Duration) (Job, error) {
	l, err := far.ListenTCP(to)
	if err != nil {
		return Job{}, fmt.Errorf("host %s: %w", far.Name, err)
	}
	defer l.Close()
	deadline := time.Now().Add(timeout)
	_ = l.SetDeadline(deadline)
	type received struct {
		sum hash.Hash
		n   int64
		at  time.Time
		err error
	}
	res := make(chan received, 1)
	go func() {
		r := received{sum: sha256.New()}
		c, err := l.Accept()
		if err != nil {
			res <- received{err: err}
			return
		}
		defer c.Close()
		_ = c.SetDeadline(deadline)
		r.n, r.err = io.Copy(r.sum, c)
		r.at = time.Now()
		res <- r
	}()

	start := time.Now()
	c, err := h.DialTCP(to, timeout)
	if err != nil {
		return Job{}, fmt.Errorf("%s to %s: %w", h.Name, to, err)
	}
	defer c.Close()
	_ = c.SetDeadline(deadline)
	sent := sha256.New()
	random := rand.NewChaCha8([32]byte{byte(size)})
	if _, err := io.Copy(io.MultiWriter(c, sent), io.LimitReader(random, size)); err != nil {
		return Job{}, fmt.Errorf("%s to %s: sending: %w", h.Name, to, err)
	}
	if err := c.CloseWrite(); err != nil {
		return Job{}, err
	}
	r := <-res
	if r.err != nil {
		return Job{}, fmt.Errorf("%s to %s: receiving, after %d bytes: %w", h.Name, to, r.n, r.err)
	}
	j := Job{Bytes: r.n, Took: r.at.Sub(start)}
	sent.Sum(j.SentSum[:0])
	r.sum.Sum(j.GotSum[:0])
	if !j.Intact() || r.n != size {
		return j, fmt.Errorf("%s to %s: %d bytes arrived of %d, checksums %x and %x", h.Name, to, r.n, size, j.SentSum, j.GotSum)
	}
	return j, nil
}
