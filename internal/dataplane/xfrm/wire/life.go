package wire

import "time"

// Limits are the lifetimes of an SA or a policy; Infinite is none, and so is 0
// of seconds.
type Limits struct {
	SoftBytes, HardBytes           uint64
	SoftPackets, HardPackets       uint64
	SoftAddSeconds, HardAddSeconds uint64 // since it was added
	SoftUseSeconds, HardUseSeconds uint64 // since it was first used
}

// NoLimits are those of what lives for ever.
func NoLimits() Limits {
	return Limits{SoftBytes: Infinite, HardBytes: Infinite, SoftPackets: Infinite, HardPackets: Infinite}
}

func (l *Limits) append(b []byte) []byte {
	for _, v := range [...]uint64{
		l.SoftBytes, l.HardBytes, l.SoftPackets, l.HardPackets,
		l.SoftAddSeconds, l.HardAddSeconds, l.SoftUseSeconds, l.HardUseSeconds,
	} {
		b = native.AppendUint64(b, v)
	}
	return b
}

func parseLimits(b []byte) Limits {
	at := func(i int) uint64 { return native.Uint64(b[i*8:]) }
	return Limits{at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)}
}

// Usage is what went through. Times are seconds since 1970, 0 is never.
type Usage struct {
	Bytes, Packets   uint64
	Added, FirstUsed uint64
}

func (u *Usage) append(b []byte) []byte {
	for _, v := range [...]uint64{u.Bytes, u.Packets, u.Added, u.FirstUsed} {
		b = native.AppendUint64(b, v)
	}
	return b
}

func parseUsage(b []byte) Usage {
	return Usage{native.Uint64(b), native.Uint64(b[8:]), native.Uint64(b[16:]), native.Uint64(b[24:])}
}

// Time turns seconds since 1970 into a time; 0 is the zero time.
func Time(seconds uint64) time.Time {
	if seconds == 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// Stats counts what an SA refused.
type Stats struct {
	ReplayWindow uint32 // left of the window
	Replay       uint32 // seen before
	Integrity    uint32 // the ICV was wrong
}

func (s *Stats) append(b []byte) []byte {
	b = native.AppendUint32(b, s.ReplayWindow)
	b = native.AppendUint32(b, s.Replay)
	return native.AppendUint32(b, s.Integrity)
}

func parseStats(b []byte) Stats {
	return Stats{native.Uint32(b), native.Uint32(b[4:]), native.Uint32(b[8:])}
}
