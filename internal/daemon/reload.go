package daemon

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"oakley/internal/ike"
)

// resolveEvery is how often our address towards a peer is looked for while there
// is none.
const resolveEvery = 15 * time.Second

// Reload reads the configuration again, as SIGHUP asks; it returns at once. What
// is bad is logged whole, and the old configuration stays.
func (d *Daemon) Reload() {
	d.requests.put(func() {
		next, err := d.load()
		if err == nil {
			err = d.changes(next)
		}
		if err != nil {
			d.refused(err)
			return
		}
		files := "configuration " + d.opt.Config
		if next.policy != nil {
			files += " and policy " + next.conf.General.PolicyFile
		}
		d.adopt(next, files+" read again")
	})
}

func (d *Daemon) refused(err error) {
	text := err.Error()
	if bad, ok := errors.AsType[*errConfig](err); ok {
		text = bad.Error()
	}
	d.log.Error("the configuration was not read again, the old one stays: "+text, fieldEvent, "reload")
}

// changes says what a running daemon cannot change to.
func (d *Daemon) changes(next *loaded) error {
	if err := next.trim(d.plane.backend().Info()); err != nil {
		return err
	}
	if !slices.Equal(next.listen, d.cfg.listen) {
		next.warnings = append(next.warnings, fmt.Sprintf("the addresses to listen on have changed: that takes a restart, until then it is %s", d.socks))
	}
	if now := &d.cfg.conf.General; next.conf.General.PlaneOptions != now.PlaneOptions || next.conf.General.DataPlane != now.DataPlane {
		next.warnings = append(next.warnings, "the data plane or its options in [General] have changed: isakmpd and the ipsecd that it started have to be started again for that")
	}
	return nil
}

// adopt makes next the configuration: the flows first, as one transaction, and
// when they stand the engine's.
func (d *Daemon) adopt(next *loaded, done string) {
	d.plane.setFlows(next.flows, func(err error) {
		d.requests.put(func() {
			if err != nil {
				d.refused(fmt.Errorf("its flows cannot be set up: %w", err))
				return
			}
			d.cfg = next
			d.log.SetLevels(next.verbose, next.debug)
			d.log.Notice(done, fieldEvent, "reload")
			d.warn()
			d.handle(ike.Reload{Config: next.engine})
		})
	})
}

// resolveAgain looks for the addresses that were not known, as at boot, when a
// daemon is there before its network.
func (d *Daemon) resolveAgain() {
	if !d.cfg.homeless {
		return
	}
	next, err := d.translate(d.cfg.conf, d.cfg.policy)
	if err != nil || next.homeless || next.trim(d.plane.backend().Info()) != nil {
		return
	}
	d.adopt(next, "the addresses towards all peers are known now")
}
