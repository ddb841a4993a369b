package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// LevelNotice is for the few lines that are neither a warning nor asked for with
// -v: what the daemon listens on, that it re-read its configuration, that it
// ends.
const LevelNotice = slog.Level(2)

// Fields of log lines. They are the whole vocabulary: a script may look for
// them, and a line uses no other.
const (
	fieldEvent  = "event"  // what kind of line it is: phase1-up, phase2-up, failed, ...
	fieldPeer   = "peer"   // the configuration's name
	fieldConn   = "conn"   // the configuration's name
	fieldLocal  = "local"  // our address and port
	fieldRemote = "remote" // the other address and port
	fieldSA     = "sa"     // protocol, address/SPI, direction
	fieldFile   = "file"
	fieldErr    = "err"
)

// Sink takes finished log lines, one call a record: the first line and those
// that belong under it. They contain no control characters.
type Sink interface {
	Write(at time.Time, level slog.Level, lines []string)
}

// Log is where the daemon's lines go: a slog.Logger whose one handler writes to
// a Sink, and the debug levels by class. It may be used by several goroutines.
type Log struct {
	*slog.Logger
	min    atomic.Int64 // the lowest slog.Level that is written
	levels [ClassEnd]atomic.Int32
}

// NewLog makes a log that writes warnings, errors and notices.
func NewLog(s Sink) *Log {
	l := &Log{}
	l.min.Store(int64(LevelNotice))
	l.Logger = slog.New(&handler{log: l, sink: s})
	return l
}

// SetLevels says what is to be written besides warnings: with verbose a line for
// each phase that finishes, and what the debug levels ask for.
func (l *Log) SetLevels(verbose bool, debug Levels) {
	low := LevelNotice
	if verbose {
		low = slog.LevelInfo
	}
	for c, v := range debug {
		l.levels[c].Store(int32(v))
		if v > 0 {
			low = slog.LevelDebug
		}
	}
	l.min.Store(int64(low))
}

// Notice writes a line at LevelNotice.
func (l *Log) Notice(msg string, args ...any) {
	l.Log(context.Background(), LevelNotice, msg, args...)
}

// Debugs tells whether a line of a class at a level is wanted, for callers that
// would have to work for its text.
func (l *Log) Debugs(c Class, level int) bool { return int(l.levels[c].Load()) >= level }

// Debugf writes a line of a class when its level asks for it.
func (l *Log) Debugf(c Class, level int, format string, args ...any) {
	if !l.Debugs(c, level) {
		return
	}
	l.Debug(fmt.Sprintf("%s %d: ", c, level) + fmt.Sprintf(format, args...))
}

// handler is the slog.Handler of a Log.
type handler struct {
	log   *Log
	sink  Sink
	attrs []slog.Attr
	group string
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return int64(level) >= h.log.min.Load()
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var fields strings.Builder
	for _, a := range h.attrs {
		appendField(&fields, "", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		appendField(&fields, h.group, a)
		return true
	})
	lines := strings.Split(r.Message, "\n")
	for i, s := range lines {
		lines[i] = clean(s)
	}
	lines[0] += fields.String()
	h.sink.Write(r.Time, r.Level, lines)
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		n.attrs = append(n.attrs, a)
	}
	return &n
}

func (h *handler) WithGroup(name string) slog.Handler {
	n := *h
	n.group = h.group + name + "."
	return &n
}

func appendField(b *strings.Builder, group string, a slog.Attr) {
	v := a.Value.Resolve().String()
	if a.Key == "" || v == "" || a.Value.Any() == nil {
		return
	}
	v = clean(strings.ReplaceAll(v, "\n", `\n`))
	if strings.ContainsAny(v, ` "=`) {
		v = `"` + strings.ReplaceAll(v, `"`, `\"`) + `"`
	}
	fmt.Fprintf(b, " %s%s=%s", group, a.Key, v)
}

// clean makes what may have come from the network safe for a terminal and for a
// file of lines: control and formatting characters and bytes that are no UTF-8
// are written as escapes.
func clean(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r < 0x80 && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// levelName is the word in front of a line.
func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warning"
	case l >= LevelNotice:
		return "notice"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// Text is a Sink that writes lines with date, time and level, as isakmpd -d does
// to stderr.
type Text struct {
	mu sync.Mutex
	w  io.Writer
}

// NewText makes a sink that writes to w.
func NewText(w io.Writer) *Text { return &Text{w: w} }

// Write implements Sink. The lines of one record stay together.
func (t *Text) Write(at time.Time, level slog.Level, lines []string) {
	var b strings.Builder
	b.WriteString(at.Format("2006-01-02 15:04:05.000 "))
	b.WriteString(levelName(level))
	b.WriteString(": ")
	b.WriteString(lines[0])
	b.WriteByte('\n')
	for _, l := range lines[1:] {
		b.WriteString("    ")
		b.WriteString(l)
		b.WriteByte('\n')
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.w, b.String()) // a log that cannot be written has nowhere to say so
}
