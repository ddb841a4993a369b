package ipsecadm

import (
	"net/netip"
	"slices"
	"strings"

	"oakley/internal/ipsec"
)

// newSA takes what all SAs have.
func (f *form) newSA(p ipsec.Proto) NewSA {
	name := "-spi"
	if p == ipsec.ProtoIPComp {
		name = "-cpi"
	}
	sa := NewSA{
		Proto: p, Src: f.src, Dst: f.dst, Proxy: f.proxy, SPI: f.spiOf(name, f.spi, p),
		Tunnel: f.given["-forcetunnel"] || f.given["-proxy"],
	}
	sa.SrcID = f.identity("-srcid", f.srcID, f.srcType)
	sa.DstID = f.identity("-dstid", f.dstID, f.dstType)
	f.ends(sa.Src, sa.Dst)
	if sa.Proxy.IsValid() && sa.Proxy.IsUnspecified() {
		f.mistake("-proxy %s: the inner source of an incoming tunnel is wanted", sa.Proxy)
	}
	return sa
}

// ends checks the two ends of an SA.
func (f *form) ends(src, dst netip.Addr) {
	for _, e := range []struct {
		name string
		a    netip.Addr
	}{{"-src", src}, {"-dst", dst}} {
		if e.a.IsValid() && e.a.IsUnspecified() {
			f.mistake("%s %s: the SA's own end is wanted", e.name, e.a)
		}
	}
	switch {
	case !src.IsValid() || !dst.IsValid():
	case src.Is4() != dst.Is4():
		f.mistake("-src %s and -dst %s are of two address families", src, dst)
	case src == dst:
		f.mistake("-src and -dst are both %s: an SA has two ends", src)
	}
}

func (f *form) identity(name, text string, t idType) string {
	if !f.has(name) {
		if t != idAny && !f.given[name] {
			f.mistake("%s_type without %s", name, name)
		}
		return ""
	}
	const longest = 255
	_, err := netip.ParsePrefix(text)
	switch {
	case text == "" || len(text) > longest || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		f.mistake("%s %s: an identity has 1 to %d characters, and no blanks", name, quote(text), longest)
	case t == idPrefix && err != nil:
		f.mistake("%s %s is no prefix: write it as 10.0.0.0/8, or a host as 192.0.2.1/32", name, quote(text))
	case t == idFQDN && strings.ContainsAny(text, "@/"):
		f.mistake("%s %s is no fqdn: with an @ it is a ufqdn, with a / a prefix", name, quote(text))
	case t == idUserFQDN && !strings.Contains(text, "@"):
		f.mistake("%s %s is no ufqdn: it has no @", name, quote(text))
	}
	return text
}

// cryptoKey checks that there is one key, of a fitting length. what is what the
// key is for.
func (f *form) cryptoKey(name string, key []byte, what string, fits func(n int) bool, right string) {
	file := name + "file"
	switch {
	case f.given[name] && f.given[file]:
		f.mistake("%s and %s are both given: one key is wanted", name, file)
	case !f.given[name] && !f.given[file]:
		f.mistake("%s needs a key: %s or %s with %s", what, file, name, right)
	case key != nil && !fits(len(key)):
		if f.given[file] {
			name = file
		}
		f.mistake("%s has %s: %s takes %s", name, keyBytes(len(key)), what, right)
	}
}

func (f *form) cipherKey() {
	c := f.cipher
	switch {
	case c == ipsec.CipherNone: // not given, or not known
	case c == ipsec.CipherNull:
		if f.given["-key"] || f.given["-keyfile"] {
			f.mistake("-enc null takes no key")
		}
	default:
		f.cryptoKey("-key", f.key, "-enc "+nameOf(ciphers, c), c.KeyLenOK, keyLengths(c))
	}
}

func (f *form) macKey(name string, key []byte) {
	if f.auth == ipsec.AuthNone {
		return // not given, or not known
	}
	n := f.auth.Info().Key
	f.cryptoKey(name, key, "-auth "+nameOf(auths, f.auth), func(k int) bool { return k == n }, keyBytes(n))
}

func buildESP(f *form) Command {
	sa := f.newSA(ipsec.ProtoESP)
	sa.Cipher, sa.Key, sa.Auth, sa.AuthKey, sa.UDPPort = f.cipher, f.key, f.auth, f.authKey, f.udpPort
	f.cipherKey()
	f.macKey("-authkey", f.authKey)
	switch {
	case f.given["-auth"]:
	case f.given["-authkey"] || f.given["-authkeyfile"]:
		f.mistake("there is a key for authentication, but no -auth: %s is wanted", either(names(auths)))
	case f.cipher == ipsec.CipherNull:
		f.mistake("-enc null without -auth protects nothing: add -auth and its key")
	case f.cipher != ipsec.CipherNone:
		f.notice("without -auth anybody can change packets on their way, unseen: add -auth sha2-256 and its key (RFC 4303 section 1)")
	}
	return sa
}

func buildAH(f *form) Command {
	sa := f.newSA(ipsec.ProtoAH)
	sa.Auth, sa.AuthKey = f.auth, f.key
	if f.given["-key"] || f.given["-keyfile"] { // else that has been said
		f.macKey("-key", f.key)
	}
	return sa
}

func buildIP4(f *form) Command {
	sa := f.newSA(ipsec.ProtoIPIP)
	sa.Tunnel = true
	return sa
}

func buildIPComp(f *form) Command {
	sa := f.newSA(ipsec.ProtoIPComp)
	if sa.Comp = f.comp; !f.given["-comp"] {
		sa.Comp = ipsec.CompDeflate
	}
	return sa
}

// saName is how group and delspi call an SA.
func (f *form) saName(suffix string, dst netip.Addr, spi string, p, otherwise ipsec.Proto) SAName {
	if !f.given["-proto"+suffix] {
		p = otherwise
	}
	return SAName{Dst: dst, SPI: f.spiOf("-spi"+suffix, spi, p), Proto: p}
}

func buildGroup(f *form) Command {
	g := Group{
		First:  f.saName("", f.dst, f.spi, f.proto, ipsec.ProtoESP),
		Second: f.saName("2", f.dst2, f.spi2, f.proto2, ipsec.ProtoAH),
	}
	if g.First == g.Second && g.First.SPI != 0 {
		f.mistake("both are the %s: a group has two SAs", g.First)
	}
	return g
}

func buildDelete(f *form) Command {
	return DeleteSA{f.saName("", f.dst, f.spi, f.proto, ipsec.ProtoESP)}
}

func buildDisable(f *form) Command {
	if !f.given["operand"] {
		f.mistake("disable needs a protocol: %s", either(names(protos)))
	}
	return Switch{Proto: f.proto}
}

// kinds are the protocols that flush and show are limited to; nil: all. The old
// forms are never there, and a line that names them alone means no SA at all.
func (f *form) kinds() []ipsec.Proto {
	var some []ipsec.Proto
	old := false
	for _, m := range kindMods {
		if !f.given[m] {
			continue
		}
		if p, ok := lookUp(protos, m[1:]); ok {
			some = append(some, p)
			continue
		}
		old = true
		f.notice("%s: there are no such SAs here", m)
	}
	if old && some == nil {
		return []ipsec.Proto{}
	}
	slices.Sort(some)
	return some
}
