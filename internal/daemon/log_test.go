package daemon

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWhatIsWrittenAtWhichLevel(t *testing.T) {
	l := newLines()
	log := NewLog(l)
	all := func() string {
		l.all = nil
		log.Error("e")
		log.Warn("w")
		log.Notice("n")
		log.Info("i")
		log.Debugf(ClassMessage, 50, "d")
		return l.String()
	}
	if got := all(); got != "error: e\nwarning: w\nnotice: n" {
		t.Errorf("by default: %q", got)
	}
	log.SetLevels(true, Levels{})
	if got := all(); got != "error: e\nwarning: w\nnotice: n\ninfo: i" {
		t.Errorf("with -v: %q", got)
	}
	var v Levels
	v[ClassMessage] = 50
	log.SetLevels(false, v)
	if got := all(); got != "error: e\nwarning: w\nnotice: n\ninfo: i\ndebug: message 50: d" {
		t.Errorf("with -D 2=50: %q", got)
	}
	v[ClassMessage] = 49
	log.SetLevels(false, v)
	if strings.Contains(all(), "debug") {
		t.Error("a line above its class' level was written")
	}
}

func TestTextLinesAreSafeAndReadable(t *testing.T) {
	var b bytes.Buffer
	log := NewLog(NewText(&b))
	log.Warn("bad \x1b[31mname\x00 \xff\u202e\r end\n  second line\twith a tab", fieldPeer, "a b\n\x07\"", fieldErr, nil, fieldConn, "")
	at, rest, ok := strings.Cut(b.String(), " warning: ")
	if _, err := time.Parse("2006-01-02 15:04:05.000", at); err != nil || !ok {
		t.Errorf("the line begins with %q", at)
	}
	want := `bad \x1b[31mname\x00 \xff\u202e\x0d end peer="a b\n\x07\""` + "\n" + `      second line\x09with a tab` + "\n"
	if rest != want {
		t.Errorf("got\n%q, want\n%q", rest, want)
	}
}

func TestFieldsOfDerivedLoggersComeAlong(t *testing.T) {
	l := newLines()
	log := NewLog(l).With("peer", "east").WithGroup("x")
	log.Error("m", "conn", "c")
	if got := l.String(); got != "error: m peer=east x.conn=c" {
		t.Errorf("%q", got)
	}
}

func TestDebugLevels(t *testing.T) {
	for s, want := range map[string]Levels{
		"A=99":        {99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99},
		"8=50":        {8: 50},
		"Message=10":  {2: 10},
		"10=1":        {10: 1},
		" exchange=0": {},
	} {
		var l Levels
		if err := l.Set(s); err != nil || l != want {
			t.Errorf("%q: %v, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "A", "A=", "A=100", "A=-1", "11=5", "nothing=5", "=5", "256=1", "-1=3"} {
		var l Levels
		if err := l.Set(s); err == nil {
			t.Errorf("%q was taken: %v", s, l)
		}
	}
}

func TestTheLimiterCountsWhatItHoldsBack(t *testing.T) {
	l := newLimiter()
	now := time.Unix(1e9, 0)
	a := netip.MustParseAddr("192.0.2.1")
	for i := range 100 {
		if _, ok := l.allow(now, "malformed", a); ok != (i < limitBurst) {
			t.Fatalf("line %d: %t", i, ok)
		}
	}
	if _, ok := l.allow(now, "unknown", a); !ok {
		t.Error("another cause was held back")
	}
	if _, ok := l.allow(now, "malformed", netip.MustParseAddr("192.0.2.2")); !ok {
		t.Error("another address was held back")
	}
	held, ok := l.allow(now.Add(limitEvery), "malformed", a)
	if !ok || held != 100-limitBurst {
		t.Errorf("later: %d held back, %t", held, ok)
	}
}

func TestTheLimiterIsBoundedOverAllAddresses(t *testing.T) {
	l := newLimiter()
	now := time.Unix(1e9, 0)
	written := 0
	for i := range 100_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if _, ok := l.allow(now.Add(time.Duration(i)*time.Microsecond), "malformed", a); ok {
			written++
		}
	}
	if written > limitTotalBurst+1 {
		t.Errorf("%d lines in a tenth of a second", written)
	}
	if len(l.seen) > limitEntries || l.order.Len() > limitEntries {
		t.Errorf("%d entries", len(l.seen))
	}
	if n := l.forgotten(); n < 90_000 {
		t.Errorf("%d lines were forgotten", n)
	}
	if n := l.forgotten(); n != 0 {
		t.Errorf("they are told twice: %d", n)
	}
}

func TestSyslogGetsEachLineWithItsSeverity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	listen := func() *net.UnixConn {
		_ = os.Remove(path)
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	read := func(c *net.UnixConn) string {
		buf := make([]byte, 1024)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	c := listen()
	s, err := NewSyslog(path, "isakmpd")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log := NewLog(s)
	log.Warn("one\ntwo")
	if got := read(c); !strings.HasPrefix(got, "<28>") || !strings.HasSuffix(got, s.tag+": one") {
		t.Errorf("%q", got)
	}
	if got := read(c); !strings.HasSuffix(got, s.tag+":     two") {
		t.Errorf("%q", got)
	}
	c.Close()
	log.Error("nobody listens") // and nobody waits
	c = listen()
	defer c.Close()
	log.Error("back")
	if got := read(c); !strings.Contains(got, "1 lines before this one did not reach the log") {
		t.Errorf("%q", got)
	}
	if got := read(c); !strings.HasPrefix(got, "<27>") || !strings.HasSuffix(got, "back") {
		t.Errorf("%q", got)
	}
}

func TestNoLogDaemonIsSaid(t *testing.T) {
	s, err := NewSyslog(filepath.Join(t.TempDir(), "none"), "isakmpd")
	if err == nil || !strings.Contains(err.Error(), "-d") {
		t.Errorf("%v", err)
	}
	s.Write(time.Now(), slog.LevelError, []string{"x"}) // is no panic
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
