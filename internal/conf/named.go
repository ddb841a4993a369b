package conf

import (
	"net/netip"
	"slices"
	"strings"

	"oakley/internal/doi"
)

// idPrefixes are the beginnings of the names of mode-config sections.
var idPrefixes = []struct {
	prefix string
	t      doi.IDType
}{
	{"ipv4/", doi.IDIPv4Addr},
	{"ipv6/", doi.IDIPv6Addr},
	{"fqdn/", doi.IDFQDN},
	{"ufqdn/", doi.IDUserFQDN},
	{"asn1_dn/", doi.IDASN1DN},
}

// readNamed reads the sections that are found by their names: those of
// mode-config, and keys that an initiator's ID chooses.
func (l *loader) readNamed() {
	for _, s := range l.file.Sections {
		if len(s.roles) > 0 || fixedRoles[fold(s.Name)] != nil {
			continue
		}
		if i := slices.IndexFunc(idPrefixes, func(p struct {
			prefix string
			t      doi.IDType
		},
		) bool {
			return strings.HasPrefix(fold(s.Name), p.prefix)
		}); i >= 0 {
			l.readModeConfig(s, idPrefixes[i].t, s.Name[len(idPrefixes[i].prefix):])
			continue
		}
		if t := s.Tag("Authentication"); t != nil && t.Value != "" && s.Tag("Phase") == nil && s.guess() == nil && s.Tag("Address") == nil && s.Tag("Configuration") == nil {
			l.readInitiator(s)
		}
	}
}

// readInitiator takes a pre-shared key for an initiator's ID.
func (l *loader) readInitiator(s *Section) {
	v := view{name: s.Name, role: roleInitiator, sec: s, at: s.at}
	s.use(roleInitiator)
	l.cfg.InitiatorIDs = append(l.cfg.InitiatorIDs, &InitiatorID{
		Name: s.Name, Type: initiatorType(s.Name), Key: l.key(v.get("Authentication")), Pos: s.at.Pos,
	})
}

// initiatorType is the type of ID that a name stands for.
func initiatorType(name string) doi.IDType {
	a, err := netip.ParseAddr(name)
	switch {
	case err == nil && a.Unmap().Is4():
		return doi.IDIPv4Addr
	case err == nil:
		return doi.IDIPv6Addr
	case strings.Contains(name, "@"):
		return doi.IDUserFQDN
	case strings.Contains(name, "."):
		return doi.IDFQDN
	}
	return doi.IDKeyID
}

// modes are the ways in which an address is handed out.
var modes = []choice[string]{{"SET", "SET"}, {"PULL", "PULL"}}

func (l *loader) readModeConfig(s *Section, t doi.IDType, id string) {
	v := view{name: s.Name, role: roleModeConfig, sec: s, at: s.at}
	s.use(roleModeConfig)
	m := &ModeConfig{Name: s.Name, Type: t, Value: id, Pos: s.at.Pos}
	if t == doi.IDIPv4Addr || t == doi.IDIPv6Addr {
		if a, ok := l.address(value{text: id, at: s.at}, "the name of this section:"); ok {
			l.family(value{text: id, at: s.at}, a, t)
			m.Value = a.String()
		}
	} else if id == "" || id == "/" {
		l.fail(v.head(), "write the ID after the slash", "[%s] names nobody", clip(s.Name))
	}
	if x := v.get("Address"); x.text != "" {
		m.Address, _ = l.address(x, "Address")
	}
	if x := v.get("Netmask"); x.text != "" {
		if _, ok := l.netmask(x, !m.Address.Is6()); ok {
			m.Netmask, _ = l.address(x, "Netmask")
		}
	}
	for _, x := range v.get("Nameserver").items() {
		if a, ok := l.address(x, "Nameserver"); ok {
			m.Nameservers = append(m.Nameservers, a)
		}
	}
	for _, x := range v.get("WINS-server").items() {
		if a, ok := l.address(x, "WINS-server"); ok {
			m.WINSServers = append(m.WINSServers, a)
		}
	}
	if x := v.get("Lifetime"); x.text != "" {
		m.Lifetime = l.seconds(v, "Lifetime", 1)
	}
	if x := v.get("Mode"); x.text != "" {
		m.Mode, _ = oneOf(l, x, "Mode of mode-config", modes)
	}
	for _, x := range v.get("Attributes").items() {
		m.Attributes = append(m.Attributes, x.text)
	}
	l.cfg.ModeConfigs = append(l.cfg.ModeConfigs, m)
}

// readUnused goes through the sections that nothing leads to. What they were
// written as shows in their tags; their mistakes are told as warnings, since
// nobody uses them.
func (l *loader) readUnused() {
	l.unused = true
	defer func() { l.unused = false }()
	for _, s := range l.file.Sections {
		if len(s.roles) > 0 || fixedRoles[fold(s.Name)] != nil {
			continue
		}
		r := s.guess()
		ref := value{text: s.Name, at: s.at}
		switch r {
		case rolePeer:
			l.warn(ref, "write ADDRESS="+clip(s.Name)+" under [Phase 1], or remove the section", "peer %s is not used: neither [Phase 1] nor a connection names it", clip(s.Name))
			l.peer(ref)
		case roleConnection:
			l.warn(ref, "write it into Connections= or Passive-connections= under [Phase 2], or remove the section", "connection %s is not used: [Phase 2] does not list it", clip(s.Name))
			l.connection(ref, listedPassive)
		}
	}
	for _, s := range l.file.Sections {
		if len(s.roles) > 0 || fixedRoles[fold(s.Name)] != nil {
			continue
		}
		r := s.guess()
		if l.overrides(s) {
			continue
		}
		what := "nothing refers to section [%s]"
		if r != nil {
			what += ", " + r.what
		}
		l.warn(value{text: s.Name, at: s.at}, "name it where it is wanted, or remove it", what, clip(s.Name))
	}
}

// overrides tells whether a section changes a generated one that is not in use:
// files carry these along for their other connections.
func (l *loader) overrides(s *Section) bool {
	for _, r := range []*role{roleTransform1, roleSuite, roleProtocol, roleTransform2, roleLifetime, rolePeer, roleConfig1} {
		if l.generated(r, s.Name) != nil {
			s.use(r)
			return true
		}
	}
	return false
}
