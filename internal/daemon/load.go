package daemon

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"oakley/internal/conf"
	"oakley/internal/diag"
	"oakley/internal/ike"
)

// ConfigError is a configuration that cannot be used. Its text is the whole
// list of what is wrong.
type ConfigError struct {
	File string
	List diag.List
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("the configuration cannot be used:\n%s", strings.TrimRight(e.List.String(), "\n"))
}

// ReadConfig reads and understands a configuration, warnings included.
func ReadConfig(name string, data []byte, r conf.Resolver) (*conf.Config, diag.List, error) {
	c, l := conf.Load(name, data, r)
	if c == nil {
		return nil, l, &ConfigError{File: name, List: l}
	}
	return c, l, nil
}

// Check is the check mode: the resolved connections on w, warnings on warn, all
// mistakes as the error.
func Check(name string, data []byte, w, warn io.Writer) error {
	c, l, err := ReadConfig(name, data, nil)
	if err != nil {
		return err
	}
	if err := l.Format(warn, false); err != nil {
		return err
	}
	if err := unsupported(c); err != nil {
		return err
	}
	c.Describe(w)
	return nil
}

// built are the features that connections may ask for. PF-Tag is for a packet
// filter that Linux does not have; it is warned about.
const built = conf.FeaturePFTag

// general are the wishes of [General] that have no effect here.
func general(c *conf.Config) (warnings []string) {
	needs := c.Needs() &^ conf.FeaturePolicy
	for _, n := range c.Connections {
		needs |= n.Needs() & conf.FeaturePFTag
	}
	for _, name := range needs.Names() {
		warnings = append(warnings, "the configuration asks for what this isakmpd does not do, and it has no effect: "+name)
	}
	return warnings
}

// unsupported refuses, by name, what needs more than is built.
func unsupported(c *conf.Config) error {
	var errs []error
	refuse := func(what string, needs conf.Features) {
		if needs &^= built; needs != 0 {
			errs = append(errs, fmt.Errorf("%s needs what this isakmpd does not do: %s", what, needs))
		}
	}
	for _, n := range c.Connections {
		refuse(fmt.Sprintf("connection %s (%s)", n.Name, n.Pos), n.Needs())
	}
	if n := c.DefaultConnection; n != nil {
		refuse(fmt.Sprintf("connection %s (%s)", n.Name, n.Pos), n.Needs())
	}
	if p := c.DefaultPeer; p != nil {
		refuse(fmt.Sprintf("peer %s (%s)", p.Name, p.Pos), p.Needs())
	}
	for _, p := range c.Peers {
		if !slices.ContainsFunc(c.Connections, func(n *conf.Connection) bool { return n.Peer == p }) {
			refuse(fmt.Sprintf("peer %s (%s)", p.Name, p.Pos), p.Needs())
		}
	}
	return errors.Join(errs...)
}

// load reads the configuration and makes all of it; nothing of the running
// daemon changes.
func (d *Daemon) load() (*loaded, error) {
	data, err := d.host.ReadPrivate(d.opt.Config)
	if err != nil {
		return nil, err
	}
	c, list, err := ReadConfig(d.opt.Config, data, d.host)
	if err != nil {
		return nil, err
	}
	if err := unsupported(c); err != nil {
		return nil, err
	}
	if c.General.UseKeynote && !d.opt.NoPolicy {
		return nil, errors.New("there is no KeyNote policy engine in this isakmpd yet, and without it nothing may be let in by a policy: " +
			"start it with -K, or write Use-Keynote=no into [General], to have the configuration alone decide")
	}
	l := &loaded{conf: c, verbose: d.opt.Verbose || c.General.LogVerbose, debug: d.opt.Debug, keepSAs: !c.General.DeleteSAs}
	for _, x := range c.General.LogLevels {
		l.debug.raise(x)
	}
	for _, w := range list {
		l.warnings = append(l.warnings, strings.TrimRight(diag.List{w}.String(), "\n"))
	}
	if l.listen, err = d.listenAddrs(c.General.ListenOn); err != nil {
		return nil, err
	}
	var warnings []string
	if l.engine, l.flows, warnings, err = d.translate(c); err != nil {
		return nil, err
	}
	l.warnings = append(append(l.warnings, warnings...), general(c)...)
	return l, nil
}

// raise applies an entry of Loglevel; the command line's -D wins where it is
// higher.
func (l *Levels) raise(x conf.LogLevel) {
	for c := range l {
		if x.Class == conf.AllClasses || x.Class == c {
			l[c] = max(l[c], uint8(x.Level))
		}
	}
}

// listenAddrs is what Listen-on means now: addresses, interfaces, or all.
func (d *Daemon) listenAddrs(on []conf.Listen) ([]netip.Addr, error) {
	var addrs []netip.Addr
	add := func(a netip.Addr) {
		if d.opt.wants(a) && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	if len(on) == 0 {
		add(netip.IPv4Unspecified())
		add(netip.IPv6Unspecified())
		return addrs, nil
	}
	for _, x := range on {
		if x.Addr.IsValid() {
			add(x.Addr.Unmap())
			continue
		}
		ps, err := d.host.InterfaceAddrs(x.Interface)
		if err != nil {
			return nil, fmt.Errorf("Listen-on names %q, which is neither an address nor an interface of this host: %w", x.Interface, err)
		}
		for _, p := range ps {
			if !p.Addr().IsLinkLocalUnicast() {
				add(p.Addr())
			}
		}
	}
	return addrs, nil
}

// Reload reads the configuration again. One with a mistake changes nothing.
func (d *Daemon) Reload() {
	d.requests.put(func() {
		next, err := d.load()
		if err == nil {
			err = next.fits(d.backend.Info())
		}
		if err != nil {
			d.log.Error("the configuration was not reloaded, the old one stays: "+err.Error(), fieldEvent, "reload")
			return
		}
		if !slices.Equal(next.listen, d.cfg.listen) {
			d.log.Warn("Listen-on has changed: that takes a restart")
		}
		d.adopt(next)
	})
}

// adopt takes a configuration as a difference: the flows first, so that what is
// new is never in clear, then the negotiation.
func (d *Daemon) adopt(next *loaded) {
	d.plane.setFlows(next.flows, func(err error) {
		d.requests.put(func() {
			if err != nil {
				d.log.Error("the configuration was not reloaded, the old one stays: its flows cannot be set up", fieldEvent, "reload", fieldErr, err)
				return
			}
			d.cfg = next
			d.log.SetLevels(next.verbose, next.debug)
			d.handle(ike.Reload{Config: next.engine})
			d.warn()
			d.log.Notice("configuration reloaded", fieldEvent, "reload", fieldFile, d.opt.Config)
		})
	})
}

// resolveAgain looks up what depends on this host's addresses and routes, and
// takes the same configuration anew when that has changed.
func (d *Daemon) resolveAgain() {
	engine, flows, warnings, err := d.translate(d.cfg.conf)
	if err != nil || reflect.DeepEqual(flows, d.cfg.flows) {
		return
	}
	next := *d.cfg
	next.engine, next.flows, next.warnings = engine, flows, warnings
	d.adopt(&next)
}
