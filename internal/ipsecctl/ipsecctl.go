// Package ipsecctl is what ipsecctl(8) does: it asks a data plane for what there
// is and prints it, flushes it, and prints what happens while it happens. How
// things look is package show's business; whom to ask is the caller's.
package ipsecctl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/ipsec"
	"oakley/internal/show"
)

// Plane is the part of a data plane that is asked.
type Plane interface {
	dataplane.Monitor
	Info() dataplane.Info
	Dump(ctx context.Context, q dataplane.Query) (dataplane.State, error)
	Totals(ctx context.Context) (dataplane.Totals, error)
	Flush(ctx context.Context, o ipsec.Owner) error
}

// Command is what is wanted: to flush, then to show, then to watch.
type Command struct {
	Flush   bool
	Show    What
	Monitor bool
	Keys    bool
	Verbose int
	Now     time.Time // for the ages of things
	kernel  bool      // it is the kernel that is asked
}

// asking is how long the data plane may take for an answer.
const asking = 30 * time.Second

// ErrGone is what Run returns when the data plane ended while it was watched.
var ErrGone = errors.New("the data plane went away")

// OutputError is what the output said to what was printed.
type OutputError struct{ Err error }

func (e *OutputError) Error() string { return "printing: " + e.Err.Error() }

// Unwrap is the output's own error.
func (e *OutputError) Unwrap() error { return e.Err }

// Run carries the command out. Watching goes on until ctx ends, which is no
// error. When out takes no more, the error is an OutputError and the rest is not
// printed.
func (c *Command) Run(ctx context.Context, p Plane, out io.Writer) error {
	w := &printer{bufio.NewWriterSize(out, 1<<16)}
	c.kernel = p.Info().Kernel
	if c.Flush {
		if err := within(ctx, func(ctx context.Context) error { return p.Flush(ctx, ipsec.OwnerAny) }); err != nil {
			return fmt.Errorf("flushing: %w", err)
		}
	}
	if see := seeing[c.Show]; see != nil {
		if err := see(c, ctx, p, w); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return &OutputError{err}
	}
	if c.Monitor {
		return c.watch(ctx, p, w)
	}
	return nil
}

func within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	return f(ctx)
}

// watch prints messages as they come.
func (c *Command) watch(ctx context.Context, p Plane, w *printer) error {
	messages, err := p.Monitor(ctx)
	if err != nil {
		return err
	}
	for m := range messages {
		show.Message(w, m)
		if err := w.Flush(); err != nil {
			return &OutputError{err}
		}
	}
	if ctx.Err() == nil {
		return ErrGone
	}
	return nil
}

// printer keeps the first error.
type printer struct{ *bufio.Writer }

// broken tells whether nothing more can be printed; Flush tells why.
func (p *printer) broken() bool {
	_, err := p.Write(nil)
	return err != nil
}
