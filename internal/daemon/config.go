package daemon

import (
	"fmt"
	"net/netip"
	"strings"

	"oakley/internal/conf"
	"oakley/internal/diag"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// loaded is a configuration in the words of those who work by it.
type loaded struct {
	conf     *conf.Config
	engine   *ike.Config
	policy   *rules // nil: the configuration alone decides
	flows    []ipsec.Flow
	listen   []netip.Addr
	keepSAs  bool // Delete-SAs=no
	verbose  bool
	debug    Levels
	warnings []string
	homeless bool // the address towards some peer is not known yet
}

// errConfig means that the text of the configuration was refused; what is wrong
// with it is in the list.
type errConfig struct {
	file string
	list diag.List
}

func (e *errConfig) Error() string {
	n := e.list.Count(diag.Error)
	return fmt.Sprintf("%s cannot be used: %s\n%s", e.file, plural(n, "mistake"), strings.TrimRight(e.list.String(), "\n"))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// load reads the configuration and translates it.
func (d *Daemon) load() (*loaded, error) {
	src, err := d.host.ReadPrivate(d.opt.Config)
	if err != nil {
		return nil, fmt.Errorf("the configuration cannot be read: %w", err)
	}
	c, list := conf.Load(d.opt.Config, src, d.host)
	if c == nil {
		return nil, &errConfig{d.opt.Config, list}
	}
	rules, err := d.loadRules(c)
	if err != nil {
		return nil, err
	}
	l, err := d.translate(c, rules)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.opt.Config, err)
	}
	l.warnings = append(l.warnings, remarks(list)...)
	return l, nil
}

// translate makes what the engine and the data plane work by; rules may be nil.
func (d *Daemon) translate(c *conf.Config, rules *rules) (*loaded, error) {
	l := &loaded{conf: c, policy: rules, keepSAs: !c.General.DeleteSAs, verbose: d.opt.Verbose || c.General.LogVerbose, debug: d.opt.Debug}
	for _, x := range c.General.LogLevels {
		l.setLevel(x)
	}
	t := &translator{rules: rules, host: d.host, opt: &d.opt, conf: c, peers: map[*conf.Peer]*ike.Peer{}}
	var err error
	if l.listen, err = t.listen(); err != nil {
		return nil, err
	}
	t.addrs = l.listen
	if l.engine, err = t.engine(); err != nil {
		return nil, err
	}
	if rules != nil {
		if l.engine.Unlisted, err = t.connection(&conf.Connection{Name: "by policy", Suites: c.General.DefaultPhase2Suites}); err != nil {
			return nil, err
		}
		t.warnings = append(t.warnings, rules.warnings...)
	}
	l.flows = t.flows(l.engine)
	l.warnings = t.warnings
	l.homeless = t.homeless
	return l, nil
}

// setLevel adds what Loglevel asks for to what -D did; the higher one counts.
func (l *loaded) setLevel(x conf.LogLevel) {
	for c := range l.debug {
		if x.Class == conf.AllClasses || x.Class == c {
			l.debug[c] = max(l.debug[c], uint8(x.Level))
		}
	}
}
