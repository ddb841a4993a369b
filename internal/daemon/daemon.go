package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"oakley/internal/conf"
	"oakley/internal/dataplane"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// Options are what the command line says.
type Options struct {
	Config    string // the configuration's path
	IPv4      bool   // -4; neither or both: both families
	IPv6      bool   // -6
	Port      uint16 // of IKE
	EncapPort uint16 // of UDP encapsulation
	NoNATT    bool   // -T
	NoPolicy  bool   // -K
	Verbose   bool   // -v
	Debug     Levels // -D
	PIDFile   string // empty: none
	Report    string // where SIGUSR1's report goes

	Host Host
	Log  *Log
	Rand io.Reader // safe for use by several goroutines
	// DataPlane, if not nil, is chosen whatever the configuration says.
	DataPlane *conf.DataPlane
	// Plane makes the data plane. It is asked after the configuration was found
	// good, and again when the data plane has ended under us.
	Plane func(context.Context, PlaneOptions) (dataplane.Backend, error)
}

// PlaneOptions is what a data plane has to know of us.
type PlaneOptions struct {
	EncapPort uint16
	Listen    []netip.Addr // our outer addresses; unspecified: all of the family
	Which     conf.DataPlane
	Tuning    conf.PlaneOptions
	Log       *slog.Logger
}

func (o *Options) bothFamilies() bool { return o.IPv4 == o.IPv6 }

// wants tells whether addresses of a's family are to be used.
func (o *Options) wants(a netip.Addr) bool {
	return o.bothFamilies() || o.IPv4 == a.Is4()
}

// inputQueue is how many datagrams wait for the engine before the sockets'
// readers do.
const inputQueue = 512

// Daemon is a running isakmpd. New starts it up, Run works until it is told to
// end.
type Daemon struct {
	opt   Options
	host  Host
	log   *Log
	wants PlaneOptions

	plane *plane
	dh    *dhPool
	socks *sockets
	pid   io.Closer
	wg    sync.WaitGroup // of what passes data-plane events on

	inputs   chan ike.Input // from outside: whoever sends may have to wait
	results  *mailbox[ike.Input]
	requests *mailbox[func()] // run by the engine's goroutine
	stopping chan struct{}
	gone     chan struct{} // the data plane has ended without us
	failed   chan error    // and there is no other
	limit    *limiter

	// The goroutine of Run alone uses these.
	engine *ike.Engine
	cfg    *loaded
	warned map[string]bool
	found  []ipsec.SAState // of an earlier life, until the engine has them
	deaths []time.Time     // of data planes, lately
}

// New does all of start-up that can fail: it reads the configuration, opens the
// data plane, puts the flows in place, and only then opens the ports. What it
// returns as an error is meant to be read by people.
func New(ctx context.Context, opt Options) (d *Daemon, err error) {
	d = &Daemon{
		opt: opt, host: opt.Host, log: opt.Log,
		inputs:   make(chan ike.Input, inputQueue),
		results:  newMailbox[ike.Input](),
		requests: newMailbox[func()](),
		stopping: make(chan struct{}),
		gone:     make(chan struct{}, 1),
		failed:   make(chan error, 1),
		limit:    newLimiter(),
		warned:   map[string]bool{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
			d = nil
		}
	}()
	if d.cfg, err = d.load(); err != nil {
		return d, err
	}
	d.log.SetLevels(d.cfg.verbose, d.cfg.debug)
	if opt.PIDFile != "" {
		if d.pid, err = d.host.HoldPID(opt.PIDFile); err != nil {
			return d, needsRoot(err)
		}
	}
	if err = d.openPlane(ctx); err != nil {
		return d, err
	}
	if d.socks, err = d.openSockets(ctx, d.cfg.listen); err != nil {
		return d, err
	}
	d.dh = newDHPool(runtime.GOMAXPROCS(0), opt.Rand, d.results.put)
	d.engine = ike.New(d.cfg.engine, opt.Rand)
	return d, nil
}

// needsRoot adds what to do about a missing right.
func needsRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (isakmpd needs root; \"isakmpd --check\" does not)", err)
	}
	return err
}

// openPlane opens the data plane and puts the configured flows in place: from
// then on nothing that a flow protects leaves in clear.
func (d *Daemon) openPlane(ctx context.Context) error {
	d.wants = PlaneOptions{
		EncapPort: d.opt.EncapPort, Listen: d.cfg.listen, Which: d.cfg.conf.General.DataPlane,
		Tuning: d.cfg.conf.General.PlaneOptions, Log: d.log.Logger,
	}
	if d.opt.DataPlane != nil {
		d.wants.Which = *d.opt.DataPlane
	}
	b, err := d.opt.Plane(ctx, d.wants)
	if err != nil {
		return fmt.Errorf("the data plane cannot be opened: %w", needsRoot(err))
	}
	d.plane = newPlane(b, d.log, d.results.put)
	if err := d.cfg.trim(b.Info()); err != nil {
		return err
	}
	if b.Info().OutlivesUs {
		if d.found, err = d.plane.recover(); err != nil {
			return fmt.Errorf("what the data plane has cannot be read: %w", err)
		}
	}
	done := make(chan error, 1)
	d.plane.setFlows(d.cfg.flows, func(err error) { done <- err })
	if err := <-done; err != nil {
		return fmt.Errorf("the flows of the configuration cannot be set up: %w", err)
	}
	return nil
}

// close lets go of all that New or Run opened.
func (d *Daemon) close() error {
	var errs []error
	if d.socks != nil {
		d.socks.close()
	}
	if d.dh != nil {
		d.dh.close()
	}
	if d.plane != nil {
		errs = append(errs, d.leave())
		d.plane.close()
		errs = append(errs, d.plane.backend().Close())
	}
	d.wg.Wait()
	if d.pid != nil {
		errs = append(errs, d.pid.Close())
	}
	return errors.Join(errs...)
}

// leave removes our SAs and flows, unless they are to outlive us.
func (d *Daemon) leave() error {
	if d.cfg.keepSAs && d.plane.backend().Info().OutlivesUs {
		return nil
	}
	if err := d.plane.clear(); err != nil {
		return fmt.Errorf("SAs and flows could not be removed: %w", err)
	}
	return nil
}
