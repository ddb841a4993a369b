package ipsecd

import (
	"context"
	"fmt"

	"oakley/internal/dataplane"
)

// Monitor watches over a connection of its own, so that who does not read holds up
// nothing but that.
func (p *Client) Monitor(ctx context.Context) (<-chan dataplane.Message, error) {
	if err := p.why(); err != nil {
		return nil, err
	}
	c, err := open(ctx, p.path, &request{Op: opMonitor})
	if err != nil {
		return nil, fmt.Errorf("watching the data plane at %s: %w", p.path, err)
	}
	q := newBacklog(maxMessages, missed)
	gone := make(chan struct{})
	go func() { // ends the others
		select {
		case <-ctx.Done():
		case <-p.done:
		case <-gone:
		}
		c.Close()
		q.end()
	}()
	go func() {
		defer close(gone)
		for {
			m := &dataplane.Message{}
			if _, err := readFrame(c, m); err != nil {
				return
			}
			if m.Action == dataplane.ActionMissed {
				q.miss(m.Missed)
			} else {
				q.put(m)
			}
		}
	}()
	ch := make(chan dataplane.Message)
	go pour(ctx, q, ch, gone)
	return ch, nil
}

// pour empties the backlog into ch and closes it.
func pour(ctx context.Context, q *backlog[*dataplane.Message], ch chan<- dataplane.Message, gone <-chan struct{}) {
	defer close(ch)
	for m, ok := q.next(); ok; m, ok = q.next() {
		select {
		case ch <- *m:
		case <-ctx.Done():
			return
		case <-gone:
			return
		}
	}
}
