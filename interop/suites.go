// Package interop runs isakmpd against other implementations of IKEv1: Debian's
// strongSwan in one gateway of a network in namespaces, with its ESP in user
// space, and ike-scan as a prober. The tests need root and those packages.
//
// The files that are no tests describe a tunnel once and write it down in the
// language of either daemon.
package interop

import (
	"fmt"
	"net/netip"
	"time"

	"oakley/internal/doi"
	"oakley/internal/ike"
)

// Phase1 is a phase 1 proposal in both languages.
type Phase1 struct {
	Swan    string // strongSwan's name of the proposal
	Isakmpd string // isakmpd.conf's name of the transform
	Group   string // strongSwan's name of the group, for PFS
	GRP     string // isakmpd.conf's

	transform ike.Phase1Transform // the engine's, for recordings
}

// Phase2 is an ESP proposal in both languages, without PFS.
type Phase2 struct {
	Swan    string
	Isakmpd string // between "QM-ESP-" and "-SUITE"; empty: Tags
	Tags    string // of an IPsec-transform section, for what has no generated name
	Cipher  string // as strongSwan shows it
	Auth    string

	transform ike.Phase2Transform
}

// Phase1s are the phase 1 proposals of the matrix.
var Phase1s = []Phase1{
	{Swan: "3des-md5-modp1024", Isakmpd: "3DES-MD5-GRP2", Group: "modp1024", GRP: "GRP2", transform: ike.Phase1Transform{Cipher: doi.Cipher3DES, Hash: doi.HashMD5, Group: doi.GroupMODP1024}},
	{Swan: "3des-sha1-modp1024", Isakmpd: "3DES-SHA", Group: "modp1024", GRP: "GRP2", transform: ike.Phase1Transform{Cipher: doi.Cipher3DES, Hash: doi.HashSHA1, Group: doi.GroupMODP1024}},
	{Swan: "aes128-sha1-modp2048", Isakmpd: "AES-128-SHA-GRP14", Group: "modp2048", GRP: "GRP14", transform: ike.Phase1Transform{Cipher: doi.CipherAES, KeyLength: bits(128), Hash: doi.HashSHA1, Group: doi.GroupMODP2048}},
	{Swan: "aes256-sha256-modp3072", Isakmpd: "AES-256-SHA2-256-GRP15", Group: "modp3072", GRP: "GRP15", transform: ike.Phase1Transform{Cipher: doi.CipherAES, KeyLength: bits(256), Hash: doi.HashSHA2256, Group: doi.GroupMODP3072}},
	{Swan: "aes256-sha512-ecp384", Isakmpd: "AES-256-SHA2-512-GRP20", Group: "ecp384", GRP: "GRP20", transform: ike.Phase1Transform{Cipher: doi.CipherAES, KeyLength: bits(256), Hash: doi.HashSHA2512, Group: doi.GroupECP384}},
	{Swan: "aes128-sha256-curve25519", Isakmpd: "AES-128-SHA2-256-GRP31", Group: "curve25519", GRP: "GRP31", transform: ike.Phase1Transform{Cipher: doi.CipherAES, KeyLength: bits(128), Hash: doi.HashSHA2256, Group: doi.GroupCurve25519}},
}

// Phase2s are the ESP proposals of the matrix.
var Phase2s = []Phase2{
	{Swan: "3des-md5", Isakmpd: "3DES-MD5", Cipher: "3DES_CBC", Auth: "HMAC_MD5_96", transform: ike.Phase2Transform{ID: uint8(doi.ESP3DES), Auth: doi.AuthHMACMD5}},
	{Swan: "3des-sha1", Isakmpd: "3DES-SHA", Cipher: "3DES_CBC", Auth: "HMAC_SHA1_96", transform: ike.Phase2Transform{ID: uint8(doi.ESP3DES), Auth: doi.AuthHMACSHA1}},
	{Swan: "aes128-sha1", Isakmpd: "AES-128-SHA", Cipher: "AES_CBC", Auth: "HMAC_SHA1_96", transform: ike.Phase2Transform{ID: uint8(doi.ESPAES), KeyLength: bits(128), Auth: doi.AuthHMACSHA1}},
	{Swan: "aes256-sha256", Isakmpd: "AES-256-SHA2-256", Cipher: "AES_CBC", Auth: "HMAC_SHA2_256_128", transform: ike.Phase2Transform{ID: uint8(doi.ESPAES), KeyLength: bits(256), Auth: doi.AuthHMACSHA2256}},
	{Swan: "aes128gcm16", Isakmpd: "AESGCM-128", Cipher: "AES_GCM_16", transform: ike.Phase2Transform{ID: uint8(doi.ESPAESGCM16), KeyLength: bits(128)}},
}

