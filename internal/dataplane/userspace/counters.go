package userspace

import (
	"sync/atomic"
	"time"

	"oakley/internal/ipsec"
)

// counters counts drops by reason.
type counters [ipsec.DropEnd]atomic.Uint64

func (c *counters) add(d ipsec.Drop) { c[d].Add(1) }

func (c *counters) read() (d ipsec.Drops) {
	for i := range c {
		d[i] = c[i].Load()
	}
	return d
}

// limiter lets one of many calls through in a period.
type limiter struct {
	last    atomic.Int64 // nanoseconds since 1970
	skipped atomic.Uint64
}

// allow tells whether this call is the one, and how many were not before it.
func (l *limiter) allow(now int64, every time.Duration) (skipped uint64, ok bool) {
	last := l.last.Load()
	if now-last < int64(every) || !l.last.CompareAndSwap(last, now) {
		l.skipped.Add(1)
		return 0, false
	}
	return l.skipped.Swap(0), true
}
