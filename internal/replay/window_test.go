package replay

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// naive is a window as RFC 4303 section 3.4.3 describes it: a set of what was
// seen, and an edge.
type naive struct {
	size, top uint64
	seen      map[uint64]bool
}

func (n *naive) take(seq uint64) bool {
	if seq == 0 || n.seen[seq] || (seq < n.top && n.top-seq >= n.size) {
		return false
	}
	n.seen[seq] = true
	n.top = max(n.top, seq)
	return true
}

func TestAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 130), rapid.SampledFrom([]int{64, 112, 113, 128, 1024, 1025, 4096, MaxSize})).Draw(t, "size")
		w, n := New(size), naive{size: uint64(size), seen: make(map[uint64]bool)}
		if size == DefaultSize && rapid.Bool().Draw(t, "zero value") {
			w = new(Window)
		}
		if w.Size() != size {
			t.Fatalf("size %d, want %d", w.Size(), size)
		}
		step := rapid.OneOf(
			rapid.Int64Range(-10, 10),
			rapid.Int64Range(-int64(size)-20, int64(size)+20),
			rapid.SampledFrom([]int64{0, 1, 1, 1, 2, 15, 16, 17, 1 << 20, 1<<32 - 1, 1 << 32, 1 << 40}),
		)
		at := int64(rapid.SampledFrom([]uint64{0, 1, 1<<32 - 40, 1 << 52}).Draw(t, "start"))
		for _, d := range rapid.SliceOfN(step, 1, 400).Draw(t, "steps") {
			seq := uint64(max(0, at+d))
			before := w.Top()
			check := w.Check(seq)
			got, want := w.Update(seq), n.take(seq)
			if got != want || check != want {
				t.Fatalf("number %d, window %d below %d: Check %v, Update %v, want %v", seq, size, before, check, got, want)
			}
			if w.Top() != n.top {
				t.Fatalf("top %d, want %d", w.Top(), n.top)
			}
			if rapid.IntRange(0, 3).Draw(t, "from top") != 0 {
				at = int64(n.top)
			} else {
				at = int64(seq)
			}
		}
	})
}

// E1: a window is there by default, whoever forgot to ask for one.
func TestZeroValueProtects(t *testing.T) {
	var w Window
	if w.Size() != 64 || !w.Update(1) || w.Update(1) || w.Check(1) {
		t.Fatal("the zero value takes a number twice")
	}
}

func TestWithoutProtection(t *testing.T) {
	w := New(0)
	for _, seq := range []uint64{5, 5, 1, 1 << 40, 3} {
		if !w.Check(seq) || !w.Update(seq) {
			t.Fatalf("%d refused", seq)
		}
	}
	if w.Check(0) || w.Update(0) || w.Top() != 1<<40 || w.Size() != 0 {
		t.Fatal("0 taken, or the top is wrong")
	}
}

func TestEdges(t *testing.T) {
	for _, size := range []int{1, 15, 16, 17, 32, 63, 64, 65, 1000, MaxSize, MaxSize + 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := New(size)
			n := uint64(w.Size())
			const top = 1 << 20
			w.Update(top)
			for seq, want := range map[uint64]bool{
				0: false, 1: false, top - n - 1: false, top - n: false, top - n + 1: n > 1,
				top: false, top + 1: true, ^uint64(0) >> 10: true,
			} {
				if w.Check(seq) != want {
					t.Errorf("Check(top%+d) is %v", int64(seq)-top, !want)
				}
			}
		})
	}
}

// Whatever many receivers do at once, a number is taken once, and every number
// that no receiver could have pushed out of the window is taken.
func TestConcurrentReceivers(t *testing.T) {
	const (
		receivers = 8
		numbers   = 60_000
	)
	for _, size := range []int{64, 1024} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := New(size)
			taken := make([]atomic.Int32, numbers+1)
			var accepted atomic.Int64
			var wg sync.WaitGroup
			for r := range receivers {
				// Each goes through all numbers, a little out of order, so each
				// number comes eight times and from everywhere.
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(r), 7))
					for i := 1; i <= numbers; i++ {
						seq := max(1, min(numbers, i+rnd.IntN(size)-size/2))
						w.Check(uint64(seq))
						if w.Update(uint64(seq)) {
							accepted.Add(1)
							taken[seq].Add(1)
						}
					}
				})
			}
			wg.Wait()
			for seq := range taken {
				if n := taken[seq].Load(); n > 1 {
					t.Fatalf("number %d taken %d times", seq, n)
				}
			}
			if accepted.Load() < numbers/2 {
				t.Fatalf("only %d of %d taken", accepted.Load(), numbers)
			}
			if w.Top() > numbers || w.Top() < numbers-uint64(size) {
				t.Fatalf("top is %d", w.Top())
			}
		})
	}
}

