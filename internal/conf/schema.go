package conf

// kind is what a section is for; it follows from who refers to it.
type kind uint8

const (
	kindNone kind = iota
	kindGeneral
	kindPhase1
	kindPhase2
	kindKeyNote
	kindX509
	kindPeer
	kindPhase1ID
	kindPhase1Config
	kindPhase1Transform
	kindLifetime
	kindConnection
	kindPhase2Config
	kindSuite
	kindProtocol
	kindPhase2Transform
	kindIPsecID
	kindModeConfig
	kindInitiatorID
)

// kinds says what each kind is called and which tags it has. [Phase 1] has
// addresses for tags.
var kinds = map[kind]struct {
	name string
	tags []string
}{
	kindGeneral: {"[General]", []string{
		"Acquire-Only", "Check-interval", "Default-phase-1-ID", "Default-phase-1-lifetime", "Default-phase-2-lifetime", "Default-phase-2-suites",
		"Delete-SAs", "DPD-check-interval", "Exchange-max-time", "Listen-on", "Loglevel", "Logverbose", "NAT-T-Keepalive", "Policy-file",
		"Pubkey-directory", "Renegotiate-on-HUP", "Retransmits", "Shared-SADB", "Use-Keynote",
	}},
	kindPhase1:  {"[Phase 1]", nil},
	kindPhase2:  {"[Phase 2]", []string{"Connections", "Passive-connections", "Default"}},
	kindKeyNote: {"[KeyNote]", []string{"Credential-directory"}},
	kindX509: {"[X509-certificates]", []string{
		"Accept-self-signed", "CA-directory", "Cert-directory", "CRL-directory", "Private-key", "Private-key-directory",
	}},
	kindPeer: {"an ISAKMP peer", []string{
		"Phase", "Transport", "Address", "Port", "Local-address", "Configuration", "Authentication", "ID", "Remote-ID", "Flags",
	}},
	kindPhase1ID:        {"a phase 1 ID", []string{"ID-type", "Address", "Network", "Netmask", "Name"}},
	kindPhase1Config:    {"an ISAKMP configuration", []string{"DOI", "EXCHANGE_TYPE", "Transforms"}},
	kindPhase1Transform: {"an ISAKMP transform", []string{"ENCRYPTION_ALGORITHM", "KEY_LENGTH", "HASH_ALGORITHM", "AUTHENTICATION_METHOD", "GROUP_DESCRIPTION", "PRF", "Life"}},
	kindLifetime:        {"a lifetime", []string{"LIFE_TYPE", "LIFE_DURATION"}},
	kindConnection:      {"an IPsec connection", []string{"Phase", "ISAKMP-peer", "Configuration", "Local-ID", "Remote-ID", "Flags", "PF-Tag", "NAT-ID"}},
	kindPhase2Config:    {"an IPsec configuration", []string{"DOI", "EXCHANGE_TYPE", "Suites"}},
	kindSuite:           {"an IPsec suite", []string{"Protocols"}},
	kindProtocol:        {"an IPsec protocol", []string{"PROTOCOL_ID", "Transforms", "ReplayWindow"}},
	kindPhase2Transform: {"an IPsec transform", []string{"TRANSFORM_ID", "ENCAPSULATION_MODE", "AUTHENTICATION_ALGORITHM", "KEY_LENGTH", "GROUP_DESCRIPTION", "Life"}},
	kindIPsecID:         {"an IPsec ID", []string{"ID-type", "Address", "Network", "Netmask", "Protocol", "Port"}},
	kindModeConfig:      {"a mode-config section", []string{"Address", "Netmask", "Nameserver", "WINS-server", "Lifetime", "Mode", "Attributes"}},
	kindInitiatorID:     {"an initiator's ID", []string{"Authentication"}},
}

// defaults are the values of what is not written. Those of [General] are in
// words, as in a file.
var defaults = map[kind]map[string]string{
	kindGeneral: {
		"Check-interval": "60", "Default-phase-1-lifetime": "3600,60:86400", "Default-phase-2-lifetime": "1200,60:86400",
		"Default-phase-2-suites": "QM-ESP-3DES-SHA-PFS-SUITE", "Delete-SAs": "yes", "DPD-check-interval": "0", "Exchange-max-time": "120",
		"NAT-T-Keepalive": "20", "Policy-file": "/etc/isakmpd/isakmpd.policy", "Pubkey-directory": "/etc/isakmpd/pubkeys", "Retransmits": "3",
		"Use-Keynote": "yes",
	},
	kindKeyNote: {"Credential-directory": "/etc/isakmpd/keynote/"},
	kindX509: {
		"CA-directory": "/etc/isakmpd/ca/", "Cert-directory": "/etc/isakmpd/certs/", "CRL-directory": "/etc/isakmpd/crls/",
		"Private-key": "/etc/isakmpd/private/local.key", "Private-key-directory": "/etc/isakmpd/private/",
	},
	kindPeer: {"Transport": "udp", "Port": "500", "Configuration": "Default-phase-1-configuration"},
}
