package userspace

import "testing"

func TestOnlyDenseTrafficIsGathered(t *testing.T) {
	var p pace
	now := int64(1e18)
	for i, c := range []struct {
		gap  int64
		n    int
		want bool
	}{
		{0, 1, false},        // the first after silence
		{dense, 1, false},    // a slow stream
		{dense - 1, 1, true}, // a fast one
		{10_000, little - 1, true},
		{10_000, little, false}, // enough at a time already
		{10_000, 1, true},
		{5 * dense, 1, false},
	} {
		now += c.gap
		if got := p.after(c.n, now); got != c.want {
			t.Errorf("step %d: %t after %d packets in %d ns, want %t", i, got, c.n, c.gap, c.want)
		}
		if c.want {
			now += 55_000
			p.rested(now)
		}
	}
}
