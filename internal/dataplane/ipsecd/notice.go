package ipsecd

import (
	"log/slog"
	"sync"
	"time"
)

// noticeEvery is how often a client can have us write to the log.
const noticeEvery = time.Second

// notices are what is logged about clients. One who comes back at once after each
// refusal does not fill the log.
type notices struct {
	log *slog.Logger

	mu     sync.Mutex
	next   time.Time
	silent int // since the last one
}

func (n *notices) warn(text string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if now.Before(n.next) {
		n.silent++
		return
	}
	if n.silent > 0 {
		args = append(args, "more like it", n.silent)
	}
	n.next, n.silent = now.Add(noticeEvery), 0
	n.log.Warn(text, args...)
}
