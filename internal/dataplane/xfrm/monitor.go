package xfrm

import (
	"context"
	"sync"
	"time"

	"oakley/internal/dataplane"
)

// watcherRoom is how many messages wait for one who watches.
const watcherRoom = 1024

// watchers are those who want to know everything.
type watchers struct {
	mu   sync.Mutex
	all  map[*watcher]bool
	done bool
}

type watcher struct {
	ch     chan dataplane.Message
	missed int
}

// Monitor tells what is asked of this plane and what the kernel does by itself.
func (p *Plane) Monitor(ctx context.Context) (<-chan dataplane.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &watcher{ch: make(chan dataplane.Message, watcherRoom)}
	ws := &p.watch
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.done {
		return nil, dataplane.ErrClosed
	}
	if ws.all == nil {
		ws.all = map[*watcher]bool{}
	}
	ws.all[w] = true
	context.AfterFunc(ctx, func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		ws.end(w)
	})
	return w.ch, nil
}

func (ws *watchers) end(w *watcher) {
	if ws.all[w] {
		delete(ws.all, w)
		close(w.ch)
	}
}

func (ws *watchers) close() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.done = true
	for w := range ws.all {
		ws.end(w)
	}
}

// tell sends m to all; err is why what m says was refused.
func (ws *watchers) tell(m dataplane.Message, err error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.all) == 0 {
		return
	}
	m.At = time.Now()
	if err != nil {
		m.Error = err.Error()
	}
	for w := range ws.all {
		w.send(m)
	}
}

// send leaves one place for the word that messages were missed.
func (w *watcher) send(m dataplane.Message) {
	if len(w.ch) >= watcherRoom-1 {
		w.missed++
		return
	}
	if w.missed > 0 {
		w.ch <- dataplane.Message{At: m.At, Action: dataplane.ActionMissed, Missed: w.missed}
		w.missed = 0
		if len(w.ch) >= watcherRoom-1 {
			w.missed++
			return
		}
	}
	w.ch <- m
}