// MorePhase2s are the other ESP proposals that Debian's libipsec can carry. It
// has no AES-GMAC, and IKEv1 no number for ChaCha20-Poly1305.
var MorePhase2s = []Phase2{
	{Swan: "des-md5", Isakmpd: "DES-MD5", Cipher: "DES_CBC", Auth: "HMAC_MD5_96"},
	{Swan: "cast128-sha1", Isakmpd: "CAST-SHA", Cipher: "CAST_CBC", Auth: "HMAC_SHA1_96"},
	{Swan: "blowfish128-sha1", Isakmpd: "BLF-SHA", Cipher: "BLOWFISH_CBC", Auth: "HMAC_SHA1_96"},
	{Swan: "null-sha1", Isakmpd: "NULL-SHA", Cipher: "NULL", Auth: "HMAC_SHA1_96"},
	{Swan: "aes128-md5", Isakmpd: "AES-128-MD5", Cipher: "AES_CBC", Auth: "HMAC_MD5_96"},
	{Swan: "aes192-sha1", Isakmpd: "AES-192-SHA", Cipher: "AES_CBC", Auth: "HMAC_SHA1_96"},
	{Swan: "aes128-sha384", Isakmpd: "AES-128-SHA2-384", Cipher: "AES_CBC", Auth: "HMAC_SHA2_384_192"},
	{Swan: "aes256-sha512", Isakmpd: "AES-256-SHA2-512", Cipher: "AES_CBC", Auth: "HMAC_SHA2_512_256"},
	{Swan: "aes128-aesxcbc", Tags: "TRANSFORM_ID= AES\nKEY_LENGTH= 128\nAUTHENTICATION_ALGORITHM= AES_XCBC_MAC", Cipher: "AES_CBC", Auth: "AES_XCBC_96"},
	{Swan: "aes128ctr-sha1", Isakmpd: "AESCTR-128-SHA", Cipher: "AES_CTR", Auth: "HMAC_SHA1_96"},
	{Swan: "aes256ctr-sha256", Isakmpd: "AESCTR-256-SHA2-256", Cipher: "AES_CTR", Auth: "HMAC_SHA2_256_128"},
	{Swan: "aes128gcm8", Tags: "TRANSFORM_ID= AES_GCM_8\nKEY_LENGTH= 128", Cipher: "AES_GCM_8"},
	{Swan: "aes192gcm12", Tags: "TRANSFORM_ID= AES_GCM_12\nKEY_LENGTH= 192", Cipher: "AES_GCM_12"},
	{Swan: "aes192gcm16", Isakmpd: "AESGCM-192", Cipher: "AES_GCM_16"},
	{Swan: "aes256gcm16", Isakmpd: "AESGCM-256", Cipher: "AES_GCM_16"},
}

// Tunnel is what one gateway is to do.
type Tunnel struct {
	Name                string // of the connection; default "tunnel"
	Local, Remote       netip.Addr
	RemoteID            netip.Addr // default Remote; differs for a peer behind NAT
	LocalNet, RemoteNet netip.Prefix
	Secret              string
	P1                  Phase1
	P2                  Phase2
	PFS                 bool
	P1Life, P2Life      time.Duration // zero: an hour, and half an hour
	Initiate            bool          // start by itself (isakmpd)
	Kernel              bool          // leave ESP to the kernel (strongSwan)
	Plane               string        // Data-plane (isakmpd); default "isakmpd", its own
	// Mode takes the place of P2 between two isakmpd, and in isakmpd's file.
	Mode *Mode
}

