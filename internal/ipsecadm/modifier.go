package ipsecadm

import (
	"net/netip"
	"strings"

	"oakley/internal/ipsec"
)

// modifier is a word that begins with "-", and what follows it.
type modifier struct {
	value string // what follows, as usage shows it; "": nothing
	about string // what is wanted, for who left it out
	set   func(f *form, name string, words []string)
}

// values are what the modifiers of a line said.
type values struct {
	src, dst, dst2, proxy netip.Addr
	spi, spi2             string
	proto, proto2         ipsec.Proto
	cipher                ipsec.Cipher
	auth                  ipsec.Auth
	comp                  ipsec.Comp
	key, authKey          []byte
	udpPort               uint16
	srcID, dstID          string
	srcType, dstType      idType
	near, far             netip.Prefix // of -addr, in its order
	transport             uint8
	sport, dport          string
	order                 uint32
}

// modifiers are all that there are. It is filled by init, since their functions
// look into it.
var modifiers map[string]*modifier

func init() {
	addr := func(to func(*form) *netip.Addr) func(*form, string, []string) {
		return func(f *form, name string, w []string) { *to(f) = f.address(name, w[0]) }
	}
	text := func(to func(*form) *string) func(*form, string, []string) {
		return func(f *form, _ string, w []string) { *to(f) = w[0] }
	}
	address := "an address is wanted, as 192.0.2.1 or 2001:db8::1"
	number := "a hexadecimal number of 100 and above is wanted, without 0x, as 1001"
	key := "hexadecimal digits are wanted, without 0x"
	file := "the name of a file with hexadecimal digits is wanted, that nobody but its owner can read"
	id := "an identity is wanted, as 10.0.0.0/8, gw.example.org or user@example.org"
	kind := "prefix, fqdn or ufqdn is wanted"
	port := "a port is wanted, as 25 or smtp"
	proto := "esp, ah, ip4, ipcomp or its number is wanted"
	modifiers = map[string]*modifier{
		"-src":         {"address", address, addr(func(f *form) *netip.Addr { return &f.src })},
		"-dst":         {"address", address, addr(func(f *form) *netip.Addr { return &f.dst })},
		"-dst2":        {"address", address, addr(func(f *form) *netip.Addr { return &f.dst2 })},
		"-proxy":       {"address", address, addr(func(f *form) *netip.Addr { return &f.proxy })},
		"-spi":         {"spi", number, text(func(f *form) *string { return &f.spi })},
		"-spi2":        {"spi", number, text(func(f *form) *string { return &f.spi2 })},
		"-cpi":         {"cpi", "a hexadecimal number of 100 to ffff is wanted, without 0x, or 2", text(func(f *form) *string { return &f.spi })},
		"-proto":       {"protocol", proto, func(f *form, name string, w []string) { f.proto = f.protocol(name, w[0]) }},
		"-proto2":      {"protocol", proto, func(f *form, name string, w []string) { f.proto2 = f.protocol(name, w[0]) }},
		"-enc":         {"cipher", either(names(ciphers)) + " is wanted", setCipher},
		"-auth":        {"hash", either(names(auths)) + " is wanted", setAuth},
		"-comp":        {"algorithm", either(names(comps)) + " is wanted", setComp},
		"-key":         {"hex", key, func(f *form, name string, w []string) { f.key = f.hexKey(name, w[0]) }},
		"-keyfile":     {"file", file, func(f *form, name string, w []string) { f.key = f.fileKey(name, w[0]) }},
		"-authkey":     {"hex", key, func(f *form, name string, w []string) { f.authKey = f.hexKey(name, w[0]) }},
		"-authkeyfile": {"file", file, func(f *form, name string, w []string) { f.authKey = f.fileKey(name, w[0]) }},
		"-forcetunnel": {},
		"-udpencap":    {"port", "the peer's UDP port is wanted, as 4500", func(f *form, name string, w []string) { f.udpPort = f.port(name, "udp", w[0]) }},
		"-srcid":       {"identity", id, text(func(f *form) *string { return &f.srcID })},
		"-dstid":       {"identity", id, text(func(f *form) *string { return &f.dstID })},
		"-srcid_type":  {"type", kind, func(f *form, name string, w []string) { f.srcType = f.idType(name, w[0]) }},
		"-dstid_type":  {"type", kind, func(f *form, name string, w []string) { f.dstType = f.idType(name, w[0]) }},
		"-addr":        {"source/length destination/length", "two networks are wanted, as 10.1.0.0/16 10.2.0.0/16, or 10.1.0.0 255.255.0.0 10.2.0.0 255.255.0.0", setAddr},
		"-transport":   {"protocol", "a protocol is wanted, as tcp, udp or 89", setTransport},
		"-sport":       {"port", port, text(func(f *form) *string { return &f.sport })},
		"-dport":       {"port", port, text(func(f *form) *string { return &f.dport })},
		"-in":          {}, "-out": {}, "-delete": {},
		"-require": {}, "-use": {}, "-acquire": {}, "-dontacq": {}, "-deny": {}, "-bypass": {}, "-permit": {},
		"-order": {"number", "a number is wanted; flows with a lower one are looked at first", setOrder},
		"-ah":    {}, "-esp": {}, "-oldah": {}, "-oldesp": {}, "-ip4": {}, "-ipcomp": {}, "-tcpmd5": {},
	}
}

// count is how many words belong to a modifier, given those that follow it.
func (m *modifier) count(rest []string) int {
	switch {
	case m.value == "":
		return 0
	case !strings.Contains(m.value, " "):
		return 1
	case len(rest) > 0 && strings.Contains(rest[0], "/"):
		return 2
	}
	return 4
}