// Receivers that share out the numbers within one window lose none of them.
func TestConcurrentReceiversLoseNothing(t *testing.T) {
	const size = 1024
	for round := range uint64(200) {
		w := New(size)
		base := round << 36
		w.Update(base + 1)
		var wg sync.WaitGroup
		for r := range uint64(4) {
			wg.Go(func() {
				for i := r; i < size-1; i += 4 {
					if !w.Update(base + 2 + i) {
						t.Errorf("number %d lost", i)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

// The inference is compared with what it stands for: of the candidates with the
// low half, the one inside the window, else the next above it.
func TestExtend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{1, 32, 64, 1024, MaxSize}).Draw(t, "size")
		w := New(size)
		high := rapid.SampledFrom([]uint64{0, 1, 2, 77, 1<<32 - 1}).Draw(t, "high") << 32
		low := rapid.OneOf(rapid.Uint64Range(0, 2*MaxSize), rapid.Uint64Range(1<<32-2*MaxSize, 1<<32-1), rapid.Uint64Range(0, 1<<32-1)).Draw(t, "low")
		top := high | low
		w.top.Store(top)
		bottom := uint64(1) // leftmost number of the window
		if top >= uint64(size) {
			bottom = top - uint64(size) + 1
		}
		d := rapid.OneOf(rapid.Uint64Range(0, 2*MaxSize), rapid.Uint64Range(0, 1<<32-1)).Draw(t, "distance")
		want := bottom + d // the window's start or up to 2^32-1 right of it
		got, ok := w.Extend(uint32(want))
		if want < bottom { // beyond 2^64
			if ok {
				t.Fatalf("top %#x, low %#x: %#x", top, uint32(want), got)
			}
			return
		}
		if want == 1<<32 && bottom == 1 && top < uint64(size) {
			want = 0 // a low half of 0 at the very start: never sent, never taken
		}
		if !ok || got != want {
			t.Fatalf("size %d, top %#x, low %#x: got %#x %v, want %#x", size, top, uint32(want), got, ok, want)
		}
	})
}

// RFC 4303 appendix A2.1, both cases, by hand.
func TestExtendByHand(t *testing.T) {
	for _, c := range []struct{ top, want uint64 }{
		{0, 1},
		{0, 0xffffffff},
		{0xffffffff, 0xffffffff},           // the highest again
		{0xffffffff, 0x1_00000000},         // over the edge
		{0x1_00000000, 0x1_00000001},       //
		{0x1_00000005, 0xfffffff0},         // case B, earlier half
		{0x1_00000005, 0x1_00000006},       // case B, this half
		{0x1_00000005, 0x1_ffffffc5},       // case B, just left of the window: far ahead
		{0x1_80000000, 0x2_00000000},       // case A, next half
		{0x1_80000000, 0x1_80000000 - 63},  // case A, left edge
		{0x1_80000000, 0x2_80000000 - 64},  // case A, just left of it
		{0x9_00000100, 0xa_00000000 + 100}, // left of the window: next half
	} {
		w := New(64)
		w.Update(c.top)
		if got, ok := w.Extend(uint32(c.want)); !ok || got != c.want {
			t.Errorf("top %#x: got %#x %v, want %#x", c.top, got, ok, c.want)
		}
	}
	off := New(0)
	off.Update(0x5_00000010)
	for _, want := range []uint64{0x5_00000010, 0x4_ffffff00, 0x5_00000001, 0x5_7fffffff} {
		if got, ok := off.Extend(uint32(want)); !ok || got != want {
			t.Errorf("without window: got %#x, want %#x", got, want)
		}
	}
}

func TestNothingAllocated(t *testing.T) {
	w := New(1024)
	seq := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		seq++
		w.Check(seq)
		w.Update(seq)
		w.Extend(uint32(seq))
	}); n != 0 {
		t.Fatalf("%v allocations a packet", n)
	}
}

func BenchmarkCheckUpdate(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := New(size)
			b.ReportAllocs()
			for seq := uint64(1); b.Loop(); seq++ {
				if !w.Check(seq) || !w.Update(seq) {
					b.Fatal("refused")
				}
			}
		})
	}
}
