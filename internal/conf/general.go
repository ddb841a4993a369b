package conf

import (
	"net/netip"
	"strings"

	"oakley/internal/diag"
)

func (ld *loader) general() {
	v := ld.root("General", kindGeneral)
	g := &ld.cfg.General
	g.AcquireOnly = ld.yes(v, "Acquire-Only", false)
	g.CheckInterval = ld.seconds(v, "Check-interval", 1, 86400)
	g.DeleteSAs = !strings.EqualFold(v.get("Delete-SAs").text, "no")
	g.DPDInterval = ld.seconds(v, "DPD-check-interval", 0, 86400)
	g.ExchangeMaxTime = ld.seconds(v, "Exchange-max-time", 5, 86400)
	g.NATTKeepalive = ld.seconds(v, "NAT-T-Keepalive", 1, 3600)
	g.Retransmits = int(ld.number(v.get("Retransmits"), "Retransmits", 1, 20))
	g.Loglevel = v.get("Loglevel").text
	g.Logverbose = ld.yes(v, "Logverbose", false)
	g.PolicyFile = v.get("Policy-file").text
	g.PubkeyDirectory = v.get("Pubkey-directory").text
	g.RenegotiateOnHUP = ld.yes(v, "Renegotiate-on-HUP", false)
	g.SharedSADB = ld.yes(v, "Shared-SADB", false)
	g.UseKeynote = strings.EqualFold(v.get("Use-Keynote").text, "yes")
	for _, x := range v.get("Listen-on").items() {
		g.ListenOn = append(g.ListenOn, x.text)
		if strings.ContainsAny(x.text, " /") {
			ld.fail(x, "separate addresses or interface names with commas", "%q is neither an address nor an interface", x.text)
		}
	}
	if x := v.get("Default-phase-1-ID"); x.text != "" {
		g.DefaultPhase1ID = ld.phase1ID(x)
	}
	for _, x := range v.get("Default-phase-2-suites").items() {
		if s := ld.suite(x); s != nil {
			g.Suites = append(g.Suites, *s)
		}
	}
	for _, tag := range []string{"Default-phase-1-lifetime", "Default-phase-2-lifetime"} {
		ld.rangeOf(v.get(tag), tag, 1<<32-1)
	}
	k := ld.root("KeyNote", kindKeyNote)
	ld.cfg.KeyNote.CredentialDirectory = k.get("Credential-directory").text
	x := ld.root("X509-certificates", kindX509)
	ld.cfg.X509 = X509{
		AcceptSelfSigned: ld.yes(x, "Accept-self-signed", false), CADirectory: x.get("CA-directory").text,
		CertDirectory: x.get("Cert-directory").text, CRLDirectory: x.get("CRL-directory").text,
		PrivateKey: x.get("Private-key").text, PrivateKeysDir: x.get("Private-key-directory").text,
	}
}

// named takes the sections that are found by the form of their names: those of
// mode-config, and keys chosen by an initiator's ID.
func (ld *loader) named() {
	for _, s := range ld.f.Sections {
		if s.used {
			continue
		}
		head, id, slash := strings.Cut(s.Name, "/")
		switch k := key(head); {
		case slash && (k == "ipv4" || k == "ipv6" || k == "fqdn" || k == "ufqdn" || k == "asn1_dn"):
			v := view{name: s.Name, kind: kindModeConfig, sec: s}
			ld.visit(v)
			get := func(t string) string { return v.get(t).text }
			ld.cfg.ModeConfigs = append(ld.cfg.ModeConfigs, ModeConfig{
				Kind: k, ID: id, Address: get("Address"), Netmask: get("Netmask"), Nameserver: get("Nameserver"), WINSServer: get("WINS-server"),
				Lifetime: get("Lifetime"), Mode: get("Mode"), Attributes: get("Attributes"),
			})
		case len(s.Tags) == 1 && s.byName["authentication"] != nil && initiatorName(s.Name):
			v := view{name: s.Name, kind: kindInitiatorID, sec: s}
			ld.visit(v)
			ld.cfg.InitiatorIDs = append(ld.cfg.InitiatorIDs, InitiatorID{Name: s.Name, Key: ld.secret(v.get("Authentication"))})
		}
	}
}

// initiatorName tells whether a section's name can be an ID: an address, a host
// name, user@host or, for KEY_ID, any single word.
func initiatorName(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return s != "" && !strings.ContainsAny(s, " \t")
}

// secret reads a key: hexadecimal after 0x, else the text itself.
func (ld *loader) secret(x value) []byte {
	hex, ok := strings.CutPrefix(strings.ToLower(x.text), "0x")
	if !ok {
		if n := len(x.text); n > 0 && n < 8 {
			ld.report(diag.Warning, x, "take a longer one: anybody who guesses it is let in", "the pre-shared key has %d characters", n)
		}
		return []byte(x.text)
	}
	if len(hex)%2 == 1 {
		hex = "0" + hex
	}
	key := make([]byte, 0, len(hex)/2)
	for i := 0; i < len(hex); i += 2 {
		hi, lo := nibble(hex[i]), nibble(hex[i+1])
		if hi < 0 || lo < 0 {
			ld.fail(x, "after 0x a key has the digits 0-9 and a-f alone", "the pre-shared key is no hexadecimal number")
			return nil
		}
		key = append(key, byte(hi<<4|lo))
	}
	if len(key) == 0 {
		ld.fail(x, "", "the pre-shared key is empty")
	}
	return key
}

func nibble(c byte) int { return strings.IndexByte("0123456789abcdef", c) }
