package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// Syslog is a Sink that writes to the system's log through its datagram socket.
// A log daemon that is stuck or gone costs lines, never the daemon's time: each
// write has a deadline, and the socket is opened again when it broke.
type Syslog struct {
	mu   sync.Mutex
	path string
	tag  string
	conn net.Conn // nil while nobody listens
	lost int      // lines since the last one that got through
}

// SyslogSocket is where the system's log daemon listens.
const SyslogSocket = "/dev/log"

const (
	facilityDaemon = 3 << 3
	syslogPatience = 200 * time.Millisecond
)

// NewSyslog opens the log socket. An error says that nobody listens there now;
// the Syslog is good all the same, and finds a log daemon that comes later.
func NewSyslog(path, tag string) (*Syslog, error) {
	s := &Syslog{path: path, tag: fmt.Sprintf("%s[%d]", tag, os.Getpid())}
	if err := s.open(); err != nil {
		return s, fmt.Errorf("the system's log cannot be reached: %w (is a log daemon running? with -d the log goes to stderr)", err)
	}
	return s, nil
}

func (s *Syslog) open() error {
	c, err := net.Dial("unixgram", s.path)
	if err != nil {
		return err
	}
	s.conn = c
	return nil
}

// Write implements Sink; each line is a message of its own.
func (s *Syslog) Write(at time.Time, level slog.Level, lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost > 0 && s.send(at, slog.LevelWarn, fmt.Sprintf("%d lines before this one did not reach the log", s.lost)) {
		s.lost = 0
	}
	for i, l := range lines {
		if i > 0 {
			l = "    " + l
		}
		if !s.send(at, level, l) {
			s.lost++
		}
	}
}

func (s *Syslog) send(at time.Time, level slog.Level, text string) bool {
	msg := fmt.Sprintf("<%d>%s %s: %s", facilityDaemon|severity(level), at.Format(time.Stamp), s.tag, text)
	for range 2 { // the second time on a fresh socket
		if s.conn == nil && s.open() != nil {
			return false
		}
		_ = s.conn.SetWriteDeadline(time.Now().Add(syslogPatience))
		if _, err := s.conn.Write([]byte(msg)); err == nil {
			return true
		}
		_ = s.conn.Close()
		s.conn = nil
	}
	return false
}

// Close closes the socket.
func (s *Syslog) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// severity is a level as syslog's number (RFC 5424 section 6.2.1).
func severity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= LevelNotice:
		return 5
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
