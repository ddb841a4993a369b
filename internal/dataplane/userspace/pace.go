package userspace

import "golang.org/x/sys/unix"

// A raw socket gives its packets one by one, and each wakes whoever waits for
// it: at a hundred thousand a second the waking costs more than the cipher. So a
// reader that is kept busy and got little rests for a moment before it looks
// again, as network cards moderate their interrupts, and finds many at once. A
// packet that comes alone never waits: the reader rests after what it has done,
// and only when batches follow each other closely.
const (
	dense  = 200_000 // nanoseconds between batches, below which traffic is dense
	little = 32      // packets: who gets more is behind already
	// rest is what is asked for, in nanoseconds. The kernel adds the slack of its
	// timers, 50 microseconds unless somebody changed it.
	rest = 5_000
)

// pace decides when a reader rests.
type pace struct {
	last int64 // end of the latest batch, in nanoseconds
}

// after tells whether to rest after a batch of n packets that was done with at
// now.
func (p *pace) after(n int, now int64) bool {
	tight := now-p.last < dense
	p.last = now
	return tight && n < little
}

// rested is to be called after a rest, which does not count as silence.
func (p *pace) rested(now int64) { p.last = now }

func doze() {
	t := unix.NsecToTimespec(rest)
	_ = unix.Nanosleep(&t, nil) // a signal that ends it early is fine
}
