package daemon

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// limiter bounds log lines that the network can cause: a few a cause and
// address, a few a second over all, and a bounded memory of who was quiet.
// It may be used by several goroutines.
type limiter struct {
	mu    sync.Mutex
	seen  map[limitKey]*list.Element
	order *list.List // of *limitEntry, least recently used first
	total bucket
	lost  int // lines of forgotten entries that were held back
}

type limitKey struct {
	cause string
	addr  netip.Addr
}

type limitEntry struct {
	key  limitKey
	b    bucket
	held int
}

// A line a cause and address each limitEvery after limitBurst at once; over all
// of them limitTotalBurst at once and then one each limitTotalEvery.
const (
	limitEvery      = 10 * time.Second
	limitBurst      = 3
	limitTotalEvery = 200 * time.Millisecond
	limitTotalBurst = 50
	limitEntries    = 1024
)

func newLimiter() *limiter {
	return &limiter{seen: map[limitKey]*list.Element{}, order: list.New()}
}

// allow tells whether a line may be written now, and if so how many lines of the
// same cause and address were held back before it.
func (l *limiter) allow(now time.Time, cause string, addr netip.Addr) (held int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(limitKey{cause, addr})
	if !e.b.take(now, limitBurst, limitEvery) || !l.total.take(now, limitTotalBurst, limitTotalEvery) {
		e.held++
		return 0, false
	}
	held = e.held
	e.held = 0
	return held, true
}

// forgotten returns how many lines were held back for addresses that had to make
// room, and forgets them.
func (l *limiter) forgotten() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.lost
	l.lost = 0
	return n
}

func (l *limiter) entry(k limitKey) *limitEntry {
	if el, ok := l.seen[k]; ok {
		l.order.MoveToBack(el)
		return el.Value.(*limitEntry)
	}
	if l.order.Len() >= limitEntries {
		oldest := l.order.Remove(l.order.Front()).(*limitEntry)
		delete(l.seen, oldest.key)
		l.lost += oldest.held
	}
	e := &limitEntry{key: k}
	l.seen[k] = l.order.PushBack(e)
	return e
}

// bucket lets a burst through, then one each interval. The zero value is full.
type bucket struct {
	empty time.Time // when all that was taken has come back
}

func (b *bucket) take(now time.Time, burst int, every time.Duration) bool {
	if b.empty.Before(now) {
		b.empty = now
	}
	next := b.empty.Add(every)
	if next.Sub(now) > time.Duration(burst)*every {
		return false
	}
	b.empty = next
	return true
}
