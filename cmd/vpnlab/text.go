package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// stamp is what isakmpd -d puts before a line: date, time, level.
var stamp = regexp.MustCompile(`^[0-9-]+ [0-9:.]+ [a-z]+: `)

// fields are what it puts behind one, for scripts.
var fields = regexp.MustCompile(`( [a-z]+=("[^"]*"|[^ "]*))+$`)

// message is a log line without its stamp and fields.
func message(line string) string {
	return fields.ReplaceAllString(stamp.ReplaceAllString(line, ""), "")
}

// wrap breaks a text at blanks.
func wrap(text string, width int) string {
	var b strings.Builder
	n := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case n+1+len(word) > width:
			b.WriteByte('\n')
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}

// ms is a duration for people.
func ms(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// bytes is a size for people.
func bytes(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.1f kB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
