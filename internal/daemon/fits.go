package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"oakley/internal/dataplane"
	"oakley/internal/doi"
	"oakley/internal/ike"
	"oakley/internal/ipsec"
)

// trim leaves out, with a warning, the suites that the data plane cannot serve. A
// connection that has no other is an error.
func (l *loaded) trim(info dataplane.Info) error {
	if err := l.fits(info); err != nil {
		return err
	}
	for _, c := range l.connections() {
		fit, out := divide(info, c.Suites)
		if len(out) > 0 {
			l.warnings = append(l.warnings, fmt.Sprintf("connection %s has fewer suites: %s", c.Name, unserved(info, out)))
		}
		c.Suites = fit
	}
	return nil
}

// fits says which connections the data plane cannot serve at all.
func (l *loaded) fits(info dataplane.Info) error {
	var errs []error
	for _, c := range l.connections() {
		if fit, out := divide(info, c.Suites); len(fit) == 0 && len(out) > 0 {
			errs = append(errs, fmt.Errorf("connection %s cannot be served: %s", c.Name, unserved(info, out)))
		}
		if c.Interface != 0 && !info.Kernel && info.CarriesData {
			errs = append(errs, fmt.Errorf("connection %s has XFRM-interface=%d, and the data plane %s knows no xfrm interfaces: that takes Data-plane=kernel in [General]", c.Name, c.Interface, info.Name))
		}
	}
	return errors.Join(errs...)
}

func (l *loaded) connections() []*ike.Connection {
	all := slices.Clone(l.engine.Connections)
	for _, c := range []*ike.Connection{l.engine.DefaultConnection, l.engine.Unlisted} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// divide parts suites that a data plane can serve from what it needs for the
// others.
func divide(info dataplane.Info, suites []ike.Suite) (fit []ike.Suite, out []string) {
	for i := range suites {
		s := &suites[i]
		if what := lacks(info, s); what != "" {
			out = append(out, fmt.Sprintf("suite %s needs %s", s.Name, withModules(info, what)))
			continue
		}
		fit = append(fit, *s)
	}
	return fit, out
}

func unserved(info dataplane.Info, out []string) string {
	text := fmt.Sprintf("%s, which the data plane %s does not have", strings.Join(out, ", "), info.Name)
	if info.Kernel {
		text += "; Data-plane=ipsecd in [General] has it"
	}
	return text
}

// withModules adds to something that a data plane lacks the modules that have it.
func withModules(info dataplane.Info, what string) string {
	for _, l := range info.Lacks {
		if name, _, ok := strings.Cut(l, " ("); ok && strings.EqualFold(name, what) {
			return l
		}
	}
	return what
}

// lacks names what a suite needs and a data plane has not; an empty list of a
// data plane's is everything.
func lacks(info dataplane.Info, s *ike.Suite) string {
	for i := range s.Protocols {
		p := &s.Protocols[i]
		proto := ipsecProtos[p.Proto]
		if len(info.Protos) > 0 && !slices.Contains(info.Protos, proto) {
			return strings.ToUpper(proto.String())
		}
		for k := range p.Transforms {
			if what := lacksTransform(info, p.Proto, &p.Transforms[k]); what != "" {
				return what
			}
		}
	}
	return ""
}

func lacksTransform(info dataplane.Info, proto doi.Protocol, t *ike.Phase2Transform) string {
	switch {
	case t.Mode == ipsec.Transport && !info.Transport:
		return "transport mode"
	case t.ESN && !info.ESN:
		return "extended sequence numbers"
	}
	if proto == doi.ProtoIPComp {
		if c := ike.CompOf(doi.IPComp(t.ID)); len(info.Comps) > 0 && !slices.Contains(info.Comps, c) {
			return c.String()
		}
		return ""
	}
	if c := ike.CipherOf(doi.ESP(t.ID)); proto == doi.ProtoESP && len(info.Ciphers) > 0 && !slices.Contains(info.Ciphers, c) {
		return c.String()
	}
	if a := ike.AuthOf(proto, t.ID, t.Auth); a != ipsec.AuthNone && len(info.Auths) > 0 && !slices.Contains(info.Auths, a) {
		return a.String()
	}
	return ""
}
