package lab

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Log collects a program's output by lines and lets one wait for a line.
type Log struct {
	mu    sync.Mutex
	part  []byte // a line that has not ended
	lines []Line
	more  chan struct{} // closed and replaced when something came
}

// Line is a line of output and when it came.
type Line struct {
	Time time.Time
	Text string
}

func newLog() *Log { return &Log{more: make(chan struct{})} }

// Write takes output; it never fails.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, b...)
	now := time.Now()
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 {
			break
		}
		l.lines = append(l.lines, Line{now, string(l.part[:i])})
		l.part = l.part[i+1:]
	}
	close(l.more)
	l.more = make(chan struct{})
	return len(b), nil
}

// Lines returns what came so far, whole lines alone.
func (l *Log) Lines() []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Line(nil), l.lines...)
}

// String is everything, as it came.
func (l *Log) String() string {
	var b strings.Builder
	for _, line := range l.Lines() {
		b.WriteString(line.Text)
		b.WriteByte('\n')
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b.Write(l.part)
	return b.String()
}

// Mark is the number of lines so far, for WaitAfter.
func (l *Log) Mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

// Wait returns the first line that matches, waiting for it if need be.
func (l *Log) Wait(pattern string, timeout time.Duration) (Line, error) {
	return l.WaitAfter(0, pattern, timeout)
}

// WaitAfter is Wait among the lines from mark on.
func (l *Log) WaitAfter(mark int, pattern string, timeout time.Duration) (Line, error) {
	re := regexp.MustCompile(pattern)
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		lines, more := l.lines, l.more
		l.mu.Unlock()
		for ; mark < len(lines); mark++ {
			if re.MatchString(lines[mark].Text) {
				return lines[mark], nil
			}
		}
		select {
		case <-more:
		case <-deadline.C:
			return Line{}, fmt.Errorf("no line in the log matched %q within %v", pattern, timeout)
		}
	}
}

// Count says how many lines match.
func (l *Log) Count(pattern string) int {
	re := regexp.MustCompile(pattern)
	n := 0
	for _, line := range l.Lines() {
		if re.MatchString(line.Text) {
			n++
		}
	}
	return n
}

// Until asks again and again until ok or the timeout; it says which it was.
func Until(timeout time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
}

// Eventually fails the test unless ok becomes true within the timeout.
func Eventually(t testing.TB, timeout time.Duration, what string, ok func() bool) {
	t.Helper()
	if !Until(timeout, ok) {
		t.Fatalf("after %v still not: %s", timeout, what)
	}
}
