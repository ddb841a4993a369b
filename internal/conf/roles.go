package conf

// role is what a section is used as; it follows from who refers to it.
type role struct {
	what string // in sentences
	tags []string
	// names are the generated sections of this role; nil: none.
	names func() *generatedNames
	// example is what a reference to a missing section is told when nothing is
	// near.
	example string
}

var (
	roleGeneral = &role{what: "[General]", tags: []string{
		"Acquire-Only", "Check-interval", "Data-plane", "Data-plane-options", "Default-phase-1-ID", "Default-phase-1-lifetime", "Default-phase-2-lifetime",
		"Default-phase-2-suites", "Delete-SAs", "DPD-check-interval", "Exchange-max-time", "Listen-on", "Loglevel", "Logverbose",
		"NAT-T-Keepalive", "Policy-file", "Pubkey-directory", "Renegotiate-on-HUP", "Retransmits", "Shared-SADB", "Use-Keynote",
	}}
	rolePhase1  = &role{what: "[Phase 1]"} // its tags are addresses
	rolePhase2  = &role{what: "[Phase 2]", tags: []string{"Connections", "Passive-connections", "Default"}}
	roleKeyNote = &role{what: "[KeyNote]", tags: []string{"Credential-directory"}}
	roleX509    = &role{what: "[X509-certificates]", tags: []string{
		"Accept-self-signed", "CA-directory", "Cert-directory", "CRL-directory", "Private-key", "Private-key-directory",
	}}
	rolePeer = &role{what: "an ISAKMP peer", tags: []string{
		"Phase", "Transport", "Address", "Port", "Local-address", "Configuration", "Authentication", "ID", "Remote-ID", "Flags",
	}}
	rolePhase1ID   = &role{what: "a phase 1 ID", tags: []string{"ID-type", "Address", "Network", "Netmask", "Name"}}
	roleConfig1    = &role{what: "an ISAKMP configuration", tags: []string{"DOI", "EXCHANGE_TYPE", "Transforms"}}
	roleTransform1 = &role{what: "an ISAKMP transform", names: mainTransforms, example: "3DES-SHA or AES-128-SHA2-256-GRP14 are there without a section", tags: []string{
		"ENCRYPTION_ALGORITHM", "KEY_LENGTH", "HASH_ALGORITHM", "AUTHENTICATION_METHOD", "GROUP_DESCRIPTION", "PRF", "Life",
	}}
	roleLifetime   = &role{what: "a lifetime", tags: []string{"LIFE_TYPE", "LIFE_DURATION"}}
	roleConnection = &role{what: "an IPsec connection", tags: []string{
		"Phase", "ISAKMP-peer", "Configuration", "Local-ID", "Remote-ID", "Flags", "PF-Tag", "NAT-ID", "XFRM-interface",
	}}
	roleConfig2    = &role{what: "an IPsec configuration", tags: []string{"DOI", "EXCHANGE_TYPE", "Suites"}}
	roleSuite      = &role{what: "an IPsec suite", names: quickSuites, example: "QM-ESP-AES-SHA-PFS-SUITE is there without a section", tags: []string{"Protocols"}}
	roleProtocol   = &role{what: "an IPsec protocol", names: quickProtocols, tags: []string{"PROTOCOL_ID", "ReplayWindow", "Transforms"}}
	roleTransform2 = &role{what: "an IPsec transform", names: quickTransforms, tags: []string{
		"TRANSFORM_ID", "ENCAPSULATION_MODE", "AUTHENTICATION_ALGORITHM", "KEY_LENGTH", "GROUP_DESCRIPTION", tagESN, "Life",
	}}
	roleNet        = &role{what: "an IPsec ID", tags: []string{"ID-type", "Address", "Network", "Netmask", "Protocol", "Port"}}
	roleModeConfig = &role{what: "a mode-config section", tags: []string{"Address", "Netmask", "Nameserver", "WINS-server", "Lifetime", "Mode", "Attributes"}}
	roleInitiator  = &role{what: "an initiator's ID", tags: []string{"Authentication"}}
)

// fixedRoles are the sections that nobody has to refer to.
var fixedRoles = map[string]*role{
	"general":           roleGeneral,
	"phase 1":           rolePhase1,
	"phase 2":           rolePhase2,
	"keynote":           roleKeyNote,
	"x509-certificates": roleX509,
}

// together tells whether one section may be used as both: an ID may serve
// phase 1 and phase 2.
func together(a, b *role) bool {
	ids := func(r *role) bool { return r == rolePhase1ID || r == roleNet }
	return a == b || ids(a) && ids(b)
}
