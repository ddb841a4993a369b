package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// screen prints the demonstration, in colour where that can be seen.
type screen struct {
	w      io.Writer
	colour bool
	start  time.Time
}

func newScreen(f *os.File) *screen {
	return &screen{w: f, colour: coloured(f), start: time.Now()}
}

// coloured says whether f is a terminal whose user wants colour
// (https://no-color.org).
func coloured(f *os.File) bool {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// Colours, as parameters of the terminal's SGR sequence.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (s *screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// step is the heading of a part, with the time since the start.
func (s *screen) step(format string, args ...any) {
	at := fmt.Sprintf("%5.1fs", time.Since(s.start).Seconds())
	fmt.Fprintf(s.w, "\n%s  %s\n", s.paint(dim, at), s.paint(bold, fmt.Sprintf(format, args...)))
}

// say is a line below it; its further lines are indented as it is.
func (s *screen) say(format string, args ...any) {
	for line := range strings.Lines(strings.TrimRight(fmt.Sprintf(format, args...), "\n")) {
		fmt.Fprintf(s.w, "        %s\n", strings.TrimRight(line, "\n"))
	}
}

// good is a line that says that something is as it should be.
func (s *screen) good(format string, args ...any) {
	fmt.Fprintf(s.w, "      %s %s\n", s.paint(green, "✓"), fmt.Sprintf(format, args...))
}

// bad is its opposite.
func (s *screen) bad(format string, args ...any) {
	fmt.Fprintf(s.w, "      %s %s\n", s.paint(red, "✗"), fmt.Sprintf(format, args...))
}

// logWriter shows a daemon's log as it comes.
type logWriter struct {
	s      *screen
	prefix string
	colour string
}

func (l logWriter) Write(b []byte) (int, error) {
	for line := range strings.Lines(string(b)) {
		fmt.Fprintf(l.s.w, "        %s %s\n", l.s.paint(l.colour, l.prefix), strings.TrimRight(line, "\n"))
	}
	return len(b), nil
}
