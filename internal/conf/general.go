package conf

import (
	"net/netip"
	"strconv"
	"strings"

	"oakley/internal/diag"
)

// readGeneral reads the sections with a fixed name, save the two roots.
func (l *loader) readGeneral() {
	v := l.fixed("General", roleGeneral)
	l.general = v
	g := &l.cfg.General
	g.AcquireOnly = l.defined(v, "Acquire-Only")
	g.CheckInterval = l.seconds(v, "Check-interval", 1)
	g.DeleteSAs = l.yesNo(v, "Delete-SAs") != "no"
	g.DPDCheckInterval = l.seconds(v, "DPD-check-interval", 0)
	g.ExchangeMaxTime = l.seconds(v, "Exchange-max-time", 1)
	g.NATTKeepalive = l.seconds(v, "NAT-T-Keepalive", 1)
	g.Retransmits, _ = l.number(v.get("Retransmits"), "number of retransmissions", 0, 100)
	g.PolicyFile = v.get("Policy-file").text
	g.PubkeyDirectory = v.get("Pubkey-directory").text
	g.RenegotiateOnHUP = l.defined(v, "Renegotiate-on-HUP")
	g.SharedSADB = l.defined(v, "Shared-SADB")
	g.LogVerbose = l.defined(v, "Logverbose")
	g.UseKeynote = l.yesNo(v, "Use-Keynote") == "yes"
	g.DefaultPhase1Lifetime, _ = l.rangeOf(v.get("Default-phase-1-lifetime"), "lifetime", 1, maxLife)
	g.DefaultPhase2Lifetime, _ = l.rangeOf(v.get("Default-phase-2-lifetime"), "lifetime", 1, maxLife)
	l.readListenOn(v)
	l.readLogLevels(v)
	l.readDataPlane(v)
	l.readPlaneOptions(v)
	if x := v.get("Default-phase-1-ID"); x.text != "" {
		g.DefaultPhase1ID = l.phase1ID(x)
	}
	g.DefaultPhase2Suites = l.suiteList(v.get("Default-phase-2-suites"))

	l.cfg.KeyNote.CredentialDirectory = l.fixed("KeyNote", roleKeyNote).get("Credential-directory").text
	x := l.fixed("X509-certificates", roleX509)
	l.cfg.X509 = X509{
		AcceptSelfSigned:    l.defined(x, "Accept-self-signed"),
		CADirectory:         x.get("CA-directory").text,
		CertDirectory:       x.get("Cert-directory").text,
		CRLDirectory:        x.get("CRL-directory").text,
		PrivateKey:          x.get("Private-key").text,
		PrivateKeyDirectory: x.get("Private-key-directory").text,
	}
}

func (l *loader) readDataPlane(v view) {
	x := v.get("Data-plane")
	if x.text == "" {
		return
	}
	plane, ok := ParseDataPlane(x.text)
	if !ok {
		l.fail(x, "write kernel for the kernel's IPsec, ipsecd for our own in a process that outlives isakmpd, isakmpd for our own inside it, or auto", "%s is no data plane", quote(x.text))
	}
	l.cfg.General.DataPlane = plane
}

// maxInterface is the longest name of an interface on Linux.
const maxInterface = 15

func (l *loader) readListenOn(v view) {
	seen := map[Listen]bool{}
	for _, x := range v.get("Listen-on").items() {
		var on Listen
		if a, err := netip.ParseAddr(x.text); err == nil {
			on.Addr = a.Unmap()
		} else if len(x.text) > maxInterface || strings.ContainsAny(x.text, "/ \t:") || !looksLikeName(x.text) && strings.Contains(x.text, ".") {
			l.fail(x, "write addresses or interface names with commas between them: 192.0.2.1,eth0", "%s is neither an address nor an interface", quote(x.text))
			continue
		} else {
			on.Interface = x.text
		}
		if seen[on] {
			l.warn(x, "name it once", "%s is in Listen-on twice", clip(x.text))
			continue
		}
		seen[on] = true
		l.cfg.General.ListenOn = append(l.cfg.General.ListenOn, on)
	}
}

func (l *loader) readLogLevels(v view) {
	const hint = "write it as the flag -D takes it: A=50, or a list as 0=20,7=99"
	for _, x := range v.get("Loglevel").items() {
		class, level, ok := strings.Cut(x.text, "=")
		n, err := strconv.Atoi(strings.TrimSpace(level))
		c, cerr := strconv.Atoi(strings.TrimSpace(class))
		if strings.EqualFold(strings.TrimSpace(class), "A") {
			c, cerr = AllClasses, nil
		} else if c < 0 || c > 10 {
			ok = false
		}
		if !ok || err != nil || cerr != nil || n < 0 || n > 99 {
			l.fail(x, hint, "%s is no class=level", quote(x.text))
			continue
		}
		l.cfg.General.LogLevels = append(l.cfg.General.LogLevels, LogLevel{Class: c, Level: n})
	}
}

// checkTags warns of tags that mean nothing where they stand.
func (l *loader) checkTags() {
	for _, s := range l.file.Sections {
		if len(s.roles) == 0 || s.roles[0] == rolePhase1 {
			continue
		}
		known := s.roles[0].tags
		for _, r := range s.roles[1:] {
			known = append(known[:len(known):len(known)], r.tags...)
		}
		for _, t := range s.Tags {
			if !knownTag(known, t.Name) {
				l.unknownTag(s, t, known)
			}
		}
	}
}

func knownTag(known []string, name string) bool {
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

func (l *loader) unknownTag(s *Section, t *Tag, known []string) {
	hint := "it is ignored; the tags are " + strings.Join(known, ", ")
	if l.searches++; l.searches <= maxSearches {
		if near, ok := diag.Nearest(t.Name, func(yield func(string) bool) {
			for _, k := range known {
				if !yield(k) {
					return
				}
			}
		}); ok {
			hint = "it is ignored; did you mean " + near + "?"
		}
	}
	what := s.roles[0].what
	if fixedRoles[fold(s.Name)] == nil {
		what = "[" + clip(s.Name) + "], " + what + ","
	}
	l.add(diag.Warning, t.at, hint, "%s has no tag %s", what, quote(tagName(t.Name)))
}