// Mode is a suite of isakmpd.conf and what it joins.
type Mode struct {
	Name      string
	Protocols string // the suite's list
	Sections  string // that it needs, whole
	Hosts     bool   // the gateways themselves, in transport mode
	Swan      string // what strongSwan is to propose, if that is not P2 ("ah_proposals = sha1")
}

// Defaults fills in what was left out.
func (t *Tunnel) Defaults() {
	if t.Name == "" {
		t.Name = "tunnel"
	}
	if !t.RemoteID.IsValid() {
		t.RemoteID = t.Remote
	}
	if t.Secret == "" {
		t.Secret = "mekmitasdigoat"
	}
	if t.Plane == "" {
		t.Plane = "isakmpd"
	}
	if t.P1Life == 0 {
		t.P1Life = time.Hour
	}
	if t.P2Life == 0 {
		t.P2Life = 30 * time.Minute
	}
}

// swanESP is the ESP proposal with its PFS group.
func (t Tunnel) swanESP() string {
	if t.PFS {
		return t.P2.Swan + "-" + t.P1.Group
	}
	return t.P2.Swan
}

// suite is isakmpd.conf's name for the ESP proposal.
func (t Tunnel) suite() string {
	if t.Mode != nil || t.P2.Isakmpd == "" {
		return ownSuite
	}
	if t.PFS {
		return fmt.Sprintf("QM-ESP-%s-PFS-%s-SUITE", t.P2.Isakmpd, t.P1.GRP)
	}
	return fmt.Sprintf("QM-ESP-%s-SUITE", t.P2.Isakmpd)
}

// ownSuite is the section of a suite without a generated name.
const ownSuite = "suite"

// sections write the suite down when it has no generated name.
func (t Tunnel) sections() string {
	switch {
	case t.Mode != nil:
		return fmt.Sprintf("\n[%s]\nProtocols= %s\n\n%s", ownSuite, t.Mode.Protocols, t.Mode.Sections)
	case t.P2.Isakmpd != "":
		return ""
	}
	group := ""
	if t.PFS {
		group = "GROUP_DESCRIPTION= " + t.P1.GRP + "\n"
	}
	return fmt.Sprintf(`
[%[1]s]
Protocols= protocol

[protocol]
PROTOCOL_ID= IPSEC_ESP
Transforms= transform

[transform]
%[2]s
%[3]sLife= LIFE_QUICK_MODE
`, ownSuite, t.P2.Tags, group)
}

func bits(n uint64) ike.Range { return ike.Range{Offer: n, Min: n, Max: n} }

// engine is the tunnel as the engine's configuration.
func (t Tunnel) engine() *ike.Config {
	t.Defaults()
	p1, p2 := t.P1.transform, t.P2.transform
	p1.Name, p1.Auth, p1.Seconds = t.P1.Isakmpd, doi.AuthPSK, ike.Range{Offer: uint64(t.P1Life.Seconds()), Min: 2, Max: 86400}
	p2.Name, p2.Seconds = t.suite(), ike.Range{Offer: uint64(t.P2Life.Seconds()), Min: 2, Max: 86400}
	if t.PFS {
		p2.Group = p1.Group
	}
	peer := &ike.Peer{
		Name: "peer", Address: t.Remote, Local: t.Local, Key: []byte(t.Secret), Transforms: []ike.Phase1Transform{p1},
	}
	return &ike.Config{
		NATT: true, Peers: []*ike.Peer{peer},
		Connections: []*ike.Connection{{
			Name: t.Name, Peer: peer, Active: t.Initiate,
			Local: ike.Net{Prefix: t.LocalNet}, Remote: ike.Net{Prefix: t.RemoteNet},
			Suites: []ike.Suite{{Name: t.suite(), Protocols: []ike.Protocol{{
				Proto: doi.ProtoESP, Replay: 64, Transforms: []ike.Phase2Transform{p2},
			}}}},
		}},
	}
}
