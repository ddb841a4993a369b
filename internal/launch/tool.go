package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"oakley/internal/dataplane"
	"oakley/internal/dataplane/ipsecd"
	"oakley/internal/dataplane/userspace"
	"oakley/internal/dataplane/xfrm"
)

// Plane is a tool's connection to the data plane of this host.
type Plane struct {
	*ipsecd.Client
	ended <-chan error // of the ipsecd that was started for it; nil: none was
}

// Tool connects a tool to the data plane behind a socket. Where nobody listens at
// the default one and the kernel has IPsec, an ipsecd is started that keys the
// kernel: it takes over what is there from one that was killed, stays as long as
// there is an SA or a flow, and ends by itself. Nobody is started for another
// socket. The error says what a person can do.
func Tool(ctx context.Context, socket string) (*Plane, error) {
	return tool(ctx, socket, ipsecd.DefaultSocket, usable)
}

// ending is how long one who goes may still be reached, and hangs up.
const ending = 2 * time.Second

// tool is Tool with a default socket of a test's, and what the kernel is.
func tool(ctx context.Context, socket, standard string, usable func() error) (*Plane, error) {
	var err error
	for end := time.Now().Add(ending); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var c *ipsecd.Client
		if c, err = ipsecd.Dial(ctx, socket, ipsecd.NoEvents); err == nil {
			return &Plane{Client: c}, nil
		}
		if !errors.Is(err, dataplane.ErrClosed) || socket != standard || ctx.Err() != nil {
			break
		}
	}
	switch {
	case !ipsecd.NotThere(err) || socket != standard:
		return nil, ipsecd.Explain(socket, err)
	}
	if why := usable(); why != nil {
		return nil, fmt.Errorf("%w. The kernel's own IPsec, which tools use where nobody listens, is not to be had: %w", ipsecd.Explain(socket, err), why)
	}
	program, why := Find()
	if why != nil {
		return nil, fmt.Errorf("%w. The kernel has IPsec, and it is ipsecd that keys it: %w", ipsecd.Explain(socket, err), why)
	}
	r := Request{Program: program, Socket: socket, Args: []string{"--plane", "kernel", "--syslog"}, Events: ipsecd.NoEvents}
	c, ended, err := r.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("nobody listens at %s (an isakmpd that carries the traffic itself cannot be asked), and an ipsecd for the kernel's IPsec could not be started: %w", socket, err)
	}
	return &Plane{c, ended}, nil
}

// usable is nil when the kernel has ESP, we may use it, and it is not somebody
// else's turn: what our own stack has left when it was killed keeps from going out
// in clear what it protected, and goes when the kernel takes its place. That is for
// people to decide, and not for who wants to look.
func usable() error {
	can, err := xfrm.Probe()
	if err != nil {
		return err
	}
	if err := can.Usable(); err != nil {
		return err
	}
	n, err := userspace.Left(userspace.Options{})
	if err == nil && n > 0 {
		err = fmt.Errorf("an ipsecd with its own stack was killed, and left %d routes and filters that keep clear text in; whoever started it is to start it again, or \"ipsecd --plane kernel &\" takes its place", n)
	}
	return err
}

// farewell is how long an ipsecd that was started here may take to end when there
// is nothing to keep.
const farewell = 5 * time.Second

// Close ends the connection. An ipsecd that was started for it, and that nobody
// needs, is gone when it returns.
func (p *Plane) Close() error {
	leaves := p.ended != nil && p.idle()
	err := p.Client.Close()
	if !leaves {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(farewell): // somebody else came, and keeps it
	}
	return err
}

// idle tells whether the ipsecd has nothing to keep, and nobody else.
func (p *Plane) idle() bool {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	alone, err := p.Alone(ctx)
	return err == nil && alone
}
