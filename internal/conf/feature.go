package conf

import (
	"strings"

	"oakley/internal/doi"
	"oakley/internal/ipsec"
)

// Features is a set of things that a configuration can ask for and a build may
// not have. The configuration parses all of them; whoever runs it decides.
type Features uint32

// Features beyond main mode with a pre-shared key and quick mode.
const (
	FeatureCertificates    Features = 1 << iota // authentication by RSA signatures
	FeatureAggressive                           // aggressive mode
	FeatureModeConfig                           // Flags=ikecfg
	FeatureUnauthenticated                      // ESP without authentication
	FeatureNATID                                // NAT-ID
	FeaturePFTag                                // PF-Tag
	FeatureDPD                                  // DPD-check-interval
	FeatureAcquireOnly                          // Acquire-Only
	FeatureSharedSADB                           // Shared-SADB
	FeatureRenegotiate                          // Renegotiate-on-HUP
	FeaturePolicy                               // Use-Keynote is not "no"
	featureEnd
)

var featureNames = []string{
	"certificates (RSA_SIG)", "aggressive mode", "mode-config (Flags=ikecfg)", "ESP without authentication", "NAT-ID", "PF-Tag",
	"DPD (DPD-check-interval)", "Acquire-Only", "Shared-SADB", "Renegotiate-on-HUP", "a KeyNote policy",
}

// Has tells whether all of g are in f.
func (f Features) Has(g Features) bool { return f&g == g }

// Names lists what is in the set in words, in a fixed order.
func (f Features) Names() []string {
	var l []string
	for i, name := range featureNames {
		if f&(1<<i) != 0 {
			l = append(l, name)
		}
	}
	return l
}

func (f Features) String() string { return strings.Join(f.Names(), ", ") }

// Needs is what [General] asks for.
func (c *Config) Needs() (f Features) {
	for _, s := range []struct {
		on   bool
		need Features
	}{
		{c.General.DPDCheckInterval > 0, FeatureDPD},
		{c.General.AcquireOnly, FeatureAcquireOnly},
		{c.General.SharedSADB, FeatureSharedSADB},
		{c.General.RenegotiateOnHUP, FeatureRenegotiate},
		{c.General.UseKeynote, FeaturePolicy},
	} {
		if s.on {
			f |= s.need
		}
	}
	return f
}

// Needs is what the peer asks for. A transform that takes ANY authentication
// needs certificates only when there is no key.
func (p *Peer) Needs() (f Features) {
	for _, t := range p.Transforms {
		if t.Auth == doi.AuthRSASig || t.Auth == 0 && p.Key == nil {
			f |= FeatureCertificates
		}
	}
	if p.Mode == doi.ExchangeAggressive {
		f |= FeatureAggressive
	}
	if p.IKECfg {
		f |= FeatureModeConfig
	}
	return f
}

// Needs is what the connection asks for in any of its suites, and what its peer
// does.
func (c *Connection) Needs() (f Features) {
	if c.Peer != nil {
		f |= c.Peer.Needs()
	}
	if c.NATID != nil {
		f |= FeatureNATID
	}
	if c.PFTag != "" {
		f |= FeaturePFTag
	}
	for i := range c.Suites {
		f |= c.Suites[i].Needs()
	}
	return f
}

// Needs is what the suite asks for. What ESP leaves out AH may do.
func (s *Suite) Needs() (f Features) {
	for i := range s.Protocols {
		for k := range s.Protocols[i].Transforms {
			f |= s.Protocols[i].Transforms[k].needs()
		}
	}
	if s.protocol(ipsec.ProtoAH) != nil {
		f &^= FeatureUnauthenticated
	}
	return f
}

func (t *Phase2Transform) needs() (f Features) {
	if t.Proto == ipsec.ProtoESP && t.Auth == 0 && !combined(t.ESP) {
		f |= FeatureUnauthenticated
	}
	return f
}

// combined tells whether a cipher authenticates by itself (RFC 4106, RFC 4543).
func combined(e doi.ESP) bool {
	return e == doi.ESPAESGCM8 || e == doi.ESPAESGCM12 || e == doi.ESPAESGCM16 || e == doi.ESPNullAESGMAC || e == doi.ESPChaCha20Poly1305
}
