package ipsecd

import (
	"slices"
	"testing"
	"testing/synctest"
)

// Numbers that found no room are told as their negative sum, where they were.
func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newBacklog(3, func(lost int) int { return -lost })
		take := func(n int) (all []int) {
			for range n {
				v, _ := q.next()
				all = append(all, v)
			}
			return all
		}
		for i := range 5 {
			q.put(i + 1)
		}
		if got := take(1); !slices.Equal(got, []int{1}) {
			t.Errorf("%v", got)
		}
		q.put(6) // there is room for it or for the gap, not for both
		if got := take(2); !slices.Equal(got, []int{2, 3}) {
			t.Errorf("%v", got)
		}
		q.put(7)
		q.miss(4)
		if got := take(3); !slices.Equal(got, []int{-3, 7, -4}) {
			t.Errorf("%v", got)
		}
		var last []int
		go func() {
			for v, ok := q.next(); ok; v, ok = q.next() {
				last = append(last, v)
			}
			last = append(last, 0)
		}()
		synctest.Wait()
		q.put(8)
		synctest.Wait()
		q.end()
		q.put(9)
		synctest.Wait()
		if !slices.Equal(last, []int{8, 0}) {
			t.Errorf("%v", last)
		}
	})
}
